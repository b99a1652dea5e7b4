//! Measures Hearthgate, oidc-provider and a bare axum handler, one after another, and prints a table.
//! `benches/run` builds what this needs and says where it is.
//!
//!     load FOLDER HEARTHGATE PREPARE BARE OIDC_PROVIDER

mod http;
mod server;
mod work;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use http::{Connection, get, post};
use serde_json::Value;
use server::{Server, free_port};
use work::{Measured, chains, each, repeat, run};

type Failure = Box<dyn std::error::Error>;

const DISCOVERY: &str = "/.well-known/openid-configuration";
/// oidc-provider's apps; Hearthgate's are as `prepare` says.
const REDIRECT: &str = "https://app.example/callback";
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

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, hearthgate, prepare, bare, oidc_provider] = args.as_slice() else {
        return Err("load FOLDER HEARTHGATE PREPARE BARE OIDC_PROVIDER".into());
    };
    let folder = Path::new(folder);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (began, waited) = (Instant::now(), waited_for_cpu());
        let (first, again) = starts(folder, hearthgate).await?;
        let ours = measure_hearthgate(folder, hearthgate, prepare).await?;
        let theirs = measure_oidc_provider(oidc_provider).await?;
        let least = measure_bare(folder, bare).await?;
        print(&ours, &theirs, &least, first, again);
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
    measured: Measured,
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

/// A token request by one of the apps.
fn redemption(path: &str, client: &str, code: &str, found: &Value) -> Vec<u8> {
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &text("redirect")),
        ("code_verifier", &text("verifier")),
        ("client_id", client),
    ];
    post(path, &form)
}

fn refreshing(path: &'static str, client: &str) -> impl Fn(&str) -> Vec<u8> + Clone + use<> {
    let client = client.to_owned();
    move |token| {
        let form =
            [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client.as_str())];
        post(path, &form)
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The same request under each load.
async fn repeated(
    server: &Server,
    operation: &'static str,
    request: Vec<u8>,
    total: usize,
) -> Result<Vec<Line>, Failure> {
    run(server, repeat(request.clone(), WARM_UP.min(total), 1)).await?;
    let mut lines = Vec::new();
    for (connections, share) in LOADS {
        let mut measured = Measured::default();
        for _ in 0..ROUNDS {
            measured = measured.or(run(server, repeat(request.clone(), total / share, connections)).await?);
        }
        lines.push(Line { operation, connections, measured });
    }
    Ok(lines)
}

async fn measure_hearthgate(folder: &Path, hearthgate: &str, prepare: &str) -> Result<Vec<Line>, Failure> {
    let port = free_port()?;
    let database = folder.join("hearthgate.db").display().to_string();
    let codes = WARM_UP + LOADS.iter().map(|(_, share)| ROUNDS * EXCHANGES / share).sum::<usize>();
    let made = Command::new(prepare)
        .args([&database, &format!("http://127.0.0.1:{port}")])
        .args([codes.to_string(), ((1 + LOADS.len() * ROUNDS) * CHAINS).to_string()])
        .output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into());
    }
    let found: Value = serde_json::from_slice(&made.stdout)?;
    let server = start_hearthgate(hearthgate, &database, port).await?;
    let token = found["access_token"].as_str();

    let mut lines = repeated(&server, "discovery", get(DISCOVERY, None), DISCOVERIES).await?;
    for (operation, alg) in [("code exchange, RS256", "rs256"), ("code exchange, ES256", "es256")] {
        let client = found[alg]["client"].as_str().unwrap_or_default();
        let mut codes = texts(&found[alg]["codes"]).into_iter();
        let mut take = |count: usize| -> Vec<Vec<u8>> {
            codes.by_ref().take(count).map(|code| redemption("/oauth/token", client, &code, &found)).collect()
        };
        run(&server, each(take(WARM_UP), 1)).await?;
        for (connections, share) in LOADS {
            let mut measured = Measured::default();
            for _ in 0..ROUNDS {
                measured = measured.or(run(&server, each(take(EXCHANGES / share), connections)).await?);
            }
            lines.push(Line { operation, connections, measured });
        }
    }
    let client = found["es256"]["client"].as_str().unwrap_or_default();
    let mut tokens = texts(&found["refresh_tokens"]).into_iter();
    let mut take = || tokens.by_ref().take(CHAINS).collect();
    run(&server, chains(take(), WARM_UP, 1, refreshing("/oauth/token", client))).await?;
    for (connections, share) in LOADS {
        let mut measured = Measured::default();
        for _ in 0..ROUNDS {
            let work = chains(take(), REFRESHES / share, connections, refreshing("/oauth/token", client));
            measured = measured.or(run(&server, work).await?);
        }
        lines.push(Line { operation: "refresh, ES256", connections, measured });
    }
    let body = Connection::open(port).await?.ask(&get(PATIENT, token)).await?.1.to_vec();
    std::fs::write(folder.join("patient.json"), body)?;
    lines.extend(repeated(&server, "read of a Patient", get(PATIENT, token), READS).await?);
    lines.extend(repeated(&server, "search, 100 Observations", get(OBSERVATIONS, token), SEARCHES).await?);
    server.stop()?;
    Ok(lines)
}

async fn measure_oidc_provider(script: &str) -> Result<Vec<Line>, Failure> {
    let port = free_port()?;
    let server = Server::start(&["node", script, &port.to_string()], port, DISCOVERY).await?;
    let mut lines = repeated(&server, "discovery", get(DISCOVERY, None), DISCOVERIES).await?;
    for (operation, client) in [("code exchange, RS256", "rs256"), ("code exchange, ES256", "es256")] {
        exchange(&server, client, WARM_UP, 1).await?;
        for (connections, share) in LOADS {
            let mut measured = Measured::default();
            for _ in 0..ROUNDS {
                measured = measured.or(exchange(&server, client, EXCHANGES / share, connections).await?);
            }
            lines.push(Line { operation, connections, measured });
        }
    }
    refresh(&server, WARM_UP, 1).await?;
    for (connections, share) in LOADS {
        let mut measured = Measured::default();
        for _ in 0..ROUNDS {
            measured = measured.or(refresh(&server, REFRESHES / share, connections).await?);
        }
        lines.push(Line { operation: "refresh, ES256", connections, measured });
    }
    server.stop()?;
    Ok(lines)
}

/// Codes are made a batch at a time, outside what is measured.
async fn exchange(
    server: &Server,
    client: &str,
    total: usize,
    connections: usize,
) -> Result<Measured, Failure> {
    let found = serde_json::json!({"redirect": REDIRECT, "verifier": VERIFIER});
    let mut measured = Measured::default();
    for _ in 0..total / BATCH {
        let codes = make(server.port, "code", client).await?;
        let requests = codes.iter().map(|code| redemption("/token", client, code, &found)).collect();
        measured = measured.and(run(server, each(requests, connections)).await?);
    }
    Ok(measured)
}

/// Fresh grants for each batch: the adapter goes through all tokens of a grant at each new one.
async fn refresh(server: &Server, total: usize, connections: usize) -> Result<Measured, Failure> {
    let mut measured = Measured::default();
    for _ in 0..total / BATCH {
        let tokens = make(server.port, "refresh", "es256").await?;
        let work = chains(tokens, BATCH, connections, refreshing("/token", "es256"));
        measured = measured.and(run(server, work).await?);
    }
    Ok(measured)
}

/// A batch of codes or refresh tokens, made by oidc-provider's own models.
async fn make(port: u16, kind: &str, client: &str) -> Result<Vec<String>, Failure> {
    let challenge = hearthgate::crypto::sha256_base64url(VERIFIER.as_bytes());
    let path = format!("/bench/make?kind={kind}&client={client}&count={BATCH}&challenge={challenge}");
    let mut connection = Connection::open(port).await?;
    let (_, body) = connection.ask(&get(&path, None)).await?;
    Ok(texts(&serde_json::from_slice(body)?))
}

async fn measure_bare(folder: &Path, bare: &str) -> Result<Vec<Line>, Failure> {
    let port = free_port()?;
    let file = folder.join("patient.json").display().to_string();
    let server = Server::start(&[bare, &port.to_string(), &file], port, PATIENT).await?;
    let body = Connection::open(port).await?.ask(&get(PATIENT, None)).await?.1.to_vec();
    if body != std::fs::read(&file)? {
        return Err("the bare handler does not answer the same bytes".into());
    }
    let lines = repeated(&server, "read of a Patient", get(PATIENT, Some("of no use")), READS).await?;
    server.stop()?;
    Ok(lines)
}

fn print(ours: &[Line], theirs: &[Line], least: &[Line], first: Duration, again: Duration) {
    println!(
        "| operation | connections | Hearthgate req/s | µs CPU | compared with | req/s | µs CPU | CPU: theirs / ours | req/s: ours / theirs |"
    );
    println!("|---|--:|--:|--:|---|--:|--:|--:|--:|");
    for line in ours {
        let own = line.measured;
        print!("| {} | {} | {:.0} | {:.0} |", line.operation, line.connections, own.per_second(), own.cpu());
        let same = |other: &&Line| other.operation == line.operation && other.connections == line.connections;
        let compared = [("oidc-provider", theirs), ("bare axum", least)];
        match compared.iter().find_map(|(name, lines)| Some((name, lines.iter().find(same)?.measured))) {
            None => println!(" | | | | |"),
            Some((name, other)) => println!(
                " {name} | {:.0} | {:.0} | {:.2} | {:.2} |",
                other.per_second(),
                other.cpu(),
                other.cpu() / own.cpu(),
                own.per_second() / other.per_second()
            ),
        }
    }
    let busiest = ours.iter().chain(theirs).chain(least).map(|l| l.measured.generator_share());
    println!(
        "\nFrom start to first answer, median: {:.0} ms with the sandbox loaded, {:.0} ms the very first time. \
         Each number is the cheapest of {ROUNDS} rounds. The load generator used at most {:.0} % of its core.",
        again.as_secs_f64() * 1e3,
        first.as_secs_f64() * 1e3,
        busiest.fold(0.0, f64::max) * 100.0
    );
}
