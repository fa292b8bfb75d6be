//! `bootlatch delete`: objects by name, by manifest or by selector.

use clap_complete::engine::ArgValueCompleter;
use hyper::Method;

use crate::fleet::Kind;

use super::client::{ApiClient, ClientError};
use super::completion;
use super::exit::UsageError;
use super::get::SelectionArgs;
use super::lookup::{self, items};
use super::manifests::ManifestArgs;
use super::prompt;
use super::reference::{self, object_path, plural_word};
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

/// An object that is to be deleted.
struct Doomed {
    kind: Kind,
    namespace: String,
    name: String,
}

/// Deletes objects. If one of them is refused, the others are deleted all the same.
///
/// # Errors
/// The server refuses a deletion, or the words name no object.
pub async fn delete(client: &mut ApiClient, args: &DeleteArgs) -> anyhow::Result<()> {
    let mut refusals = Refusals::default();
    let doomed = match args.manifests.is_given() {
        true if !args.objects.is_empty() => {
            return Err(UsageError("give either objects or manifests, not both".to_owned()).into());
        }
        true => of_manifests(args)?,
        false => of_words(client, args, &mut refusals).await?,
    };
    delete_all(client, args, doomed, &mut refusals).await?;
    refusals.end()
}

/// Returns the objects of manifests, those that refer to others first.
fn of_manifests(args: &DeleteArgs) -> anyhow::Result<Vec<Doomed>> {
    let manifests = args.manifests.read()?;
    let doomed = manifests.iter().rev().map(|manifest| Doomed {
        kind: manifest.kind,
        namespace: manifest.namespace().to_owned(),
        name: manifest.name().to_owned(),
    });
    Ok(doomed.collect())
}

/// Returns the objects that words and selectors name.
async fn of_words(client: &mut ApiClient, args: &DeleteArgs, refusals: &mut Refusals) -> anyhow::Result<Vec<Doomed>> {
    let (wanted, selection) = (reference::parse(&args.objects)?, &args.selection);
    selection.check(&wanted)?;
    let selects = args.all || !selection.selector.is_empty() || !selection.field_selector.is_empty();
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
        for word in &wanted.names {
            let namespace = selection.namespace.clone();
            match lookup::resolve(client, kind, &namespace, word).await {
                Ok(name) => doomed.push(Doomed { kind, namespace, name }),
                Err(error) => note_refusal(refusals, args, error)?,
            }
        }
        if wanted.names.is_empty() {
            let list = client.ask(Method::GET, &selection.list_path(kind, None, &[]), None).await?;
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let found = items(list).into_iter().map(|object| Doomed {
                kind,
                namespace: text(&object["metadata"]["namespace"]),
                name: text(&object["metadata"]["name"]),
            });
            doomed.extend(found);
        }
    }
    if args.all && !args.yes && !args.dry_run && !doomed.is_empty() {
        confirm(&doomed)?;
    }
    if selects && doomed.is_empty() {
        note("no objects found");
    }
    Ok(doomed)
}

/// Asks on a terminal whether all objects are to be deleted. Nothing is asked on a pipe.
fn confirm(doomed: &[Doomed]) -> anyhow::Result<()> {
    if !prompt::is_interactive() {
        return Ok(());
    }
    let names: Vec<_> = doomed.iter().take(5).map(|object| object.name.as_str()).collect();
    let more = if doomed.len() > names.len() { ", ..." } else { "" };
    let answer = prompt::ask(&format!("delete {} objects ({}{more})? [y/N]", doomed.len(), names.join(", ")))?;
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
    loop {
        let (count, mut in_use) = (doomed.len(), Vec::new());
        for object in doomed {
            let path = object_path(object.kind, &object.namespace, &object.name);
            match client.ask(Method::DELETE, &format!("{path}{query}"), None).await {
                Ok(_) => {
                    let dry = if args.dry_run { " (dry run)" } else { "" };
                    print(&format!("{} {} deleted{dry}\n", object.kind, object.name))?;
                }
                Err(error) if is_in_use(&error) => in_use.push((object, error)),
                Err(error) => note_refusal(refusals, args, error)?,
            }
        }
        if in_use.is_empty() || in_use.len() == count {
            return in_use.into_iter().try_for_each(|(_, error)| refusals.note(error));
        }
        doomed = in_use.into_iter().map(|(object, _)| object).collect();
    }
}

fn is_in_use(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::Refused { code: 409, .. }))
}

/// Notes a refusal, unless a missing object is none.
fn note_refusal(refusals: &mut Refusals, args: &DeleteArgs, error: anyhow::Error) -> anyhow::Result<()> {
    match error.downcast_ref() {
        Some(ClientError::Refused { code: 404, .. }) if args.ignore_not_found => Ok(()),
        _ => refusals.note(error),
    }
}
