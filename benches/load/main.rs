//! Measures Hearthgate against oidc-provider and a bare axum handler, round by round in turn, and prints a table.
//! `benches/run` builds what this needs and says where it is.
//!
//!     load FOLDER HEARTHGATE PREPARE BARE OIDC_PROVIDER

mod http;
mod requests;
mod server;
mod work;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use http::{Connection, get};
use requests::{Assertions, introspection, redemptions, refreshing};
use serde_json::Value;
use server::{Server, free_port};
use work::{Measured, chains, each, repeat, run};

type Failure = Box<dyn std::error::Error>;

const DISCOVERY: &str = "/.well-known/openid-configuration";
const OIDC: &str = "oidc-provider";
const VERIFIER: &str = "0123456789abcdefghijklmnopqrstuvwxyz-._~ABCDEF";
const PATIENT: &str = "/fhir/Patient/patient-maria";
const OBSERVATIONS: &str = "/fhir/Observation?patient=patient-maria&_count=100";

/// How many connections there are, and which share of the requests is sent.
const LOADS: [(usize, usize); 2] = [(16, 1), (1, 2)];
/// How often each is measured; the cheapest counts.
const ROUNDS: usize = 3;
// How many requests a round has.
const DISCOVERIES: usize = 8_000;
const EXCHANGES: usize = 2_400;
const REFRESHES: usize = 2_400;
const READS: usize = 10_000;
const SEARCHES: usize = 400;
/// Requests of each kind that are sent first and not counted.
const WARM_UP: usize = 800;
/// Refresh tokens that a run goes round.
const CHAINS: usize = 200;
/// Codes that oidc-provider is given at a time: its in-memory adapter holds a thousand things.
const BATCH: usize = 200;
const STARTS: usize = 10;
const FIRST_STARTS: usize = 5;

/// What is run.
struct Programs<'a> {
    hearthgate: &'a str,
    prepare: &'a str,
    bare: &'a str,
    oidc_provider: &'a str,
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, hearthgate, prepare, bare, oidc_provider] = args.as_slice() else {
        return Err("load FOLDER HEARTHGATE PREPARE BARE OIDC_PROVIDER".into());
    };
    let folder = Path::new(folder);
    let programs = Programs { hearthgate, prepare, bare, oidc_provider };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (began, waited) = (Instant::now(), waited_for_cpu());
        let (first, again) = starts(folder, programs.hearthgate).await?;
        print(&measure(folder, &programs).await?, first, again);
        if let (Some(before), Some(after)) = (waited, waited_for_cpu()) {
            let share = (after - before).as_secs_f64() / began.elapsed().as_secs_f64();
            println!("Something on this machine waited for a core {:.0} % of the time.", share * 100.0);
        }
        Ok(())
    })
}

/// How long, since the machine began, some process had to wait for a core: how much else was going on.
fn waited_for_cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let (_, total) = text.lines().next()?.split_once("total=")?;
    Some(Duration::from_micros(total.parse().ok()?))
}

/// One kind of request with so many connections.
struct Line {
    operation: &'static str,
    connections: usize,
    ours: Measured,
    /// Who else was asked.
    name: &'static str,
    theirs: Measured,
}

/// From the spawn to the first 200, in the median: the very first start, and later ones.
async fn starts(folder: &Path, hearthgate: &str) -> Result<(Duration, Duration), Failure> {
    // One port: at another address the resources are indexed anew.
    let port = free_port()?;
    let mut first = Vec::new();
    for number in 0..FIRST_STARTS {
        let database = folder.join(format!("first-{number}.db")).display().to_string();
        first.push(start_once(hearthgate, &database, port).await?);
    }
    let database = folder.join("first-0.db").display().to_string();
    let mut again = Vec::new();
    for _ in 0..STARTS {
        again.push(start_once(hearthgate, &database, port).await?);
    }
    Ok((median(first), median(again)))
}

async fn start_once(hearthgate: &str, database: &str, port: u16) -> Result<Duration, Failure> {
    let server = start_hearthgate(hearthgate, database, port).await?;
    let took = server.started_in;
    server.stop()?;
    Ok(took)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    let middle = times.len() / 2;
    if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2 }
}

async fn start_hearthgate(hearthgate: &str, database: &str, port: u16) -> Result<Server, Failure> {
    let listen = format!("127.0.0.1:{port}");
    let command = [hearthgate, "--listen", &listen, "--database", database];
    Server::start(&command, port, DISCOVERY).await
}

/// Measures an operation on both sides in turn, so that what else the machine does slows both alike. Each is given
/// how many requests to send and over how many connections.
async fn compare(
    lines: &mut Vec<Line>,
    operation: &'static str,
    total: usize,
    mut ours: impl AsyncFnMut(usize, usize) -> Result<Measured, Failure>,
    name: &'static str,
    mut theirs: impl AsyncFnMut(usize, usize) -> Result<Measured, Failure>,
) -> Result<(), Failure> {
    ours(WARM_UP.min(total), 1).await?;
    theirs(WARM_UP.min(total), 1).await?;
    for (connections, share) in LOADS {
        let (mut own, mut other) = (Measured::default(), Measured::default());
        for _ in 0..ROUNDS {
            own = own.or(ours(total / share, connections).await?);
            other = other.or(theirs(total / share, connections).await?);
        }
        lines.push(Line { operation, connections, ours: own, name, theirs: other });
    }
    Ok(())
}

/// The same request again and again.
fn repeated<'a>(
    server: &'a Server,
    request: &'a [u8],
) -> impl AsyncFnMut(usize, usize) -> Result<Measured, Failure> + use<'a> {
    async move |total, connections| run(server, repeat(request.to_vec(), total, connections)).await
}

async fn measure(folder: &Path, programs: &Programs<'_>) -> Result<Vec<Line>, Failure> {
    let (keys, mut lines) = (Assertions::new()?, Vec::new());
    let (hearthgate, spent) = hearthgate(folder, programs, &keys).await?;
    let own = &hearthgate;
    let port = free_port()?;
    let command = ["node", programs.oidc_provider, &port.to_string(), &keys.jwk()];
    let other = &Server::start(&command, port, DISCOVERY).await?;

    let discovery = get(DISCOVERY, None);
    let (ours, theirs) = (repeated(own, &discovery), repeated(other, &discovery));
    compare(&mut lines, "discovery", DISCOVERIES, ours, OIDC, theirs).await?;

    let exchanges = [
        ("code exchange, RS256", "rs256", false),
        ("code exchange, ES256", "es256", false),
        ("code exchange, ES256, private_key_jwt ES384", "es384", true),
    ];
    for (operation, app, proves) in exchanges {
        let mut codes = spent.list(app, "codes").into_iter();
        let ours = async |total, connections| {
            let (client, by) = (spent.text(app, "client"), proves.then_some((&keys, &spent.issuer)));
            let codes: Vec<String> = codes.by_ref().take(total).collect();
            run(own, each(redemptions("/oauth/token", &client, &codes, by)?, connections)).await
        };
        let issuer = format!("http://127.0.0.1:{port}");
        let theirs = async |total, connections| {
            let mut measured = Measured::default();
            for _ in 0..total / BATCH {
                let codes = make(port, "code", app).await?;
                let by = proves.then_some((&keys, &issuer));
                let work = each(redemptions("/token", app, &codes, by)?, connections);
                measured = measured.and(run(other, work).await?);
            }
            Ok(measured)
        };
        compare(&mut lines, operation, EXCHANGES, ours, OIDC, theirs).await?;
    }

    let mut tokens = spent.list("es256", "refresh_tokens").into_iter();
    let ours = async |total, connections| {
        let (client, tokens) = (spent.text("es256", "client"), tokens.by_ref().take(CHAINS).collect());
        run(own, chains(tokens, total, connections, refreshing("/oauth/token", &client))).await
    };
    // Fresh grants for each batch: the adapter goes through all tokens of a grant at each new one.
    let theirs = async |total, connections| {
        let mut measured = Measured::default();
        for _ in 0..total / BATCH {
            let tokens = make(port, "refresh", "es256").await?;
            let work = chains(tokens, BATCH, connections, refreshing("/token", "es256"));
            measured = measured.and(run(other, work).await?);
        }
        Ok(measured)
    };
    compare(&mut lines, "refresh, ES256", REFRESHES, ours, OIDC, theirs).await?;

    let ours = async |total, connections| {
        let client = spent.text("service", "client");
        let requests = keys.services("/oauth/token", &client, &spent.issuer, total)?;
        run(own, each(requests, connections)).await
    };
    let theirs = async |total, connections| {
        let issuer = format!("http://127.0.0.1:{port}");
        run(other, each(keys.services("/token", "service", &issuer, total)?, connections)).await
    };
    compare(&mut lines, "client_credentials, private_key_jwt ES384", EXCHANGES, ours, OIDC, theirs).await?;

    let (client, secret) = (spent.text("asking", "client"), spent.text("asking", "secret"));
    let mine = introspection("/oauth/introspect", &spent.text("asking", "access_token"), &client, &secret);
    let their_token = make(port, "access", "asking").await?.swap_remove(0);
    let their = introspection("/token/introspection", &their_token, "asking", "only for the benchmark");
    compare(&mut lines, "introspection", READS, repeated(own, &mine), OIDC, repeated(other, &their)).await?;

    let read = get(PATIENT, Some(&spent.text("es256", "access_token")));
    let body = Connection::open(own.port).await?.ask(&read).await?.1.to_vec();
    let bare = bare(folder, programs.bare, &body).await?;
    let (ours, theirs) = (repeated(own, &read), repeated(&bare, &read));
    compare(&mut lines, "read of a Patient", READS, ours, "bare axum", theirs).await?;

    let search = get(OBSERVATIONS, Some(&spent.text("es256", "access_token")));
    let nobody = async |_, _| Ok(Measured::default());
    compare(&mut lines, "search, 100 Observations", SEARCHES, repeated(own, &search), "", nobody).await?;
    Ok(lines)
}

/// What `prepare` made for spending.
struct Spent {
    issuer: String,
    found: Value,
}

impl Spent {
    fn text(&self, app: &str, name: &str) -> String {
        self.found[app][name].as_str().unwrap_or_default().to_owned()
    }

    fn list(&self, app: &str, name: &str) -> Vec<String> {
        texts(&self.found[app][name])
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

async fn hearthgate(
    folder: &Path,
    programs: &Programs<'_>,
    keys: &Assertions,
) -> Result<(Server, Spent), Failure> {
    let port = free_port()?;
    let issuer = format!("http://127.0.0.1:{port}");
    let database = folder.join("hearthgate.db").display().to_string();
    let codes = WARM_UP + LOADS.iter().map(|(_, share)| ROUNDS * EXCHANGES / share).sum::<usize>();
    let refresh_tokens = (1 + LOADS.len() * ROUNDS) * CHAINS;
    let made = Command::new(programs.prepare)
        .args([&database, &issuer, &codes.to_string(), &refresh_tokens.to_string(), &keys.jwk()])
        .output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into());
    }
    let server = start_hearthgate(programs.hearthgate, &database, port).await?;
    Ok((server, Spent { issuer, found: serde_json::from_slice(&made.stdout)? }))
}

/// A batch of codes or tokens, made by oidc-provider's own models.
async fn make(port: u16, kind: &str, client: &str) -> Result<Vec<String>, Failure> {
    let challenge = hearthgate::crypto::sha256_base64url(VERIFIER.as_bytes());
    let path = format!("/bench/make?kind={kind}&client={client}&count={BATCH}&challenge={challenge}");
    let mut connection = Connection::open(port).await?;
    let (_, body) = connection.ask(&get(&path, None)).await?;
    Ok(texts(&serde_json::from_slice(body)?))
}

async fn bare(folder: &Path, program: &str, body: &[u8]) -> Result<Server, Failure> {
    let port = free_port()?;
    let file = folder.join("patient.json");
    std::fs::write(&file, body)?;
    let file = file.display().to_string();
    let server = Server::start(&[program, &port.to_string(), &file], port, PATIENT).await?;
    if Connection::open(port).await?.ask(&get(PATIENT, None)).await?.1 != body {
        return Err("the bare handler does not answer the same bytes".into());
    }
    Ok(server)
}

fn print(lines: &[Line], first: Duration, again: Duration) {
    println!(
        "| operation | connections | Hearthgate req/s | µs CPU | compared with | req/s | µs CPU | CPU: theirs / ours | req/s: ours / theirs |"
    );
    println!("|---|--:|--:|--:|---|--:|--:|--:|--:|");
    for Line { operation, connections, ours, name, theirs } in lines {
        print!("| {operation} | {connections} | {:.0} | {:.0} |", ours.per_second(), ours.cpu());
        if name.is_empty() {
            println!(" | | | | |");
            continue;
        }
        let ratios = (theirs.cpu() / ours.cpu(), ours.per_second() / theirs.per_second());
        println!(
            " {name} | {:.0} | {:.0} | {:.2} | {:.2} |",
            theirs.per_second(),
            theirs.cpu(),
            ratios.0,
            ratios.1
        );
    }
    let busiest = lines.iter().flat_map(|l| [l.ours, l.theirs]).map(|m| m.generator_share());
    println!(
        "\nFrom start to first answer, median: {:.0} ms with the sandbox loaded, {:.0} ms the very first time. \
         Each number is the cheapest of {ROUNDS} rounds. The load generator used at most {:.0} % of its core.",
        again.as_secs_f64() * 1e3,
        first.as_secs_f64() * 1e3,
        busiest.fold(0.0, f64::max) * 100.0
    );
}
