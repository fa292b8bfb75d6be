//! Look-up of objects: of a host by its MAC address in any spelling.

use hyper::Method;
use serde_json::Value;

use crate::fleet::{Kind, Mac, Name};

use super::client::{ApiClient, ClientError};
use super::reference::{collection_path, object_path};

/// Fields of `metadata` that the server sets. They are in what `get -o yaml` prints, and are no part of a desired state.
pub const SERVER_FIELDS: [&str; 5] = ["managedFields", "resourceVersion", "uid", "creationTimestamp", "generation"];

/// Returns the name that a word means: of a host also by its MAC address, since people have the address at hand.
///
/// # Errors
/// No host has the MAC address, or the server refuses the request.
pub async fn resolve(client: &mut ApiClient, kind: Kind, namespace: &str, word: &str) -> anyhow::Result<String> {
    let Some(mac) = Some(kind).filter(|kind| *kind == Kind::BareMetalHost).and_then(|_| word.parse::<Mac>().ok())
    else {
        return Ok(word.to_owned());
    };
    // A host that discovery made has its MAC address with dashes as its name.
    if word.parse::<Name>().is_ok() && client.find(&object_path(kind, namespace, word)).await?.is_some() {
        return Ok(word.to_owned());
    }
    let path = format!("{}?fieldSelector=spec.bootMACAddress%3D{mac}", collection_path(kind, Some(namespace)));
    let hosts = client.ask(Method::GET, &path, None).await?;
    match hosts.pointer("/items/0/metadata/name").and_then(Value::as_str) {
        Some(name) => Ok(name.to_owned()),
        None => Err(not_found(format!("no host in namespace {namespace} has the MAC address {mac}"))),
    }
}

/// Returns the field selectors that find the object of a word in all namespaces, in their order: by its name, and a host
/// by its MAC address.
pub fn field_selectors(kind: Kind, word: &str) -> Vec<String> {
    let mac = Some(kind).filter(|kind| *kind == Kind::BareMetalHost).and_then(|_| word.parse::<Mac>().ok());
    // A MAC address with colons is no name.
    let name = (mac.is_none() || word.parse::<Name>().is_ok()).then(|| format!("metadata.name={word}"));
    name.into_iter().chain(mac.map(|mac| format!("spec.bootMACAddress={mac}"))).collect()
}

/// Returns an object, by its name or by the MAC address of a host.
///
/// # Errors
/// It does not exist, or the server refuses the request.
pub async fn object(client: &mut ApiClient, kind: Kind, namespace: &str, word: &str) -> anyhow::Result<Value> {
    let name = resolve(client, kind, namespace, word).await?;
    client.ask(Method::GET, &object_path(kind, namespace, &name), None).await
}

/// Returns the error that an object does not exist.
pub fn not_found(message: String) -> anyhow::Error {
    ClientError::Refused { code: 404, message, field: None }.into()
}

/// Takes the items of a list.
pub fn items(mut list: Value) -> Vec<Value> {
    match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// Removes `metadata.managedFields` of an object, or of the objects of a list: it is bookkeeping of server-side apply,
/// longer than the object itself.
pub fn drop_managed_fields(value: &mut Value) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(drop_managed_fields);
}
