//! Hearthgate: a SMART on FHIR authorization server, and the FHIR R4 endpoint it guards.
//!
//! This file is the table of contents. Each room says what it is: *ground* (used by everything, knows
//! nothing above it), *pure* (no store, no clock), *noun* (a thing with a table of its own and its rules),
//! *endpoint* (an address for apps), *page* (an address for people), *sandbox* (absent in production).
//! Who may import whom: main -> server -> {pages, endpoints, sandbox} -> nouns -> pure, ground;
//! `tests/house.rs` holds it.

pub mod app; // noun: what a running server holds; the state behind every handler
pub mod clock; // ground: time and chance, the system's and the tests'
pub mod config; // ground: every setting, and what the mode allows
pub mod crypto; // ground: secrets and hashes, sealing
pub mod error; // ground: what went wrong, as plain data
pub mod events; // noun: who did what through which app to which record, and why
pub mod fetch; // ground: the one guarded way to call outside
pub mod jose; // ground: signatures: keys, and what is signed with them
pub mod limits; // noun: how often one address may try what costs something
pub mod server; // server: from settings to a running server, and one table of all addresses

/// The authorization server: OAuth 2.0 as SMART App Launch profiles it.
pub mod oauth {
    pub mod access_token; // noun: access tokens, and what a presented one may do now
    pub mod assertion; // noun: private_key_jwt: every check, each jti once
    pub mod authorize; // endpoint: /oauth/authorize
    pub mod checks; // noun: what an authorization request must fulfil
    pub mod client; // noun: an app, its secrets, who manages it
    pub mod client_auth; // noun: who is calling: none, basic, post, assertion
    pub mod client_keys; // noun: the public keys that apps sign with
    pub mod client_metadata; // pure: what is known of an app by its registration
    pub mod code; // noun: codes: once, bound, short
    pub mod consent; // noun: what a person need not be asked again
    pub mod dpop; // pure: proofs that a caller holds a key
    pub mod exempt; // pure: PKCE, and which requests may go without
    pub mod grant; // noun: what was granted: the thing that is revoked
    pub mod introspect; // endpoint: /oauth/introspect
    pub mod invitation; // noun: who may register an app where registration is not open
    pub mod keys; // noun: signing keys
    pub mod management; // noun: who may change an app, and how it is registered, changed and deleted
    pub mod metadata; // endpoint: discovery and JWKS
    pub mod par; // endpoint: /oauth/par
    pub mod params; // pure: a request's parameters, once
    pub mod proofs; // noun: which of those proofs were used
    pub mod pushed; // noun: authorization requests that apps pushed, until a browser brings them
    pub mod redirect; // pure: which redirect URIs can be registered, and which are an app's own
    pub mod refresh; // noun: rotation, the grace rule, reuse
    pub mod register; // endpoint: /oauth/register, and /oauth/register/{client_id}
    pub mod registration; // noun: what an app may register
    pub mod request; // noun: authorization requests on their way
    pub mod revoke; // endpoint: /oauth/revoke
    pub mod service; // noun: backend services: a token for the app itself
    pub mod step; // noun: what a person must do next
    pub mod token; // endpoint: /oauth/token
}

/// OpenID Connect.
pub mod oidc {
    pub mod claims; // pure: what is said of a person: fhirUser, profile, name, email, phone, address
    pub mod id_token; // pure: the claims of an id_token, at_hash
    pub mod logout; // endpoint: /oauth/logout
    pub mod logout_notices; // noun: apps to be told that a session ended
    pub mod userinfo; // endpoint: /oauth/userinfo
}

/// What SMART adds to OAuth.
pub mod smart {
    pub mod cover; // pure: which scopes allow which: cover, meet
    pub mod launch; // noun: EHR launches: their context, and the handle that stands for it
    pub mod scope; // pure: scopes and their grammar
    pub mod words; // pure: scopes in plain words
}

/// The FHIR R4 store, and the decision who sees what of it.
pub mod fhir {
    pub mod access; // pure: token + person + interaction + type -> Reach, and why
    pub mod api; // endpoint: /fhir and /open/fhir
    pub mod capability; // endpoint: the CapabilityStatement
    pub mod date; // pure: FHIR's partial dates as spans of milliseconds
    pub mod definitions; // pure: which types and search parameters there are, as data tables
    pub mod demographics; // pure: what people read of a Patient or Practitioner
    pub mod entries; // pure: the values a resource is found by
    pub mod import; // noun: Bundles and NDJSON into the store
    pub mod index; // noun: the rows a resource is found by
    pub mod matching; // pure: one criterion against what a resource is found by
    pub mod membership; // pure: whom a resource is about
    pub mod number; // pure: decimals and the precision they are written with
    pub mod operand; // pure: the values of a search parameter, parsed by its kind
    pub mod path; // pure: the small FHIRPath that search parameters use
    pub mod patients; // noun: finding a patient as a person would
    pub mod query; // pure: a search request, parsed
    pub mod reference; // pure: what a reference says: here, elsewhere, contained
    pub mod resource; // noun: stored resources, their versions, whom they are about
    pub mod search; // noun: a query and a Reach -> SQL -> Bundle
    pub mod shape; // noun: how much of a resource an answer shows
    pub mod sql; // noun: a Reach and criteria as SQL
    pub mod text; // pure: text folded for searching
}

/// People and their sessions.
pub mod identity {
    pub mod account; // noun: people: their FHIR resource, whom they act for
    pub mod newcomer; // noun: in the sandbox, accounts made at first sign-in
    pub mod session; // noun: browser sessions and form tokens
}

/// The database.
pub mod store {
    pub mod db; // ground: Store, Tx, Row: one SQL text
    mod sqlite; // ground: one writer with group commit, many readers
}

/// What browsers are shown.
pub mod web {
    pub mod account; // page: a person's own page: connected apps
    pub mod allow; // page: what a person allowed becomes a grant, its code, and the way back
    pub mod answer; // page: a Problem as JSON, OperationOutcome or redirect
    pub mod app_form; // page: the form an app is registered and changed by
    pub mod app_page; // page: one app, as its developer sees it
    pub mod app_secrets; // page: an app's secrets, renewed and ended
    pub mod app_views; // page: what the templates of a developer's apps are filled with
    pub mod apps; // page: a developer's apps
    pub mod bearer; // page: the access token of a request
    pub mod browser; // page: who is at the other end: cookies, session, form tokens
    pub mod choose; // page: whose record?
    pub mod choose_encounter; // page: which visit?
    pub mod consent; // page: may the app have this?
    pub mod cors; // page: which origins may read which answers
    pub mod form; // page: a form that an app posts, and who sent it
    pub mod home; // page: what this server is
    pub mod login; // page: who are you?
    pub mod page; // page: headers, frame, and the page for a problem
    pub mod steps; // page: /oauth/authorize/{id}, the way from an app and back
    pub mod switch; // page: this launch is somebody else's
    pub mod views; // page: what the templates are filled with
}

/// For developing apps; provably absent in production.
pub mod sandbox {
    pub mod launcher; // sandbox: POST /sandbox/launches, apps launched as an EHR does
    pub mod people; // sandbox: people and records to begin with
    pub mod posted; // sandbox: JSON that a program posts, and from where
}
