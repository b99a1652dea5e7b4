//! The access decision: what a token reaches, as an expression that is compiled to SQL for searches and
//! evaluated on one resource for reads. The only place that decides access.
//!
//! `patient/` follows whom a record is *about*, not the R4 compartment (`docs/decisions.md`).

use std::collections::BTreeSet;

use super::membership::Membership;
use crate::smart::scope::{Letters, Level, Limits, Meaning, ResourceScope, Scope};

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interaction {
    /// Read one resource, or an old version of it.
    Read,
    /// Search a type.
    Search,
}

impl Interaction {
    /// The letter a scope needs for it.
    pub fn letter(self) -> Letters {
        match self {
            Interaction::Read => Letters::R,
            Interaction::Search => Letters::S,
        }
    }
}

/// Which resources of one type a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// None of them.
    Nothing,
    /// All of them.
    All,
    /// Those about one of these patients.
    Owner(BTreeSet<String>),
    /// The one with this id.
    Is(String),
    /// Those that a token search parameter finds by one of these values (`system|code` or `code`).
    Parameter(String, BTreeSet<String>),
    /// Those that a record about one of these patients refers to, directly or through one other resource
    /// that is about nobody.
    ReferredTo(BTreeSet<String>),
    /// Those that a resource of this type, itself within this reach, refers to.
    ReferredFrom(&'static str, Box<Reach>),
    /// Those within every one of these.
    Both(Vec<Reach>),
    /// Those within at least one of these.
    Either(Vec<Reach>),
}

impl Reach {
    fn both(parts: Vec<Reach>) -> Reach {
        let mut kept: Vec<Reach> = parts.into_iter().filter(|p| *p != Reach::All).collect();
        match kept.len() {
            _ if kept.contains(&Reach::Nothing) => Reach::Nothing,
            0 => Reach::All,
            1 => kept.remove(0),
            _ => Reach::Both(kept),
        }
    }

    fn either(parts: Vec<Reach>) -> Reach {
        let mut kept: Vec<Reach> = Vec::new();
        for part in parts {
            if part != Reach::Nothing && !kept.contains(&part) {
                kept.push(part);
            }
        }
        match kept.len() {
            _ if kept.contains(&Reach::All) => Reach::All,
            0 => Reach::Nothing,
            1 => kept.remove(0),
            _ => Reach::Either(kept),
        }
    }
}

/// Whom a caller may act for at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sees {
    /// Everybody: a practitioner of the sandbox.
    Everyone,
    /// These patients.
    Patients(BTreeSet<String>),
    /// No person is there: a backend service, which sees what its `system/` scopes say.
    AsService,
}

/// What a caller holds.
#[derive(Clone, Debug)]
pub struct Holder<'a> {
    /// What the token may do: already cut to grant and registration.
    pub scopes: &'a [Scope],
    /// The patient in context.
    pub patient: Option<&'a str>,
    /// What the person may see.
    pub sees: Sees,
    /// The person's own resource, relative: `Patient/…`; a service has none.
    pub fhir_user: Option<&'a str>,
}

/// The scopes do not cover this at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The scope that would.
    pub needed: String,
}

/// What `holder` reaches of `resource_type` by `interaction`.
///
/// # Errors
/// [`Denied`] where no scope covers type and letter; a covered type with nothing to see is `Reach::Nothing`.
pub fn reach(holder: &Holder<'_>, interaction: Interaction, resource_type: &str) -> Result<Reach, Denied> {
    let covering: Vec<&ResourceScope> = holder
        .scopes
        .iter()
        .filter_map(Scope::resource)
        .filter(|s| s.letters.has(interaction.letter()) && s.resource_type.is_none_or(|t| t == resource_type))
        .collect();
    let mut parts: Vec<Reach> = covering
        .iter()
        .map(|s| {
            let mut parts = limits_as_reach(&s.limits);
            parts.push(by_level(holder, s.level, resource_type));
            Reach::both(parts)
        })
        .collect();
    let own = own_resource(holder, interaction, resource_type);
    if covering.is_empty() && own.is_none() {
        let level = holder.scopes.iter().filter_map(Scope::resource).map(|s| s.level).min();
        let level = level.unwrap_or(Level::Patient).as_str();
        return Err(Denied { needed: format!("{level}/{resource_type}.{}", interaction.letter()) });
    }
    parts.extend(own);
    Ok(Reach::either(parts))
}

/// What the open twin shows: everything but what is about access itself, or an app's own state.
pub fn open_reach(resource_type: &str) -> Reach {
    const HIDDEN: [&str; 3] = ["AuditEvent", "Basic", "Consent"];
    if HIDDEN.contains(&resource_type) { Reach::Nothing } else { Reach::All }
}

fn limits_as_reach(limits: &Limits) -> Vec<Reach> {
    limits.iter().map(|(name, values)| Reach::Parameter(name.clone(), values.clone())).collect()
}

/// `openid fhirUser` lets an app read the one resource its id_token points at.
fn own_resource(holder: &Holder<'_>, interaction: Interaction, resource_type: &str) -> Option<Reach> {
    let has = |meaning| holder.scopes.iter().any(|s| s.meaning == meaning);
    let (own_type, id) = holder.fhir_user?.split_once('/')?;
    let readable = interaction == Interaction::Read && has(Meaning::OpenId) && has(Meaning::FhirUser);
    (readable && own_type == resource_type).then(|| Reach::Is(id.to_owned()))
}

fn by_level(holder: &Holder<'_>, level: Level, resource_type: &str) -> Reach {
    match (level, &holder.sees) {
        (Level::System, Sees::AsService) => open_reach(resource_type),
        (Level::System, _) | (_, Sees::AsService) => Reach::Nothing,
        (Level::User, Sees::Everyone) => Reach::All,
        (Level::User, Sees::Patients(patients)) => about(holder, patients, resource_type),
        (Level::Patient, sees) => {
            let Some(patient) = holder.patient else { return Reach::Nothing };
            let may_still = match sees {
                Sees::Everyone => true,
                Sees::Patients(patients) => patients.contains(patient),
                Sees::AsService => false,
            };
            let patients = BTreeSet::from([patient.to_owned()]);
            if may_still { about(holder, &patients, resource_type) } else { Reach::Nothing }
        }
    }
}

/// What of a type belongs to these patients.
fn about(holder: &Holder<'_>, patients: &BTreeSet<String>, resource_type: &str) -> Reach {
    match Membership::of(resource_type) {
        Membership::Patient | Membership::Element(_) | Membership::Targets => Reach::Owner(patients.clone()),
        Membership::Supporting => Reach::ReferredTo(patients.clone()),
        Membership::Attachment => Reach::either(
            ATTACHING
                .into_iter()
                .filter_map(|source| {
                    let reach = reach(holder, Interaction::Read, source).ok()?;
                    Some(Reach::ReferredFrom(source, Box::new(reach)))
                })
                .collect(),
        ),
        Membership::Nobody => Reach::Nothing,
    }
}

/// The types whose attachments are `Binary` resources.
const ATTACHING: [&str; 2] = ["DocumentReference", "DiagnosticReport"];

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn reach_of(scope: &str, sees: Sees, interaction: Interaction, t: &str) -> Result<Reach, Denied> {
        let scopes = Scope::list(scope);
        reach(
            &Holder { scopes: &scopes, patient: Some("a"), sees, fhir_user: Some("Patient/a") },
            interaction,
            t,
        )
    }

    #[test]
    fn a_patient_scope_reaches_the_patient_in_context_and_nobody_else() {
        let sees = Sees::Patients(set(&["a", "b"]));
        let reach = reach_of("patient/*.rs", sees.clone(), Interaction::Read, "Observation");
        assert_eq!(reach, Ok(Reach::Owner(set(&["a"]))));
        let reach = reach_of("user/*.rs", sees, Interaction::Search, "Observation");
        assert_eq!(reach, Ok(Reach::Owner(set(&["a", "b"]))));
        let reach = reach_of("user/*.rs", Sees::Everyone, Interaction::Search, "Group");
        assert_eq!(reach, Ok(Reach::All));
    }

    #[test]
    fn a_right_that_was_taken_away_reaches_nothing() {
        let reach = reach_of("patient/*.rs", Sees::Patients(set(&["b"])), Interaction::Read, "Observation");
        assert_eq!(reach, Ok(Reach::Nothing));
    }

    #[test]
    fn the_letter_and_the_type_must_both_be_covered() {
        let sees = Sees::Patients(set(&["a"]));
        let denied =
            |scope, interaction, t| reach_of(scope, sees.clone(), interaction, t).unwrap_err().needed;
        assert_eq!(
            denied("patient/Observation.r", Interaction::Search, "Observation"),
            "patient/Observation.s"
        );
        assert_eq!(
            denied("patient/Observation.s", Interaction::Read, "Observation"),
            "patient/Observation.r"
        );
        assert_eq!(denied("user/Observation.rs", Interaction::Read, "Condition"), "user/Condition.r");
        assert_eq!(denied("openid fhirUser", Interaction::Search, "Patient"), "patient/Patient.s");
    }

    #[test]
    fn fhir_user_lets_an_app_read_that_one_resource() {
        let sees = Sees::Patients(set(&["a"]));
        let reach = reach_of("openid fhirUser", sees.clone(), Interaction::Read, "Patient");
        assert_eq!(reach, Ok(Reach::Is("a".into())));
        assert!(reach_of("fhirUser", sees, Interaction::Read, "Patient").is_err());
    }

    #[test]
    fn what_no_table_names_is_nobodys() {
        let sees = Sees::Patients(set(&["a"]));
        for t in ["Group", "AuditEvent", "Basic", "Library", "Task"] {
            assert_eq!(
                reach_of("patient/*.rs", sees.clone(), Interaction::Read, t),
                Ok(Reach::Nothing),
                "{t}"
            );
        }
    }

    #[test]
    fn a_binary_is_reached_through_the_documents_the_token_may_read() {
        let sees = Sees::Patients(set(&["a"]));
        let reach = reach_of(
            "patient/Binary.r patient/DocumentReference.rs?type=x",
            sees.clone(),
            Interaction::Read,
            "Binary",
        );
        let documents =
            Reach::Both(vec![Reach::Parameter("type".into(), set(&["x"])), Reach::Owner(set(&["a"]))]);
        assert_eq!(reach, Ok(Reach::ReferredFrom("DocumentReference", Box::new(documents))));
        assert_eq!(reach_of("patient/Binary.r", sees, Interaction::Read, "Binary"), Ok(Reach::Nothing));
    }
}
