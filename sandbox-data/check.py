#!/usr/bin/env python3
"""Checks the sandbox data: python3 check.py [FOLDER]

FOLDER holds the Bundles (<nn>-<name>.json); people.json lies in it or beside
it. Without FOLDER: this file's own folder if it holds Bundles, else
sandbox-data/ beside this file.

Prints every fault as `file: path: what is wrong` and exits with 1, or prints
the number of resources by type and exits with 0. Python 3.11, no packages.
"""
import base64
import binascii
import collections
import datetime
import json
import pathlib
import re
import sys

LAST_DAY = "2026-10-31"  # nothing in the data happens after this day, plans apart
ID = re.compile(r"[A-Za-z0-9.\-]{1,64}")
REFERENCE = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9.\-]{1,64})")
DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?)?)?")
USERNAME = re.compile(r"[a-z][a-z0-9]*")

# Which element says whose record it is. A type that is not here is nobody's.
OWNER = {
    "AllergyIntolerance": "patient", "CarePlan": "subject", "CareTeam": "subject",
    "Condition": "subject", "Coverage": "beneficiary", "Device": "patient",
    "DiagnosticReport": "subject", "DocumentReference": "subject",
    "Encounter": "subject", "FamilyMemberHistory": "patient", "Goal": "subject",
    "Immunization": "patient", "MedicationDispense": "subject",
    "MedicationRequest": "subject", "Observation": "subject",
    "Procedure": "subject", "QuestionnaireResponse": "subject",
    "RelatedPerson": "patient", "ServiceRequest": "subject", "Specimen": "subject",
}
# Owned through what they point to or are pointed to by.
THROUGH_OTHERS = {"Patient", "Binary", "Provenance"}
SHARED = {"Organization", "Location", "Practitioner", "PractitionerRole", "Medication"}
# When a thing was done; dates of plans, policies and expiry may lie ahead.
DONE = {
    "effectiveDateTime", "issued", "recordedDate", "authoredOn", "authored",
    "occurrenceDateTime", "performedDateTime", "whenHandedOver", "recorded",
    "receivedTime", "collectedDateTime", "birthDate", "onsetDateTime",
    "abatementDateTime", "manufactureDate", "creation",
}
KINDS = {"patient": "Patient", "practitioner": "Practitioner", "related": "RelatedPerson"}

faults = []


def fault(file, path, what):
    faults.append(f"{file}: {path}: {what}")


def walk(value, path, key=None):
    """Every (path, key, value) in a JSON value, outer ones first."""
    yield path, key, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from walk(inner, f"{path}.{name}", name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from walk(inner, f"{path}[{number}]", key)


def refuse_twice(pairs):
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the name {name!r} stands twice in one object")
    return dict(pairs)


def load(file):
    try:
        return json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=refuse_twice)
    except (OSError, ValueError) as error:
        fault(file.name, "(file)", f"not readable as JSON: {error}")
        return None


def npi_is_valid(value):
    if not re.fullmatch(r"\d{10}", value):
        return False
    total = 0
    for place, digit in enumerate(reversed("80840" + value)):
        number = int(digit) * (2 if place % 2 else 1)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


def check_bundle(file, bundle, resources):
    """The Bundle's own form; adds its resources to `resources`."""
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        fault(file, "resourceType", "not a Bundle")
        return
    if not bundle.get("id"):
        fault(file, "id", "the Bundle has no id")
    if bundle.get("type") != "transaction":
        fault(file, "type", f"{bundle.get('type')!r} instead of 'transaction'")
    for number, entry in enumerate(bundle.get("entry") or []):
        path = f"entry[{number}]"
        resource = entry.get("resource")
        if not isinstance(resource, dict) or not resource.get("resourceType"):
            fault(file, path + ".resource.resourceType", "missing")
            continue
        kind, id = resource["resourceType"], resource.get("id")
        if not isinstance(id, str) or not ID.fullmatch(id):
            fault(file, path + ".resource.id", f"{id!r} is not a FHIR id")
            continue
        name = f"{kind}/{id}"
        if name in resources:
            fault(file, path + ".resource.id", f"{name} is in {resources[name][0]} already")
            continue
        if kind not in OWNER and kind not in THROUGH_OTHERS and kind not in SHARED:
            fault(file, path + ".resource.resourceType", f"{kind} is not known to this check")
        if "fullUrl" in entry:
            fault(file, path + ".fullUrl", "left out in this data set")
        if entry.get("request") != {"method": "PUT", "url": name}:
            fault(file, path + ".request", f"not PUT {name}")
        resources[name] = (file, path + ".resource", resource)


def check_values(file, path, resource, resources):
    """References, base64, dates and identifiers of one resource."""
    for at, key, value in walk(resource, path):
        if value is None or value == "" or value == [] or value == {}:
            fault(file, at, "empty")
        if key == "contained":
            fault(file, at, "contained resources are left out in this data set")
        if key == "reference" and isinstance(value, str):
            if not REFERENCE.fullmatch(value):
                fault(file, at, f"{value!r} is not a relative reference")
            elif value not in resources:
                fault(file, at, f"{value} is not in the data")
        if key == "url" and at.endswith("attachment.url") or key == "url" and ".presentedForm" in at:
            if value not in resources or not value.startswith("Binary/"):
                fault(file, at, f"{value!r} is not a Binary in the data")
        if key == "data" and isinstance(value, str):
            try:
                text = base64.b64decode(value, validate=True).decode("utf-8")
                if not text.strip():
                    fault(file, at, "holds no text")
            except (binascii.Error, UnicodeDecodeError) as error:
                fault(file, at, f"not base64 of UTF-8 text: {error}")
        if key in DONE and isinstance(value, str):
            if not DATE.fullmatch(value):
                fault(file, at, f"{value!r} is not a FHIR date")
            else:
                try:
                    whole = value + "-01-01"[max(0, len(value) - 4):] if len(value) < 10 else value
                    datetime.datetime.fromisoformat(whole)
                except ValueError:
                    fault(file, at, f"{value!r} is not a day of the calendar")
                planned = resource["resourceType"] == "ServiceRequest" and key == "occurrenceDateTime"
                if value[:10] > LAST_DAY and not planned:
                    fault(file, at, f"{value} lies after {LAST_DAY}")
        if key == "period" and isinstance(value, dict) and "end" in value and "start" in value:
            if value["end"] < value["start"]:
                fault(file, at, "ends before it starts")
        if isinstance(value, dict) and value.get("system") == "http://hl7.org/fhir/sid/us-npi":
            if not npi_is_valid(value.get("value", "")):
                fault(file, at, f"NPI {value.get('value')!r} does not pass its check digit")


def targets(resource):
    for _, key, value in walk(resource, ""):
        if key in ("reference", "url") and isinstance(value, str) and REFERENCE.fullmatch(value):
            yield value


def check_owners(resources):
    """Each record is one patient's, and points to no other patient's."""
    owner = {}
    for name, (file, path, resource) in resources.items():
        kind = resource["resourceType"]
        if kind == "Patient":
            owner[name] = name
        elif kind in OWNER:
            patient = resource.get(OWNER[kind], {}).get("reference", "")
            if not patient.startswith("Patient/") or patient not in resources:
                fault(file, f"{path}.{OWNER[kind]}.reference", f"{patient!r} is not a Patient in the data")
            else:
                owner[name] = patient
    pointed_to = collections.defaultdict(set)
    for name, (file, path, resource) in resources.items():
        for target in targets(resource):
            pointed_to[target].add(name)
            theirs = owner.get(target)
            if name in owner and theirs and theirs != owner[name]:
                fault(file, path, f"{name} is {owner[name]}'s but refers to {target} of {theirs}")
            if resource["resourceType"] in SHARED and theirs:
                fault(file, path, f"{name} is shared but refers to {target} of {theirs}")
    for name, (file, path, resource) in resources.items():
        kind = resource["resourceType"]
        if kind == "Provenance":
            owners = {owner.get(each.get("reference")) for each in resource.get("target", [])}
            if len(owners) != 1 or None in owners:
                fault(file, path + ".target", "the targets are not one patient's")
        if kind == "Binary":
            readers = {by for by in pointed_to[name] if by.split("/")[0] in ("DocumentReference", "DiagnosticReport")}
            if not readers:
                fault(file, path, f"no DocumentReference or DiagnosticReport points to {name}")
            proxy = resource.get("securityContext", {}).get("reference")
            if proxy and proxy not in readers:
                fault(file, path + ".securityContext.reference", f"{proxy} does not point to {name}")
    files = collections.defaultdict(set)
    for name, patient in owner.items():
        files[resources[name][0]].add(patient)
    for file, patients in files.items():
        if len(patients) > 1:
            fault(file, "entry", f"records of several patients: {', '.join(sorted(patients))}")
    seen = {}
    for name, (file, path, resource) in resources.items():
        for each in resource.get("identifier", []):
            key = (resource["resourceType"], each.get("system"), each.get("value"))
            if key in seen:
                fault(file, path + ".identifier", f"{key[1]}|{key[2]} is {seen[key]}'s already")
            seen[key] = name


def check_people(file, people, resources):
    if not isinstance(people, list):
        fault(file, "(file)", "not a JSON array")
        return
    usernames, users = set(), set()
    for number, person in enumerate(people):
        path = f"[{number}]"
        missing = {"username", "kind", "fhirUser", "name", "about", "acts_for"} - set(person)
        if missing:
            fault(file, path, f"without {', '.join(sorted(missing))}")
            continue
        if not USERNAME.fullmatch(person["username"]):
            fault(file, path + ".username", f"{person['username']!r} is not lower-case ascii")
        if person["username"] in usernames or person["fhirUser"] in users:
            fault(file, path, "this username or fhirUser stands twice")
        usernames.add(person["username"])
        users.add(person["fhirUser"])
        if KINDS.get(person["kind"]) != person["fhirUser"].split("/")[0]:
            fault(file, path + ".kind", f"{person['kind']!r} does not fit {person['fhirUser']}")
        if person["fhirUser"] not in resources:
            fault(file, path + ".fhirUser", f"{person['fhirUser']} is not in the data")
        patients = [each.get("patient") for each in person["acts_for"]]
        for place, patient in enumerate(patients):
            if f"Patient/{patient}" not in resources:
                fault(file, f"{path}.acts_for[{place}].patient", f"Patient/{patient} is not in the data")
        own = person["fhirUser"].split("/")[1]
        if person["kind"] == "patient":
            if not person["acts_for"] or person["acts_for"][0] != {"patient": own, "relationship": "self"}:
                fault(file, path + ".acts_for", "a patient acts for themself first")
        if person["kind"] == "related" and person["fhirUser"] in resources:
            theirs = resources[person["fhirUser"]][2].get("patient", {}).get("reference")
            if theirs not in [f"Patient/{each}" for each in patients]:
                fault(file, path + ".acts_for", f"does not hold {theirs}, the patient of {person['fhirUser']}")
    if not people or people[0].get("kind") != "patient" or len(people[0].get("acts_for", [])) != 1:
        fault(file, "[0]", "the first person is a patient who acts for themself only")
    practitioners = [person for person in people if person.get("kind") == "practitioner"]
    if not practitioners or practitioners[0].get("acts_for"):
        fault(file, "(file)", "the first practitioner has no panel (acts_for is empty)")


def main():
    here = pathlib.Path(__file__).resolve().parent
    if len(sys.argv) > 1:
        folder = pathlib.Path(sys.argv[1])
    else:
        folder = here if list(here.glob("[0-9][0-9]-*.json")) else here / "sandbox-data"
    files = sorted(folder.glob("[0-9][0-9]-*.json"))
    if not files:
        fault(str(folder), "(folder)", "holds no <nn>-<name>.json")
    resources = {}
    for file in files:
        bundle = load(file)
        if bundle is not None:
            check_bundle(file.name, bundle, resources)
    for file, path, resource in resources.values():
        check_values(file, path, resource, resources)
    check_owners(resources)
    people = next((p for p in (folder / "people.json", folder.parent / "people.json") if p.exists()), None)
    if people is None:
        fault(str(folder), "people.json", "neither there nor beside it")
    else:
        listed = load(people)
        if listed is not None:
            check_people(people.name, listed, resources)
    if faults:
        print("\n".join(faults))
        print(f"{len(faults)} faults")
        return 1
    counts = collections.Counter(name.split("/")[0] for name in resources)
    for kind, count in sorted(counts.items()):
        print(f"{count:5}  {kind}")
    print(f"{sum(counts.values()):5}  resources in {len(files)} files, no faults")
    return 0


if __name__ == "__main__":
    sys.exit(main())
