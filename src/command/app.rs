//! `hearthgate app`: invite, list and delete apps, also beside a running server.

use clap::{Subcommand, ValueEnum};
use hearthgate::clock::{Chance, Clock, DAY};
use hearthgate::config::DEFAULT_DATABASE;
use hearthgate::oauth::client::Client;
use hearthgate::oauth::client_metadata::Approved;
use hearthgate::oauth::{invitation, management};
use hearthgate::store::db::{Store, Verdict};

use crate::{Failure, open};

/// What can be done with apps.
#[derive(clap::Args)]
pub struct App {
    /// The SQLite file
    #[arg(long, global = true, env = "HEARTHGATE_DATABASE", default_value = DEFAULT_DATABASE)]
    database: String,
    #[command(subcommand)]
    does: Does,
}

#[derive(Subcommand)]
enum Does {
    /// Make an initial access token, by which apps are registered at POST /oauth/register
    Invite {
        /// What the app may have beyond what any app may; can be repeated
        #[arg(long, value_enum)]
        allow: Vec<Allow>,
        /// How many apps can be registered with it
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        uses: u32,
        /// For how many days
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=365))]
        days: u16,
    },
    /// Show every app: its client_id, when it was registered, its kind, what it was allowed, its name
    List,
    /// Delete an app and end all it was granted
    Delete {
        /// The app
        client_id: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Allow {
    /// `system/` scopes: a backend service that reads records by itself
    System,
    /// An app that only signs people in, and may leave out PKCE for that
    SignInOnly,
    /// To introspect every app's tokens: a gateway before another FHIR server
    IntrospectAll,
}

/// Runs the command.
pub fn run(command: App) -> Result<(), Failure> {
    let App { database, does } = command;
    // A name that was mistyped must not make a new database.
    if !std::path::Path::new(&database).is_file() {
        return Err(
            format!("database {database}: there is no such file; start the server with it first").into()
        );
    }
    let store = open(&database, Store::open)?;
    match does {
        Does::Invite { allow, uses, days } => invite(&store, &allow, uses, days),
        Does::List => list(&store),
        Does::Delete { client_id } => delete(&store, client_id),
    }
}

fn invite(store: &Store, allow: &[Allow], uses: u32, days: u16) -> Result<(), Failure> {
    let approved = Approved {
        system: allow.contains(&Allow::System),
        sign_in_only: allow.contains(&Allow::SignInOnly),
        introspect_all: allow.contains(&Allow::IntrospectAll),
    };
    let (now, chance) = (Clock::System.now(), Chance::system());
    let expires = now + i64::from(days) * DAY;
    let token = store.write_blocking(move |tx| {
        invitation::make(tx, approved, uses, now, expires, &chance).map(Verdict::Commit)
    })?;
    // The token alone on standard output, so that it can be piped.
    println!("{}", token.reveal());
    eprintln!(
        "Shown this once. Good for {uses} {} within {days} {}{}. Send it as `Authorization: Bearer …` with \
         POST /oauth/register.",
        if uses == 1 { "app" } else { "apps" },
        if days == 1 { "day" } else { "days" },
        in_words(approved).map_or_else(String::new, |what| format!(", which may have {what}")),
    );
    Ok(())
}

fn list(store: &Store) -> Result<(), Failure> {
    for client in store.read(Client::all)? {
        println!(
            "{}\t{}\t{}\t{}\t{}",
            client.id,
            hearthgate::fhir::resource::instant(client.created),
            client.metadata.token_endpoint_auth_method.as_str(),
            in_words(client.approved).as_deref().unwrap_or("-"),
            client.metadata.client_name,
        );
    }
    Ok(())
}

fn delete(store: &Store, id: String) -> Result<(), Failure> {
    let (now, wanted) = (Clock::System.now(), id.clone());
    let name = store.write_blocking(move |tx| {
        let Some(client) = Client::find(tx, &wanted)? else { return Ok(Verdict::Rollback(None)) };
        management::delete(tx, &wanted, now)?;
        Ok(Verdict::Commit(Some(client.metadata.client_name)))
    })?;
    let name =
        name.ok_or_else(|| format!("no app has the client_id {id}; `hearthgate app list` shows them"))?;
    println!("{name} ({id}) is deleted, and all it was granted is ended");
    Ok(())
}

/// "system, sign-in-only"; none for nothing.
fn in_words(approved: Approved) -> Option<String> {
    let all = [
        (approved.system, "system"),
        (approved.sign_in_only, "sign-in-only"),
        (approved.introspect_all, "introspect-all"),
    ];
    let words: Vec<&str> = all.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
    (!words.is_empty()).then(|| words.join(", "))
}
