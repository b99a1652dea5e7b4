//! `hearthgate import`: real bundles whole, twice without a change, and bad files not at all.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hearthgate::store::db::Store;
use serde_json::{Value, json};

use crate::kit::{TestApp, synthea};

fn run(database: &Path, files: &[PathBuf]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hearthgate"))
        .args(["import", "--database"])
        .arg(database)
        .args(files)
        .output()
        .expect("it runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("hearthgate-import-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir(&path).expect("a folder");
        Folder(path)
    }

    fn file(&self, name: &str, content: &Value) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content.to_string()).expect("a file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn count(database: &Path) -> i64 {
    let store = Store::open(&database.display().to_string()).unwrap();
    store.read(|tx| tx.first("SELECT count(*) FROM resources", &[], |row| row.get(0))).unwrap().unwrap()
}

#[test]
fn ten_real_bundles_are_imported_whole_and_a_second_time_changes_nothing() {
    let Some(files) = synthea("ten_real_bundles_are_imported_whole_and_a_second_time_changes_nothing") else {
        return;
    };
    let folder = Folder::new("real");
    let database = folder.0.join("a.db");
    let first = run(&database, &files);
    assert!(first.status.success(), "{}", said(&first));
    assert!(
        // Thirteen practitioners stand in two files, in two versions.
        said(&first).contains("10 files: 1926 resources (1913 new, 13 changed, 0 there already)"),
        "{}",
        said(&first)
    );
    assert_eq!(count(&database), 1913);
    let second = run(&database, &files);
    assert!(
        said(&second).contains("1926 resources (0 new, 0 changed, 1926 there already)"),
        "{}",
        said(&second)
    );
    let store = Store::open(&database.display().to_string()).unwrap();
    let texts: Vec<String> =
        store.read(|tx| tx.all("SELECT json FROM resources ORDER BY key", &[], |row| row.get(0))).unwrap();
    assert!(texts.iter().all(|t| !t.contains("\"reference\":\"urn:uuid:")), "every reference was rewritten");
    assert!(texts.iter().any(|t| t.contains("\"contained\":[")), "contained resources are kept");
    let versions: Option<i64> =
        store.read(|tx| tx.first("SELECT max(version) FROM resources", &[], |row| row.get(0))).unwrap();
    assert_eq!(versions, Some(2));
}

#[test]
fn numbers_keep_their_digits() {
    let folder = Folder::new("digits");
    let database = folder.0.join("a.db");
    let path = folder.0.join("a.json");
    let text =
        r#"{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.00},"x":21.411619892725234}"#;
    std::fs::write(&path, text).unwrap();
    assert!(run(&database, &[path]).status.success());
    let store = Store::open(&database.display().to_string()).unwrap();
    let kept: Option<String> =
        store.read(|tx| tx.first("SELECT json FROM resources", &[], |row| row.get(0))).unwrap();
    let kept = kept.unwrap();
    assert!(kept.contains("\"value\":1.00}") && kept.contains("21.411619892725234"), "{kept}");
}

#[test]
fn a_bad_file_is_told_by_entry_path_and_reason_and_leaves_nothing_behind() {
    let folder = Folder::new("bad");
    let database = folder.0.join("a.db");
    let good = json!({"resourceType": "Patient", "id": "good"});
    let bad = folder.file(
        "bad.json",
        &json!({"resourceType": "Bundle", "entry": [{"resource": good}, {"resource": {"resourceType": "Patient", "id": "b d"}}]}),
    );
    let output = run(&database, &[bad]);
    assert!(!output.status.success());
    let said = said(&output);
    for part in ["bad.json", "entry[1].resource.id", "`b d`", "nothing of this file was imported"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(count(&database), 0);
    let missing = run(&database, &[folder.0.join("nowhere.json")]);
    assert!(!missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("nowhere.json"));
}

#[tokio::test]
async fn an_import_beside_a_running_server_can_be_read_and_signed_in_as_at_once() {
    let server = TestApp::start().await;
    let folder = Folder::new("beside");
    let file = folder.file(
        "new.json",
        &json!({"resourceType": "Bundle", "entry": [
            {"resource": {"resourceType": "Patient", "id": "newcomer", "name": [{"given": ["Nina"], "family": "New"}]}},
            {"resource": {"resourceType": "Practitioner", "id": "newcomer"}}]}),
    );
    let database = server.app.store.path().to_owned();
    let output = tokio::task::spawn_blocking(move || run(&database, &[file])).await.unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let people = server.get("/sandbox/people").await.json();
    let people = people.as_array().unwrap();
    let newcomers: Vec<&Value> =
        people.iter().filter(|p| p["fhirUser"].as_str().unwrap().ends_with("/newcomer")).collect();
    assert_eq!(newcomers.len(), 2);
    assert_eq!(newcomers[0]["username"], "newcomer");
    assert_eq!(
        newcomers[1]["username"], "Practitioner/newcomer",
        "told apart from the Patient of the same id"
    );
    let client = server.register(json!({})).await;
    let token = server.launch(&client).by("newcomer").token().await;
    assert_eq!(token["patient"], "newcomer");
    let doctor = server.launch(&client).by("Practitioner/newcomer").patient("patient-maria").token().await;
    assert_eq!(doctor["patient"], "patient-maria");
}
