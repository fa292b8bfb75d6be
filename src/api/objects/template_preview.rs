//! What a change of a template would change in the configs of hosts, before it is made.

use std::collections::{BTreeMap, BTreeSet};

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::objects::body;
use crate::api::objects::status::Status;
use crate::api::objects::write::find;
use crate::api::state::Shared;
use crate::fleet::rules;
use crate::fleet::{ConfigTemplateSpec, Key, Kind, Object, deserialize_with_path};
use crate::gate::templates::ConfigPreview;
use crate::http::reply::{Reply, json};
use crate::provision;

/// Maximum size of the texts of a preview, in octets. Further hosts are counted.
const MAX_TEXTS: usize = 4 << 20;

/// The body of a preview.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplatePreviewRequest {
    /// The spec that the template would get.
    spec: ConfigTemplateSpec,
}

/// What a change of a template would change.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplatePreview {
    /// The hosts whose configs change, or cannot be rendered any more.
    hosts: Vec<ChangedHost>,
    /// Number of hosts with the newest version whose configs stay as they are.
    unchanged: usize,
    /// Number of changed hosts that are left out, since the answer would be too large.
    omitted: usize,
}

/// A host whose config changes.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ChangedHost {
    /// Namespace of the host.
    namespace: Option<String>,
    /// Name of the host.
    name: String,
    /// Name of its BootConfig.
    config: String,
    /// The files that change.
    files: Vec<ChangedFile>,
    /// Why the config can no longer be rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A file that changes.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ChangedFile {
    /// Name of the file.
    name: String,
    /// The text now; absent for a new file.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    /// The text then; absent for a removed file.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// Answers POST .../preview. Nothing is recorded.
///
/// # Errors
/// 404 if the template does not exist, 422 if it could not be written so, 429 while another preview is made.
pub async fn preview(shared: &Shared, key: &Key, request: Request<Incoming>) -> Result<Reply, Status> {
    let Object::ConfigTemplate(known) = find(shared, key)? else { return Err(Status::no_route()) };
    let (head, body) = request.into_parts();
    let body = body::parse(body::media_type(&head.headers), &body::read(body).await?)?;
    let TemplatePreviewRequest { spec } =
        deserialize_with_path(&body).map_err(|error| Status::bad_request(error.to_string()))?;
    let invalid = |wrong: rules::Invalid| Status::invalid(Kind::ConfigTemplate, key.name.as_str(), &wrong);
    rules::check_template(&spec).and_then(|()| rules::check_template_change(&known.spec, &spec)).map_err(invalid)?;
    if let Err(faults) = provision::check_template(&spec) {
        let texts: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
        return Err(Status::unprocessable(texts.join("; ")));
    }
    // The place lasts as long as the work, also if the client goes away.
    let place = shared.previews.clone().try_acquire_owned();
    let place = place.map_err(|_| Status::too_many_requests("another preview is being made: try again in a moment"))?;
    let (gate, name) = (shared.gate.clone(), key.name.clone());
    let preview = tokio::task::spawn_blocking(move || {
        let _place = place;
        let mut preview = TemplatePreview::default();
        let mut left = MAX_TEXTS;
        gate.preview_template(&name, spec, |host| preview.add(host, &mut left));
        preview
    });
    Ok(json(StatusCode::OK, &preview.await.map_err(|error| Status::internal(error.to_string()))?))
}

impl TemplatePreview {
    /// Adds what changes for a host, unless its texts are larger than what is left.
    fn add(&mut self, preview: ConfigPreview, left: &mut usize) {
        let Some(changed) = changed(preview) else {
            self.unchanged += 1;
            return;
        };
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let size = changed.files.iter().map(|file| file.name.len() + length(&file.before) + length(&file.after));
        match left.checked_sub(size.sum::<usize>() + length(&changed.error) + changed.name.len()) {
            Some(rest) => {
                *left = rest;
                self.hosts.push(changed);
            }
            None => self.omitted += 1,
        }
    }
}

/// Returns what changes for a host; `None` if nothing does.
fn changed(preview: ConfigPreview) -> Option<ChangedHost> {
    let ConfigPreview { host, config, before, after } = preview;
    let failed = before.is_err();
    let (before, error) = (before.unwrap_or_default(), after.as_ref().err().map(ToString::to_string));
    let after = after.ok();
    if Some(&before) == after.as_ref() && !failed || failed && error.is_some() {
        return None;
    }
    let files = after.map(|after| changed_files(&before, &after)).unwrap_or_default();
    let namespace = host.metadata.namespace.as_ref().map(ToString::to_string);
    let (name, config) = (host.metadata.name.to_string(), config.metadata.name.to_string());
    Some(ChangedHost { namespace, name, config, files, error })
}

fn changed_files(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<ChangedFile> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    changed
        .map(|name| {
            let (before, after) = (before.get(name).cloned(), after.get(name).cloned());
            ChangedFile { name: name.clone(), before, after }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::fleet::{BootConfig, BootConfigSpec, Format, Host, HostSpec, HostStatus, Mac, Meta};

    fn of_host(before: &str, after: &str) -> ConfigPreview {
        let metadata = Meta::named("h".parse().unwrap(), Some("default".parse().unwrap()));
        let host = Host { metadata, spec: HostSpec::for_mac(Mac([2; 6])), status: HostStatus::default() };
        let spec = BootConfigSpec::of_files(Format::Script, []);
        let config = BootConfig { metadata: Meta::named("c".parse().unwrap(), None), spec, status: Default::default() };
        let files = |text: &str| Ok(BTreeMap::from([("script".to_owned(), text.to_owned())]));
        ConfigPreview { host: Arc::new(host), config: Arc::new(config), before: files(before), after: files(after) }
    }

    #[test]
    fn texts_beyond_the_limit_are_counted_only() {
        let (mut preview, mut left) = (TemplatePreview::default(), 20);
        for (before, after) in [("a", "b"), ("same", "same"), ("a", "0123456789"), ("a", "c")] {
            preview.add(of_host(before, after), &mut left);
        }
        let found = serde_json::to_value(&preview).unwrap();
        let after = |at: usize| found["hosts"][at]["files"][0]["after"].clone();
        assert_eq!((found["hosts"].as_array().unwrap().len(), after(0), after(1)), (2, json!("b"), json!("c")));
        assert_eq!((&found["unchanged"], &found["omitted"]), (&json!(1), &json!(1)));
    }
}
