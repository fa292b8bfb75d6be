//! `bootlatch apply` and `bootlatch diff`: manifests as the desired state.

use anyhow::Context;
use serde_json::Value;

use super::client::{ApiClient, ClientError};
use super::exit::Differs;
use super::line_diff::unified_diff;
use super::lookup::{SERVER_FIELDS, drop_managed_fields};
use super::manifests::Manifest;
use super::reference::{kind_and_name, object_path};
use super::show::{note, print, print_or_end};

/// Beginning of the server's message that fields belong to other field managers.
const FIELD_CONFLICT: &str = "Apply failed with ";

/// How manifests are applied.
#[derive(Debug, Clone, Copy)]
pub struct ApplyMode {
    /// Whether fields of other field managers are taken over.
    pub force: bool,
    /// Whether nothing is changed.
    pub dry_run: bool,
}

/// Applies manifests, dependencies first. If one of them is refused, the others are applied all the same.
///
/// # Errors
/// The server refuses a manifest, or the connection ends.
pub async fn apply(client: &mut ApiClient, manifests: Vec<Manifest>, mode: ApplyMode) -> anyhow::Result<()> {
    let (all, mut refused) = (manifests.len(), Vec::new());
    for manifest in manifests {
        let (kind, name) = (manifest.kind, manifest.name().to_owned());
        match apply_one(client, manifest, mode).await {
            Ok((before, after)) => {
                let done = outcome(before.as_ref(), &after);
                print(&format!("{kind} {name} {done}{}\n", if mode.dry_run { " (dry run)" } else { "" }))?
            }
            Err(error) => refused.push(refusal(error, &format!("{kind} {name}"))?),
        }
    }
    // The exit code of a rule or a conflict takes precedence.
    let Some(code) = refused.iter().find(|code| [409, 422].contains(*code)).or(refused.first()).copied() else {
        return Ok(());
    };
    let message = format!("{} of {all} objects not applied", refused.len());
    Err(ClientError::Refused { code, message, field: None }.into())
}

/// Prints what applying manifests would change.
///
/// # Errors
/// `Differs` if something would; the server refuses a manifest.
pub async fn diff(client: &mut ApiClient, manifests: Vec<Manifest>, force: bool) -> anyhow::Result<()> {
    let (all, mut refused, mut differs) = (manifests.len(), Vec::new(), false);
    for manifest in manifests {
        let (kind, name) = (manifest.kind, manifest.name().to_owned());
        match apply_one(client, manifest, ApplyMode { force, dry_run: true }).await {
            Ok((before, after)) => {
                let old = before.map(comparable).transpose()?.unwrap_or_default();
                let place = kind_and_name(kind, &name);
                let text =
                    unified_diff(&format!("live/{place}"), &format!("applied/{place}"), &old, &comparable(after)?);
                differs |= !text.is_empty();
                print_or_end(&text)?;
            }
            Err(error) => refused.push(refusal(error, &format!("{kind} {name}"))?),
        }
    }
    match refused.first() {
        Some(code) => {
            let message = format!("{} of {all} objects not compared", refused.len());
            Err(ClientError::Refused { code: *code, message, field: None }.into())
        }
        None if differs => Err(Differs.into()),
        None => Ok(()),
    }
}

/// Returns an object as text for a comparison: without its status and what counts its changes.
fn comparable(mut object: Value) -> anyhow::Result<String> {
    drop_managed_fields(&mut object);
    if let Some(map) = object.as_object_mut() {
        map.shift_remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        SERVER_FIELDS
            .iter()
            .filter(|field| **field != "generation")
            .for_each(|field| _ = metadata.shift_remove(*field));
    }
    Ok(serde_saphyr::to_string(&object)?)
}

/// Prints a refusal, and returns its status code. Another error ends the command.
fn refusal(error: anyhow::Error, object: &str) -> anyhow::Result<u16> {
    match error.downcast_ref() {
        Some(ClientError::Refused { code, message, .. }) if ![401, 403].contains(code) => {
            let hint = if message.starts_with(FIELD_CONFLICT) { "; use --force to take them over" } else { "" };
            note(&format!("bootlatch: {object}: {message}{hint}"));
            Ok(*code)
        }
        _ => Err(error).with_context(|| object.to_owned()),
    }
}

/// Applies one manifest. Returns the object before and after.
async fn apply_one(
    client: &mut ApiClient,
    mut manifest: Manifest,
    mode: ApplyMode,
) -> anyhow::Result<(Option<Value>, Value)> {
    if let Some(metadata) = manifest.object["metadata"].as_object_mut() {
        SERVER_FIELDS.iter().for_each(|field| _ = metadata.shift_remove(*field));
    }
    let place = object_path(manifest.kind, manifest.namespace(), manifest.name());
    let dry = if mode.dry_run { "&dryRun=All" } else { "" };
    let before = client.find(&place).await?;
    let path = format!("{place}?fieldManager=bootlatch&force={}{dry}", mode.force);
    Ok((before, client.apply(&path, &manifest.object).await?))
}

/// Returns the result of an apply for people, as in kubectl.
fn outcome(before: Option<&Value>, after: &Value) -> &'static str {
    match before {
        None => "created",
        Some(before) if desired_state(before) == desired_state(after) => "unchanged",
        Some(_) => "configured",
    }
}

/// Returns the parts of an object that an apply can change, without its status. The generation stands for the spec,
/// whose secrets are not readable.
fn desired_state(object: &Value) -> [&Value; 5] {
    ["uid", "generation", "labels", "annotations", "managedFields"].map(|field| &object["metadata"][field])
}
