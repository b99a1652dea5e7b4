//! Telling apps that a person signed out (OpenID Connect Back-Channel Logout 1.0).
//!
//! Whoever ends a session writes down in the same transaction whom to tell; what tells them comes later, so that
//! no app can hold up a person, and no crash loses a notice. An app may be told twice, never not at all for want
//! of trying.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::app::{App, Server};
use crate::clock::{HOUR, MINUTE, Millis, SECOND};
use crate::events::{Event, Kind};
use crate::oauth::client::Client;
use crate::oauth::client_metadata::Metadata;
use crate::oauth::grant::Grant;
use crate::oauth::keys::KeyError;
use crate::params;
use crate::smart::scope::Meaning;
use crate::store::db::{DbError, Tx, Verdict};

/// What a logout token says has happened.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// How long a logout token may be accepted.
const TOKEN_LIFE: Millis = 2 * MINUTE;
/// How long to wait after each try that failed; one more fails, and the app is given up. The first is longer than
/// any call outside can take, so that no notice is on its way twice at once.
const WAITS: [Millis; 5] = [10 * SECOND, MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR];
/// How many apps are told at once.
const AT_ONCE: usize = 32;
/// How often is looked for notices whose time has come.
const PAUSE: Duration = Duration::from_millis(100);

/// One app to tell of the end of one session.
#[derive(Clone, Debug)]
struct Notice {
    sid: String,
    client: String,
    account: String,
    /// How often it was tried, this time counted in.
    tries: i64,
}

/// Writes down whom to tell that a session ended: every app that asked for it and was given an id_token in it.
pub fn keep(tx: &Tx<'_>, sid: &str, now: Millis) -> Result<(), DbError> {
    for grant in Grant::of_session(tx, sid)? {
        let Some(account) = &grant.account else { continue };
        if !was_given_an_id_token(tx, &grant)? || !wants_notices(tx, &grant.client)? {
            continue;
        }
        tx.execute(
            "INSERT INTO logout_notices (sid, client, account, tries, next_ms) VALUES ($1, $2, $3, 0, $4)
             ON CONFLICT DO NOTHING",
            params![sid, &grant.client, account, now],
        )?;
    }
    Ok(())
}

fn was_given_an_id_token(tx: &Tx<'_>, grant: &Grant) -> Result<bool, DbError> {
    if !grant.scopes().iter().any(|s| s.meaning == Meaning::OpenId) {
        return Ok(false);
    }
    // An id_token comes with an access token; without one the code was never exchanged.
    let sql = "SELECT 1 FROM access_tokens WHERE grant_id = $1 LIMIT 1";
    Ok(tx.first(sql, params![&grant.id], |row| row.get::<i64>(0))?.is_some())
}

fn wants_notices(tx: &Tx<'_>, client: &str) -> Result<bool, DbError> {
    Ok(Client::find(tx, client)?.is_some_and(|c| c.metadata.backchannel_logout_uri.is_some()))
}

/// Takes the notices whose time has come, and puts off their next try before this one is made: a crash in the
/// middle only means that an app is told again.
fn take_due(tx: &Tx<'_>, most: usize, now: Millis) -> Result<Vec<Notice>, DbError> {
    let due = tx.all(
        "SELECT sid, client, account, tries + 1 FROM logout_notices WHERE next_ms <= $1
         ORDER BY next_ms, sid, client LIMIT $2",
        params![now, i64::try_from(most).unwrap_or(i64::MAX)],
        |row| Ok(Notice { sid: row.get(0)?, client: row.get(1)?, account: row.get(2)?, tries: row.get(3)? }),
    )?;
    for notice in &due {
        let wait = notice.wait().unwrap_or(WAITS[WAITS.len() - 1]);
        tx.execute(
            "UPDATE logout_notices SET tries = $3, next_ms = $4 WHERE sid = $1 AND client = $2",
            params![&notice.sid, &notice.client, notice.tries, now + wait],
        )?;
    }
    Ok(due)
}

impl Notice {
    /// How long to wait if this try fails; nothing after the last.
    fn wait(&self) -> Option<Millis> {
        usize::try_from(self.tries - 1).ok().and_then(|i| WAITS.get(i)).copied()
    }

    fn forget(&self, tx: &Tx<'_>) -> Result<(), DbError> {
        let sql = "DELETE FROM logout_notices WHERE sid = $1 AND client = $2";
        tx.execute(sql, params![&self.sid, &self.client]).map(drop)
    }

    /// The claims (2.4). There is no nonce, so that nobody takes it for an id_token.
    fn claims(&self, server: &Server, now: Millis) -> Value {
        json!({
            "iss": server.issuer,
            "aud": self.client,
            "iat": now / SECOND,
            "exp": (now + TOKEN_LIFE) / SECOND,
            "jti": server.chance.id(),
            "sub": self.account,
            "sid": self.sid,
            "events": {EVENT: {}},
        })
    }
}

/// How one try went.
enum Outcome {
    Told,
    /// To be tried again.
    Failed(String),
    /// There is nothing to try again.
    Hopeless(&'static str),
}

/// Tells apps as their time comes, until the task is dropped.
pub async fn send(app: App) {
    let mut sending = JoinSet::new();
    loop {
        while sending.try_join_next().is_some() {}
        match due(&app, AT_ONCE - sending.len().min(AT_ONCE)).await {
            Ok(notices) => notices.into_iter().for_each(|notice| {
                sending.spawn(tell(app.clone(), notice));
            }),
            Err(e) => tracing::error!(cause = %e, "apps could not be told of sign-outs; they wait"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn due(app: &App, most: usize) -> Result<Vec<Notice>, DbError> {
    let now = app.now();
    let sql = "SELECT 1 FROM logout_notices WHERE next_ms <= $1 LIMIT 1";
    let any = app.store.read(|tx| tx.first(sql, params![now], |row| row.get::<i64>(0)))?.is_some();
    if !any || most == 0 {
        return Ok(Vec::new());
    }
    app.store.write(move |tx| take_due(tx, most, now).map(Verdict::Commit)).await
}

async fn tell(app: App, notice: Notice) {
    let event = Event::new(Kind::LogoutNotice, app.now());
    let event = event.client(notice.client.clone()).account(notice.account.clone());
    let event = match try_to_tell(&app, &notice).await {
        Outcome::Told => event,
        Outcome::Failed(_) if notice.wait().is_some() => return,
        Outcome::Failed(why) => event.refused(format!("given up: {why}")),
        Outcome::Hopeless(why) => event.refused(why),
    };
    let forgotten = app.store.write(move |tx| {
        notice.forget(tx)?;
        event.insert(tx).map(Verdict::Commit)
    });
    if let Err(e) = forgotten.await {
        tracing::error!(cause = %e, "whether an app was told of a sign-out could not be kept; it is told again");
    }
}

/// One try, with the app as it is registered now and the key that signs now.
async fn try_to_tell(app: &Server, notice: &Notice) -> Outcome {
    let client = match app.store.read(|tx| Client::find(tx, &notice.client)) {
        Ok(client) => client,
        Err(e) => return Outcome::Failed(e.to_string()),
    };
    let Some(metadata) = client.map(|client| client.metadata) else {
        return Outcome::Hopeless("the app is no longer registered");
    };
    let Some(address) = &metadata.backchannel_logout_uri else {
        return Outcome::Hopeless("the app no longer has an address to be told at");
    };
    let token = match signed(app, &metadata, notice, app.now()).await {
        Ok(token) => token,
        Err(e) => return Outcome::Failed(format!("the logout token could not be signed: {e}")),
    };
    match app.fetcher.post_form(address, &[("logout_token", &token)]).await {
        // 200 by the specification; some frameworks answer 204 where they have nothing to say.
        Ok(200 | 204) => Outcome::Told,
        Ok(status) => Outcome::Failed(format!("it answered with HTTP status {status}")),
        Err(e) => Outcome::Failed(e.to_string()),
    }
}

/// Signed as the app's id_tokens are.
async fn signed(app: &Server, metadata: &Metadata, notice: &Notice, now: Millis) -> Result<String, KeyError> {
    let alg = metadata.id_token_alg();
    Ok(app.keys.signing(alg, now).await?.sign("logout+jwt", &notice.claims(app, now))?)
}
