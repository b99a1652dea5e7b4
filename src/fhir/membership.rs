//! Whom a resource is about: the table of types, and what a resource itself says.
//!
//! This follows the subject, not the R4 Patient compartment (`docs/decisions.md`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::reference::{self, Target};

/// How a type belongs to patients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is the patient.
    Patient,
    /// It is about the patient that this element refers to.
    Element(&'static str),
    /// Provenance: about the patient that all its patient-bound targets are about.
    Targets,
    /// It is about nobody, and may be seen where a record refers to it.
    Supporting,
    /// Binary: seen where a document that may be read points to it.
    Attachment,
    /// It is nobody's.
    Nobody,
}

/// Every type that is about a patient, and the element that says which.
const ABOUT: [(&str, &str); 57] = [
    ("Account", "subject"),
    ("AdverseEvent", "subject"),
    ("AllergyIntolerance", "patient"),
    ("Appointment", "participant"),
    ("BodyStructure", "patient"),
    ("CarePlan", "subject"),
    ("CareTeam", "subject"),
    ("ChargeItem", "subject"),
    ("Claim", "patient"),
    ("ClaimResponse", "patient"),
    ("ClinicalImpression", "subject"),
    ("Communication", "subject"),
    ("CommunicationRequest", "subject"),
    ("Composition", "subject"),
    ("Condition", "subject"),
    ("Consent", "patient"),
    ("Coverage", "beneficiary"),
    ("CoverageEligibilityRequest", "patient"),
    ("CoverageEligibilityResponse", "patient"),
    ("DetectedIssue", "patient"),
    ("Device", "patient"),
    ("DeviceRequest", "subject"),
    ("DeviceUseStatement", "subject"),
    ("DiagnosticReport", "subject"),
    ("DocumentManifest", "subject"),
    ("DocumentReference", "subject"),
    ("Encounter", "subject"),
    ("EpisodeOfCare", "patient"),
    ("ExplanationOfBenefit", "patient"),
    ("FamilyMemberHistory", "patient"),
    ("Flag", "subject"),
    ("Goal", "subject"),
    ("GuidanceResponse", "subject"),
    ("ImagingStudy", "subject"),
    ("Immunization", "patient"),
    ("ImmunizationEvaluation", "patient"),
    ("ImmunizationRecommendation", "patient"),
    ("Invoice", "subject"),
    ("List", "subject"),
    ("MeasureReport", "subject"),
    ("Media", "subject"),
    ("MedicationAdministration", "subject"),
    ("MedicationDispense", "subject"),
    ("MedicationRequest", "subject"),
    ("MedicationStatement", "subject"),
    ("MolecularSequence", "patient"),
    ("NutritionOrder", "patient"),
    ("Observation", "subject"),
    ("Procedure", "subject"),
    ("QuestionnaireResponse", "subject"),
    ("RelatedPerson", "patient"),
    ("RequestGroup", "subject"),
    ("RiskAssessment", "subject"),
    ("ServiceRequest", "subject"),
    ("Specimen", "subject"),
    ("SupplyDelivery", "patient"),
    ("VisionPrescription", "patient"),
];

/// Types that are about nobody, but that records about a patient refer to.
pub const SUPPORTING: [&str; 6] =
    ["Endpoint", "Location", "Medication", "Organization", "Practitioner", "PractitionerRole"];

impl Membership {
    /// How this type belongs to patients; a type no table names belongs to nobody.
    pub fn of(resource_type: &str) -> Membership {
        match resource_type {
            "Patient" => Membership::Patient,
            "Provenance" => Membership::Targets,
            "Binary" => Membership::Attachment,
            t if SUPPORTING.contains(&t) => Membership::Supporting,
            t => match ABOUT.binary_search_by_key(&t, |(name, _)| name) {
                Ok(at) => Membership::Element(ABOUT[at].1),
                Err(_) => Membership::Nobody,
            },
        }
    }

    /// Whether a resource of such a type is about one patient.
    pub fn is_about_a_patient(self) -> bool {
        matches!(self, Membership::Patient | Membership::Element(_))
    }
}

/// Whom a resource says it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// This patient.
    Patient(String),
    /// Whoever all of these (type, id) are about: a Provenance's patient-bound targets.
    Targets(Vec<(String, String)>),
    /// Nobody, or several at once.
    Nobody,
}

/// Whom a resource says it is about. A record that names several patients is nobody's: shown to each it
/// would show the others. `base` is this server's own FHIR base.
pub fn about_whom(resource: &Value, base: &str) -> About {
    let resource_type = resource["resourceType"].as_str().unwrap_or_default();
    let id = resource["id"].as_str().unwrap_or_default();
    match Membership::of(resource_type) {
        Membership::Patient => About::Patient(id.to_owned()),
        Membership::Element("participant") => {
            let list = resource["participant"].as_array();
            one_patient(list.into_iter().flatten().filter_map(|p| local_reference(&p["actor"], base)))
        }
        Membership::Element(element) => {
            one_patient(each(&resource[element]).filter_map(|r| local_reference(r, base)))
        }
        Membership::Targets => {
            let targets = each(&resource["target"]).filter_map(|r| local_reference(r, base));
            let bound: Vec<(String, String)> = targets
                .filter(|(t, _)| Membership::of(t).is_about_a_patient())
                .map(|(t, id)| (t.to_owned(), id.to_owned()))
                .collect();
            if bound.is_empty() { About::Nobody } else { About::Targets(bound) }
        }
        _ => About::Nobody,
    }
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    let (list, single) = match value {
        Value::Array(list) => (list.as_slice(), None),
        Value::Null => (&[][..], None),
        one => (&[][..], Some(one)),
    };
    list.iter().chain(single)
}

fn one_patient<'a>(references: impl Iterator<Item = (&'a str, &'a str)>) -> About {
    let patients: BTreeSet<&str> = references.filter(|(t, _)| *t == "Patient").map(|(_, id)| id).collect();
    match (patients.len(), patients.first()) {
        (1, Some(id)) => About::Patient((*id).to_owned()),
        _ => About::Nobody,
    }
}

/// Type and id of a literal reference to a resource here.
fn local_reference<'a>(reference: &'a Value, base: &str) -> Option<(&'a str, &'a str)> {
    match reference::read(reference.get("reference")?.as_str()?, base) {
        Target::Here { type_, id } => Some((type_, id)),
        Target::Contained(_) | Target::Elsewhere(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_is_in_order_so_that_it_can_be_searched() {
        assert!(ABOUT.is_sorted());
        assert!(ABOUT.iter().all(|(t, _)| crate::fhir::definitions::is_type(t)));
    }

    #[test]
    fn every_type_that_says_whose_it_is_stands_in_the_table() {
        // About no one patient: who enrols or is studied, and what is grouped, planned or kept apart.
        let apart = [
            "Group",
            "EnrollmentRequest",
            "Person",
            "ResearchSubject",
            "Basic",
            "Provenance",
            "AuditEvent",
            "Contract",
        ];
        let mut missing = Vec::new();
        for t in crate::fhir::definitions::types().iter().filter(|t| !apart.contains(*t)) {
            for element in ["patient", "subject", "beneficiary"] {
                let of_patient = crate::fhir::definitions::param(t, element).is_some_and(|p| {
                    p.targets().contains(&"Patient") && p.expression.contains(&format!("{t}.{element}"))
                });
                if of_patient && !Membership::of(t).is_about_a_patient() {
                    missing.push(format!("{t}.{element}"));
                }
            }
        }
        assert_eq!(missing, Vec::<String>::new());
    }

    #[test]
    fn a_record_that_names_two_patients_is_nobodys() {
        let whom = |resource| about_whom(&resource, "http://p/fhir");
        let account = |ids: &[&str]| {
            let subject: Vec<Value> = ids.iter().map(|id| json!({"reference": id})).collect();
            json!({"resourceType": "Account", "id": "x", "subject": subject})
        };
        assert_eq!(whom(account(&["Patient/a"])), About::Patient("a".into()));
        assert_eq!(whom(account(&["Patient/a", "Patient/b"])), About::Nobody);
        assert_eq!(whom(account(&["Patient/a/_history/2"])), About::Patient("a".into()));
        for odd in ["Group/a", "Patient/", "Patient/a/b", "#a", "http://x/Patient/a", "Patient/a/_history"] {
            assert_eq!(whom(account(&[odd])), About::Nobody, "{odd}");
        }
        let provenance = json!({"resourceType": "Provenance", "id": "p", "target": [
            {"reference": "Patient/a"}, {"reference": "Practitioner/x"}]});
        assert_eq!(whom(provenance), About::Targets(vec![("Patient".into(), "a".into())]));
    }
}
