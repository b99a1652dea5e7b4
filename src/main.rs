//! The command line: `serve` (also with no command at all), `import`, `app` and `keys`.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hearthgate::app::App;
use hearthgate::clock::{Chance, Clock};
use hearthgate::config::{self, Config, DEFAULT_DATABASE, Mode, SANDBOX_PASSWORD, Settings};
use hearthgate::fhir::import::{self, Counts};
use hearthgate::server::{self, Parts};
use hearthgate::store::db::{DbError, Store};
use indicatif::{ProgressBar, ProgressStyle};

/// What else can be done from the command line.
mod command {
    pub mod app;
    pub mod keys;
}

/// Cheaper than the system's own where small things are made and dropped on two threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A SMART on FHIR authorization server and the FHIR R4 endpoint it guards
#[derive(Parser)]
#[command(name = "hearthgate", version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Settings,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (what happens with no command, too)
    Serve(Settings),
    /// Load FHIR Bundles or NDJSON, also into a running server's database
    Import {
        /// The SQLite file
        #[arg(long, env = "HEARTHGATE_DATABASE", default_value = DEFAULT_DATABASE)]
        database: String,
        /// Bundles (JSON) or resources line by line (.ndjson)
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Show signing keys or replace them, also while a server runs on the database
    Keys(command::keys::Keys),
    /// Invite, list and delete apps
    App(command::app::App),
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let line = CommandLine::parse();
    let done = match line.command {
        None => serve(line.serve),
        Some(Command::Serve(settings)) => serve(settings),
        Some(Command::Import { database, files }) => import_files(&database, &files),
        Some(Command::Keys(command)) => command::keys::run(command),
        Some(Command::App(command)) => command::app::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("hearthgate: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: Settings) -> Result<(), Failure> {
    let config = settings.check()?;
    if config.mode == Mode::Production {
        return Err("production mode needs people with passwords, which this version does not have yet; \
                    leave out --mode to run the sandbox"
            .into());
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(config))
}

async fn run(config: Config) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind(config.listen).await.map_err(|e| {
        format!(
            "cannot listen on {}: {e}; stop what listens there, or choose another with --listen",
            config.listen
        )
    })?;
    let bound = listener.local_addr()?;
    let app = assemble(&config, bound)?;
    let flushing = tokio::spawn(server::keep_house(app.clone()));
    announce(&config, &app)?;
    let service = server::routes(app.clone()).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(asked_to_stop()).await?;
    flushing.abort();
    app.reads.flush(&app.store).await?;
    Ok(())
}

fn assemble(config: &Config, bound: SocketAddr) -> Result<App, Failure> {
    let app = server::assemble(Parts {
        issuer: config.public_url.clone().unwrap_or_else(|| config::loopback_url(bound)),
        mode: config.mode,
        store: open(&config.database, Store::open)?,
        master: std::env::var("HEARTHGATE_KEY").ok(),
        clock: Clock::System,
        chance: Chance::system(),
        key_rotation: config.key_rotation,
    })?;
    Ok(app)
}

/// Says where to go, whom to sign in as and what to try; or one line of JSON for a program.
fn announce(config: &Config, app: &App) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if config.ready_json {
        let line = serde_json::json!({
            "issuer": app.issuer, "fhir": app.fhir_base(), "pid": std::process::id(),
        });
        writeln!(out, "{line}")?;
        return out.flush();
    }
    writeln!(
        out,
        "\n  Hearthgate, the sandbox: a SMART on FHIR server to try apps with\n\n  \
         open in a browser   {0}/\n  \
         FHIR (protected)    {0}/fhir\n  \
         FHIR (no token)     {0}/open/fhir\n  \
         discovery           {0}/fhir/.well-known/smart-configuration\n\n  \
         sign in as          maria (a patient), amara (a mother of two), ruth (a doctor)\n  \
         everyone's password {SANDBOX_PASSWORD}\n\n  \
         try                 curl -s {0}/open/fhir/Patient/patient-maria\n  \
         \u{20}                   curl -si {0}/fhir/Patient/patient-maria   (401: it needs a token)\n\n  \
         The README leads through a first launch in five steps. Stop with Ctrl-C.\n",
        app.issuer
    )?;
    out.flush()
}

fn open(database: &str, open: fn(&str) -> Result<Store, DbError>) -> Result<Store, Failure> {
    if database.trim().is_empty() {
        return Err("database: it is empty; name a file, or :memory: for a private one".into());
    }
    open(database).map_err(|e| {
        format!("database {database}: {e}; it must be a SQLite file of Hearthgate, or a new file in a folder that can be written to").into()
    })
}

async fn asked_to_stop() {
    let interrupt = tokio::signal::ctrl_c();
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        drop(interrupt.await);
        return;
    };
    tokio::select! {
        _ = interrupt => {}
        _ = terminate.recv() => {}
    }
}

/// Each file is all or nothing; the first bad one ends the run, and what came before it stays.
fn import_files(database: &str, files: &[PathBuf]) -> Result<(), Failure> {
    let store = open(database, Store::open_to_fill)?;
    let issuer = store.read(|tx| {
        tx.first("SELECT value FROM settings WHERE name = 'public_url'", &[], |row| row.get::<String>(0))
    })?;
    let base = format!("{}/fhir", issuer.as_deref().unwrap_or("http://localhost:8080"));
    let bar = std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files  {msg}");
        ProgressBar::new(files.len() as u64)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    let mut all = Counts::default();
    for file in files {
        let name =
            file.file_name().map_or_else(|| file.display().to_string(), |n| n.to_string_lossy().into());
        if let Some(bar) = &bar {
            bar.set_message(name.clone());
        }
        let told =
            |e: &dyn std::fmt::Display| format!("{}: {e}; nothing of this file was imported", file.display());
        let resources = import::read_file(file).map_err(|e| told(&e))?;
        let counts = import::write(&store, resources, &base, Clock::System.now()).map_err(|e| told(&e))?;
        all.created += counts.created;
        all.updated += counts.updated;
        all.unchanged += counts.unchanged;
        match &bar {
            Some(bar) => bar.inc(1),
            None => println!("{name}: {}", in_words(counts)),
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    println!("{} files: {}", files.len(), in_words(all));
    Ok(())
}

fn in_words(counts: Counts) -> String {
    format!(
        "{} resources ({} new, {} changed, {} there already)",
        counts.total(),
        counts.created,
        counts.updated,
        counts.unchanged
    )
}
