use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use crate::fleet::{Host, Kind, Meta, Object, Secret};

/// Is an object as clients see it: with its kind, and without its secrets.
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

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let kind = self.0.kind();
        match self.0 {
            Object::Host(host) => {
                let host = redacted(host);
                let Host { metadata, spec, status } = &**host.as_ref();
                Envelope { api_version: "v1", kind, metadata, spec, status }.serialize(to)
            }
            Object::Image(image) => {
                let (metadata, spec, status) = (&image.metadata, &image.spec, &image.status);
                Envelope { api_version: "v1", kind, metadata, spec, status }.serialize(to)
            }
            Object::BootConfig(config) => {
                let (metadata, spec, status) = (&config.metadata, &config.spec, &config.status);
                Envelope { api_version: "v1", kind, metadata, spec, status }.serialize(to)
            }
        }
    }
}

/// Hides a host's secrets; hosts without any are not copied.
fn redacted(host: &Arc<Host>) -> std::borrow::Cow<'_, Arc<Host>> {
    match &host.spec.bmc {
        Some(bmc) if !bmc.password.0.is_empty() => {
            let mut host = host.clone();
            if let Some(bmc) = &mut Arc::make_mut(&mut host).spec.bmc {
                bmc.password = Secret(Secret::REDACTED.into());
            }
            std::borrow::Cow::Owned(host)
        }
        _ => std::borrow::Cow::Borrowed(host),
    }
}

/// Puts a secret back where a client wrote what it had read.
pub fn restore(host: &mut Host, before: Option<&Host>) {
    let kept = before.and_then(|before| before.spec.bmc.as_ref()).map(|bmc| &bmc.password);
    if let (Some(bmc), Some(kept)) = (&mut host.spec.bmc, kept)
        && bmc.password.0 == Secret::REDACTED
    {
        bmc.password = kept.clone();
    }
}

/// Is a list of objects of one kind.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct List<'a> {
    pub api_version: &'static str,
    pub kind: String,
    pub metadata: ListMeta,
    #[serde(serialize_with = "views")]
    pub items: Vec<&'a Object>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMeta {
    pub resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub next: String,
}

fn views<S: Serializer>(objects: &[&Object], to: S) -> Result<S::Ok, S::Error> {
    let mut list = to.serialize_seq(Some(objects.len()))?;
    for object in objects {
        list.serialize_element(&View(object))?;
    }
    list.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Bmc, HostSpec, HostStatus, Mac};

    #[test]
    fn a_secret_is_never_read_and_survives_being_written_back() {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        let password = Secret("hunter2".into());
        spec.bmc =
            Some(Bmc { address: "b".into(), username: "u".into(), password, disable_certificate_verification: false });
        let meta = Meta::named("h".parse().unwrap(), None);
        let host = Host { metadata: meta, spec, status: HostStatus::default() };
        let shown = serde_json::to_value(View(&Object::Host(Arc::new(host.clone())))).unwrap();
        assert_eq!(shown["spec"]["bmc"]["password"], "REDACTED");
        assert_eq!((&shown["kind"], &shown["apiVersion"]), (&"BareMetalHost".into(), &"v1".into()));
        let mut back = host.clone();
        back.spec.bmc.as_mut().unwrap().password = Secret("REDACTED".into());
        restore(&mut back, Some(&host));
        assert_eq!(back, host);
    }
}
