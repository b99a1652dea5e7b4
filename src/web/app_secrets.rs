//! An app's secrets: a new one beside the present one, and the end of the former one.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::answer::see_other;
use super::app_page::Fresh;
use super::apps::{Page, managed, not_yours, posted, shown};
use super::page;
use super::views::{self, Confirm};
use crate::app::App;
use crate::error::{forbidden, invalid_request};
use crate::oauth::client::Client;
use crate::oauth::management::{self, Manager};

/// `GET P/apps/{client_id}/secret`: is it meant?
pub async fn confirm_new(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let made: Page = async {
        let (visitor, client) = managed(&app, &id, &headers).await?;
        let live = app.store.read(|tx| Client::secrets(tx, &id))?;
        let action = format!("/apps/{id}/secret");
        let mut consequences = vec![
            "The new secret is shown once, on the next page.".into(),
            "The present one goes on working beside it until you end it, so that you can change over.".into(),
        ];
        if live.len() > 1 {
            consequences.push("The former one, which still works, stops working at once.".into());
        }
        Ok(page::render(&Confirm {
            shell: page::shell(&app, ""),
            csrf: visitor.csrf(&app, &action),
            action,
            cancel: format!("/apps/{id}"),
            title: "Make a new secret?".into(),
            lead: format!("{} gets one more secret.", views::isolate(&client.metadata.client_name)),
            consequences,
            hidden: None,
            keep: "Leave it as it is".into(),
            button: "Make a new secret".into(),
        }))
    }
    .await;
    shown(&app, made)
}

/// `POST P/apps/{client_id}/secret`: a new secret, shown this once; the present one stays beside it.
pub async fn make(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let made: Page = async {
        let (visitor, _) = posted(&app, &headers, &body, &format!("/apps/{id}/secret")).await?;
        let (_, client) = managed(&app, &id, &headers).await?;
        if !client.metadata.token_endpoint_auth_method.has_secret() {
            return Err(forbidden("this kind of app has no secret; change its kind first"));
        }
        let manager = Manager::Browser(visitor.hash());
        let secret = management::new_secret(&app.store, &id, manager, app.now(), &app.chance).await?;
        let secret = secret.ok_or_else(not_yours)?;
        Ok(Fresh { secret: Some(secret.reveal()), manage: None }.lead_to(&app, &id))
    }
    .await;
    shown(&app, made)
}

/// `GET P/apps/{client_id}/secret/end`: is it meant?
pub async fn confirm_end(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let made: Page = async {
        let (visitor, client) = managed(&app, &id, &headers).await?;
        let live = app.store.read(|tx| Client::secrets(tx, &id))?;
        let [_, former] = live[..] else { return Ok(see_other(&format!("/apps/{id}"))) };
        let action = format!("/apps/{id}/secret/end");
        Ok(page::render(&Confirm {
            shell: page::shell(&app, ""),
            csrf: visitor.csrf(&app, &action),
            action,
            cancel: format!("/apps/{id}"),
            title: "End the former secret?".into(),
            lead: format!(
                "The secret of {} that was made {} stops working at once.",
                views::isolate(&client.metadata.client_name),
                page::moment(former.created)
            ),
            consequences: vec![
                "Wherever the app still uses it, it can no longer exchange codes or refresh.".into(),
                "The newer secret goes on working, and what people allowed stays as it is.".into(),
            ],
            hidden: Some(("number".into(), former.number.to_string())),
            keep: "Keep it".into(),
            button: "End the former secret".into(),
        }))
    }
    .await;
    shown(&app, made)
}

/// `POST P/apps/{client_id}/secret/end`: the secret of that `number` ends, if it is not the last.
pub async fn end(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let made: Page = async {
        let (visitor, form) = posted(&app, &headers, &body, &format!("/apps/{id}/secret/end")).await?;
        let number = form.one("number")?.and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| invalid_request("the form does not say which secret"))?;
        let manager = Manager::Browser(visitor.hash());
        if !management::end_secret(&app.store, &id, manager, number, app.now()).await? {
            return Err(not_yours());
        }
        Ok(see_other(&format!("/apps/{id}")))
    }
    .await;
    shown(&app, made)
}
