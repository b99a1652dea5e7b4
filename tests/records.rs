//! Records to test with: what is in the store, known to the test from the files alone, and tokens without
//! the pages of a launch (`launch.rs` goes through those).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hearthgate::clock::HOUR;
use hearthgate::fhir::import;
use hearthgate::fhir::resource::Resource;
use hearthgate::identity::newcomer;
use hearthgate::oauth::access_token;
use hearthgate::oauth::grant::Grant;
use hearthgate::store::db::Verdict;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::kit::{Answer, NOW, TestApp, TestClient, synthea};

/// Type and id.
pub type Key = (String, String);

/// A server, and everything in its store as the files say it.
pub struct Records {
    pub server: TestApp,
    pub all: BTreeMap<Key, Value>,
    client: TestClient,
    http: reqwest::Client,
}

/// The resources of the shared Synthea bundles, one list for each file. None where they are missing: then
/// the test is counted as skipped, even if it goes on with the sandbox's own.
pub fn shared() -> Option<Vec<Vec<Value>>> {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let files = synthea(&test)?;
    Some(files.iter().map(|file| import::read_file(file).expect("a bundle")).collect())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The resources in the sandbox's own files, read without the server.
fn sandbox() -> Vec<Value> {
    let listed = std::fs::read_dir(root().join("sandbox-data")).expect("the sandbox's data");
    let mut files: Vec<PathBuf> = listed.map(|file| file.expect("a file").path()).collect();
    files.sort();
    let texts = files.iter().filter(|f| f.extension().is_some_and(|e| e == "json"));
    let parsed =
        texts.map(|f| serde_json::from_str(&std::fs::read_to_string(f).expect("text")).expect("JSON"));
    let bundles = parsed.filter(|v: &Value| v["resourceType"] == "Bundle");
    bundles.flat_map(|b| each(&b["entry"]).map(|e| e["resource"].clone()).collect::<Vec<_>>()).collect()
}

/// The members of an array, the value itself if it is none, nothing if there is nothing.
pub fn each(value: &Value) -> impl Iterator<Item = &Value> {
    let (list, single) = match value {
        Value::Array(list) => (list.as_slice(), None),
        Value::Null => (&[][..], None),
        one => (&[][..], Some(one)),
    };
    list.iter().chain(single)
}

pub fn key(resource: &Value) -> Key {
    let text = |name: &str| resource[name].as_str().expect("a text").to_owned();
    (text("resourceType"), text("id"))
}

/// What a Bundle holds, whatever it is there for.
pub fn keys(bundle: &Value) -> Vec<Key> {
    let resources = each(&bundle["entry"]).map(|entry| &entry["resource"]);
    resources.filter(|r| r["resourceType"] != "OperationOutcome").map(key).collect()
}

/// A Bundle's keys, each once, and its total.
pub fn counted(bundles: &[Value], what: &str) -> (BTreeSet<Key>, i64) {
    let listed: Vec<Key> = bundles.iter().flat_map(keys).collect();
    let found: BTreeSet<Key> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), found.len(), "twice: {what}");
    let totals: BTreeSet<i64> = bundles.iter().map(|b| b["total"].as_i64().expect("a total")).collect();
    assert_eq!(totals.len(), 1, "totals differ from page to page: {what}");
    (found, totals.into_iter().next().expect("one"))
}

impl Records {
    /// The sandbox's own records, and these files one after the other, made once P is known.
    pub async fn start(files: impl FnOnce(&str) -> Vec<Vec<Value>>) -> Records {
        let server = TestApp::start().await;
        let mut all: BTreeMap<Key, Value> = sandbox().into_iter().map(|r| (key(&r), r)).collect();
        for file in files(&server.fhir_base()) {
            all.extend(file.iter().map(|r| (key(r), r.clone())));
            let (store, base) = (server.app.store.clone(), server.fhir_base());
            let written = move || import::write(&store, file, &base, NOW);
            tokio::task::spawn_blocking(written).await.expect("it runs").expect("it is written");
        }
        let client = server.register(json!({})).await;
        let http = reqwest::Client::builder().build().expect("a client");
        let records = Records { server, all, client, http };
        records.store_holds_what_the_files_say();
        records
    }

    fn store_holds_what_the_files_say(&self) {
        let types: BTreeSet<&String> = self.all.keys().map(|(t, _)| t).collect();
        let read = |tx: &hearthgate::store::db::Tx<'_>| {
            types.iter().map(|t| Resource::all(tx, t)).collect::<Result<Vec<_>, _>>()
        };
        let stored: Vec<Resource> =
            self.server.app.store.read(read).expect("rows").into_iter().flatten().collect();
        assert_eq!(stored.len(), self.all.len());
        for row in stored {
            let (mut stored, mut said) = (row.parsed(), self.all[&(row.resource_type, row.id)].clone());
            for one in [&mut stored, &mut said] {
                one.as_object_mut().expect("a resource").remove("meta");
            }
            assert_eq!(stored, said, "what is stored is what the file says, but for meta");
        }
    }

    /// Every type that is there, and some that are not.
    pub fn types(&self) -> BTreeSet<String> {
        let present = self.all.keys().map(|(t, _)| t.clone());
        present.chain(["Slot", "ValueSet", "Schedule", "Linkage"].map(str::to_owned)).collect()
    }

    pub fn ids(&self, resource_type: &str) -> Vec<&str> {
        self.all.keys().filter(|(t, _)| t == resource_type).map(|(_, id)| id.as_str()).collect()
    }

    pub fn of_type<'a>(&'a self, resource_type: &str) -> impl Iterator<Item = &'a Value> {
        self.all.iter().filter(move |((t, _), _)| t == resource_type).map(|(_, r)| r)
    }

    /// A token as a launch would have given it, put where tokens are kept.
    pub async fn token(&self, person: &str, patient: Option<&str>, scope: &str) -> String {
        let app = self.server.app.clone();
        let (person, patient, scope) = (person.to_owned(), patient.map(str::to_owned), scope.to_owned());
        let (client, audience) = (self.client.id.clone(), self.server.fhir_base());
        let change = move |tx: &hearthgate::store::db::Tx<'_>| {
            let account = newcomer::account_named(tx, &person, NOW, &app.chance)?.expect("somebody");
            let grant = Grant {
                id: app.chance.id(),
                client,
                account: Some(account.id),
                patient,
                encounter: None,
                context: None,
                audience,
                scope,
                session: None,
                signed_in: None,
                trace: app.chance.id(),
                created: NOW,
                ended: None,
            };
            grant.insert(tx)?;
            access_token::issue(tx, &grant.id, None, None, NOW, HOUR, &app.chance).map(Verdict::Commit)
        };
        self.server.app.store.write(change).await.expect("it is written").reveal().to_owned()
    }

    /// `GET P/{path}`, over connections that stay open.
    pub async fn get(&self, token: Option<&str>, path: &str) -> Answer {
        let url =
            if path.starts_with("http") { path.to_owned() } else { format!("{}/{path}", self.server.url) };
        let request = self.http.request(Method::GET, url);
        Answer::to(match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
        .await
    }

    pub async fn strict(&self, token: Option<&str>, path: &str) -> Answer {
        let request =
            self.http.get(format!("{}/{path}", self.server.url)).header("prefer", "handling=strict");
        Answer::to(match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
        .await
    }

    /// `POST P/{path}` with a form.
    pub async fn post(&self, token: Option<&str>, path: &str, form: &[(&str, &str)]) -> Answer {
        let request = self.http.post(format!("{}/{path}", self.server.url)).form(form);
        Answer::to(match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
        .await
    }

    /// The Bundle of a search.
    pub async fn found(&self, token: Option<&str>, path: &str) -> Value {
        let answer = self.get(token, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        answer.json()
    }

    /// All pages of a search: their Bundles, by their `next` links.
    pub async fn pages(&self, token: Option<&str>, path: &str) -> Vec<Value> {
        let mut pages = vec![self.found(token, path).await];
        while let Some(next) = next_of(pages.last().expect("one")) {
            assert!(pages.len() < 5_000, "no end of pages: {path}");
            pages.push(self.found(token, &next).await);
        }
        pages
    }
}

/// The `next` link of a page.
pub fn next_of(bundle: &Value) -> Option<String> {
    let link = each(&bundle["link"]).find(|link| link["relation"] == "next")?;
    Some(link["url"].as_str().expect("a URL").to_owned())
}
