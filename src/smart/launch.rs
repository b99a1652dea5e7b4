//! Launches from an EHR: what the app is told, and the handle that stands for it until the app comes with it
//! (SMART App Launch 2.2, "EHR Launch" and "Launch context arrives with your access_token").
//!
//! A handle is bound to app, person and audience. The app has five minutes to present it; what was begun
//! with it may go on for as long as an authorization request does, and only one of them gets a code.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::{Chance, Millis};
use crate::config::LAUNCH_LIFE;
use crate::crypto::{Hashed, Secret};
use crate::error::{Problem, invalid_request};
use crate::params;
use crate::store::db::{DbError, Tx};

/// What a launch tells the app beyond patient and encounter; in JSON the names are those of the token answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchContext {
    /// What else was open.
    #[serde(rename = "fhirContext", default, skip_serializing_if = "Vec::is_empty")]
    pub fhir_context: Vec<FhirContext>,
    /// What the person was about to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// Whether the app has to show whose record it is, since nothing around it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need_patient_banner: Option<bool>,
    /// Where the EHR's colours and fonts are described.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smart_style_url: Option<String>,
    /// Which of several organizations the launch comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// One item of `fhirContext`: a resource by reference, canonical URL or identifier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FhirContext {
    /// Relative: `ImagingStudy/123`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// A canonical URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canonical: Option<String>,
    /// A FHIR Identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<Value>,
    /// Its FHIR type.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// What it is to the launch, a URI; none is `launch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

impl LaunchContext {
    /// As it is stored.
    pub fn to_text(&self) -> String {
        json!(self).to_string()
    }

    /// As it was stored.
    pub fn read(text: &str) -> Result<LaunchContext, DbError> {
        serde_json::from_str(text).map_err(|e| DbError::Corrupt(e.to_string()))
    }

    /// Adds its members at the top level of a token or introspection answer.
    pub fn add_to(&self, answer: &mut Value) {
        if let Value::Object(members) = json!(self) {
            members.into_iter().for_each(|(name, value)| answer[name] = value);
        }
    }
}

/// A launch as it is kept.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The app it opens.
    pub client: String,
    /// The person who launches it; nobody else goes on with it.
    pub account: String,
    /// The FHIR base it is about.
    pub audience: String,
    /// The patient whose record was open.
    pub patient: Option<String>,
    /// The encounter that was open, one of that patient's.
    pub encounter: Option<String>,
    /// What else the app is told.
    pub context: LaunchContext,
    /// Until then the app may present the handle.
    pub expires: Millis,
    /// When a code was issued for it.
    pub used: Option<Millis>,
}

/// A launch that an authorization request came with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launched {
    /// The hash of its handle.
    pub handle: String,
    /// The person who launched.
    pub account: String,
    /// The patient whose record was open.
    pub patient: Option<String>,
    /// The encounter that was open.
    pub encounter: Option<String>,
    /// What else the app is told.
    pub context: LaunchContext,
}

impl Launch {
    /// When a handle made at `now` can no longer be presented.
    pub fn expiry(now: Millis) -> Millis {
        now + LAUNCH_LIFE
    }

    /// Keeps it, and answers with its handle.
    pub fn issue(&self, tx: &Tx<'_>, chance: &Chance) -> Result<Secret, DbError> {
        let secret = Secret::new("hg_launch_", chance);
        tx.execute(
            "INSERT INTO launches (hash, client, account, audience, patient, encounter, context, expires_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            params![
                secret.hashed().as_str(),
                &self.client,
                &self.account,
                &self.audience,
                self.patient.as_deref(),
                self.encounter.as_deref(),
                self.context.to_text(),
                self.expires
            ],
        )?;
        Ok(secret)
    }

    /// The launch of a handle that somebody presented, whatever its state.
    pub fn find(tx: &Tx<'_>, presented: &str) -> Result<Option<Launch>, DbError> {
        tx.first(
            "SELECT client, account, audience, patient, encounter, context, expires_ms, used_ms
             FROM launches WHERE hash = $1",
            params![Hashed::of(presented).as_str()],
            |row| {
                Ok(Launch {
                    client: row.get(0)?,
                    account: row.get(1)?,
                    audience: row.get(2)?,
                    patient: row.get(3)?,
                    encounter: row.get(4)?,
                    context: row.json(5)?,
                    expires: row.get(6)?,
                    used: row.get(7)?,
                })
            },
        )
    }

    /// Whether `client` may begin with it now, for a token that is good at `audience`.
    ///
    /// # Errors
    /// `invalid_request`: whatever is wrong with a handle, no other launch is begun in its place.
    pub fn fits(&self, client: &str, audience: &str, now: Millis) -> Result<(), Problem> {
        let wrong = |words: &'static str| Err(invalid_request(words).at("launch"));
        if self.client != client {
            return wrong(
                "this `launch` was made for another app; send the one your own launch URL was opened with",
            );
        }
        if self.used.is_some() {
            return Err(used_up());
        }
        if now >= self.expires {
            return wrong(
                "this `launch` has expired: an app has five minutes to come with it; launch again from the EHR",
            );
        }
        if self.audience != audience {
            return wrong(
                "this `launch` was made for another FHIR server; send the `iss` it came with as `aud`",
            );
        }
        Ok(())
    }

    /// As a request carries it on; `presented` is its handle.
    pub fn presented(self, presented: &str) -> Launched {
        Launched {
            handle: Hashed::of(presented).as_str().to_owned(),
            account: self.account,
            patient: self.patient,
            encounter: self.encounter,
            context: self.context,
        }
    }

    /// Forgets those that could not be presented any more before `then`, some at a time.
    pub fn forget(tx: &Tx<'_>, then: Millis) -> Result<(), DbError> {
        let sql = "DELETE FROM launches WHERE hash IN
                   (SELECT hash FROM launches WHERE expires_ms < $1 ORDER BY expires_ms, hash LIMIT 1000)";
        tx.execute(sql, params![then]).map(drop)
    }
}

/// The refusal of a handle that nothing is known of.
pub fn unknown() -> Problem {
    invalid_request(
        "this `launch` was not issued by this server; launch again from the EHR, or leave it out to begin a \
         standalone launch",
    )
    .at("launch")
}

/// The refusal of a handle for which a code was issued.
pub fn used_up() -> Problem {
    let words = "this `launch` was already used, and each is good for one code; launch again from the EHR";
    invalid_request(words).at("launch")
}

impl Launched {
    /// Uses it up for the app and the person it was made for: false where another request was faster.
    pub fn consume(&self, tx: &Tx<'_>, client: &str, account: &str, now: Millis) -> Result<bool, DbError> {
        let sql = "UPDATE launches SET used_ms = $4
                   WHERE hash = $1 AND client = $2 AND account = $3 AND used_ms IS NULL RETURNING hash";
        let used = tx.first(sql, params![&self.handle, client, account, now], |r| r.get::<String>(0))?;
        Ok(used.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch() -> Launch {
        Launch {
            client: "app".into(),
            account: "sub".into(),
            audience: "http://p/fhir".into(),
            patient: None,
            encounter: None,
            context: LaunchContext::default(),
            expires: 100,
            used: None,
        }
    }

    #[test]
    fn a_handle_fits_its_own_app_once_in_time_at_its_own_server() {
        let says = |launch: Launch, client: &str, audience: &str, now: Millis| {
            launch.fits(client, audience, now).err().map_or(String::new(), |p| p.words.into_owned())
        };
        let here = "http://p/fhir";
        assert_eq!(says(launch(), "app", here, 99), "");
        assert!(says(launch(), "app", here, 100).contains("expired"));
        assert!(says(launch(), "other", here, 99).contains("another app"));
        assert!(says(launch(), "app", "http://p/oauth/userinfo", 99).contains("another FHIR server"));
        assert!(says(Launch { used: Some(50), ..launch() }, "app", here, 99).contains("already used"));
    }

    #[test]
    fn a_context_is_told_under_the_names_of_the_token_answer_and_nothing_empty_is() {
        let mut answer = json!({"access_token": "x"});
        LaunchContext::default().add_to(&mut answer);
        assert_eq!(answer, json!({"access_token": "x"}));
        let item = FhirContext {
            reference: Some("ImagingStudy/1".into()),
            type_: Some("ImagingStudy".into()),
            ..FhirContext::default()
        };
        let context = LaunchContext {
            fhir_context: vec![item],
            intent: Some("look".into()),
            need_patient_banner: Some(false),
            smart_style_url: None,
            tenant: None,
        };
        context.add_to(&mut answer);
        let told = json!({
            "access_token": "x",
            "fhirContext": [{"reference": "ImagingStudy/1", "type": "ImagingStudy"}],
            "intent": "look",
            "need_patient_banner": false,
        });
        assert_eq!(answer, told);
        assert_eq!(serde_json::from_value::<LaunchContext>(told).unwrap(), context);
    }
}
