//! Scopes in words that a patient understands.

use super::scope::{Letters, Level, Meaning, ResourceScope, Scope};

/// A scope as the consent page says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// Which part of the page it stands in.
    pub group: Group,
    /// One line.
    pub title: String,
    /// What it means, in a sentence; may be empty.
    pub detail: String,
    /// Whether anything could be changed by it.
    pub changes: bool,
    /// What to think about first.
    pub warning: Option<&'static str>,
}

/// The parts of the consent page, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Health records.
    Records,
    /// Who the person is.
    Identity,
    /// For how long.
    Staying,
}

impl Group {
    /// Every part, in the order of the page.
    pub const ALL: [Group; 3] = [Group::Records, Group::Identity, Group::Staying];

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Records => "From the health record",
            Group::Identity => "About you",
            Group::Staying => "Staying connected",
        }
    }
}

/// Types of resources as people call them. A type not listed is called by its FHIR name.
const TYPES: [(&str, &str); 34] = [
    ("AllergyIntolerance", "allergies and intolerances"),
    ("Appointment", "appointments"),
    ("Binary", "attached files"),
    ("CarePlan", "care plans"),
    ("CareTeam", "care team"),
    ("Claim", "insurance claims"),
    ("Condition", "health problems and diagnoses"),
    ("Coverage", "health insurance"),
    ("Device", "implants and devices"),
    ("DiagnosticReport", "test reports"),
    ("DocumentReference", "documents and notes"),
    ("Encounter", "visits and hospital stays"),
    ("ExplanationOfBenefit", "insurance payments"),
    ("FamilyMemberHistory", "family history"),
    ("Goal", "health goals"),
    ("ImagingStudy", "X-rays and scans"),
    ("Immunization", "vaccinations"),
    ("Location", "places of care"),
    ("Media", "pictures and recordings"),
    ("Medication", "medicines"),
    ("MedicationAdministration", "medicines given"),
    ("MedicationDispense", "medicines handed out"),
    ("MedicationRequest", "prescriptions"),
    ("MedicationStatement", "medicines taken"),
    ("Observation", "measurements and test results"),
    ("Organization", "clinics and other organizations"),
    ("Patient", "name, birth date, address and contacts"),
    ("Practitioner", "doctors and other staff"),
    ("PractitionerRole", "what staff do and where"),
    ("Procedure", "operations and procedures"),
    ("Provenance", "where records come from"),
    ("QuestionnaireResponse", "answers to questionnaires"),
    ("RelatedPerson", "relatives and helpers"),
    ("ServiceRequest", "orders and referrals"),
];

/// The types whose scopes US Core requires to be listed.
pub const US_CORE: [&str; 27] = [
    "AllergyIntolerance",
    "CarePlan",
    "CareTeam",
    "Condition",
    "Coverage",
    "Device",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "FamilyMemberHistory",
    "Goal",
    "Immunization",
    "Location",
    "Medication",
    "MedicationDispense",
    "MedicationRequest",
    "Observation",
    "Organization",
    "Patient",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
    "Provenance",
    "QuestionnaireResponse",
    "RelatedPerson",
    "ServiceRequest",
    "Specimen",
];

/// What people call a type of resource.
pub fn type_in_words(resource_type: &str) -> String {
    let known = TYPES.iter().find(|(name, _)| *name == resource_type);
    known.map_or_else(|| format!("records of the kind “{resource_type}”"), |(_, words)| (*words).to_owned())
}

/// One part of a type that a person may choose to share instead of the whole (US Core's granular scopes).
pub struct Part {
    resource_type: &'static str,
    /// The limit, as it stands in a scope.
    pub limit: &'static str,
    /// What people call it.
    pub words: &'static str,
}

const PARTS: [Part; 9] = [
    Part {
        resource_type: "Condition",
        limit: "category=http://terminology.hl7.org/CodeSystem/condition-category|problem-list-item",
        words: "The list of known health problems",
    },
    Part {
        resource_type: "Condition",
        limit: "category=http://terminology.hl7.org/CodeSystem/condition-category|encounter-diagnosis",
        words: "Diagnoses made at visits",
    },
    Part {
        resource_type: "Condition",
        limit: "category=http://hl7.org/fhir/us/core/CodeSystem/condition-category|health-concern",
        words: "Health concerns",
    },
    Part {
        resource_type: "Observation",
        limit: "category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory",
        words: "Laboratory results",
    },
    Part {
        resource_type: "Observation",
        limit: "category=http://terminology.hl7.org/CodeSystem/observation-category|vital-signs",
        words: "Vital signs, such as blood pressure and weight",
    },
    Part {
        resource_type: "Observation",
        limit: "category=http://terminology.hl7.org/CodeSystem/observation-category|social-history",
        words: "Social history, such as smoking",
    },
    Part {
        resource_type: "Observation",
        limit: "category=http://terminology.hl7.org/CodeSystem/observation-category|survey",
        words: "Answers to surveys",
    },
    Part {
        resource_type: "Observation",
        limit: "category=http://hl7.org/fhir/us/core/CodeSystem/us-core-category|sdoh",
        words: "Living conditions, such as food and housing",
    },
    Part {
        resource_type: "DocumentReference",
        limit: "category=http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category|clinical-note",
        words: "Clinical notes",
    },
];

/// The parts a whole-type scope can be narrowed to, each as its scope and its words.
pub fn narrower(scope: &Scope) -> Vec<(String, &'static str)> {
    let Some(whole) = scope.resource().filter(|r| r.limits.is_empty()) else { return Vec::new() };
    let parts = PARTS.iter().filter(|part| whole.resource_type == Some(part.resource_type));
    parts.map(|part| (format!("{}?{}", scope.text, part.limit), part.words)).collect()
}

/// The limits a person is offered, for metadata (US Core lists them as required scopes).
pub fn parts() -> impl Iterator<Item = (&'static str, &'static str)> {
    PARTS.iter().map(|part| (part.resource_type, part.limit))
}

/// A scope in plain words.
pub fn of(scope: &Scope) -> Words {
    let word = |group, title: &str, detail: &str| Words {
        group,
        title: title.into(),
        detail: detail.into(),
        changes: false,
        warning: None,
    };
    match &scope.meaning {
        Meaning::Resource(resource) => of_resource(resource),
        Meaning::OpenId => word(
            Group::Identity,
            "Know that it is you",
            "The app learns that you signed in here, by an id of your own. Without this it is not told who you are either.",
        ),
        Meaning::FhirUser => word(
            Group::Identity,
            "Know who you are",
            "The app is told which person in the records you are, and may read that one entry about you.",
        ),
        Meaning::Profile => word(
            Group::Identity,
            "Know your profile",
            "Your name, sex and birth date, and which person in the records you are.",
        ),
        Meaning::Email => word(Group::Identity, "Know your e-mail address", "As it stands in your record."),
        Meaning::Phone => word(Group::Identity, "Know your telephone number", "As it stands in your record."),
        Meaning::Address => {
            word(Group::Identity, "Know where you live", "The address that stands in your record.")
        }
        Meaning::Launch => word(
            Group::Records,
            "Know what you have open",
            "The app is told which patient or visit it was opened for.",
        ),
        Meaning::LaunchPatient => word(
            Group::Records,
            "Know whose record it is",
            "The app is told which person’s record it works with. Without this it gets nothing from one person’s record.",
        ),
        Meaning::LaunchEncounter => {
            word(Group::Records, "Know which visit it is about", "The app is told which visit it works with.")
        }
        Meaning::OfflineAccess => Words {
            warning: Some("The app keeps its access while you are away, until you disconnect it."),
            ..word(Group::Staying, "Stay connected", "The app can go on without asking you to sign in again.")
        },
        Meaning::Introspect => word(
            Group::Identity,
            "Check other apps’ access",
            "The app may ask this server what any access it is shown is good for.",
        ),
        Meaning::OnlineAccess => word(
            Group::Staying,
            "Stay connected while you are signed in",
            "The app can go on until you sign out here.",
        ),
    }
}

fn of_resource(resource: &ResourceScope) -> Words {
    let reads = resource.letters.has(Letters::R) || resource.letters.has(Letters::S);
    let verbs: Vec<&str> = [
        (reads, "see"),
        (resource.letters.has(Letters::C), "add"),
        (resource.letters.has(Letters::U), "change"),
        (resource.letters.has(Letters::D), "delete"),
    ]
    .into_iter()
    .filter_map(|(there, verb)| there.then_some(verb))
    .collect();
    let what = match resource.resource_type {
        None => "everything in the health record".to_owned(),
        Some(name) => type_in_words(name),
    };
    let part = PARTS.iter().find(|part| {
        Some(part.resource_type) == resource.resource_type && {
            let (name, value) = part.limit.split_once('=').unwrap_or_default();
            resource.limits.len() == 1
                && resource.limits.get(name).is_some_and(|v| v.len() == 1 && v.contains(value))
        }
    });
    let detail = match (part, resource.limits.is_empty()) {
        (Some(part), _) => format!("Only this part: {}.", lower_first(part.words)),
        (None, true) => String::new(),
        (None, false) => {
            let limits: Vec<String> = resource
                .limits
                .iter()
                .map(|(name, values)| {
                    let codes: Vec<&str> = values
                        .iter()
                        .map(|v| v.rsplit_once('|').map_or(v.as_str(), |(_, code)| code))
                        .collect();
                    format!("{name} {}", codes.join(" or "))
                })
                .collect();
            format!("Only those with {}.", limits.join(" and "))
        }
    };
    let everyone = "For every patient you may see, not only one.";
    Words {
        group: Group::Records,
        title: upper_first(&format!("{} {what}", listed(&verbs))),
        detail: match resource.level {
            Level::Patient => detail,
            Level::User | Level::System if detail.is_empty() => everyone.into(),
            Level::User | Level::System => format!("{detail} {everyone}"),
        },
        changes: resource.letters.writes(),
        warning: resource
            .resource_type
            .is_none()
            .then_some("This covers every kind of record there is now, and kinds that are added later."),
    }
}

fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Words {
        of(&Scope::parse(text).unwrap())
    }

    #[test]
    fn a_scope_is_said_without_jargon() {
        assert_eq!(words("patient/Observation.rs").title, "See measurements and test results");
        assert_eq!(words("patient/Immunization.cu").title, "Add and change vaccinations");
        assert_eq!(
            words("patient/*.cruds").title,
            "See, add, change and delete everything in the health record"
        );
        assert!(words("patient/*.rs").warning.is_some() && words("patient/Patient.rs").warning.is_none());
        assert!(words("patient/*.cruds").changes && !words("patient/*.read").changes);
        assert!(words("user/Patient.rs").detail.contains("every patient"));
    }

    #[test]
    fn every_part_is_a_scope_that_is_understood_and_narrower() {
        for part in &PARTS {
            let whole = Scope::parse(&format!("patient/{}.rs", part.resource_type)).unwrap();
            let narrowed = narrower(&whole);
            assert!(narrowed.iter().any(|(_, w)| *w == part.words));
            for (text, _) in narrowed {
                let narrow = Scope::parse(&text).unwrap();
                assert!(crate::smart::cover::covers(std::slice::from_ref(&whole), &narrow));
                assert!(words(&text).detail.starts_with("Only this part"));
            }
        }
    }

    #[test]
    fn other_limits_are_said_by_their_codes() {
        let said = words("patient/Observation.rs?code=http://loinc.org|8480-6,http://loinc.org|8462-4");
        assert_eq!(said.detail, "Only those with code 8462-4 or 8480-6.");
    }
}
