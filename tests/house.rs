//! Who may import whom: the rules that `lib.rs` states, held against the source.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a room is, by the word in `lib.rs`. Later ones may import earlier ones.
const KINDS: [&str; 7] = ["ground", "pure", "noun", "endpoint", "page", "sandbox", "server"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every module of `lib.rs` with its kind: `oauth::token` -> `endpoint`.
fn rooms() -> BTreeMap<String, String> {
    let mut rooms = BTreeMap::new();
    let mut folder = String::new();
    for line in fs::read_to_string(source().join("lib.rs")).unwrap().lines() {
        if let Some(name) = line.strip_prefix("pub mod ").and_then(|l| l.strip_suffix(" {")) {
            folder = format!("{name}::");
        } else if line == "}" {
            folder.clear();
        } else if let Some((declared, words)) = line.trim().split_once("; // ") {
            let name = declared.trim_start_matches("pub ").trim_start_matches("mod ");
            let kind = words.split(':').next().unwrap_or_default();
            assert!(KINDS.contains(&kind), "lib.rs says no kind of room for {folder}{name}: {words}");
            rooms.insert(format!("{folder}{name}"), kind.to_owned());
        }
    }
    assert!(rooms.len() > 30, "lib.rs was not understood");
    rooms
}

/// The source files of a room, without its unit tests.
fn files(room: &str) -> Vec<(PathBuf, String)> {
    let base = source().join(room.replace("::", "/"));
    let mut paths = vec![base.with_extension("rs")];
    if base.is_dir() {
        paths.extend(fs::read_dir(&base).unwrap().map(|entry| entry.unwrap().path()));
    }
    let is_test = |p: &PathBuf| p.file_stem().is_some_and(|s| s.to_string_lossy().ends_with("tests"));
    paths
        .into_iter()
        .filter(|p| p.is_file() && !is_test(p))
        .map(|p| {
            let text = fs::read_to_string(&p).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            (p, code)
        })
        .collect()
}

/// The rooms that a piece of code names as `crate::…` or `super::…`.
fn imports(room: &str, code: &str, rooms: &BTreeMap<String, String>) -> Vec<String> {
    let folder = room.rsplit_once("::").map_or("", |(folder, _)| folder);
    let mut found = Vec::new();
    for other in rooms.keys().filter(|other| *other != room) {
        let (other_folder, name) = other.rsplit_once("::").unwrap_or(("", other));
        let prefix =
            if other_folder.is_empty() { "crate::".to_owned() } else { format!("crate::{other_folder}::") };
        let mut ways = vec![prefix];
        if other_folder == folder {
            ways.push("super::".into());
        }
        let named = ways.iter().any(|way| {
            code.match_indices(way.as_str()).any(|(at, _)| {
                let rest = &code[at + way.len()..];
                let listed = rest.strip_prefix('{').map(|r| r.split('}').next().unwrap_or_default());
                let is_name = |text: &str| {
                    text.strip_prefix(name)
                        .is_some_and(|r| !r.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
                };
                match listed {
                    Some(list) => list.split(',').any(|item| is_name(item.trim())),
                    None => is_name(rest),
                }
            })
        });
        if named {
            found.push(other.clone());
        }
    }
    found
}

#[test]
fn nothing_imports_what_stands_above_it() {
    let rooms = rooms();
    let rank = |room: &str| KINDS.iter().position(|k| *k == rooms[room]).unwrap();
    let mut wrong = Vec::new();
    for room in rooms.keys() {
        for (path, code) in files(room) {
            for other in imports(room, &code, &rooms) {
                let (from, to) = (rooms[room].as_str(), rooms[&other].as_str());
                let both_face_the_web = matches!((from, to), ("endpoint", "page"));
                let allowed = match (from, to) {
                    ("ground", "ground") => true,
                    ("ground", _) => false,
                    ("pure", "pure" | "ground") => true,
                    ("pure", _) => false,
                    ("endpoint", "endpoint") => shares_an_address(room, &other),
                    _ => rank(&other) <= rank(room) || both_face_the_web,
                };
                if !allowed {
                    wrong.push(format!("{} ({from}) imports {other} ({to})", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The one pair of endpoints that is one address: the FHIR base and its CapabilityStatement.
fn shares_an_address(room: &str, other: &str) -> bool {
    room == "fhir::api" && other == "fhir::capability"
}

#[test]
fn libraries_are_named_only_in_their_own_rooms() {
    let rules: [(&str, &[&str]); 8] = [
        ("rusqlite", &["store::sqlite"]),
        ("refinery", &["store::sqlite"]),
        ("oxide_auth", &["oauth::authorize", "oauth::token"]),
        ("aws_lc_rs", &["crypto", "jose"]),
        ("jsonwebtoken", &["jose"]),
        ("reqwest", &["fetch"]),
        ("use ring", &["crypto", "jose", "clock"]),
        ("clap", &["config"]),
    ];
    let rooms = rooms();
    for (library, allowed) in rules {
        for room in rooms.keys().filter(|room| !allowed.contains(&room.as_str())) {
            for (path, code) in files(room) {
                let code: String = code.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
                assert!(!code.contains(library), "{} names {library}", path.display());
            }
        }
    }
}

#[test]
fn nouns_and_pure_rooms_know_no_http() {
    for (room, kind) in rooms() {
        if ["ground", "pure", "noun"].contains(&kind.as_str()) {
            for (path, code) in files(&room) {
                assert!(!code.contains("axum"), "{} names axum", path.display());
            }
        }
    }
}

#[test]
fn pure_rooms_have_no_store_and_no_clock() {
    for (room, kind) in rooms() {
        if kind == "pure" {
            for (path, code) in files(&room) {
                for word in ["store::", "Clock", "Tx<", "SystemTime", "Instant::now"] {
                    assert!(!code.contains(word), "{} names {word}", path.display());
                }
            }
        }
    }
}
