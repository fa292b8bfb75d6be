//! Commands on objects of all kinds, as in kubectl.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;

use crate::fleet::text::printable_lines;
use crate::fleet::{Kind, rules};
use crate::provision::yaml_error;

use super::client::{ApiClient, ConnectionArgs, LineStream};
use super::show::{self, OutputFormat, print};

/// Commands on objects of all kinds.
#[derive(Debug, Subcommand)]
pub enum ObjectCommand {
    /// Show objects
    Get {
        /// Kind: host, iso or config, or its name in Kubernetes
        #[arg(value_parser = kind)]
        kind: Kind,
        /// Name of one object
        name: Option<String>,
        #[command(flatten)]
        selection: SelectionArgs,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: GetOutput,
    },
    /// Show one object with its timeline
    Describe {
        /// Kind: host, iso or config, or its name in Kubernetes
        #[arg(value_parser = kind)]
        kind: Kind,
        /// Name of the object
        name: String,
        /// Namespace of the host
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
    /// Create or change objects by manifests (server-side apply)
    Apply {
        /// File or directory of manifests in YAML or JSON; - for standard input
        #[arg(short, long, required = true)]
        filename: Vec<PathBuf>,
        /// Take over fields of other field managers
        #[arg(long)]
        force: bool,
        /// Print the result without changing anything
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete objects
    Delete {
        /// Kind: host, iso or config, or its name in Kubernetes
        #[arg(value_parser = kind)]
        kind: Kind,
        /// Names of the objects
        #[arg(required = true)]
        names: Vec<String>,
        /// Namespace of the hosts
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
    /// Print the changes of objects until interrupted
    Watch {
        /// Kind: host, iso or config, or its name in Kubernetes
        #[arg(value_parser = kind)]
        kind: Kind,
        /// Name of one object
        name: Option<String>,
        #[command(flatten)]
        selection: SelectionArgs,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: OutputFormat,
    },
}

/// Output format of `bootlatch get`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum GetOutput {
    /// Aligned columns
    #[default]
    Table,
    /// Aligned columns, with those of lower priority
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Names only
    Name,
}

/// Options that select objects.
#[derive(Debug, Args)]
pub struct SelectionArgs {
    /// Namespace of hosts
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Hosts of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Label selector: a=b, a in (b, c), !a
    #[arg(short = 'l', long, default_value = "")]
    selector: String,
    /// Field selector: status.phase=Failed
    #[arg(long, default_value = "")]
    field_selector: String,
}

/// Parses a kind, by its short name or its name in Kubernetes.
fn kind(word: &str) -> Result<Kind, String> {
    match word.to_ascii_lowercase().as_str() {
        "host" | "hosts" | "bmh" | "baremetalhost" | "baremetalhosts" => Ok(Kind::BareMetalHost),
        "iso" | "isos" | "cdrom" | "iscsicdrom" | "iscsi-cdrom" | "iscsi-cdroms" => Ok(Kind::IscsiCdrom),
        "config" | "configs" | "bc" | "bootconfig" | "bootconfigs" => Ok(Kind::BootConfig),
        _ => Err("expected host, iso or config".to_owned()),
    }
}

/// Returns the path of all objects of a kind, in one namespace or in all.
fn collection_path(kind: Kind, namespace: Option<&str>) -> String {
    match (kind.is_namespaced(), namespace) {
        (true, Some(namespace)) => format!("/api/v1/namespaces/{namespace}/{}", kind.plural()),
        _ => format!("/api/v1/{}", kind.plural()),
    }
}

impl SelectionArgs {
    /// Returns the path and query of the selected objects.
    fn list_path(&self, kind: Kind, name: Option<&str>, more: &[(&str, &str)]) -> String {
        let namespace = (!self.all_namespaces).then_some(self.namespace.as_str());
        let mut fields = self.field_selector.clone();
        if let Some(name) = name {
            let comma = if fields.is_empty() { "" } else { "," };
            fields.push_str(&format!("{comma}metadata.name={name}"));
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        let wanted = [("labelSelector", self.selector.as_str()), ("fieldSelector", fields.as_str())];
        query.extend_pairs(wanted.iter().chain(more).filter(|(_, value)| !value.is_empty()));
        format!("{}?{}", collection_path(kind, namespace), query.finish())
    }
}

/// Runs a command on objects.
///
/// # Errors
/// The server refuses a request, or a manifest is invalid.
pub async fn run(verb: ObjectCommand, connection_args: &ConnectionArgs) -> anyhow::Result<()> {
    let mut client = ApiClient::connect(connection_args).await?;
    match verb {
        ObjectCommand::Get { kind, name, selection, output } => {
            get(&mut client, kind, name.as_deref(), &selection, output).await
        }
        ObjectCommand::Describe { kind, name, namespace } => describe(&mut client, kind, &name, &namespace).await,
        ObjectCommand::Apply { filename, force, dry_run } => apply(&mut client, &filename, force, dry_run).await,
        ObjectCommand::Delete { kind, names, namespace } => delete(&mut client, kind, &names, &namespace).await,
        ObjectCommand::Watch { kind, name, selection, output } => {
            watch(&mut client, connection_args, kind, name.as_deref(), &selection, output).await
        }
    }
}

async fn get(
    client: &mut ApiClient,
    kind: Kind,
    name: Option<&str>,
    selection: &SelectionArgs,
    output: GetOutput,
) -> anyhow::Result<()> {
    let list = match output {
        GetOutput::Table | GetOutput::Wide => {
            let path = selection.list_path(kind, name, &[]);
            let table = client.table(&path).await?;
            let empty = table["rows"].as_array().is_none_or(Vec::is_empty);
            if let (true, Some(name)) = (empty, name) {
                return not_found(kind, name);
            }
            return print(&show::format_server_table(&table, output == GetOutput::Wide));
        }
        GetOutput::Json | GetOutput::Yaml | GetOutput::Name => match name {
            Some(name) => {
                client
                    .ask(Method::GET, &format!("{}/{name}", collection_path(kind, Some(&selection.namespace))), None)
                    .await?
            }
            None => client.ask(Method::GET, &selection.list_path(kind, None, &[]), None).await?,
        },
    };
    match output {
        GetOutput::Json => show::show(OutputFormat::Json, &list, &[]),
        GetOutput::Yaml => show::show(OutputFormat::Yaml, &list, &[]),
        GetOutput::Table | GetOutput::Wide | GetOutput::Name => {
            let one = std::slice::from_ref(&list);
            let items = list["items"].as_array().map_or(one, Vec::as_slice);
            let names = items.iter().filter_map(|item| item["metadata"]["name"].as_str());
            print(&names.map(|name| format!("{name}\n")).collect::<String>())
        }
    }
}

/// Deletes objects. If one of them is refused, the others are deleted all the same.
async fn delete(client: &mut ApiClient, kind: Kind, names: &[String], namespace: &str) -> anyhow::Result<()> {
    let mut first = None;
    for name in names {
        match client.ask(Method::DELETE, &format!("{}/{name}", collection_path(kind, Some(namespace))), None).await {
            Ok(_) => print(&format!("{kind} {name} deleted\n"))?,
            Err(error) if !matches!(error.downcast_ref(), Some(super::client::ClientError::Refused { .. })) => {
                return Err(error);
            }
            Err(error) if first.is_some() => eprintln!("bootlatch: {}", printable_lines(&format!("{error:#}"))),
            Err(error) => first = Some(error),
        }
    }
    first.map_or(Ok(()), Err)
}

/// Returns the error that no object has the name.
fn not_found(kind: Kind, name: &str) -> anyhow::Result<()> {
    let message = format!("{} {name:?} not found", kind.plural());
    Err(super::client::ClientError::Refused { code: 404, message, field: None }.into())
}

async fn describe(client: &mut ApiClient, kind: Kind, name: &str, namespace: &str) -> anyhow::Result<()> {
    let place = format!("{}/{name}", collection_path(kind, Some(namespace)));
    let object = client.ask(Method::GET, &place, None).await?;
    show::show(OutputFormat::Yaml, &object, &[])?;
    let history = client.ask(Method::GET, &format!("{place}/timeline"), None).await?;
    print("\n")?;
    let columns = match kind {
        Kind::BareMetalHost => super::host::EVENTS,
        Kind::IscsiCdrom | Kind::BootConfig => super::host::EVENTS_OF_ALL,
    };
    show::show(OutputFormat::Table, &history["items"], columns)
}

/// Reads the objects of manifests, with the files that they are in.
fn read_manifests(files: &[PathBuf]) -> anyhow::Result<Vec<(Kind, Value, PathBuf)>> {
    let mut manifests = Vec::new();
    for file in files {
        for (path, text) in read(file)? {
            let documents = serde_saphyr::from_multiple::<Value>(&text);
            let documents = documents.map_err(|error| anyhow!("{}: {}", path.display(), yaml_error(&error)))?;
            let objects = documents.into_iter().filter(|document| !document.is_null());
            for object in objects.flat_map(unwrap_list) {
                let kind_name = object["kind"].as_str().unwrap_or_default().to_owned();
                let found = Kind::ALL.into_iter().find(|kind| kind.as_str() == kind_name);
                let Some(kind) = found else {
                    let known = Kind::ALL.map(|kind| kind.as_str()).join(", ");
                    bail!("{}: kind: unknown kind {kind_name:?}; expected one of {known}", path.display())
                };
                if !object["metadata"]["name"].is_string() {
                    bail!("{}: {kind}: metadata.name: missing", path.display());
                }
                manifests.push((kind, object, path.clone()));
            }
        }
    }
    if manifests.is_empty() {
        let paths: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        bail!("{}: no objects to apply (files end in .yaml, .yml or .json)", paths.join(", "));
    }
    check_duplicates(&manifests)?;
    Ok(manifests)
}

/// Applies manifests, dependencies first. If one of them is refused, the others are applied all the same.
async fn apply(client: &mut ApiClient, files: &[PathBuf], force: bool, dry_run: bool) -> anyhow::Result<()> {
    let manifests = in_dependency_order(read_manifests(files)?);
    let (all, mut refused) = (manifests.len(), Vec::new());
    for (kind, manifest, _) in manifests {
        let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
        match apply_one(client, kind, name, &manifest, (force, dry_run)).await {
            Ok(done) => print(&format!("{kind} {name} {done}{}\n", if dry_run { " (dry run)" } else { "" }))?,
            Err(error) => match error.downcast_ref() {
                Some(super::client::ClientError::Refused { code, message, .. }) if ![401, 403].contains(code) => {
                    let hint = if message.starts_with(FIELD_CONFLICT) { "; use --force to take them over" } else { "" };
                    eprintln!("bootlatch: {}", printable_lines(&format!("{kind} {name}: {message}{hint}")));
                    refused.push(*code);
                }
                _ => return Err(error.context(format!("{kind} {name}"))),
            },
        }
    }
    // The exit code of a rule or a conflict takes precedence.
    let Some(code) = refused.iter().find(|code| [409, 422].contains(*code)).or(refused.first()).copied() else {
        return Ok(());
    };
    let message = format!("{} of {all} objects not applied", refused.len());
    Err(super::client::ClientError::Refused { code, message, field: None }.into())
}

/// Beginning of the server's message that fields belong to other field managers.
const FIELD_CONFLICT: &str = "Apply failed with ";

/// Applies one manifest. Returns the result for people, as in kubectl.
async fn apply_one(
    client: &mut ApiClient,
    kind: Kind,
    name: &str,
    manifest: &Value,
    (force, dry_run): (bool, bool),
) -> anyhow::Result<&'static str> {
    let place = format!("{}/{name}", collection_path(kind, Some(namespace(manifest))));
    let dry = if dry_run { "&dryRun=All" } else { "" };
    let before = client.find(&place).await?;
    let after = client.apply(&format!("{place}?fieldManager=bootlatch&force={force}{dry}"), manifest).await?;
    Ok(match before {
        None => "created",
        Some(before) if desired_state(&before) == desired_state(&after) => "unchanged",
        Some(_) => "configured",
    })
}

/// Returns the namespace of a manifest.
fn namespace(manifest: &Value) -> &str {
    manifest["metadata"]["namespace"].as_str().unwrap_or("default")
}

/// Orders manifests by their references, as the server does. Manifests with a cycle keep their order: the server refuses them.
fn in_dependency_order(manifests: Vec<(Kind, Value, PathBuf)>) -> Vec<(Kind, Value, PathBuf)> {
    let objects: Vec<_> = manifests.iter().map(|(kind, manifest, _)| references(*kind, manifest)).collect();
    let ranks = rules::rank_objects(&objects).unwrap_or_else(|_| vec![(0, 0); manifests.len()]);
    let mut ranked: Vec<_> = ranks.into_iter().zip(manifests).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, manifest)| manifest).collect()
}

/// Returns the references of a manifest.
fn references(kind: Kind, manifest: &Value) -> rules::ObjectReferences<'_> {
    let companions = manifest["spec"]["companions"].as_array().into_iter().flatten();
    (kind, manifest["metadata"]["name"].as_str().unwrap_or_default(), companions.filter_map(Value::as_str).collect())
}

/// Refuses an object that is declared twice, as the server does: one declaration would undo the other.
fn check_duplicates(manifests: &[(Kind, Value, PathBuf)]) -> anyhow::Result<()> {
    let mut places = HashMap::new();
    for (kind, manifest, path) in manifests {
        let Some(name) = manifest["metadata"]["name"].as_str() else { continue };
        let namespace = if kind.is_namespaced() { namespace(manifest) } else { "" };
        if let Some(first) = places.insert((*kind, namespace, name), path) {
            bail!("{}: {kind} {name}: already declared in {}", path.display(), first.display());
        }
    }
    Ok(())
}

/// Returns the parts of an object that an apply can change, without its status. The generation stands for the spec,
/// whose secrets are not readable.
fn desired_state(object: &Value) -> [&Value; 5] {
    ["uid", "generation", "labels", "annotations", "managedFields"].map(|field| &object["metadata"][field])
}

/// Returns the items of a list, or the object itself.
fn unwrap_list(mut object: Value) -> Vec<Value> {
    match object["kind"].as_str() {
        Some(kind) if kind.ends_with("List") => match object["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        },
        _ => vec![object],
    }
}

/// Reads a file, the manifests of a directory, or standard input.
fn read(file: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(vec![(file.to_owned(), text)]);
    }
    let mut paths = vec![file.to_owned()];
    if file.is_dir() {
        let entries = std::fs::read_dir(file).with_context(|| file.display().to_string())?;
        paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        paths.retain(|path| crate::admission::manifest::is_manifest(path));
        paths.sort();
    }
    let read = |path: PathBuf| -> anyhow::Result<_> {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok((path, text))
    };
    paths.into_iter().map(read).collect()
}

/// Prints changes. When a connection ends, the next one resumes at the last version.
async fn watch(
    client: &mut ApiClient,
    connection_args: &ConnectionArgs,
    kind: Kind,
    name: Option<&str>,
    selection: &SelectionArgs,
    output: OutputFormat,
) -> anyhow::Result<()> {
    let mut version = String::new();
    let mut first = true;
    loop {
        let path = selection.list_path(
            kind,
            name,
            &[("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", &version)],
        );
        let mut lines = match first {
            true => client.lines(&path).await?,
            false => reconnect(connection_args, &path).await?,
        };
        while let Some(line) = lines.next().await {
            let event: Value = serde_json::from_str(&line)?;
            if event["type"] == "ERROR" {
                version.clear();
                break;
            }
            if let Some(now) = event["object"]["metadata"]["resourceVersion"].as_str() {
                version = now.to_owned();
            }
            if event["type"] != "BOOKMARK" {
                print_event(&event, output, std::mem::take(&mut first))?;
            }
        }
        first = false;
    }
}

/// Maximum time to reconnect, such as during a restart of the server.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two attempts to reconnect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Resumes a watch on a new connection.
async fn reconnect(connection_args: &ConnectionArgs, path: &str) -> anyhow::Result<LineStream> {
    let deadline = Instant::now() + RECONNECT_TIMEOUT;
    loop {
        let tried = async { ApiClient::connect(connection_args).await?.lines(path).await };
        match tried.await {
            Err(error) if Instant::now() < deadline && is_unavailable(&error) => {
                tokio::time::sleep(RECONNECT_PAUSE).await
            }
            other => return other,
        }
    }
}

/// Returns whether an error can be temporary.
fn is_unavailable(error: &anyhow::Error) -> bool {
    use super::client::ClientError::{Interrupted, Refused, Unreachable};
    matches!(error.downcast_ref(), Some(Unreachable { .. } | Interrupted { .. } | Refused { code: 503, .. }))
}

/// Prints one event of a watch.
fn print_event(event: &Value, output: OutputFormat, first: bool) -> anyhow::Result<()> {
    match output {
        OutputFormat::Json => print(&format!("{event}\n")),
        OutputFormat::Yaml => print(&format!("---\n{}", serde_saphyr::to_string(event)?)),
        OutputFormat::Table => {
            let object = &event["object"];
            let phase = object.pointer("/status/phase").or(object.pointer("/spec/format")).unwrap_or(&Value::Null);
            let head = if first { "TIME       EVENT      PHASE        NAME\n" } else { "" };
            let time = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
            let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            let (kind, phase, name) = (text(&event["type"]), text(phase), text(&object["metadata"]["name"]));
            print(&format!("{head}{time}   {kind:<9}  {phase:<11}  {name}\n"))
        }
    }
}
