//! Completion of kinds and names, which the server knows.

use std::ffi::OsStr;
use std::time::Duration;

use clap::{Args, FromArgMatches};
use clap_complete::engine::CompletionCandidate;
use hyper::Method;
use serde_json::Value;

use crate::fleet::Kind;

use super::client::ApiClient;
use super::connection::ConnectionArgs;
use super::lookup::items;
use super::reference::{self, collection_path};

/// Maximum time for the names: somebody waits at the prompt.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Kinds as they are completed.
const KINDS: [(Kind, &str); 4] = [
    (Kind::BareMetalHost, "host"),
    (Kind::IscsiCdrom, "iso"),
    (Kind::BootConfig, "config"),
    (Kind::ConfigTemplate, "template"),
];

/// Returns the hosts.
pub fn hosts() -> Vec<CompletionCandidate> {
    candidates(Kind::BareMetalHost, "")
}

/// Returns the ISOs.
pub fn isos() -> Vec<CompletionCandidate> {
    candidates(Kind::IscsiCdrom, "")
}

/// Returns the boot configs.
pub fn configs() -> Vec<CompletionCandidate> {
    candidates(Kind::BootConfig, "")
}

/// Returns the templates of configs.
pub fn templates() -> Vec<CompletionCandidate> {
    candidates(Kind::ConfigTemplate, "")
}

/// Returns what can stand in the place of a kind or a name: kinds, names after a kind, and `KIND/NAME`.
pub fn objects(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let starts = |candidate: &CompletionCandidate| candidate.get_value().to_string_lossy().starts_with(&*current);
    let words = words();
    let earlier = words.iter().take(words.len().saturating_sub(1)).skip(1).find_map(|word| reference::kind(word).ok());
    let found = match (current.split_once('/'), earlier) {
        (Some((word, _)), _) => {
            reference::kind(word).map(|kind| candidates(kind, &format!("{word}/"))).unwrap_or_default()
        }
        (None, Some(kind)) => candidates(kind, ""),
        (None, None) => KINDS.iter().map(|(_, word)| CompletionCandidate::new(*word)).collect(),
    };
    found.into_iter().filter(starts).collect()
}

/// Returns the words of the command line that is completed: those after `--`.
fn words() -> Vec<String> {
    let all = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    all.skip_while(|word| word != "--").skip(1).collect()
}

/// Returns the names of a kind; none if the server does not answer in time.
fn candidates(kind: Kind, prefix: &str) -> Vec<CompletionCandidate> {
    let candidate = |name: String| CompletionCandidate::new(format!("{prefix}{name}"));
    names(kind).unwrap_or_default().into_iter().map(candidate).collect()
}

fn names(kind: Kind) -> Option<Vec<String>> {
    let namespace = clap::Arg::new("namespace").short('n').long("namespace");
    let command = ConnectionArgs::augment_args(clap::Command::new("bootlatch")).arg(namespace).ignore_errors(true);
    let options = words().into_iter().filter(|word| word.starts_with("--") && word.contains('=') || is_value(word));
    let matches = command.try_get_matches_from(std::iter::once("bootlatch".to_owned()).chain(options)).ok()?;
    let mut connection_args = ConnectionArgs::from_arg_matches(&matches).ok()?;
    connection_args.note_typed(&matches);
    let namespace = matches.get_one::<String>("namespace").map(String::as_str);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let asked = async {
        let mut client = ApiClient::connect(&connection_args).await?;
        client.ask(Method::GET, &collection_path(kind, namespace), None).await
    };
    let list = runtime.block_on(async { tokio::time::timeout(TIMEOUT, asked).await });
    // A look-up of the server's name cannot be cancelled, and is not waited for.
    runtime.shutdown_background();
    let list = list.ok()?.ok()?;
    let name = |object: &Value| object["metadata"]["name"].as_str().map(str::to_owned);
    Some(items(list).iter().filter_map(name).collect())
}

/// Returns whether a word is an option of the connection, or the value of one.
fn is_value(word: &str) -> bool {
    const OPTIONS: [&str; 9] = [
        "--server",
        "--context",
        "--token-file",
        "--ca",
        "--fingerprint",
        "--client-certificate",
        "--client-key",
        "--namespace",
        "-n",
    ];
    let words = words();
    OPTIONS.contains(&word) || words.windows(2).any(|pair| pair[1] == word && OPTIONS.contains(&pair[0].as_str()))
}
