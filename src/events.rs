//! Who did what through which app to which record, and why: compact, typed, append-only.
//!
//! Security events are written in the transaction they tell of; events of reads are queued and written
//! together a moment later.

use std::sync::{Mutex, PoisonError};

use crate::clock::Millis;
use crate::params;
use crate::store::db::{DbError, Store, Tx, Verdict};

/// Reads that wait to be written; a longer queue means that the store is failing.
const MOST_QUEUED: usize = 50_000;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An invitation to register apps was made.
    AppInvited,
    /// An app was registered.
    AppRegistered,
    /// An app's metadata or secret was changed.
    AppChanged,
    /// An app was deleted.
    AppDeleted,
    /// Somebody signed in, or tried to.
    SignIn,
    /// Somebody signed out.
    SignOut,
    /// An app was told that somebody signed out, or could not be told.
    LogoutNotice,
    /// An EHR launched an app.
    LaunchMade,
    /// An app got a code for an EHR launch, or was refused.
    LaunchUsed,
    /// A person answered an app's request.
    Consent,
    /// A code was exchanged, or the exchange was refused.
    CodeExchanged,
    /// A backend service asked for a token.
    ServiceToken,
    /// An app proved itself with an assertion that was used before.
    AssertionReplayed,
    /// A refresh token was used, or its use was refused.
    Refreshed,
    /// A grant came to its end.
    GrantEnded,
    /// A signing key was made; from when it signs stands in its row.
    KeyMade,
    /// A signing key was removed: nothing that it signed is valid any more.
    KeyRemoved,
    /// A signing key was removed before its time: it is in the wrong hands.
    KeyRevoked,
    /// A resource was read.
    Read,
    /// Resources were searched.
    Search,
    /// A page was posted that its browser was never shown, or with other values than shown.
    FormRefused,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::AppInvited => "app_invited",
            Kind::AppRegistered => "app_registered",
            Kind::AppChanged => "app_changed",
            Kind::AppDeleted => "app_deleted",
            Kind::SignIn => "sign_in",
            Kind::SignOut => "sign_out",
            Kind::LogoutNotice => "logout_notice",
            Kind::LaunchMade => "launch_made",
            Kind::LaunchUsed => "launch_used",
            Kind::Consent => "consent",
            Kind::CodeExchanged => "code_exchanged",
            Kind::ServiceToken => "service_token",
            Kind::AssertionReplayed => "assertion_replayed",
            Kind::Refreshed => "refreshed",
            Kind::GrantEnded => "grant_ended",
            Kind::KeyMade => "key_made",
            Kind::KeyRemoved => "key_removed",
            Kind::KeyRevoked => "key_revoked",
            Kind::Read => "read",
            Kind::Search => "search",
            Kind::FormRefused => "form_refused",
        }
    }
}

/// One thing that happened. Ids only: no bodies, no tokens.
#[derive(Clone, Debug)]
pub struct Event {
    at: Millis,
    kind: Kind,
    grant: Option<String>,
    client: Option<String>,
    account: Option<String>,
    patient: Option<String>,
    resource_type: Option<String>,
    resource: Option<String>,
    outcome: &'static str,
    reason: Option<String>,
}

macro_rules! about {
    ($($field:ident: $doc:literal),* $(,)?) => {$(
        #[doc = $doc]
        pub fn $field(mut self, id: impl Into<Option<String>>) -> Self {
            self.$field = id.into();
            self
        }
    )*};
}

impl Event {
    /// Something that went through.
    pub fn new(kind: Kind, at: Millis) -> Self {
        Event {
            at,
            kind,
            grant: None,
            client: None,
            account: None,
            patient: None,
            resource_type: None,
            resource: None,
            outcome: "ok",
            reason: None,
        }
    }

    /// The same, refused.
    pub fn refused(mut self, reason: impl Into<String>) -> Self {
        self.outcome = "refused";
        self.reason = Some(reason.into());
        self
    }

    /// Why, where it was not refused.
    pub fn why(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    about! {
        grant: "Under which grant.",
        client: "Through which app.",
        account: "By whom.",
        patient: "To whose record.",
        resource_type: "To which type of resource.",
        resource: "To which resource of that type.",
    }

    /// Writes it in the transaction that does what it tells of.
    pub fn insert(self, tx: &Tx<'_>) -> Result<(), DbError> {
        tx.execute(
            "INSERT INTO events (at_ms, kind, grant_id, client, account, patient, type, resource, outcome, reason)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            params![
                self.at,
                self.kind.as_str(),
                self.grant,
                self.client,
                self.account,
                self.patient,
                self.resource_type,
                self.resource,
                self.outcome,
                self.reason
            ],
        )
        .map(drop)
    }
}

/// Events of reads on their way to the store.
#[derive(Default)]
pub struct Queue(Mutex<Vec<Event>>);

impl Queue {
    /// Adds one; false where the queue is full, and the read must not be answered.
    #[must_use]
    pub fn push(&self, event: Event) -> bool {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = queue.len() < MOST_QUEUED;
        if room {
            queue.push(event);
        }
        room
    }

    /// Writes what waits. What the store does not take stays in the queue for the next time.
    pub async fn flush(&self, store: &Store) -> Result<(), DbError> {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if waiting.is_empty() {
            return Ok(());
        }
        let kept = waiting.clone();
        let written = store
            .write(move |tx| {
                waiting.into_iter().try_for_each(|event| event.insert(tx))?;
                Ok(Verdict::Commit(()))
            })
            .await;
        if written.is_err() {
            let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            queue.splice(0..0, kept);
        }
        written
    }
}
