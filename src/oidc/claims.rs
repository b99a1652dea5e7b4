//! What is said of a person, by the scopes that ask for it (OpenID Connect Core 5.1, 5.4; SMART App Launch
//! 2.2, "Scopes for requesting identity data").

use serde_json::{Map, Value, json};

use crate::smart::scope::{Meaning, Scope};

/// The claims about a person that `scopes` ask for. `fhir_user` is the absolute URL of their resource, and
/// `resource` that resource, where it is known.
pub fn about(fhir_user: &str, resource: Option<&Value>, scopes: &[Scope]) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut say = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            claims.insert(name.to_owned(), value);
        }
    };
    let person = resource.unwrap_or(&Value::Null);
    for scope in scopes {
        match scope.meaning {
            Meaning::FhirUser => say("fhirUser", Some(json!(fhir_user))),
            Meaning::Profile => {
                // SMART 1.0 apps read the person's resource from `profile`.
                say("profile", Some(json!(fhir_user)));
                let name = &person["name"][0];
                let given: Vec<&str> =
                    name["given"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                say("given_name", (!given.is_empty()).then(|| json!(given.join(" "))));
                say("family_name", name["family"].as_str().map(Value::from));
                say("name", crate::fhir::demographics::name(person).map(Value::from));
                say("gender", person["gender"].as_str().map(Value::from));
                say("birthdate", person["birthDate"].as_str().map(Value::from));
            }
            Meaning::Email => {
                let email = telecom(person, "email");
                // Nobody proved that the address in a record is theirs.
                say("email_verified", email.as_ref().map(|_| json!(false)));
                say("email", email);
            }
            Meaning::Phone => {
                let phone = telecom(person, "phone");
                say("phone_number_verified", phone.as_ref().map(|_| json!(false)));
                say("phone_number", phone);
            }
            Meaning::Address => say("address", address(&person["address"][0])),
            _ => {}
        }
    }
    claims
}

fn telecom(person: &Value, system: &str) -> Option<Value> {
    let all = person["telecom"].as_array()?;
    let found = all.iter().find(|point| point["system"] == system && point["use"] != "old")?;
    found["value"].as_str().map(Value::from)
}

fn address(address: &Value) -> Option<Value> {
    let lines: Vec<&str> = address["line"].as_array()?.iter().filter_map(Value::as_str).collect();
    let mut claim = Map::new();
    claim.insert("street_address".into(), json!(lines.join("\n")));
    for (name, element) in
        [("locality", "city"), ("region", "state"), ("postal_code", "postalCode"), ("country", "country")]
    {
        if let Some(value) = address[element].as_str() {
            claim.insert(name.into(), value.into());
        }
    }
    Some(Value::Object(claim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_opens_its_own_claims_and_no_more() {
        let person = json!({
            "name": [{"given": ["Ana", "M."], "family": "Diaz"}], "birthDate": "1980-01-02", "gender": "female",
            "telecom": [{"system": "email", "use": "old", "value": "old@a.example"}, {"system": "email", "value": "a@a.example"}],
            "address": [{"line": ["1 Way", "Flat 2"], "city": "Town"}],
        });
        let claims = |scope: &str| Value::Object(about("u", Some(&person), &Scope::list(scope)));
        assert_eq!(claims("openid"), json!({}));
        assert_eq!(claims("fhirUser"), json!({"fhirUser": "u"}));
        assert_eq!(claims("email"), json!({"email": "a@a.example", "email_verified": false}));
        assert_eq!(claims("phone"), json!({}), "what is not known is not there, not even empty");
        assert_eq!(
            claims("address")["address"],
            json!({"street_address": "1 Way\nFlat 2", "locality": "Town"})
        );
        let profile = claims("profile");
        assert_eq!((&profile["profile"], &profile["name"]), (&json!("u"), &json!("Ana M. Diaz")));
        assert_eq!((&profile["given_name"], &profile["birthdate"]), (&json!("Ana M."), &json!("1980-01-02")));
        assert_eq!(Value::Object(about("u", None, &Scope::list("profile"))), json!({"profile": "u"}));
    }
}
