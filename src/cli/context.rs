//! `bootlatch context` and `bootlatch kubeconfig`: how servers are reached.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::{Value, json};

use super::client::read_token;
use super::connection::ConnectionArgs;
use super::context_file::{self, Context, NoSuchContext};
use super::exit::UsageError;
use super::local_files;
use super::reference::segment;
use super::show::{OutputFormat, note, print, show};

/// Subcommands of `bootlatch context`.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List the contexts
    List {
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
    /// Make a context the current one
    Use {
        /// Name of the context
        name: String,
    },
    /// Add or replace a context with the connection options of this command
    #[command(
        after_help = "Examples:\n  bootlatch context set lab --server https://192.0.2.1:6443 --token-file lab.token --ca lab.crt"
    )]
    Set {
        /// Name of the context
        name: String,
    },
    /// Remove a context
    Remove {
        /// Name of the context
        name: String,
    },
}

/// Runs a `bootlatch context` command.
///
/// # Errors
/// The context does not exist, or the file of contexts cannot be read or written.
pub fn run(verb: ContextCommand, connection_args: &ConnectionArgs) -> anyhow::Result<()> {
    let mut file = context_file::load()?;
    match verb {
        ContextCommand::List { output } => {
            let row = |(name, context): (&String, &Context)| {
                let current = if file.current.as_ref() == Some(name) { "*" } else { "" };
                json!({"current": current, "name": name, "server": context.server, "token": context.token_file})
            };
            let rows: Vec<Value> = file.contexts.iter().map(row).collect();
            if rows.is_empty() {
                note("no contexts; `bootlatch context set NAME --server URL` adds one");
            }
            let columns =
                &[("CURRENT", "/current"), ("NAME", "/name"), ("SERVER", "/server"), ("TOKEN FILE", "/token")];
            show(output, &Value::Array(rows), columns)
        }
        ContextCommand::Use { name } => {
            if !file.contexts.contains_key(&name) {
                return Err(NoSuchContext(name).into());
            }
            file.current = Some(name.clone());
            file.save()?;
            print(&format!("context {name} is the current one\n"))
        }
        ContextCommand::Set { name } => {
            let context = given(connection_args)?;
            let is_first = file.contexts.is_empty();
            let done = if file.contexts.insert(name.clone(), context).is_some() { "replaced" } else { "added" };
            if is_first {
                file.current = Some(name.clone());
            }
            file.save()?;
            let current = if is_first { " as the current one" } else { "" };
            print(&format!("context {name} {done}{current}\n"))
        }
        ContextCommand::Remove { name } => {
            if file.contexts.remove(&name).is_none() {
                return Err(NoSuchContext(name).into());
            }
            file.current = file.current.filter(|current| *current != name);
            file.save()?;
            print(&format!("context {name} removed\n"))
        }
    }
}

/// Returns the context of the options of this command. Files are named by absolute paths.
fn given(connection_args: &ConnectionArgs) -> anyhow::Result<Context> {
    let Some(server) = connection_args.server.clone() else {
        return Err(UsageError("name the server of the context: --server URL".to_owned()).into());
    };
    let absolute = |path: &Option<PathBuf>| -> anyhow::Result<Option<PathBuf>> {
        Ok(path.as_deref().map(std::path::absolute).transpose()?)
    };
    let tls = &connection_args.tls;
    Ok(Context {
        server,
        token_file: absolute(&connection_args.token_file)?,
        ca: absolute(&tls.ca)?,
        fingerprint: tls.fingerprint.map(|fingerprint| fingerprint.to_string()),
        client_certificate: absolute(&tls.client_certificate)?,
        client_key: absolute(&tls.client_key)?,
    })
}

/// Writes a kubeconfig for kubectl, with the token in it, to a new file, or else to standard output.
///
/// # Errors
/// kubectl cannot reach the selected server, or a file cannot be read or written.
pub fn kubeconfig(
    connection_args: &ConnectionArgs,
    name: &str,
    namespace: &str,
    output: Option<&Path>,
) -> anyhow::Result<()> {
    let selected = connection_args.selected()?;
    if selected.url.starts_with("unix:") {
        bail!("kubectl does not use a unix socket: select the server with --server https://ADDRESS:PORT");
    }
    let token = selected.token_file.as_deref().map(read_token).transpose()?;
    let mut cluster = json!({"server": selected.url});
    let mut user = json!({});
    let mut notes = String::new();
    if let Some(rest) = selected.url.strip_prefix("http://") {
        // kubectl sends no bearer token over plain HTTP, but a user and a password from the URL.
        if let Some(token) = &token {
            cluster["server"] = format!("http://bootlatch:{}@{rest}", segment(token)).into();
        }
        notes.push_str(
            "# Plain HTTP: the token is sent without encryption. Prefer an https server ([api] listen and tls).\n",
        );
    } else if let Some(token) = token {
        user["token"] = token.into();
    }
    if let Some(path) = selected.ca_file() {
        cluster["certificate-authority-data"] = encoded(path)?.into();
    }
    if let Some(fingerprint) = selected.fingerprint() {
        notes.push_str(&format!(
            "# kubectl does not check a fingerprint ({fingerprint}).\n# Pass --ca with the server's certificate, state_dir/tls.crt, to get a kubeconfig that trusts it.\n"
        ));
    }
    if let Some((certificate, key)) = selected.client_certificate() {
        user["client-certificate-data"] = encoded(certificate)?.into();
        user["client-key-data"] = encoded(key)?.into();
    }
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        "current-context": name,
    });
    let text = notes + &serde_saphyr::to_string(&config)?;
    let Some(path) = output else { return print(&text) };
    local_files::create(path, text.as_bytes()).with_context(|| path.display().to_string())?;
    print(&format!("{}: kubeconfig written\n", path.display()))
}

fn encoded(path: &Path) -> anyhow::Result<String> {
    Ok(STANDARD.encode(std::fs::read(path).with_context(|| path.display().to_string())?))
}
