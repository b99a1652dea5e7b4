//! What connections send, and what it costs the server to answer.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use super::Failure;
use super::http::Connection;
use super::server::{Server, cpu_of};

/// What one connection sends next, once the last answer is there; none ends it.
pub type Next = Box<dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>>>;

/// The same request, `total` times in all.
pub fn repeat(request: Vec<u8>, total: usize, connections: usize) -> Vec<Next> {
    let left = Rc::new(Cell::new(total));
    let one = || {
        let (left, request) = (left.clone(), request.clone());
        let next = move |_: Option<&[u8]>| {
            left.set(left.get().checked_sub(1)?);
            Some(request.clone())
        };
        Box::new(next) as Next
    };
    (0..connections).map(|_| one()).collect()
}

/// Each request once.
pub fn each(requests: Vec<Vec<u8>>, connections: usize) -> Vec<Next> {
    let left = Rc::new(RefCell::new(requests.into_iter()));
    let one = || {
        let left = left.clone();
        Box::new(move |_: Option<&[u8]>| left.borrow_mut().next()) as Next
    };
    (0..connections).map(|_| one()).collect()
}

/// Refreshes, `total` in all: each connection goes round its own tokens, and every answer replaces one.
pub fn chains(
    tokens: Vec<String>,
    total: usize,
    connections: usize,
    request: impl Fn(&str) -> Vec<u8> + Clone + 'static,
) -> Vec<Next> {
    let left = Rc::new(Cell::new(total));
    let mut own = vec![VecDeque::new(); connections];
    for (index, token) in tokens.into_iter().enumerate() {
        own[index % connections].push_back(token);
    }
    let one = |mut own: VecDeque<String>| {
        let (left, request) = (left.clone(), request.clone());
        let next = move |answer: Option<&[u8]>| {
            own.extend(answer.and_then(refresh_token));
            left.set(left.get().checked_sub(1)?);
            Some(request(&own.pop_front()?))
        };
        Box::new(next) as Next
    };
    own.into_iter().map(one).collect()
}

fn refresh_token(answer: &[u8]) -> Option<String> {
    let (_, rest) = std::str::from_utf8(answer).ok()?.split_once("\"refresh_token\":\"")?;
    rest.split_once('"').map(|(token, _)| token.to_owned())
}

/// What some requests took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    requests: u32,
    elapsed: Duration,
    server: Duration,
    generator: Duration,
}

impl Measured {
    pub fn and(self, other: Measured) -> Measured {
        Measured {
            requests: self.requests + other.requests,
            elapsed: self.elapsed + other.elapsed,
            server: self.server + other.server,
            generator: self.generator + other.generator,
        }
    }

    /// The one that cost the server less: what else runs on the machine only ever adds.
    pub fn or(self, other: Measured) -> Measured {
        if other.requests > 0 && (self.requests == 0 || other.cpu() < self.cpu()) { other } else { self }
    }

    pub fn per_second(&self) -> f64 {
        f64::from(self.requests) / self.elapsed.as_secs_f64()
    }

    /// Microseconds of the server's CPU for one request.
    pub fn cpu(&self) -> f64 {
        self.server.as_secs_f64() * 1e6 / f64::from(self.requests)
    }

    /// How much of its core the load generator needed.
    pub fn generator_share(&self) -> f64 {
        self.generator.as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

/// Sends everything; one connection for each `Next`. Any answer but 200 ends the run.
pub async fn run(server: &Server, work: Vec<Next>) -> Result<Measured, Failure> {
    let mut opened = Vec::new();
    for next in work {
        opened.push((Connection::open(server.port).await?, next));
    }
    let sent = Rc::new(Cell::new(0));
    let (server_before, generator_before, began) = (server.cpu()?, cpu_of("self")?, Instant::now());
    let tasks = LocalSet::new();
    let running: Vec<_> = opened
        .into_iter()
        .map(|(connection, next)| tasks.spawn_local(converse(connection, next, sent.clone())))
        .collect();
    tasks.await;
    let elapsed = began.elapsed();
    for task in running {
        task.await??;
    }
    Ok(Measured {
        requests: sent.get(),
        elapsed,
        server: server.cpu()? - server_before,
        generator: cpu_of("self")? - generator_before,
    })
}

async fn converse(mut connection: Connection, mut next: Next, sent: Rc<Cell<u32>>) -> Result<(), String> {
    let mut request = next(None);
    while let Some(bytes) = request {
        let (status, body) = connection.ask(&bytes).await.map_err(|e| e.to_string())?;
        if status != 200 {
            return Err(format!("an answer with {status}: {}", String::from_utf8_lossy(body)));
        }
        sent.set(sent.get() + 1);
        request = next(Some(body));
    }
    Ok(())
}
