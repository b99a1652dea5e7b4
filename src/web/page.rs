//! How a page is answered: its headers, its frame, and the page that tells of a problem.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::answer;
use super::views::{self, Fact, Link, Message, Shell, Tone};
use crate::app::Server;
use crate::clock::Millis;
use crate::error::{Code, Problem};
use crate::fhir::demographics::date_in_words;
use crate::fhir::resource::instant;

/// Nothing is loaded from outside but an app's own logo, and nobody may frame a page. There is no
/// `form-action`: browsers apply it to the redirects after a form too, and these lead to any app.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data: https: http:; \
                      base-uri 'none'; frame-ancestors 'none'";

/// A page with its status.
pub fn render_with(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => {
            let headers = [
                (header::CONTENT_TYPE, "text/html; charset=utf-8"),
                (header::CACHE_CONTROL, "no-store"),
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (header::X_FRAME_OPTIONS, "DENY"),
                (header::REFERRER_POLICY, "no-referrer"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (status, headers, html).into_response()
        }
        Err(e) => {
            tracing::error!(cause = %e, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A page.
pub fn render(page: &impl Template) -> Response {
    render_with(StatusCode::OK, page)
}

/// The frame of pages outside the dance, which lead to each other; `here` is the path of this one.
pub fn shell(server: &Server, here: &str) -> Shell {
    let links = [("Home", "/"), ("Connected apps", "/account"), ("For developers", "/apps")];
    Shell {
        sandbox: server.policy.shared_password,
        links: links
            .iter()
            .map(|(text, href)| Link { text: (*text).into(), href: (*href).into(), here: *href == here })
            .collect(),
    }
}

/// The frame of the pages of a launch, which lead nowhere but on and back.
pub fn bare_shell(server: &Server) -> Shell {
    Shell { sandbox: server.policy.shared_password, links: Vec::new() }
}

/// A link.
pub fn link(text: &str, href: impl Into<String>) -> Link {
    Link { text: text.into(), href: href.into(), here: false }
}

/// The page for what went wrong where no app may be told. It never leads to an address from the request.
pub fn problem(server: &Server, problem: &Problem) -> Response {
    problem_for(server, problem, "Nothing was shared.", link("To the start page", "/"))
}

/// The same, saying in one sentence what an app's mistake means for the person, and with another way on.
pub fn problem_for(server: &Server, problem: &Problem, consequence: &str, on: Link) -> Response {
    let title = match problem.code {
        Code::TemporarilyUnavailable | Code::ServerError => "This did not work",
        Code::NotFound => "There is nothing here",
        Code::Gone => "This page’s time is over",
        Code::SlowDown => "Too often in a short time",
        Code::Forbidden => "This page does not belong to this browser",
        _ => "This request cannot be answered",
    };
    let detail = problem.parameter.map(|parameter| views::Problem {
        what: sentence(&problem.words),
        parameter: parameter.into(),
        received: problem.mismatch.as_ref().map(|m| m.received.clone()),
        expected: problem.mismatch.as_ref().map(|m| m.expected.clone()).unwrap_or_default(),
        reference: None,
    });
    let message = Message {
        shell: bare_shell(server),
        tone: Tone::Refused,
        title: title.into(),
        lead: match &detail {
            // Whoever reads this came from an app, and can do nothing about its parameters.
            Some(_) => format!("The app that sent you here is not set up correctly. {consequence}"),
            None => sentence(&problem.words),
        },
        steps: Vec::new(),
        links: vec![on],
        problem: detail,
        facts: vec![fact("Error", problem.code.as_str())],
    };
    answer::with_wait(problem, render_with(answer::status(problem), &message))
}

/// A page that only says something, with a way on.
pub fn notice(server: &Server, status: StatusCode, title: &str, lead: &str, links: Vec<Link>) -> Response {
    render_with(status, &news(server, Tone::Notice, title, lead, links))
}

/// The same, for what was done as it was wished.
pub fn done(server: &Server, title: &str, lead: &str, links: Vec<Link>) -> Response {
    render(&news(server, Tone::Done, title, lead, links))
}

fn news(server: &Server, tone: Tone, title: &str, lead: &str, links: Vec<Link>) -> Message {
    Message {
        shell: bare_shell(server),
        tone,
        title: title.into(),
        lead: lead.into(),
        steps: Vec::new(),
        links,
        problem: None,
        facts: Vec::new(),
    }
}

fn fact(name: &str, value: &str) -> Fact {
    Fact { name: name.into(), values: vec![value.into()], code: true }
}

/// A moment in words: "on 1 November 2026 at 12:00 UTC".
pub fn moment(at: Millis) -> String {
    let text = instant(at);
    format!("on {} at {} UTC", date_in_words(&text), text.get(11..16).unwrap_or_default())
}

/// Public words as a sentence of their own: a capital letter (unless a parameter's name begins it), a full stop.
pub fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}
