//! A small server of the tests that publishes an app's keys, well or badly, and counts who asks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hearthgate::jose::SigningKey;

use crate::signer::set_of;

/// What it answers with.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
    pub headers: Vec<(&'static str, String)>,
    pub delay: Duration,
}

/// A server on a port of its own.
pub struct KeyServer {
    /// Where the keys are.
    pub url: String,
    reply: Arc<Mutex<Reply>>,
    asked: Arc<Mutex<Vec<String>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl KeyServer {
    /// One that publishes these keys, and says nothing of how long they may be kept.
    pub async fn start(keys: &[&SigningKey]) -> KeyServer {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/jwks.json", listener.local_addr().expect("an address"));
        let body = set_of(keys).to_string().into_bytes();
        let reply =
            Arc::new(Mutex::new(Reply { status: 200, body, headers: Vec::new(), delay: Duration::ZERO }));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (replies, asking) = (reply.clone(), asked.clone());
        let routes = Router::new().fallback(move |request: Request<axum::body::Body>| {
            let accept = request.headers().get("accept").and_then(|v| v.to_str().ok()).unwrap_or("nothing");
            asking.lock().unwrap().push(format!("{} {} {accept}", request.method(), request.uri()));
            let reply = replies.lock().unwrap().clone();
            answer(reply)
        });
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.expect("it serves") });
        KeyServer { url, reply, asked, serving }
    }

    /// Answers otherwise from now on.
    pub fn set(&self, change: impl FnOnce(&mut Reply)) {
        change(&mut self.reply.lock().unwrap());
    }

    /// Publishes these keys instead.
    pub fn publish(&self, keys: &[&SigningKey]) {
        self.set(|reply| reply.body = set_of(keys).to_string().into_bytes());
    }

    /// Says from now on how long the keys may be kept.
    pub fn cache_control(&self, said: &str) {
        self.set(|reply| reply.headers = vec![("cache-control", said.to_owned())]);
    }

    /// How often it was asked.
    pub fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// The last request: method, path, and what it accepts.
    pub fn last(&self) -> String {
        self.asked.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

async fn answer(reply: Reply) -> Response {
    tokio::time::sleep(reply.delay).await;
    let status = StatusCode::from_u16(reply.status).expect("a status");
    let mut answer = (status, reply.body).into_response();
    for (name, value) in reply.headers {
        answer.headers_mut().append(HeaderName::from_static(name), value.parse().expect("a header"));
    }
    answer
}
