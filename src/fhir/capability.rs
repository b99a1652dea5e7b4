//! What the FHIR endpoint can do: its CapabilityStatement (FHIR R4, "capabilities" interaction).

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::definitions::{self, Kind};
use crate::app::Server;
use crate::web::answer::fhir_json;

/// The day on which what is stated here last changed.
const CHANGED: &str = "2026-11-22";
const OAUTH_URIS: &str = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris";

/// The statement; `protected` is the endpoint that needs a token.
pub fn statement(server: &Server, protected: bool) -> Response {
    let base = if protected { server.fhir_base() } else { server.url("/open/fhir") };
    let mut rest = json!({"mode": "server", "resource": resources()});
    if protected {
        rest["security"] = security(server);
    }
    let body = json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": CHANGED,
        "kind": "instance",
        "software": {"name": "Hearthgate", "version": env!("CARGO_PKG_VERSION")},
        "implementation": {"description": "Hearthgate, a SMART on FHIR server", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [rest],
    });
    fhir_json(StatusCode::OK, body.to_string())
}

/// One real client reads nothing but this extension, so it stays though SMART 2 calls it old.
fn security(server: &Server) -> Value {
    let uris =
        [("authorize", "/oauth/authorize"), ("token", "/oauth/token"), ("register", "/oauth/register")];
    let uris: Vec<Value> =
        uris.iter().map(|(name, path)| json!({"url": name, "valueUri": server.url(path)})).collect();
    json!({
        "cors": true,
        "service": [{
            "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                "code": "SMART-on-FHIR",
            }],
            "text": "OAuth 2.0 as SMART App Launch says",
        }],
        "extension": [{"url": OAUTH_URIS, "extension": uris}],
    })
}

fn resources() -> Vec<Value> {
    let param = |p: &definitions::Param| json!({"name": p.code, "type": p.kind.name()});
    let one = |resource_type: &&'static str| {
        let searched = definitions::params(resource_type)
            .filter(|p| p.kind.is_indexed() && !matches!(p.kind, Kind::Composite | Kind::Special));
        json!({
            "type": resource_type,
            "interaction": [{"code": "read"}, {"code": "search-type"}],
            "versioning": "versioned",
            "searchParam": searched.map(param).collect::<Vec<_>>(),
        })
    };
    definitions::types().iter().map(one).collect()
}
