//! `bootlatch describe`: objects with their timelines.

use hyper::Method;

use crate::fleet::Kind;

use super::client::ApiClient;
use super::exit::UsageError;
use super::lookup::{self, drop_managed_fields};
use super::reference::{Wanted, object_path, plural_word};
use super::refusals::Refusals;
use super::show::{OutputFormat, print, show};
use super::timeline::{EVENTS, EVENTS_OF_ALL};

/// Shows objects as YAML, each with its timeline.
///
/// # Errors
/// The server refuses a request, or no object is named.
pub async fn describe(client: &mut ApiClient, wanted: &[Wanted], namespace: &str) -> anyhow::Result<()> {
    let mut refusals = Refusals::default();
    let mut is_first = true;
    for Wanted { kind, names } in wanted {
        if names.is_empty() {
            let kinds = plural_word(*kind);
            return Err(UsageError(format!(
                "describe needs a name; `bootlatch get {kinds} -o yaml` shows all {kinds}"
            ))
            .into());
        }
        for name in names {
            if !std::mem::take(&mut is_first) {
                print("\n---\n")?;
            }
            if let Err(error) = describe_one(client, *kind, name, namespace).await {
                refusals.note(error)?;
            }
        }
    }
    refusals.end()
}

async fn describe_one(client: &mut ApiClient, kind: Kind, word: &str, namespace: &str) -> anyhow::Result<()> {
    let name = lookup::resolve(client, kind, namespace, word).await?;
    let path = object_path(kind, namespace, &name);
    let mut object = client.ask(Method::GET, &path, None).await?;
    drop_managed_fields(&mut object);
    print(&serde_saphyr::to_string(&object)?)?;
    if kind == Kind::ConfigTemplate {
        return Ok(());
    }
    let history = client.ask(Method::GET, &format!("{path}/timeline"), None).await?;
    print("\n")?;
    let columns = match kind {
        Kind::BareMetalHost => EVENTS,
        Kind::IscsiCdrom | Kind::BootConfig | Kind::ConfigTemplate => EVENTS_OF_ALL,
    };
    show(OutputFormat::Table, &history["items"], columns)
}
