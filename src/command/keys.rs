//! `hearthgate keys`: show signing keys or replace them, also while a server runs on the database.

use clap::Subcommand;
use hearthgate::clock::{Chance, Clock};
use hearthgate::config::DEFAULT_DATABASE;
use hearthgate::fhir::resource::instant;
use hearthgate::jose::Alg;
use hearthgate::oauth::keys::{self, Kept, State, Turn};
use hearthgate::server;
use hearthgate::store::db::Store;

use crate::{Failure, open};

/// What can be done with signing keys.
#[derive(clap::Args)]
pub struct Keys {
    /// The SQLite file
    #[arg(long, env = "HEARTHGATE_DATABASE", default_value = DEFAULT_DATABASE, global = true)]
    database: String,
    #[command(subcommand)]
    does: Does,
}

#[derive(Subcommand)]
enum Does {
    /// The published keys: which one signs, which one is next, which ones are kept for what they signed
    List,
    /// A new key for each algorithm: published now, signing ten minutes later, while the old one stays known
    Rotate {
        /// Only for this algorithm: RS256, ES256 or ES384
        #[arg(long)]
        alg: Option<String>,
        /// A key is in the wrong hands: the old ones are gone at once, and id_tokens signed with them
        /// verify no more
        #[arg(long)]
        now: bool,
    },
}

/// Runs the command.
pub fn run(command: Keys) -> Result<(), Failure> {
    let Keys { database, does } = command;
    match does {
        Does::List => list(&database),
        Does::Rotate { alg, now } => rotate(&database, alg.as_deref(), now),
    }
}

/// The store of a server that was started before: a command must not make an empty one by a slip of the pen.
fn open_with_keys(database: &str) -> Result<Store, Failure> {
    if !std::path::Path::new(database).is_file() {
        return Err(
            format!("database {database}: there is no such file; name the server's with --database").into()
        );
    }
    let store = open(database, Store::open)?;
    if !keys::Keys::are_kept(&store)? {
        return Err(
            format!("database {database}: it has no signing keys yet; the first start makes them").into()
        );
    }
    Ok(store)
}

fn list(database: &str) -> Result<(), Failure> {
    let now = Clock::System.now();
    let mut keys = open_with_keys(database)?.read(|tx| Kept::published(tx, now))?;
    keys.sort_by_key(|key| (key.alg.as_str(), key.state(now)));
    for key in keys {
        let words = match (key.state(now), key.retired, key.gone()) {
            (State::Next, ..) => format!("next: signs from {}", instant(key.active)),
            (State::Kept, Some(retired), Some(gone)) => {
                format!("signed until {}, published until {}", instant(retired), instant(gone))
            }
            (_, Some(retired), _) => format!("signs until {}", instant(retired)),
            _ => format!("signs since {}", instant(key.active)),
        };
        println!("{}  {}  {words}", key.alg.as_str(), key.kid);
    }
    Ok(())
}

fn rotate(database: &str, only: Option<&str>, at_once: bool) -> Result<(), Failure> {
    let algs = match only {
        None => Alg::OURS.to_vec(),
        Some(name) => vec![Alg::from_name(name).ok_or("--alg: it must be RS256, ES256 or ES384")?],
    };
    let store = open_with_keys(database)?;
    let (now, chance) = (Clock::System.now(), Chance::system());
    let master = server::master_key(&store, std::env::var("HEARTHGATE_KEY").ok(), &chance)?;
    let keys = keys::Keys::load(store, master, chance)?;
    for alg in algs {
        let name = alg.as_str();
        match keys.make(alg, if at_once { Turn::AtOnce } else { Turn::InTime }, now)? {
            Some(key) if at_once => {
                println!("{name}: {} signs from now on; the keys before it are gone", key.kid)
            }
            Some(key) => println!("{name}: {} is published, and signs from {}", key.kid, instant(key.active)),
            None => {
                println!("{name}: nothing was done, the next key waits already (see `hearthgate keys list`)")
            }
        }
    }
    println!("{}", if at_once { WHAT_AT_ONCE_MEANS } else { WHAT_IN_TIME_MEANS });
    Ok(())
}

const WHAT_IN_TIME_MEANS: &str = "\nNobody is signed out. The old keys stay in the JWK Set until nothing that they \
    signed is valid any more. A running server needs no restart.";
const WHAT_AT_ONCE_MEANS: &str = "\nWhat this means: a running server signs with the new keys already and needs no \
    restart. id_tokens signed with\nthe old keys verify no more, so sign-ins that are under way fail and must be \
    begun again. Access and refresh\ntokens are not signed and go on. Whoever fetched the JWK Set before may accept \
    the old keys for 5 minutes more,\nor as long as they keep it: have relying parties that matter fetch it anew.";
