//! `bootlatch delete`: objects by name, by manifest or by selector.

use std::collections::HashSet;

use clap_complete::engine::ArgValueCompleter;
use hyper::Method;
use serde_json::Value;

use crate::fleet::{Kind, boot_override};

use super::client::{ApiClient, ClientError, is_not_found};
use super::completion;
use super::exit::UsageError;
use super::get::SelectionArgs;
use super::lookup::{self, items};
use super::manifests::ManifestArgs;
use super::prompt;
use super::reference::{self, collection_path, object_path, plural_word};
use super::refusals::Refusals;
use super::show::{note, print};

/// Options of `bootlatch delete`.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    /// KIND NAME..., KIND/NAME..., or KIND with --all or a selector; kinds: host, iso, config
    #[arg(value_name = "OBJECT", add = ArgValueCompleter::new(completion::objects))]
    objects: Vec<String>,
    #[command(flatten)]
    manifests: ManifestArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Delete every object of the kind
    #[arg(long, conflicts_with_all = ["selector", "field_selector", "filename", "kustomize"])]
    all: bool,
    /// Delete without a question
    #[arg(short, long)]
    yes: bool,
    /// Succeed if an object does not exist
    #[arg(long)]
    ignore_not_found: bool,
    /// Print the result without changing anything
    #[arg(long)]
    dry_run: bool,
}

/// Namespace of hosts without `--namespace`.
const DEFAULT_NAMESPACE: &str = "default";

/// An object that is to be deleted.
struct Doomed {
    kind: Kind,
    namespace: String,
    name: String,
}

/// Kind, namespace and name; the namespace is empty for a kind without.
type ObjectKey = (Kind, String, String);

impl Doomed {
    fn of(kind: Kind, object: &Value) -> Self {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        Self { kind, namespace: text("namespace"), name: text("name") }
    }

    fn key(&self) -> ObjectKey {
        let namespace = if self.kind.is_namespaced() { self.namespace.clone() } else { String::new() };
        (self.kind, namespace, self.name.clone())
    }

    fn print_deleted(&self, dry_run: bool) -> anyhow::Result<()> {
        let dry = if dry_run { " (dry run)" } else { "" };
        print(&format!("{} {} deleted{dry}\n", self.kind, self.name))
    }
}

/// Deletes objects. If one of them is refused, the others are deleted all the same.
///
/// # Errors
/// The server refuses a deletion, or the words name no object.
pub async fn delete(client: &mut ApiClient, args: &DeleteArgs) -> anyhow::Result<()> {
    check_manifests(args)?;
    let mut refusals = Refusals::default();
    let doomed = match args.manifests.is_given() {
        true => of_manifests(args)?,
        false => of_words(client, args, &mut refusals).await?,
    };
    delete_all(client, args, doomed, &mut refusals).await?;
    refusals.end()
}

/// Checks that nothing selects some of the objects of manifests: all of them are deleted.
fn check_manifests(args: &DeleteArgs) -> Result<(), UsageError> {
    let wrong = |what: &str| Err(UsageError(format!("{what}: not with manifests (-f, -k), which name the objects")));
    if !args.manifests.is_given() {
        return Ok(());
    }
    if !args.objects.is_empty() {
        return Err(UsageError("give either objects or manifests, not both".to_owned()));
    }
    let selection = &args.selection;
    let given = [
        ("--selector", !selection.selector.is_empty()),
        ("--field-selector", !selection.field_selector.is_empty()),
        ("--all-namespaces", selection.all_namespaces),
    ];
    given.into_iter().find(|(_, is_given)| *is_given).map_or(Ok(()), |(option, _)| wrong(option))
}

/// Returns the objects of manifests, those that refer to others first. A host whose manifest names no namespace is that
/// of `--namespace`.
fn of_manifests(args: &DeleteArgs) -> anyhow::Result<Vec<Doomed>> {
    let wanted = &args.selection.namespace;
    let mut doomed = Vec::new();
    for manifest in args.manifests.read()?.iter().rev() {
        let given = manifest.given_namespace();
        if let Some(other) = given.filter(|given| given != wanted && wanted != DEFAULT_NAMESPACE) {
            let (path, kind, name) = (manifest.path.display(), manifest.kind, manifest.name());
            return Err(UsageError(format!("{path}: {kind} {name}: namespace {other}, not {wanted}")).into());
        }
        let namespace = given.unwrap_or(wanted).to_owned();
        doomed.push(Doomed { kind: manifest.kind, namespace, name: manifest.name().to_owned() });
    }
    Ok(doomed)
}

/// Returns the objects that words and selectors name.
async fn of_words(client: &mut ApiClient, args: &DeleteArgs, refusals: &mut Refusals) -> anyhow::Result<Vec<Doomed>> {
    let (wanted, selection) = (reference::parse(&args.objects)?, &args.selection);
    selection.check(&wanted)?;
    let selects = args.all || selection.selects();
    let mut doomed = Vec::new();
    for wanted in wanted {
        let kind = wanted.kind;
        if wanted.names.is_empty() && !selects {
            let kinds = plural_word(kind);
            return Err(UsageError(format!("name the {kinds} to delete, or give --all, -l or --field-selector")).into());
        }
        if args.all && !wanted.names.is_empty() {
            return Err(UsageError("give either names or --all, not both".to_owned()).into());
        }
        if selection.all_namespaces && !wanted.names.is_empty() {
            return Err(UsageError("give either names or --all-namespaces, not both".to_owned()).into());
        }
        for word in &wanted.names {
            let namespace = selection.namespace.clone();
            match lookup::resolve(client, kind, &namespace, word).await {
                Ok(name) => doomed.push(Doomed { kind, namespace, name }),
                Err(error) => note_refusal(refusals, args, error)?,
            }
        }
        if wanted.names.is_empty() {
            let list = client.ask(Method::GET, &selection.list_path(kind, None, &[]), None).await?;
            doomed.extend(items(list).iter().map(|object| Doomed::of(kind, object)));
        }
    }
    if args.all && !args.yes && !args.dry_run && !doomed.is_empty() {
        confirm(&doomed).await?;
    }
    if selects && doomed.is_empty() {
        note("no objects found");
    }
    Ok(doomed)
}

/// Asks on a terminal whether all objects are to be deleted. Nothing is asked on a pipe.
async fn confirm(doomed: &[Doomed]) -> anyhow::Result<()> {
    if !prompt::is_interactive() {
        return Ok(());
    }
    let names: Vec<_> = doomed.iter().take(5).map(|object| object.name.as_str()).collect();
    let more = if doomed.len() > names.len() { ", ..." } else { "" };
    let question = format!("delete {} objects ({}{more})? [y/N]", doomed.len(), names.join(", "));
    let answer = prompt::ask_beside(question).await?;
    match ["y", "yes"].contains(&answer.to_ascii_lowercase().as_str()) {
        true => Ok(()),
        false => anyhow::bail!("nothing deleted"),
    }
}

/// Deletes objects. What another object refers to is tried again as long as objects go.
async fn delete_all(
    client: &mut ApiClient,
    args: &DeleteArgs,
    mut doomed: Vec<Doomed>,
    refusals: &mut Refusals,
) -> anyhow::Result<()> {
    let query = if args.dry_run { "?dryRun=All" } else { "" };
    let mut gone: HashSet<_> = doomed.iter().map(Doomed::key).collect();
    loop {
        let (count, mut in_use) = (doomed.len(), Vec::new());
        for object in doomed {
            let path = object_path(object.kind, &object.namespace, &object.name);
            match client.ask(Method::DELETE, &format!("{path}{query}"), None).await {
                Ok(_) => object.print_deleted(args.dry_run)?,
                Err(error) if is_in_use(&error) => in_use.push((object, error)),
                Err(error) => {
                    gone.remove(&object.key());
                    note_refusal(refusals, args, error)?;
                }
            }
        }
        if args.dry_run {
            let staying = note_staying(client, &in_use, &mut gone).await?;
            for (object, error) in in_use {
                match staying.contains(&object.key()) {
                    true => refusals.note(error)?,
                    false => object.print_deleted(true)?,
                }
            }
            return Ok(());
        }
        if in_use.is_empty() || in_use.len() == count {
            return in_use.into_iter().try_for_each(|(_, error)| refusals.note(error));
        }
        doomed = in_use.into_iter().map(|(object, _)| object).collect();
    }
}

/// Returns the objects that stay in use when all others are deleted, and takes them out of those that are deleted. A dry
/// run deletes nothing, so the server refuses what only deleted objects refer to.
async fn note_staying(
    client: &mut ApiClient,
    in_use: &[(Doomed, anyhow::Error)],
    gone: &mut HashSet<ObjectKey>,
) -> anyhow::Result<HashSet<ObjectKey>> {
    let mut staying = HashSet::new();
    let mut others = Vec::new();
    for kind in [Kind::BareMetalHost, Kind::IscsiCdrom, Kind::BootConfig].into_iter().filter(|_| !in_use.is_empty()) {
        let list = client.ask(Method::GET, &collection_path(kind, None), None).await?;
        others.extend(items(list).into_iter().map(|other| (Doomed::of(kind, &other).key(), other)));
    }
    loop {
        let is_held = |object: &Doomed| others.iter().any(|(key, other)| !gone.contains(key) && refers(other, object));
        let held =
            in_use.iter().map(|(object, _)| object).find(|object| gone.contains(&object.key()) && is_held(object));
        let Some(held) = held else { return Ok(staying) };
        gone.remove(&held.key());
        staying.insert(held.key());
    }
}

/// Returns whether a host or an ISO refers to an object, by the fields that the server counts.
fn refers(other: &Value, object: &Doomed) -> bool {
    let (spec, name) = (&other["spec"], object.name.as_str());
    let lists = |field: &str| spec[field].as_array().is_some_and(|all| all.iter().any(|item| item == name));
    let in_drive = || other["metadata"]["annotations"][boot_override::MEDIUM_IMAGE] == name;
    match object.kind {
        Kind::BareMetalHost => false,
        Kind::ConfigTemplate => spec["template"]["name"] == name,
        Kind::IscsiCdrom => spec["image"] == name || lists("companions") || in_drive(),
        Kind::BootConfig => spec["bootConfigRef"] == name || lists("bootConfigs"),
    }
}

fn is_in_use(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::Refused { code: 409, .. }))
}

/// Notes a refusal, unless a missing object is none.
fn note_refusal(refusals: &mut Refusals, args: &DeleteArgs, error: anyhow::Error) -> anyhow::Result<()> {
    match args.ignore_not_found && is_not_found(&error) {
        true => Ok(()),
        false => refusals.note(error),
    }
}
