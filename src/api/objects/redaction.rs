//! Objects as clients see them: with their kind, and without their secrets.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::ser::Serializer;
use serde_json::Value;

use crate::fleet::conditions::{self, Condition};
use crate::fleet::{
    BinaryFile, Bmc, BmcAddress, BootConfigSpec, Chap, ConfigTemplateStatus, Host, HostSpec, HostStatus, Image,
    ImageSpec, Kind, Meta, Object, Secret, TemplateVersion,
};

/// An object as clients see it: with its kind, and without its secrets.
#[derive(Debug)]
pub struct View<'a>(pub &'a Object);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a, S, T> {
    api_version: &'static str,
    kind: Kind,
    metadata: &'a Meta,
    spec: &'a S,
    status: &'a T,
}

/// An object's metadata alone (meta/v1 PartialObjectMetadata).
#[derive(Debug)]
pub struct Metadata<'a>(pub &'a Object);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Partial<'a> {
            kind: &'static str,
            api_version: &'static str,
            metadata: &'a Meta,
        }
        let (kind, api_version) = ("PartialObjectMetadata", "meta.k8s.io/v1");
        Partial { kind, api_version, metadata: self.0.meta() }.serialize(to)
    }
}

/// A host's status as clients see it: with the conditions derived from it.
#[derive(Serialize)]
struct ShownStatus<'a> {
    #[serde(flatten)]
    status: &'a HostStatus,
    conditions: Vec<Condition>,
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let kind = self.0.kind();
        match self.0 {
            Object::Host(host) => {
                let host = redacted(host);
                let Host { metadata, spec, status } = &**host.as_ref();
                let status = &ShownStatus { status, conditions: conditions::of(&host) };
                Envelope { api_version: "v1", kind, metadata, spec, status }.serialize(to)
            }
            Object::Image(image) => {
                let image = portal_redacted(image);
                let Image { metadata, spec, status } = &**image.as_ref();
                Envelope { api_version: "v1", kind, metadata, spec, status }.serialize(to)
            }
            Object::BootConfig(config) => {
                let spec = match config.spec.confidential {
                    true => &redact_files(&config.spec),
                    false => &config.spec,
                };
                let (metadata, status) = (&config.metadata, &config.status);
                Envelope { api_version: "v1", kind, metadata, spec, status }.serialize(to)
            }
            Object::ConfigTemplate(template) => {
                let (metadata, spec) = (&template.metadata, &template.spec);
                let status = &without_texts(&template.status);
                Envelope { api_version: "v1", kind, metadata, spec, status }.serialize(to)
            }
        }
    }
}

/// Returns the versions of a template without their texts, which may be megabytes.
fn without_texts(status: &ConfigTemplateStatus) -> ConfigTemplateStatus {
    let bare = |kept: &TemplateVersion| TemplateVersion { spec: None, ..kept.clone() };
    ConfigTemplateStatus { versions: status.versions.iter().map(bare).collect() }
}

/// Redacts a host's secrets; a host without secrets is not copied.
fn redacted(host: &Arc<Host>) -> Cow<'_, Arc<Host>> {
    if secrets(&host.spec).iter().all(|secret| secret.0.is_empty()) {
        return Cow::Borrowed(host);
    }
    let mut host = host.clone();
    for secret in secrets_mut(&mut Arc::make_mut(&mut host).spec).into_iter().flatten() {
        if !secret.0.is_empty() {
            *secret = Secret(Secret::REDACTED.into());
        }
    }
    Cow::Owned(host)
}

/// Redacts the CHAP secrets of an image's portal; an image without them is not copied.
fn portal_redacted(image: &Arc<Image>) -> Cow<'_, Arc<Image>> {
    if image.spec.portal.as_ref().is_none_or(|portal| portal.chap.is_none()) {
        return Cow::Borrowed(image);
    }
    let mut image = image.clone();
    for secret in portal_secrets_mut(&mut Arc::make_mut(&mut image).spec).into_iter().flatten() {
        *secret = Secret(Secret::REDACTED.into());
    }
    Cow::Owned(image)
}

/// Redacts the content of a config's files.
fn redact_files(spec: &BootConfigSpec) -> BootConfigSpec {
    let data = spec.data.keys().map(|name| (name.clone(), Secret::REDACTED.to_owned())).collect();
    let binary_data = spec.binary_data.keys().map(|name| (name.clone(), BinaryFile::redacted())).collect();
    BootConfigSpec { data, binary_data, ..spec.clone() }
}

/// Returns a host's secrets in a fixed order: the BMC's, the initiator's, the target's.
fn secrets_mut(spec: &mut HostSpec) -> [Option<&mut Secret>; 3] {
    let bmc = spec.bmc.as_mut().map(|bmc| &mut bmc.password);
    let [ours, theirs] = chap_secrets_mut(spec.chap.as_mut());
    [bmc, ours, theirs]
}

fn portal_secrets_mut(spec: &mut ImageSpec) -> [Option<&mut Secret>; 2] {
    chap_secrets_mut(spec.portal.as_mut().and_then(|portal| portal.chap.as_mut()))
}

fn chap_secrets_mut(chap: Option<&mut Chap>) -> [Option<&mut Secret>; 2] {
    match chap {
        Some(Chap { secret, target_secret, .. }) => [Some(secret), target_secret.as_mut()],
        None => [None, None],
    }
}

fn secrets(spec: &HostSpec) -> Vec<&Secret> {
    let chap = spec.chap.iter().flat_map(|chap| std::iter::once(&chap.secret).chain(&chap.target_secret));
    spec.bmc.iter().map(|bmc| &bmc.password).chain(chap).collect()
}

/// Restores secrets that a client wrote back redacted, as it had read them.
pub fn unredact(object: &mut Object, before: Option<&Object>) {
    match (object, before) {
        (Object::Host(host), Some(Object::Host(before))) => restore_host(Arc::make_mut(host), Some(before)),
        (Object::Image(image), Some(Object::Image(before))) => restore_portal(image, before),
        (Object::BootConfig(config), Some(Object::BootConfig(before))) if before.spec.confidential => {
            let spec = &mut Arc::make_mut(config).spec;
            for (name, text) in &mut spec.data {
                match before.spec.data.get(name) {
                    Some(kept) if text == Secret::REDACTED => text.clone_from(kept),
                    _ => {}
                }
            }
            for (name, file) in &mut spec.binary_data {
                match before.spec.binary_data.get(name) {
                    Some(kept) if file.is_redacted() => file.clone_from(kept),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// Restores a host's secrets if they go to the same recipient as before. Otherwise a writer could send a secret that it
/// may not read to a server of its own: it must give the secret again.
fn restore_host(host: &mut Host, before: Option<&Host>) {
    let Some(mut kept) = before.map(|before| before.spec.clone()) else { return };
    if !kept.bmc.as_ref().zip(host.spec.bmc.as_ref()).is_some_and(|(was, is)| is_same_service(was, is)) {
        kept.bmc = None;
    }
    if kept.boot_mac_address != host.spec.boot_mac_address {
        kept.chap = None;
    }
    for (secret, kept) in secrets_mut(&mut host.spec).into_iter().zip(secrets_mut(&mut kept)) {
        if let (Some(secret), Some(kept)) = (secret, kept)
            && secret.0 == Secret::REDACTED
            && !kept.0.is_empty()
        {
            *secret = kept.clone();
        }
    }
}

/// Restores a portal's secrets if its address is the same as before; another portal does not get them.
fn restore_portal(image: &mut Arc<Image>, before: &Image) {
    let place = |image: &Image| image.spec.portal.as_ref().map(|portal| (portal.address, portal.port));
    if image.spec.portal.as_ref().is_none_or(|portal| portal.chap.is_none()) || place(image) != place(before) {
        return;
    }
    let mut kept = before.spec.clone();
    let places = portal_secrets_mut(&mut Arc::make_mut(image).spec).into_iter().zip(portal_secrets_mut(&mut kept));
    for (secret, kept) in places {
        if let (Some(secret), Some(kept)) = (secret, kept)
            && secret.is_redacted()
        {
            *secret = kept.clone();
        }
    }
}

fn is_same_service(was: &Bmc, is: &Bmc) -> bool {
    let read = |bmc: &Bmc| bmc.address.parse::<BmcAddress>().ok();
    was.address == is.address || read(was).zip(read(is)).is_some_and(|(was, is)| was.is_same_service(&is))
}

/// Redacts the secrets in an object's JSON that an applied configuration does not set. `unredact` restores them.
pub fn redact_except(value: &mut Value, applied: &Value) {
    for place in Secret::PLACES {
        let is_given = matches!(applied.pointer(place), Some(Value::String(secret)) if secret != Secret::REDACTED);
        match value.pointer_mut(place) {
            Some(Value::String(secret)) if !secret.is_empty() && !is_given => *secret = Secret::REDACTED.into(),
            _ => {}
        }
    }
}

/// Redacts the secrets in an object's JSON, so that `copy`, `move` and `test` of a JSON patch find no secret.
pub fn redact(value: &mut Value) {
    redact_except(value, &Value::Null);
    if value.pointer("/spec/confidential") == Some(&Value::Bool(true)) {
        let files = value.pointer_mut("/spec/data").and_then(Value::as_object_mut);
        for text in files.into_iter().flat_map(|files| files.values_mut()) {
            *text = Secret::REDACTED.into();
        }
    }
}

/// A list of objects of one kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct List<Item: Serialize> {
    /// Version of the API.
    pub api_version: &'static str,
    /// Kind of the list.
    pub kind: String,
    /// Version and continuation of the list.
    pub metadata: ListMeta,
    /// The objects.
    pub items: Vec<Item>,
}

/// Metadata of a list (meta/v1 ListMeta).
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListMeta {
    /// Version of the state that the list shows; a watch can start there.
    pub resource_version: String,
    /// Token for the next page of the list; absent on the last page.
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub next: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Bmc, HostStatus, Mac};

    #[test]
    fn a_secret_is_redacted_and_survives_being_written_back() {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        let password = Secret("hunter2".into());
        spec.bmc = Some(Bmc::new("b", "u", password));
        spec.chap = Some(Chap {
            username: "n".into(),
            secret: Secret("a-secret-of-n".into()),
            target_username: Some("t".into()),
            target_secret: Some(Secret("a-secret-of-t".into())),
        });
        let meta = Meta::named("h".parse().unwrap(), None);
        let host = Host { metadata: meta, spec, status: HostStatus::default() };
        let shown = serde_json::to_value(View(&Object::Host(Arc::new(host.clone())))).unwrap();
        assert_eq!(shown["spec"]["bmc"]["password"], "REDACTED");
        let chap = &shown["spec"]["chap"];
        assert_eq!((&chap["secret"], &chap["targetSecret"]), (&"REDACTED".into(), &"REDACTED".into()));
        assert_eq!((&shown["kind"], &shown["apiVersion"]), (&"BareMetalHost".into(), &"v1".into()));
        let mut redacted = serde_json::to_value(&host).unwrap();
        redact(&mut redacted);
        assert_eq!(redacted["spec"], shown["spec"]);
        let mut back = host.clone();
        for secret in secrets_mut(&mut back.spec).into_iter().flatten() {
            *secret = Secret("REDACTED".into());
        }
        restore_host(&mut back, Some(&host));
        assert_eq!(back, host);
    }
}
