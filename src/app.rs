//! What a running server holds, and what it is called: the state behind every handler.

use std::sync::Arc;

use crate::clock::{Chance, Clock, Millis};
use crate::config::Policy;
use crate::crypto::Mac;
use crate::events;
use crate::fetch::Fetcher;
use crate::identity::session::Csrf;
use crate::limits::Limits;
use crate::oauth::client_keys::ClientKeys;
use crate::oauth::keys::Keys;
use crate::oauth::proofs;
use crate::store::db::Store;

/// The server, shared by all handlers.
pub type App = Arc<Server>;

/// Everything a handler may use.
pub struct Server {
    /// P: public URL and issuer, byte for byte; no path, no trailing slash.
    pub issuer: String,
    /// What the mode allows.
    pub policy: Policy,
    /// The database.
    pub store: Store,
    /// What time it is.
    pub clock: Clock,
    /// Where random bytes come from.
    pub chance: Chance,
    /// What tokens are signed with.
    pub keys: Keys,
    /// How long a key signs; for good where there is none.
    pub key_rotation: Option<Millis>,
    /// Who came too often.
    pub limits: Limits,
    /// Form tokens.
    pub csrf: Csrf,
    /// What ties the pages of a search to its grant.
    pub cursors: Mac,
    /// What each refresh token's successor is derived with.
    pub successors: Mac,
    /// DPoP proofs that came with access tokens.
    pub proofs: proofs::Used,
    /// The keys that apps sign with.
    pub client_keys: ClientKeys,
    /// Calls to addresses that apps registered.
    pub fetcher: Fetcher,
    /// Events of reads on their way to the store.
    pub reads: events::Queue,
}

impl Server {
    /// The present time.
    pub fn now(&self) -> Millis {
        self.clock.now()
    }

    /// An absolute URL of this server; `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer)
    }

    /// P/fhir, the protected FHIR base and the audience of its tokens.
    pub fn fhir_base(&self) -> String {
        self.url("/fhir")
    }

    /// What the token of a sign-in without any FHIR access is good at.
    pub fn userinfo(&self) -> String {
        self.url("/oauth/userinfo")
    }
}
