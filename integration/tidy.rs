//! The house's rules, as a test: who may name whom, what pure code may touch, and how long things are.
//! `shared/design/house.md` and `style.md` say why.

#![allow(clippy::unwrap_used, reason = "a test from end to end")]

use std::fs;
use std::path::{Path, PathBuf};

struct Source {
    path: String,
    /// Is the text without its tests.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    gather(&root, &mut paths);
    assert!(paths.len() > 20, "the sources are found");
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let code = code.split("#[cfg(test)]\npub mod tests").next().unwrap();
        Source { path: path.strip_prefix(&root).unwrap().display().to_string(), code: code.to_owned() }
    };
    let is_test =
        |path: &PathBuf| path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
    paths.iter().filter(|path| !is_test(path)).map(read).collect()
}

fn gather(directory: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            gather(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

/// Says whether a file is of the rim: it may touch the world.
fn is_rim(path: &str) -> bool {
    let rim_files = [
        "main.rs",
        "config.rs",
        "gate.rs",
        "manifest.rs",
        "admit.rs",
        "privileges.rs",
        "event.rs",
        "neighbours.rs",
        "media.rs",
        "token.rs",
    ];
    let rim_folders = ["appliance/", "cli/", "gate/", "store/", "http/"];
    rim_files.contains(&path) || rim_folders.iter().any(|folder| path.starts_with(folder)) || is_rim_of_protocol(path)
}

/// A protocol's rim is `serve.rs` or `client.rs`, or a folder of that name where it is too long for one file.
fn is_rim_of_protocol(path: &str) -> bool {
    path.ends_with("/serve.rs") || path.ends_with("/client.rs") || path.contains("/serve/")
}

/// The table of the house: what each module may name of ours.
fn may_name(path: &str) -> Option<Vec<&'static str>> {
    let folder = path.split('/').next().unwrap().trim_end_matches(".rs");
    let rim = is_rim_of_protocol(path);
    let mut names = match folder {
        "fleet" => vec![],
        "boot" => vec!["fleet"],
        "event" => vec!["boot", "fleet"],
        "store" => vec!["fleet", "event"],
        "gate" => vec!["boot", "fleet", "event", "iso", "media", "neighbours", "store", "token"],
        "media" => vec!["fleet", "iso"],
        "token" => vec!["fleet"],
        "iso" => vec!["fleet"],
        "provision" => vec!["fleet"],
        "admit" | "manifest" => vec!["admit", "boot", "fleet", "iso", "provision", "store"],
        "dhcp" | "ndp" | "tftp" | "iscsi" if rim => vec!["boot", "fleet", "store", "event", "gate", "iso"],
        "dhcp" | "ndp" | "tftp" | "iscsi" => vec!["boot", "fleet", "iso"],
        "http" => vec!["admit", "boot", "fleet", "store", "event", "gate", "media", "ui", "provision", "iso", "bmc"],
        "ui" => vec!["fleet", "event"],
        "bmc" => vec!["boot", "fleet", "store", "event"],
        "config" => vec!["boot", "fleet"],
        "privileges" => vec![],
        "neighbours" => vec!["fleet"],
        "appliance" | "cli" | "main" | "lib" => return None,
        other => panic!("{other} is not in the house's table: add it there, and to house.md's"),
    };
    names.push(match folder {
        "fleet" => "fleet",
        "boot" => "boot",
        other => Box::leak(other.to_owned().into_boxed_str()),
    });
    Some(names)
}

fn named(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(code.lines()) {
        let line = line.trim_start();
        if line.starts_with("//") {
            continue;
        }
        for rest in line.split("crate::").skip(1) {
            let list = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or(rest);
            for name in if rest.starts_with('{') { list.split(',').collect() } else { vec![list] } {
                let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if name.chars().next().is_some_and(char::is_lowercase) {
                    found.push((number, name));
                }
            }
        }
    }
    found
}

#[test]
fn modules_name_only_those_they_may() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(allowed) = may_name(&source.path) else { continue };
        for (line, name) in named(&source.code) {
            if !allowed.contains(&name.as_str()) {
                wrong.push(format!("src/{}:{line} names {name}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_code_does_not_touch_the_world() {
    const WORLD: &[&str] = &[
        "tokio::",
        "std::fs",
        "std::net::Udp",
        "std::net::Tcp",
        "std::thread",
        "Instant::now",
        "SystemTime",
        "Timestamp::now",
        "async fn",
        "rusqlite",
        "nix::",
        "socket2::",
        "Uuid::new_v4",
        "getrandom",
        "std::env",
        "std::process",
        "println!",
        "eprintln!",
    ];
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_rim(&source.path)) {
        // `iso::read` is where a file becomes a medium; nothing else in `iso` knows that there are files.
        if source.path == "iso/read.rs" || source.path == "lib.rs" {
            continue;
        }
        for (number, line) in (1..).zip(source.code.lines()) {
            let code = line.split("//").next().unwrap();
            for word in WORLD.iter().filter(|word| code.contains(**word)) {
                wrong.push(format!("src/{}:{number} uses {word}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_is_one_decision() {
    let decisions: Vec<_> = sources()
        .iter()
        .filter(|source| source.code.contains("fn decide("))
        .map(|source| source.path.clone())
        .collect();
    assert_eq!(decisions, ["boot/decide.rs"]);
}

#[test]
fn no_folder_is_a_drawer() {
    for source in sources() {
        for drawer in ["util", "utils", "common", "helpers", "misc"] {
            let parts: Vec<_> = source.path.split(['/', '.']).collect();
            assert!(!parts.contains(&drawer), "src/{}", source.path);
        }
    }
}

#[test]
fn files_and_functions_are_short() {
    let mut wrong = Vec::new();
    let mut lengths = Vec::new();
    for source in sources() {
        let lines = source.code.lines().count();
        let limit = match source.path.as_str() {
            "main.rs" => 40,
            "lib.rs" => 60,
            _ => 600,
        };
        if lines > limit {
            wrong.push(format!("src/{} has {lines} lines, more than {limit}", source.path));
        }
        lengths.push(lines);
        for (name, length) in functions(&source.code).into_iter().filter(|(_, length)| *length > 70) {
            wrong.push(format!("src/{}: fn {name} has {length} lines, more than 70", source.path));
        }
    }
    lengths.sort_unstable();
    let (median, ninth) = (lengths[lengths.len() / 2], lengths[lengths.len() * 9 / 10]);
    println!("files: median {median} lines, nine in ten under {ninth}");
    if ninth > 400 {
        wrong.push(format!("nine files in ten have up to {ninth} lines, more than 400"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Finds functions by rustfmt's layout: the body's end stands alone at the indentation of its `fn`.
fn functions(code: &str) -> Vec<(String, usize)> {
    let lines: Vec<_> = code.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let Some(rest) = trimmed.split("fn ").nth(1).filter(|_| {
            let head = trimmed.split("fn ").next().unwrap();
            head.split_whitespace()
                .all(|word| word.starts_with("pub") || matches!(word, "async" | "const" | "unsafe" | "extern"))
        }) else {
            continue;
        };
        let end = format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[start..].iter().position(|line| *line == end) {
            let name = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.push((name, length + 1));
        }
    }
    found
}

#[test]
fn nothing_is_put_off() {
    const MARKS: &[&str] = &["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("];
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in (1..).zip(source.code.lines()) {
            if MARKS.iter().any(|mark| line.contains(mark)) {
                wrong.push(format!("src/{}:{number} {}", source.path, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
