//! Verbs on objects of every kind, in the way of kubectl.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;

use crate::fleet::{Kind, rules};
use crate::provision::yaml_error;

use super::client::Lines;
use super::show::{self, Output, print};
use super::{Client, Reach};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show objects
    Get {
        /// host, iso or config, or what Kubernetes calls them
        #[arg(value_parser = kind)]
        kind: Kind,
        name: Option<String>,
        #[command(flatten)]
        selection: Selection,
        #[arg(short, long, value_enum, default_value_t)]
        output: Form,
    },
    /// Show one object in full, and what happened to it
    Describe {
        #[arg(value_parser = kind)]
        kind: Kind,
        name: String,
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
    /// Make objects what manifests say
    Apply {
        /// A file or a directory of manifests, YAML or JSON; - for standard input
        #[arg(short, long, required = true)]
        filename: Vec<PathBuf>,
        /// Take over fields that somebody else applied
        #[arg(long)]
        force: bool,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove objects
    Delete {
        #[arg(value_parser = kind)]
        kind: Kind,
        #[arg(required = true)]
        names: Vec<String>,
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
    /// Follow the changes of objects, until stopped
    Watch {
        #[arg(value_parser = kind)]
        kind: Kind,
        name: Option<String>,
        #[command(flatten)]
        selection: Selection,
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    #[default]
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Debug, Args)]
pub struct Selection {
    /// The namespace that hosts are in
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Hosts of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects with these labels: a=b, a in (b, c), !a
    #[arg(short = 'l', long, default_value = "")]
    selector: String,
    /// Only objects with these fields: status.phase=Failed
    #[arg(long, default_value = "")]
    field_selector: String,
}

fn kind(word: &str) -> Result<Kind, String> {
    match word.to_ascii_lowercase().as_str() {
        "host" | "hosts" | "bmh" | "baremetalhost" | "baremetalhosts" => Ok(Kind::BareMetalHost),
        "iso" | "isos" | "cdrom" | "iscsicdrom" | "iscsi-cdrom" | "iscsi-cdroms" => Ok(Kind::IscsiCdrom),
        "config" | "configs" | "bc" | "bootconfig" | "bootconfigs" => Ok(Kind::BootConfig),
        _ => Err("there are hosts, isos and configs".to_owned()),
    }
}

fn route(kind: Kind, namespace: Option<&str>) -> String {
    match (kind.is_namespaced(), namespace) {
        (true, Some(namespace)) => format!("/api/v1/namespaces/{namespace}/{}", kind.plural()),
        _ => format!("/api/v1/{}", kind.plural()),
    }
}

impl Selection {
    fn route(&self, kind: Kind, name: Option<&str>, more: &[(&str, &str)]) -> String {
        let namespace = (!self.all_namespaces).then_some(self.namespace.as_str());
        let mut fields = self.field_selector.clone();
        if let Some(name) = name {
            let comma = if fields.is_empty() { "" } else { "," };
            fields.push_str(&format!("{comma}metadata.name={name}"));
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        let wanted = [("labelSelector", self.selector.as_str()), ("fieldSelector", fields.as_str())];
        query.extend_pairs(wanted.iter().chain(more).filter(|(_, value)| !value.is_empty()));
        format!("{}?{}", route(kind, namespace), query.finish())
    }
}

/// Runs a verb on objects.
pub async fn run(verb: Verb, reach: &Reach) -> anyhow::Result<()> {
    let mut client = Client::connect(reach).await?;
    match verb {
        Verb::Get { kind, name, selection, output } => {
            get(&mut client, kind, name.as_deref(), &selection, output).await
        }
        Verb::Describe { kind, name, namespace } => describe(&mut client, kind, &name, &namespace).await,
        Verb::Apply { filename, force, dry_run } => apply(&mut client, &filename, force, dry_run).await,
        Verb::Delete { kind, names, namespace } => delete(&mut client, kind, &names, &namespace).await,
        Verb::Watch { kind, name, selection, output } => {
            watch(&mut client, reach, kind, name.as_deref(), &selection, output).await
        }
    }
}

async fn get(
    client: &mut Client,
    kind: Kind,
    name: Option<&str>,
    selection: &Selection,
    output: Form,
) -> anyhow::Result<()> {
    let list = match output {
        Form::Table | Form::Wide => {
            let route = selection.route(kind, name, &[]);
            let table = client.table(&route).await?;
            let empty = table["rows"].as_array().is_none_or(Vec::is_empty);
            if let (true, Some(name)) = (empty, name) {
                return missing(kind, name);
            }
            return print(&show::server_table(&table, output == Form::Wide));
        }
        Form::Json | Form::Yaml | Form::Name => match name {
            Some(name) => {
                client.ask(Method::GET, &format!("{}/{name}", route(kind, Some(&selection.namespace))), None).await?
            }
            None => client.ask(Method::GET, &selection.route(kind, None, &[]), None).await?,
        },
    };
    match output {
        Form::Json => show::show(Output::Json, &list, &[]),
        Form::Yaml => show::show(Output::Yaml, &list, &[]),
        Form::Table | Form::Wide | Form::Name => {
            let one = std::slice::from_ref(&list);
            let items = list["items"].as_array().map_or(one, Vec::as_slice);
            let names = items.iter().filter_map(|item| item["metadata"]["name"].as_str());
            print(&names.map(|name| format!("{name}\n")).collect::<String>())
        }
    }
}

/// Removes what can be removed: one that cannot keeps none of the others.
async fn delete(client: &mut Client, kind: Kind, names: &[String], namespace: &str) -> anyhow::Result<()> {
    let mut first = None;
    for name in names {
        match client.ask(Method::DELETE, &format!("{}/{name}", route(kind, Some(namespace))), None).await {
            Ok(_) => print(&format!("{kind} {name} deleted\n"))?,
            Err(error) if !matches!(error.downcast_ref(), Some(super::client::Error::Refused { .. })) => {
                return Err(error);
            }
            Err(error) if first.is_some() => eprintln!("bootlatch: {error:#}"),
            Err(error) => first = Some(error),
        }
    }
    first.map_or(Ok(()), Err)
}

fn missing(kind: Kind, name: &str) -> anyhow::Result<()> {
    let message = format!("{} {name:?} not found", kind.plural());
    Err(super::client::Error::Refused { code: 404, message }.into())
}

async fn describe(client: &mut Client, kind: Kind, name: &str, namespace: &str) -> anyhow::Result<()> {
    let place = format!("{}/{name}", route(kind, Some(namespace)));
    let object = client.ask(Method::GET, &place, None).await?;
    show::show(Output::Yaml, &object, &[])?;
    let history = client.ask(Method::GET, &format!("{place}/timeline"), None).await?;
    print("\n")?;
    let columns = match kind {
        Kind::BareMetalHost => super::host::EVENTS,
        Kind::IscsiCdrom | Kind::BootConfig => super::host::EVENTS_OF_ALL,
    };
    show::show(Output::Table, &history["items"], columns)
}

async fn apply(client: &mut Client, files: &[PathBuf], force: bool, dry_run: bool) -> anyhow::Result<()> {
    let mut wishes = Vec::new();
    for file in files {
        for (path, text) in read(file)? {
            let documents = serde_saphyr::from_multiple::<Value>(&text);
            let documents = documents.map_err(|error| anyhow!("{}: {}", path.display(), yaml_error(&error)))?;
            let objects = documents.into_iter().filter(|document| !document.is_null());
            for object in objects.flat_map(unlisted) {
                let spelled = object["kind"].as_str().unwrap_or_default().to_owned();
                let found = Kind::ALL.into_iter().find(|kind| kind.as_str() == spelled);
                let Some(kind) = found else { bail!("{}: kind {spelled:?} is not known here", path.display()) };
                if !object["metadata"]["name"].is_string() {
                    bail!("{}: a {kind} without metadata.name", path.display());
                }
                wishes.push((kind, object, path.clone()));
            }
        }
    }
    once(&wishes)?;
    if wishes.is_empty() {
        let places: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        bail!("{}: no objects to apply (files end in .yaml, .yml or .json)", places.join(", "));
    }
    let wishes = ordered(wishes);
    let (all, mut refused) = (wishes.len(), Vec::new());
    for (kind, wish, _) in wishes {
        let name = wish["metadata"]["name"].as_str().unwrap_or_default();
        match apply_one(client, kind, name, &wish, (force, dry_run)).await {
            Ok(done) => print(&format!("{kind} {name} {done}{}\n", if dry_run { " (dry run)" } else { "" }))?,
            // One that is refused keeps none of the others.
            Err(error) => match error.downcast_ref() {
                Some(super::client::Error::Refused { code, message }) if ![401, 403].contains(code) => {
                    let hint = if message.starts_with(TAKEN) { ": --force takes them over" } else { "" };
                    eprintln!("bootlatch: {kind} {name}: {message}{hint}");
                    refused.push(*code);
                }
                _ => return Err(error.context(format!("{kind} {name}"))),
            },
        }
    }
    // The exit code is that of a rule or a conflict, where one of them was.
    let Some(code) = refused.iter().find(|code| [409, 422].contains(*code)).or(refused.first()).copied() else {
        return Ok(());
    };
    let message = format!("{} of {all} objects not applied", refused.len());
    Err(super::client::Error::Refused { code, message }.into())
}

/// Is how the server begins to say that fields are other managers'.
const TAKEN: &str = "Apply failed with ";

/// Makes one object what a manifest says, and says what became of it.
async fn apply_one(
    client: &mut Client,
    kind: Kind,
    name: &str,
    wish: &Value,
    (force, dry_run): (bool, bool),
) -> anyhow::Result<&'static str> {
    let place = format!("{}/{name}", route(kind, Some(namespace(wish))));
    let dry = if dry_run { "&dryRun=All" } else { "" };
    let before = client.find(&place).await?;
    let after = client.apply(&format!("{place}?fieldManager=bootlatch&force={force}{dry}"), wish).await?;
    Ok(match before {
        None => "created",
        Some(before) if wished(&before) == wished(&after) => "unchanged",
        Some(_) => "configured",
    })
}

fn namespace(wish: &Value) -> &str {
    wish["metadata"]["namespace"].as_str().unwrap_or("default")
}

/// Puts what is referred to first, as the server does of its manifests; it refuses what leads round in a circle.
fn ordered(wishes: Vec<(Kind, Value, PathBuf)>) -> Vec<(Kind, Value, PathBuf)> {
    let objects: Vec<_> = wishes.iter().map(|(kind, wish, _)| referred(*kind, wish)).collect();
    let order = rules::order(&objects).unwrap_or_else(|_| vec![(0, 0); wishes.len()]);
    let mut placed: Vec<_> = order.into_iter().zip(wishes).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, wish)| wish).collect()
}

fn referred(kind: Kind, wish: &Value) -> rules::Referred<'_> {
    let beside = wish["spec"]["companions"].as_array().into_iter().flatten();
    (kind, wish["metadata"]["name"].as_str().unwrap_or_default(), beside.filter_map(Value::as_str).collect())
}

/// Refuses what is declared twice, as the server does of its manifests: one of the two would undo the other.
fn once(wishes: &[(Kind, Value, PathBuf)]) -> anyhow::Result<()> {
    let mut places = HashMap::new();
    for (kind, wish, path) in wishes {
        let Some(name) = wish["metadata"]["name"].as_str() else { continue };
        let namespace = if kind.is_namespaced() { namespace(wish) } else { "" };
        if let Some(first) = places.insert((*kind, namespace, name), path) {
            bail!("{kind} {name} is declared in {}, and again in {}", first.display(), path.display());
        }
    }
    Ok(())
}

/// Gives what a write changes of an object, whatever its machine did meanwhile; the spec, which has secrets that
/// are not read, by the number of its changes.
fn wished(object: &Value) -> [&Value; 5] {
    ["uid", "generation", "labels", "annotations", "managedFields"].map(|field| &object["metadata"][field])
}

fn unlisted(mut object: Value) -> Vec<Value> {
    match object["kind"].as_str() {
        Some(kind) if kind.ends_with("List") => match object["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        },
        _ => vec![object],
    }
}

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

/// Follows changes over any number of connections: where one ends, the next goes on at the version it was at.
async fn watch(
    client: &mut Client,
    reach: &Reach,
    kind: Kind,
    name: Option<&str>,
    selection: &Selection,
    output: Output,
) -> anyhow::Result<()> {
    let mut version = String::new();
    let mut first = true;
    loop {
        let route = selection.route(
            kind,
            name,
            &[("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", &version)],
        );
        let mut lines = match first {
            true => client.lines(&route).await?,
            false => again(reach, &route).await?,
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
                tell(&event, output, std::mem::take(&mut first))?;
            }
        }
        first = false;
    }
}

/// Is how long a server may be away, as it is while it starts anew, and how long is waited in between.
const AWAY: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// Goes on with a watch that has ended.
async fn again(reach: &Reach, route: &str) -> anyhow::Result<Lines> {
    let deadline = Instant::now() + AWAY;
    loop {
        let tried = async { Client::connect(reach).await?.lines(route).await };
        match tried.await {
            Err(error) if Instant::now() < deadline && is_away(&error) => tokio::time::sleep(PAUSE).await,
            other => return other,
        }
    }
}

fn is_away(error: &anyhow::Error) -> bool {
    use super::client::Error::{Broken, Refused, Unreachable};
    matches!(error.downcast_ref(), Some(Unreachable { .. } | Broken { .. } | Refused { code: 503, .. }))
}

fn tell(event: &Value, output: Output, first: bool) -> anyhow::Result<()> {
    match output {
        Output::Json => print(&format!("{event}\n")),
        Output::Yaml => print(&format!("---\n{}", serde_saphyr::to_string(event)?)),
        Output::Table => {
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
