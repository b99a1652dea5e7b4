//! What a person must do next on the way from an authorization request to its answer.

use super::request::Request;
use crate::clock::Millis;
use crate::identity::account::{Account, ActsFor};

/// The next thing to ask a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Who are you?
    SignIn,
    /// The app was launched by somebody else than is signed in.
    SwitchPerson,
    /// The app was launched for a patient whose record the person may no longer open.
    RecordClosed,
    /// Whose record?
    ChoosePatient,
    /// Which visit of this patient?
    ChooseEncounter {
        /// The patient in context.
        patient: String,
    },
    /// May the app have this? With what it would be about.
    Consent(Context),
    /// Nothing: they need not be asked again (`consent.rs`).
    Done(Context),
}

/// What a grant would be about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The patient, where there is one.
    pub patient: Option<String>,
    /// The encounter, one of that patient's, where there is one.
    pub encounter: Option<String>,
}

/// Who is signed in, as far as the next step depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    /// Who.
    pub account: &'a Account,
    /// Whose records they may open.
    pub acts_for: &'a [ActsFor],
    /// When they signed in.
    pub signed_in: Millis,
}

/// The next step of `request` for whoever is signed in.
pub fn next(request: &Request, present: Option<Present<'_>>) -> Step {
    let Some(person) = present.filter(|p| request.asked.accepts_sign_in(p.signed_in, request.created)) else {
        return Step::SignIn;
    };
    let launched = request.asked.launched.as_ref();
    if launched.is_some_and(|launched| launched.account != person.account.id) {
        return Step::SwitchPerson;
    }
    let open = launched.and_then(|launched| launched.patient.as_ref());
    if open.is_some_and(|patient| !person.account.may_open(person.acts_for, patient)) {
        return Step::RecordClosed;
    }
    if open.is_none() && !request.asked.needs_patient() {
        return Step::Consent(Context { patient: None, encounter: None });
    }
    // A choice that somebody else made in this browser is not this person's choice.
    let chosen = request
        .patient
        .as_ref()
        .filter(|_| request.chosen_by.as_deref() == Some(&person.account.id))
        .filter(|patient| person.account.may_open(person.acts_for, patient));
    let only = match person.acts_for {
        [only] if !person.account.sees_everyone => Some(&only.patient),
        _ => None,
    };
    let Some(patient) = open.or(chosen).or(only).cloned() else { return Step::ChoosePatient };
    if let Some(encounter) = launched.and_then(|launched| launched.encounter.clone()) {
        return Step::Consent(Context { patient: Some(patient), encounter: Some(encounter) });
    }
    // An encounter goes with the patient it was chosen for, by the one who chose it; '' is "none of them".
    let of_this_choice = request.chosen_by.as_deref() == Some(&person.account.id)
        && request.patient.as_ref() == Some(&patient);
    match request.encounter.as_ref().filter(|_| of_this_choice) {
        Some(encounter) => {
            let encounter = Some(encounter.clone()).filter(|e| !e.is_empty());
            Step::Consent(Context { patient: Some(patient), encounter })
        }
        None if request.asked.needs_encounter() => Step::ChooseEncounter { patient },
        None => Step::Consent(Context { patient: Some(patient), encounter: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Chance;
    use crate::identity::account::Kind;
    use crate::oauth::request::{Asked, Prompt};
    use crate::smart::launch::{LaunchContext, Launched};

    const NOW: Millis = 1_000_000;

    fn request(scope: &str) -> Request {
        let asked = Asked {
            redirect_uri: "https://a.example".into(),
            state: None,
            scope: scope.into(),
            left_out: vec![],
            audience: "aud".into(),
            challenge: None,
            nonce: None,
            prompt: vec![],
            max_age: None,
            login_hint: None,
            dpop_jkt: None,
            launched: None,
        };
        Request::new("app", asked, "trace".into(), NOW, &Chance::seeded(1))
    }

    fn account(kind: Kind) -> Account {
        Account {
            id: "sub".into(),
            username: "maria".into(),
            kind,
            fhir_user: "Patient/maria".into(),
            name: "Maria".into(),
            about: String::new(),
            sees_everyone: kind == Kind::Practitioner,
            disabled: false,
        }
    }

    fn acts_for(ids: &[&str]) -> Vec<ActsFor> {
        ids.iter().map(|id| ActsFor { patient: (*id).into(), relationship: "self".into() }).collect()
    }

    fn step(request: &Request, kind: Kind, ids: &[&str], signed_in: Millis) -> Step {
        let (account, acts_for) = (account(kind), acts_for(ids));
        next(request, Some(Present { account: &account, acts_for: &acts_for, signed_in }))
    }

    #[test]
    fn nobody_is_signed_in_so_that_comes_first() {
        assert_eq!(next(&request("openid"), None), Step::SignIn);
    }

    #[test]
    fn a_person_who_acts_for_one_patient_is_not_asked_which() {
        let consent = Step::Consent(Context { patient: Some("a".into()), encounter: None });
        assert_eq!(step(&request("launch/patient"), Kind::Patient, &["a"], NOW), consent);
        assert_eq!(step(&request("patient/*.rs"), Kind::Patient, &["a"], NOW), consent, "implied");
    }

    #[test]
    fn a_person_who_acts_for_several_and_a_practitioner_choose() {
        assert_eq!(step(&request("patient/*.rs"), Kind::Patient, &["a", "b"], NOW), Step::ChoosePatient);
        assert_eq!(step(&request("patient/*.rs"), Kind::Practitioner, &[], NOW), Step::ChoosePatient);
        assert_eq!(step(&request("patient/*.rs"), Kind::Practitioner, &["a"], NOW), Step::ChoosePatient);
    }

    #[test]
    fn with_only_user_scopes_nobody_is_asked_for_a_patient() {
        let none = Step::Consent(Context { patient: None, encounter: None });
        assert_eq!(step(&request("user/*.rs openid"), Kind::Practitioner, &[], NOW), none);
    }

    #[test]
    fn a_choice_counts_for_the_person_who_made_it_while_they_may_make_it() {
        let mut request = request("patient/*.rs");
        (request.chosen_by, request.patient) = (Some("sub".into()), Some("b".into()));
        let chosen = Step::Consent(Context { patient: Some("b".into()), encounter: None });
        assert_eq!(step(&request, Kind::Patient, &["a", "b"], NOW), chosen);
        assert_eq!(step(&request, Kind::Patient, &["a", "c"], NOW), Step::ChoosePatient, "no longer theirs");
        request.chosen_by = Some("other".into());
        assert_eq!(step(&request, Kind::Patient, &["a", "b"], NOW), Step::ChoosePatient);
    }

    #[test]
    fn an_encounter_is_chosen_after_its_patient_and_goes_with_that_choice() {
        let mut request = request("launch/encounter openid");
        let choose = Step::ChooseEncounter { patient: "a".into() };
        assert_eq!(step(&request, Kind::Patient, &["a"], NOW), choose, "a patient is implied");
        (request.chosen_by, request.patient) = (Some("sub".into()), Some("a".into()));
        request.encounter = Some("e".into());
        let chosen = Step::Consent(Context { patient: Some("a".into()), encounter: Some("e".into()) });
        assert_eq!(step(&request, Kind::Patient, &["a"], NOW), chosen);
        request.encounter = Some(String::new());
        let none = Step::Consent(Context { patient: Some("a".into()), encounter: None });
        assert_eq!(step(&request, Kind::Patient, &["a"], NOW), none);
        request.chosen_by = Some("other".into());
        assert_eq!(step(&request, Kind::Patient, &["a"], NOW), choose);
    }

    /// The request comes with a launch by `sub`.
    fn launched(scope: &str, patient: Option<&str>, encounter: Option<&str>) -> Request {
        let mut request = request(scope);
        request.asked.launched = Some(Launched {
            handle: "hash".into(),
            account: "sub".into(),
            patient: patient.map(str::to_owned),
            encounter: encounter.map(str::to_owned),
            context: LaunchContext::default(),
        });
        request
    }

    #[test]
    fn an_ehr_launch_says_which_record_and_nobody_is_asked_or_chooses_another() {
        let consent = Step::Consent(Context { patient: Some("b".into()), encounter: Some("e".into()) });
        let mut request = launched("launch launch/encounter patient/*.rs", Some("b"), Some("e"));
        assert_eq!(step(&request, Kind::Patient, &["a", "b"], NOW), consent);
        assert_eq!(step(&request, Kind::Practitioner, &[], NOW), consent);
        (request.chosen_by, request.patient) = (Some("sub".into()), Some("a".into()));
        request.encounter = Some("x".into());
        assert_eq!(
            step(&request, Kind::Patient, &["a", "b"], NOW),
            consent,
            "an earlier choice counts for nothing"
        );
        let only_told = launched("launch user/*.rs", Some("b"), None);
        let consent = Step::Consent(Context { patient: Some("b".into()), encounter: None });
        assert_eq!(step(&only_told, Kind::Practitioner, &[], NOW), consent);
    }

    #[test]
    fn what_an_ehr_launch_leaves_open_is_asked_for_as_ever() {
        let request = launched("launch patient/*.rs", None, None);
        assert_eq!(step(&request, Kind::Practitioner, &[], NOW), Step::ChoosePatient);
        let request = launched("launch launch/encounter", Some("b"), None);
        let choose = Step::ChooseEncounter { patient: "b".into() };
        assert_eq!(step(&request, Kind::Practitioner, &[], NOW), choose);
        let none = Step::Consent(Context { patient: None, encounter: None });
        assert_eq!(step(&launched("launch openid", None, None), Kind::Practitioner, &[], NOW), none);
    }

    #[test]
    fn an_ehr_launch_is_for_its_own_person_and_for_what_they_may_still_open() {
        let mut request = launched("launch patient/*.rs", Some("b"), None);
        assert_eq!(next(&request, None), Step::SignIn);
        assert_eq!(step(&request, Kind::Patient, &["a"], NOW), Step::RecordClosed);
        request.asked.launched.as_mut().unwrap().account = "other".into();
        assert_eq!(step(&request, Kind::Patient, &["b"], NOW), Step::SwitchPerson);
        assert_eq!(step(&request, Kind::Practitioner, &[], NOW), Step::SwitchPerson);
    }

    #[test]
    fn an_old_sign_in_is_not_enough_where_a_new_one_was_asked_for() {
        let mut request = request("openid");
        request.asked.max_age = Some(60);
        assert_eq!(step(&request, Kind::Patient, &["a"], NOW - 60_001), Step::SignIn);
        assert_eq!(
            step(&request, Kind::Patient, &["a"], NOW - 60_000),
            Step::Consent(Context { patient: None, encounter: None })
        );
        request.asked.max_age = Some(0);
        assert_eq!(step(&request, Kind::Patient, &["a"], NOW - 1), Step::SignIn);
        request.asked.max_age = None;
        request.asked.prompt = vec![Prompt::Login];
        assert_eq!(step(&request, Kind::Patient, &["a"], NOW - 1), Step::SignIn);
        assert_eq!(
            step(&request, Kind::Patient, &["a"], NOW + 1),
            Step::Consent(Context { patient: None, encounter: None })
        );
    }
}
