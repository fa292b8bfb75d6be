//! The architecture test: who may import whom, which files do I/O, how long files and functions are, and how
//! doc comments open. `docs/architecture.md` gives the reasons.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The I/O edge: the only files that may do I/O (see `IO_WORDS`). Add a file only if it must do I/O itself.
const IO_EDGE: &[&str] = &[
    "admission/manifest.rs",
    "admission/prepare.rs",
    "api/auth.rs",
    "api/generate.rs",
    "api/machine/images.rs",
    "api/machine/recent.rs",
    "api/machine/reports.rs",
    "api/objects/actions.rs",
    "api/objects/body.rs",
    "api/objects/discovery.rs",
    "api/objects/iso_files.rs",
    "api/objects/names.rs",
    "api/objects/pages.rs",
    "api/objects/template_preview.rs",
    "api/objects/templates.rs",
    "api/objects/timeline_watch.rs",
    "api/objects/watch.rs",
    "api/objects/write.rs",
    "api/ops/health.rs",
    "api/ops/metrics.rs",
    "api/ops/process.rs",
    "api/redfish/host_locks.rs",
    "api/redfish/mod.rs",
    "api/redfish/sessions.rs",
    "api/rehearsal/mod.rs",
    "api/state.rs",
    "api/ui/events.rs",
    "api/ui/feeds.rs",
    "api/ui/rows.rs",
    "api/uploads.rs",
    "appliance/capabilities.rs",
    "appliance/doctor/clock.rs",
    "appliance/doctor/files.rs",
    "appliance/doctor/ipv6.rs",
    "appliance/doctor/kernel.rs",
    "appliance/doctor/mod.rs",
    "appliance/doctor/ports.rs",
    "appliance/doctor/server.rs",
    "appliance/doctor/wire.rs",
    "appliance/interfaces.rs",
    "appliance/link_monitor.rs",
    "appliance/listeners.rs",
    "appliance/local_sockets.rs",
    "appliance/log.rs",
    "appliance/log/journal.rs",
    "appliance/log/json.rs",
    "appliance/memory.rs",
    "appliance/mod.rs",
    "appliance/privileges.rs",
    "appliance/state_dir.rs",
    "appliance/status.rs",
    "appliance/supervisor.rs",
    "appliance/supervisor/running.rs",
    "appliance/watchdog.rs",
    "bmc/client.rs",
    "bmc/detection.rs",
    "bmc/ipmi/client.rs",
    "bmc/wake_on_lan.rs",
    "cli/butane.rs",
    "cli/client.rs",
    "cli/completion.rs",
    "cli/config.rs",
    "cli/console.rs",
    "cli/context.rs",
    "cli/context_file.rs",
    "cli/download.rs",
    "cli/edit.rs",
    "cli/init.rs",
    "cli/iso.rs",
    "cli/local_files.rs",
    "cli/man.rs",
    "cli/manifests.rs",
    "cli/mod.rs",
    "cli/prompt.rs",
    "cli/rig.rs",
    "cli/seed.rs",
    "cli/show.rs",
    "cli/source.rs",
    "cli/template.rs",
    "cli/wait.rs",
    "cli/watch.rs",
    "config/credentials.rs",
    "config/sources.rs",
    "controllers/cleanup.rs",
    "controllers/clock.rs",
    "controllers/console.rs",
    "controllers/disk_space.rs",
    "controllers/first_seen.rs",
    "controllers/image_watch.rs",
    "controllers/install_deadlines.rs",
    "controllers/inventory.rs",
    "controllers/manifests.rs",
    "controllers/power.rs",
    "controllers/stalls.rs",
    "controllers/webhooks.rs",
    "dhcp/serve/handler.rs",
    "dhcp/serve/handler/records.rs",
    "dhcp/serve/host_changes.rs",
    "dhcp/serve/leases_file.rs",
    "dhcp/serve/mod.rs",
    "dhcp/serve/placement.rs",
    "dhcp/serve/port_socket.rs",
    "dhcp/serve/queries.rs",
    "dhcp/serve/rehearsal.rs",
    "dhcp/serve/socket_io.rs",
    "dhcp/serve/sockets.rs",
    "dhcpv6/serve.rs",
    "gate/boot_traces.rs",
    "gate/console_logs.rs",
    "gate/degradations.rs",
    "gate/enrolment.rs",
    "gate/finishing.rs",
    "gate/hardware.rs",
    "gate/install_begins.rs",
    "gate/installer.rs",
    "gate/ipxe_clients.rs",
    "gate/media.rs",
    "gate/neighbours.rs",
    "gate/stalls.rs",
    "gate/templates.rs",
    "gate/timeline.rs",
    "gate/tokens.rs",
    "http/connection_limits.rs",
    "http/delivery.rs",
    "http/fast_path.rs",
    "http/limits.rs",
    "http/listener.rs",
    "http/repeated_request.rs",
    "http/reply.rs",
    "http/tls.rs",
    "http/writer.rs",
    "http_client/mod.rs",
    "images/library.rs",
    "images/partial_upload.rs",
    "images/served_directory.rs",
    "images/uploads.rs",
    "iscsi/serve/admission.rs",
    "iscsi/serve/mod.rs",
    "iscsi/serve/registry.rs",
    "iscsi/serve/sendfile.rs",
    "iso/file.rs",
    "iso/read.rs",
    "main.rs",
    "ndp/serve.rs",
    "rig/api.rs",
    "rig/control.rs",
    "rig/kvm.rs",
    "rig/lan/links.rs",
    "rig/lan/packet_socket.rs",
    "rig/lan/switch.rs",
    "rig/leader.rs",
    "rig/machine.rs",
    "rig/outputs.rs",
    "rig/qmp.rs",
    "rig/requirements.rs",
    "rig/server.rs",
    "rig/supervisor.rs",
    "store/clock.rs",
    "store/disk_reserve.rs",
    "store/free_space.rs",
    "store/mod.rs",
    "store/outbox.rs",
    "store/seal.rs",
    "store/sqlite.rs",
    "store/timeline_sizes.rs",
    "store/volumes.rs",
    "store/writer.rs",
    "syslog/serve.rs",
    "tftp/serve/boot_files.rs",
    "tftp/serve/content.rs",
    "tftp/serve/listeners.rs",
    "tftp/serve/mmsg.rs",
    "tftp/serve/mod.rs",
    "tftp/serve/own_ports.rs",
    "tftp/serve/port.rs",
    "tftp/serve/responder.rs",
    "tftp/serve/session.rs",
];

/// Words that show I/O, a clock, randomness or an asynchronous runtime.
const IO_WORDS: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::net::Udp",
    "std::net::Tcp",
    "std::os::unix::net",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "rusqlite",
    "nix::",
    "socket2::",
    "libc::",
    "rustix::",
    "pnet_datalink",
    "Uuid::new_v4",
    "getrandom",
    "SystemRandom",
    "println!",
    "eprintln!",
];

/// Returns the folders that a folder may import from. `None`: everything (the composition root and the binary).
fn allowed(folder: &str, path: &str) -> Option<&'static [&'static str]> {
    let is_adapter = path.contains("/serve/") || path.ends_with("/serve.rs");
    Some(match folder {
        "bounds" | "fleet" => &[],
        "boot" | "iso" | "provision" => &["fleet"],
        "event" | "config" => &["boot", "fleet"],
        "store" => &["event", "boot", "fleet"],
        "images" => &["iso", "fleet", "store"],
        "gate" => &["boot", "bounds", "store", "images", "event", "fleet", "iso", "provision"],
        "admission" => &["boot", "fleet", "iso", "provision", "store"],
        "bmc" => &["event", "fleet", "http_client"],
        "dhcp" | "dhcpv6" | "ndp" | "tftp" | "iscsi" | "syslog" if is_adapter => {
            &["boot", "bounds", "event", "fleet", "gate", "images", "iso", "store"]
        }
        "dhcp" | "dhcpv6" | "ndp" | "tftp" | "iscsi" | "syslog" => &["boot", "bounds", "fleet", "iso"],
        "http" => &["bounds", "iso"],
        "http_client" => &[],
        "api" => &[
            "admission",
            "bmc",
            "boot",
            "bounds",
            "event",
            "fleet",
            "gate",
            "http",
            "images",
            "iso",
            "provision",
            "store",
            "ui",
        ],
        "ui" => &["event", "fleet"],
        "webhooks" => &["event", "fleet"],
        "controllers" => {
            &["admission", "bmc", "boot", "event", "fleet", "gate", "http_client", "images", "iso", "store", "webhooks"]
        }
        "cli" => &["admission", "config", "doctor", "event", "fleet", "http_client", "iso", "provision", "rig"],
        "rig" => &["config", "event", "fleet", "iso", "provision"],
        "doctor" => &[],
        "appliance" | "main" | "lib" => return None,
        other => {
            panic!("src/{other}: not in the table of the architecture test; add it there and to docs/architecture.md")
        }
    })
}

/// A source file without its tests.
struct Source {
    /// Path below `src`.
    path: String,
    /// Module path, as in `["dhcp", "serve"]`.
    module: Vec<String>,
    /// Text up to the inline test module.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    assert!(paths.len() > 100, "found only {} source files", paths.len());
    let is_test = |path: &PathBuf| {
        path.ends_with("tests.rs")
            || path.ends_with("fixture.rs")
            || path.components().any(|part| part.as_os_str() == "tests")
    };
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let relative = path.strip_prefix(&root).unwrap();
        let mut module: Vec<String> =
            relative.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|last| last == "mod" || last == "lib") {
            module.pop();
        }
        Source { path: relative.display().to_string(), module, code: without_tests(&text) }
    };
    paths.iter().filter(|path| !is_test(path)).map(read).collect()
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Removes modules and items behind `#[cfg(test)]`. They end at the closing brace or semicolon of their indentation.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            code.push_str(line);
            code.push('\n');
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let (close, close_list) = (format!("{indent}}}"), format!("{indent}}};"));
        for inner in lines.by_ref() {
            let is_item = !inner.trim_start().starts_with("#[");
            if inner == close
                || inner == close_list
                || (is_item && inner.ends_with(';') && !inner[indent.len()..].starts_with(' '))
            {
                break;
            }
        }
    }
    code
}

/// One import: the absolute module path and item of a `use`, or of a path in the code.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    line: usize,
    path: Vec<String>,
    is_public: bool,
    /// Name under which a `pub use` exports it.
    name: String,
}

/// Returns every import of this crate in a file: `use` items over several lines, with groups, `self` and any number of
/// `super`, and paths that begin with `crate::` or `super::` in the code.
fn imports(source: &Source, children: &BTreeSet<Vec<String>>) -> Vec<Import> {
    let code = without_comments(&source.code);
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut statement: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(code.lines()) {
        let trimmed = line.trim_start();
        if statement.is_none() {
            let begins =
                ["use ", "pub use ", "pub(crate) use ", "pub(super) use "].iter().any(|word| trimmed.starts_with(word));
            if begins {
                statement = Some((number, String::new()));
            }
        }
        let Some((begin, text)) = &mut statement else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        rest.push('\n');
        text.push_str(line);
        text.push(' ');
        if line.trim_end().ends_with(';') {
            let is_public = text.trim_start().starts_with("pub");
            let tree = text.split_once("use ").unwrap().1.trim().trim_end_matches(';').to_owned();
            for (path, name) in expand(&tree) {
                found.extend(absolute(&path, source, children).map(|path| Import {
                    line: *begin,
                    path,
                    is_public,
                    name,
                }));
            }
            statement = None;
        }
    }
    for (number, line) in (1..).zip(rest.lines()) {
        for path in paths_in(line) {
            let name = path.last().unwrap().clone();
            found.extend(absolute(&path, source, children).map(|path| Import {
                line: number,
                path,
                is_public: false,
                name,
            }));
        }
    }
    found
}

fn without_comments(code: &str) -> String {
    code.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// Expands a `use` tree into paths and the names that they are imported under.
fn expand(tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let (path, alias) = match tree.split_once(" as ") {
            Some((path, alias)) => (path.trim(), Some(alias.trim().to_owned())),
            None => (tree, None),
        };
        let mut path: Vec<String> = path.split("::").map(|part| part.trim().to_owned()).collect();
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let name = alias.unwrap_or_else(|| path.last().unwrap().clone());
        return vec![(path, name)];
    };
    let prefix: Vec<String> =
        tree[..open].split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let inner = &tree[open + 1..tree.rfind('}').unwrap()];
    let mut parts = Vec::new();
    let (mut depth, mut begin) = (0, 0);
    for (at, sign) in inner.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[begin..]);
    let join = |part: &str| {
        expand(part)
            .into_iter()
            .map(|(path, name)| {
                let path: Vec<String> =
                    if path == ["self"] { prefix.clone() } else { prefix.iter().cloned().chain(path).collect() };
                let name = if name == "self" { path.last().unwrap().clone() } else { name };
                (path, name)
            })
            .collect::<Vec<_>>()
    };
    parts.into_iter().filter(|part| !part.trim().is_empty()).flat_map(join).collect()
}

/// Returns the paths in a line of code that begin with `crate::` or `super::`.
fn paths_in(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for begin in ["crate::", "super::"] {
        for (at, _) in line.match_indices(begin) {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|sign| sign.is_alphanumeric() || sign == '_' || sign == ':') {
                continue;
            }
            let text: String =
                line[at..].chars().take_while(|sign| sign.is_alphanumeric() || "_:".contains(*sign)).collect();
            let path: Vec<String> = text.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            if path.len() > 1 {
                found.push(path);
            }
        }
    }
    found
}

/// Resolves a path against the module of a file. `None`: it is not of this crate.
fn absolute(path: &[String], source: &Source, children: &BTreeSet<Vec<String>>) -> Option<Vec<String>> {
    let mut base = source.module.clone();
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => return Some(rest[1..].to_vec()),
        "self" | "super" => {
            while let Some(first @ ("self" | "super")) = rest.first().map(String::as_str) {
                if first == "super" {
                    base.pop();
                }
                rest = &rest[1..];
            }
        }
        first => {
            let child: Vec<String> = base.iter().cloned().chain([first.to_owned()]).collect();
            if !children.contains(&child) {
                return None;
            }
        }
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// The files, their imports, and what `pub use` exports from where.
struct Tree {
    sources: Vec<Source>,
    by_module: BTreeMap<Vec<String>, usize>,
    imports: Vec<Vec<Import>>,
    exports: BTreeMap<Vec<String>, Vec<String>>,
}

impl Tree {
    fn read() -> Self {
        let sources = sources();
        let by_module: BTreeMap<_, _> = sources
            .iter()
            .enumerate()
            .filter(|(_, source)| source.path != "main.rs")
            .map(|(at, source)| (source.module.clone(), at))
            .collect();
        let modules: BTreeSet<_> = by_module.keys().cloned().collect();
        let imports: Vec<_> = sources.iter().map(|source| imports(source, &modules)).collect();
        let mut exports = BTreeMap::new();
        for (source, imports) in sources.iter().zip(&imports) {
            for import in imports.iter().filter(|import| import.is_public) {
                let name: Vec<String> = source.module.iter().cloned().chain([import.name.clone()]).collect();
                exports.insert(name, import.path.clone());
            }
        }
        Self { sources, by_module, imports, exports }
    }

    /// Returns the file that defines what a path names: through re-exports, the longest module prefix.
    fn definer(&self, path: &[String]) -> Option<usize> {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let exported = (1..=path.len()).rev().find_map(|length| {
                let target = self.exports.get(&path[..length])?;
                Some(target.iter().cloned().chain(path[length..].iter().cloned()).collect::<Vec<_>>())
            });
            match exported {
                Some(target) if target != path => path = target,
                _ => break,
            }
        }
        (1..=path.len()).rev().find_map(|length| self.by_module.get(&path[..length]).copied())
    }

    /// Returns for each file the files that it imports from. A module and its direct children may share items.
    fn edges(&self) -> Vec<BTreeSet<usize>> {
        let edge = |(from, imports): (usize, &Vec<Import>)| {
            let parent = |of: usize| self.sources[of].module.split_last().map(|(_, parent)| parent.to_vec());
            imports
                .iter()
                .filter(|import| !import.is_public)
                .filter_map(|import| self.definer(&import.path))
                .filter(|to| *to != from && parent(from).as_ref() != Some(&self.sources[*to].module))
                .collect()
        };
        self.imports.iter().enumerate().map(edge).collect()
    }
}

#[test]
fn a_folder_imports_only_what_the_table_allows() {
    let tree = Tree::read();
    let mut wrong = Vec::new();
    for (source, imports) in tree.sources.iter().zip(&tree.imports) {
        let folder = source.path.split('/').next().unwrap().trim_end_matches(".rs");
        let Some(allowed) = allowed(folder, &source.path) else { continue };
        for import in imports {
            let Some(target) = import.path.first().filter(|first| first.as_str() != folder) else { continue };
            if target.chars().next().is_some_and(char::is_lowercase) && !allowed.contains(&target.as_str()) {
                wrong.push(format!("src/{}:{} imports {}", source.path, import.line, import.path.join("::")));
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{} imports that the table does not allow:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_files_import_each_other() {
    let tree = Tree::read();
    let edges = tree.edges();
    let reach = |from: usize| {
        let mut seen = BTreeSet::new();
        let mut open: Vec<usize> = edges[from].iter().copied().collect();
        while let Some(next) = open.pop() {
            if seen.insert(next) {
                open.extend(&edges[next]);
            }
        }
        seen
    };
    let reached: Vec<_> = (0..edges.len()).map(reach).collect();
    let circles: BTreeSet<Vec<&str>> = (0..edges.len())
        .filter(|file| reached[*file].contains(file))
        .map(|file| {
            let circle = reached[file].iter().filter(|other| reached[**other].contains(&file));
            circle.map(|other| tree.sources[*other].path.as_str()).collect()
        })
        .collect();
    assert!(circles.is_empty(), "{} import circles: {circles:#?}", circles.len());
}

#[test]
fn only_the_io_edge_does_io() {
    let sources = sources();
    let (mut wrong, mut idle) = (Vec::new(), Vec::new());
    let (mut edge_lines, mut all_lines) = (0, 0);
    for source in &sources {
        let is_edge = IO_EDGE.contains(&source.path.as_str());
        let code = without_comments(&source.code);
        let lines = code.lines().count();
        (edge_lines, all_lines) = (edge_lines + if is_edge { lines } else { 0 }, all_lines + lines);
        let touches = (1..).zip(code.lines()).find_map(|(number, line)| {
            let line = line.split(" // ").next().unwrap();
            IO_WORDS.iter().find(|word| line.contains(**word)).map(|word| (number, *word))
        });
        match touches {
            Some((number, word)) if !is_edge => wrong.push(format!("src/{}:{number} uses {word}", source.path)),
            None if is_edge => idle.push(source.path.clone()),
            _ => {}
        }
    }
    let gone: Vec<_> = IO_EDGE.iter().filter(|path| !sources.iter().any(|source| source.path == **path)).collect();
    println!("I/O edge: {} of {} files, {edge_lines} of {all_lines} lines", IO_EDGE.len(), sources.len());
    assert!(wrong.is_empty(), "{} files outside the I/O edge do I/O:\n{}", wrong.len(), wrong.join("\n"));
    assert!(idle.is_empty() && gone.is_empty(), "remove from IO_EDGE: {idle:?} touch nothing, {gone:?} do not exist");
    assert!(edge_lines * 2 < all_lines, "the I/O edge is {edge_lines} of {all_lines} lines: it must be a minority");
}

#[test]
fn pure_folders_are_synchronous() {
    let is_pure = |path: &str| {
        let folder = path.split('/').next().unwrap();
        let is_codec =
            ["dhcp", "dhcpv6", "tftp", "iscsi", "ndp", "syslog"].contains(&folder) && !path.contains("/serve");
        ["fleet", "boot", "bounds", "doctor", "iso", "provision"].contains(&folder) || is_codec
    };
    for source in sources().iter().filter(|source| is_pure(&source.path)) {
        assert!(!without_comments(&source.code).contains("async "), "src/{} is asynchronous", source.path);
    }
}

#[test]
fn there_is_one_boot_decision_and_one_identity_judgement() {
    let defines = |name: &str| -> Vec<String> {
        sources().into_iter().filter(|source| source.code.contains(name)).map(|source| source.path).collect()
    };
    assert_eq!(defines("fn decide("), ["boot/decide.rs"]);
    assert_eq!(defines("fn judge("), ["boot/identity.rs"]);
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    for source in sources() {
        for word in ["util", "utils", "common", "helper", "helpers", "misc", "manager"] {
            assert!(!source.module.iter().any(|part| part == word), "src/{}: name it after what it does", source.path);
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

/// Finds functions by rustfmt's layout: the closing brace stands alone at the indentation of its `fn`.
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
        // A signature in a trait has no body.
        if trimmed.ends_with(';') {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[start..].iter().position(|line| *line == end) {
            let name = rest.chars().take_while(|sign| sign.is_alphanumeric() || *sign == '_').collect();
            found.push((name, length + 1));
        }
    }
    found
}

#[test]
fn doc_comments_open_as_rustdoc_asks() {
    const OPENINGS: &[&str] = &["Is", "Are", "Says", "Gives", "Bounds", "Holds", "Names", "Tells", "Was"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let mut wrong = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let mut is_first = true;
        for (number, line) in (1..).zip(text.lines()) {
            let Some(comment) = line.trim_start().strip_prefix("///") else {
                is_first = true;
                continue;
            };
            let word = comment.split_whitespace().next().unwrap_or_default();
            // "Names of" and the like are nouns.
            let is_noun =
                ["Names of", "Names that", "Names only"].iter().any(|noun| comment.trim_start().starts_with(noun));
            if is_first && OPENINGS.contains(&word) && !is_noun {
                wrong.push(format!("src/{}:{number} {}", path.strip_prefix(&root).unwrap().display(), line.trim()));
            }
            is_first = false;
        }
    }
    assert!(wrong.is_empty(), "{} doc comments open against CONTRIBUTING.md:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn nothing_is_postponed() {
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

#[test]
fn no_log_line_shows_a_value_as_rust_writes_it() {
    const MACROS: &[&str] = &["trace!(", "debug!(", "info!(", "warn!(", "error!("];
    let mut wrong = Vec::new();
    for source in sources() {
        for (at, _) in source.code.match_indices("tracing::") {
            let line = &source.code[at + "tracing::".len()..];
            let Some(arguments) = MACROS.iter().find_map(|name| line.strip_prefix(name)) else { continue };
            let arguments = &arguments[..arguments.find(");").unwrap_or(arguments.len())];
            let words: String = arguments.split_whitespace().collect::<Vec<_>>().join(" ");
            if ["= ?", ", ?", ":?}"].iter().any(|mark| words.contains(mark)) || words.starts_with('?') {
                wrong.push(format!("src/{}: {words}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "write a code, a number or a text in place of a Debug value:\n{}", wrong.join("\n"));
}

#[test]
fn use_trees_expand() {
    let expanded = |tree: &str| {
        expand(tree).into_iter().map(|(path, name)| format!("{} as {name}", path.join("::"))).collect::<Vec<_>>()
    };
    assert_eq!(
        expanded("crate::a::{self, b::{C, D as E}, f}"),
        ["crate::a as a", "crate::a::b::C as C", "crate::a::b::D as E", "crate::a::f as f"]
    );
    assert_eq!(expanded("super::super::x::Y"), ["super::super::x::Y as Y"]);
    let source = Source {
        path: "a/b.rs".into(),
        module: vec!["a".into(), "b".into()],
        code: "use super::super::x::{\n    Y,\n    z::W,\n};\nlet v = crate::q::r();".into(),
    };
    let paths: Vec<_> = imports(&source, &BTreeSet::new()).into_iter().map(|import| import.path.join("::")).collect();
    assert_eq!(paths, ["x::Y", "x::z::W", "q::r"]);
}
