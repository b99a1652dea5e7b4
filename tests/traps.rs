//! Records that look as if they were somebody's: what a rule that reads too much, or too little, gives away.
//! They are about Maria and Robin of the sandbox; Robin's own record is otherwise empty.

use serde_json::{Value, json};

pub const MARIA: &str = "patient-maria";
pub const ROBIN: &str = "patient-robin";

fn to(reference: &str) -> Value {
    json!({"reference": reference})
}

fn observation(id: &str, subject: Value, more: Value) -> Value {
    let mut resource = json!({"resourceType": "Observation", "id": id, "status": "final",
        "code": {"text": "a trap"}, "subject": subject});
    let (Value::Object(all), Value::Object(more)) = (&mut resource, more) else { unreachable!() };
    all.extend(more);
    all.retain(|_, value| !value.is_null());
    resource
}

fn provenance(id: &str, targets: &[&str], agent: &str) -> Value {
    let targets: Vec<Value> = targets.iter().map(|t| to(t)).collect();
    json!({"resourceType": "Provenance", "id": id, "target": targets, "recorded": "2026-01-01T00:00:00Z",
        "agent": [{"who": to(agent)}]})
}

fn document(id: &str, subject: &str, url: &str) -> Value {
    json!({"resourceType": "DocumentReference", "id": id, "status": "current", "subject": to(subject),
        "content": [{"attachment": {"contentType": "text/plain", "url": url}}]})
}

fn binary(id: &str) -> Value {
    json!({"resourceType": "Binary", "id": id, "contentType": "text/plain", "data": "dHJhcA=="})
}

/// Two files: the second holds some of the first again, about somebody else.
pub fn files(base: &str) -> Vec<Vec<Value>> {
    let (maria, robin) = (format!("Patient/{MARIA}"), format!("Patient/{ROBIN}"));
    let first = [about(&maria, &robin, base), attached(&maria, &robin, base), supporting(&maria, &robin)];
    let mut first = first.concat();
    // Whose a Provenance is may be known only later, and may change.
    first.insert(0, provenance("trap-early", &["Observation/trap-late"], "Practitioner/trap-agent"));
    first.push(observation("trap-late", to(&maria), json!({})));
    first.push(observation(
        "trap-moves-away",
        to(&maria),
        json!({"performer": [to("Organization/trap-moved")]}),
    ));
    first.push(observation("trap-moves-in", to(&robin), json!({})));
    first.push(provenance(
        "trap-of-moved",
        &["Observation/trap-moves-away"],
        "Practitioner/trap-agent-of-moved",
    ));
    let second = vec![
        observation("trap-moves-away", to(&robin), json!({"performer": [to("Organization/trap-moved")]})),
        observation("trap-moves-in", to(&maria), json!({})),
    ];
    vec![first, second]
}

/// Whom a record is about, and who is only mentioned in it.
fn about(maria: &str, robin: &str, base: &str) -> Vec<Value> {
    let mentions = json!({"performer": [to(robin)], "focus": [to(robin)]});
    let contained =
        json!({"contained": [{"resourceType": "Patient", "id": "p", "link": [{"other": to(maria)}]}]});
    vec![
        observation("trap-mentions", to(maria), mentions),
        observation("trap-absolute", to(&format!("{base}/{maria}")), json!({})),
        observation("trap-version", to(&format!("{maria}/_history/1")), json!({})),
        observation("trap-elsewhere", to(&format!("http://other.example/fhir/{maria}")), json!({})),
        observation("trap-longer-base", to(&format!("{base}x/{maria}")), json!({})),
        observation("trap-of-group", to("Group/trap-group"), json!({"performer": [to(maria)]})),
        observation("trap-of-nobody", Value::Null, json!({"performer": [to(maria)]})),
        observation("trap-of-device", to("Device/trap-device-of-maria"), json!({})),
        observation("trap-of-contained", to("#p"), contained),
        observation(
            "trap-logical",
            json!({"type": "Patient", "display": "Maria",
            "identifier": {"system": "urn:trap", "value": "maria"}}),
            json!({}),
        ),
        json!({"resourceType": "Account", "id": "trap-both", "status": "active", "subject": [to(maria), to(robin)]}),
        json!({"resourceType": "Account", "id": "trap-one", "status": "active", "subject": [to(maria)]}),
        json!({"resourceType": "Appointment", "id": "trap-one", "status": "booked", "participant": [
            {"actor": to(maria), "status": "accepted"},
            {"actor": to("Practitioner/trap-in-appointment"), "status": "accepted"}]}),
        json!({"resourceType": "Appointment", "id": "trap-both", "status": "booked", "participant": [
            {"actor": to(maria), "status": "accepted"}, {"actor": to(robin), "status": "accepted"}]}),
        json!({"resourceType": "Group", "id": "trap-group", "type": "person", "actual": true,
            "managingEntity": to("Practitioner/trap-of-group"), "member": [{"entity": to(maria)}]}),
        json!({"resourceType": "Basic", "id": "trap", "code": {"text": "x"}, "subject": to(maria)}),
        json!({"resourceType": "Task", "id": "trap", "status": "ready", "intent": "order", "for": to(maria),
            "owner": to("Practitioner/trap-of-task")}),
        json!({"resourceType": "AuditEvent", "id": "trap", "entity": [{"what": to(maria)}]}),
        json!({"resourceType": "Person", "id": "trap", "link": [{"target": to(maria)}]}),
        json!({"resourceType": "Consent", "id": "trap", "status": "active", "patient": to(maria)}),
        json!({"resourceType": "List", "id": "trap", "status": "current", "mode": "working", "subject": to(maria),
            "entry": [{"item": to("Observation/trap-of-robin")}]}),
        observation("trap-of-robin", to(robin), json!({"performer": [to("Practitioner/trap-of-robin")]})),
        json!({"resourceType": "CareTeam", "id": "trap", "subject": to(maria), "participant": [{"member": to(robin)}]}),
        json!({"resourceType": "Coverage", "id": "trap", "status": "active", "beneficiary": to(robin),
            "subscriber": to(maria), "policyHolder": to(maria), "payor": [to(maria)]}),
        json!({"resourceType": "QuestionnaireResponse", "id": "trap", "status": "completed", "subject": to(robin),
            "source": to(maria), "author": to(maria)}),
        json!({"resourceType": "RelatedPerson", "id": "trap", "patient": to(robin)}),
        json!({"resourceType": "Device", "id": "trap-device-of-maria", "patient": to(maria)}),
        json!({"resourceType": "Device", "id": "trap-device", "owner": to("Organization/trap-far")}),
        json!({"resourceType": "Condition", "id": "trap", "subject": to(robin), "asserter": to(maria)}),
        provenance("trap-both", &["Observation/trap-mentions", "Observation/trap-of-robin"], maria),
        provenance(
            "trap-own",
            &["Observation/trap-mentions", maria, "Practitioner/trap-agent"],
            "Practitioner/trap-agent",
        ),
        provenance("trap-version", &["Observation/trap-mentions/_history/1"], maria),
        provenance("trap-missing", &["Observation/trap-mentions", "Observation/not-there"], maria),
        provenance("trap-supporting", &["Practitioner/trap-lonely"], maria),
        provenance("trap-of-nobody", &["Observation/trap-of-nobody"], maria),
        provenance("trap-half-nobodys", &["Observation/trap-mentions", "Observation/trap-of-nobody"], maria),
    ]
}

/// Files, and what points to them.
fn attached(maria: &str, robin: &str, base: &str) -> Vec<Value> {
    let derived =
        json!({"extension": [{"url": "urn:trap", "valueReference": to("Binary/trap-observation")}]});
    vec![
        binary("trap-maria"),
        binary("trap-absolute"),
        binary("trap-robin"),
        binary("trap-both"),
        binary("trap-observation"),
        binary("trap-report"),
        binary("trap-nobody"),
        binary("trap-lonely"),
        document("trap-maria", maria, "Binary/trap-maria"),
        document("trap-absolute", maria, &format!("{base}/Binary/trap-absolute")),
        document("trap-robin", robin, "Binary/trap-robin"),
        document("trap-maria-too", maria, "Binary/trap-both"),
        document("trap-robin-too", robin, "Binary/trap-both"),
        document("trap-nobody", "Group/trap-group", "Binary/trap-nobody"),
        observation("trap-binary", to(maria), derived),
        json!({"resourceType": "DiagnosticReport", "id": "trap", "status": "final", "code": {"text": "x"},
            "subject": to(robin), "presentedForm": [{"url": "Binary/trap-report"}]}),
    ]
}

/// What is about nobody, one, two and three steps away from a record.
fn supporting(maria: &str, robin: &str) -> Vec<Value> {
    let organization = |id: &str, part_of: Option<&str>| match part_of {
        Some(whole) => json!({"resourceType": "Organization", "id": id, "name": id, "partOf": to(whole)}),
        None => json!({"resourceType": "Organization", "id": id, "name": id}),
    };
    let practitioner = |id: &str| json!({"resourceType": "Practitioner", "id": id, "name": [{"family": id}]});
    let mut near = organization("trap-near", Some("Organization/trap-far"));
    near["endpoint"] = json!([to("Endpoint/trap-far")]);
    let mut speaks_of_maria = organization("trap-speaks-of-maria", None);
    speaks_of_maria["extension"] = json!([{"url": "urn:trap", "valueReference": to(maria)}]);
    let mut all = vec![
        json!({"resourceType": "PractitionerRole", "id": "trap-role", "practitioner": to("Practitioner/trap-in-role"),
            "organization": to("Organization/trap-near")}),
        json!({"resourceType": "Endpoint", "id": "trap-far", "status": "active"}),
        json!({"resourceType": "Medication", "id": "trap-of-robin", "code": {"text": "x"},
            "manufacturer": to("Organization/trap-of-robin")}),
        json!({"resourceType": "MedicationRequest", "id": "trap", "status": "active", "intent": "order",
            "subject": to(robin), "medicationReference": to("Medication/trap-of-robin")}),
        observation("trap-by-role", to(maria), json!({"performer": [to("PractitionerRole/trap-role")]})),
        near,
        speaks_of_maria,
        organization("trap-far", Some("Organization/trap-farther")),
        organization("trap-farther", None),
        organization("trap-moved", None),
        organization("trap-of-robin", None),
    ];
    let named =
        ["in-role", "of-robin", "of-group", "of-task", "lonely", "agent", "agent-of-moved", "in-appointment"];
    all.extend(named.map(|name| practitioner(&format!("trap-{name}"))));
    all
}
