//! The least that axum can do: one address that answers the bytes of a file, with the headers of a FHIR read.
//!
//!     bare PORT FILE

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(port), Some(file)) = (args.next(), args.next()) else { return Err("bare PORT FILE".into()) };
    let body = Bytes::from(std::fs::read(file)?);
    let read = move || std::future::ready(answer(body.clone()));
    let routes = Router::new().route("/fhir/{type}/{id}", get(read));
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
        Ok(axum::serve(listener, routes).await?)
    })
}

fn answer(body: Bytes) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "application/fhir+json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::ETAG, "W/\"1\""),
        (header::LAST_MODIFIED, "Sun, 01 Nov 2026 12:00:00 GMT"),
        (header::VARY, "Origin"),
    ];
    (headers, body)
}
