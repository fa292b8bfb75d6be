//! The versions of templates, the configs that name them, and what a change means for hosts.

use super::*;

fn template(text: &str) -> Object {
    let spec = serde_json::json!({"format": "kickstart", "data": {"ks.cfg": text}});
    Object::from_json(Kind::ConfigTemplate, serde_json::json!({"metadata": {"name": "t"}, "spec": spec})).unwrap()
}

fn config(reference: serde_json::Value) -> Object {
    let spec = serde_json::json!({"format": "kickstart", "template": reference});
    Object::from_json(Kind::BootConfig, serde_json::json!({"metadata": {"name": "c"}, "spec": spec})).unwrap()
}

fn versions(store: &Store) -> Vec<u64> {
    let name = "t".parse().unwrap();
    let state = store.snapshot();
    state.template(&name).unwrap().status.versions.iter().map(|kept| kept.version).collect()
}

#[tokio::test]
async fn each_change_of_the_spec_is_a_version_that_outlasts_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for text in ["1", "1", "2"] {
        store.commit(put(template(text))).await.unwrap();
    }
    assert_eq!(versions(&store), [1, 2]);
    store.commit(put(config(serde_json::json!({"name": "t", "version": 1})))).await.unwrap();
    for number in 3..=13 {
        store.commit(put(template(&number.to_string()))).await.unwrap();
    }
    drop(store);
    let store = open(directory.path());
    assert_eq!(versions(&store), [1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], "the pinned one is kept");
    let state = store.snapshot();
    let found = state.template(&"t".parse().unwrap()).unwrap().version(Some(1)).unwrap().clone();
    assert_eq!(found.spec.unwrap().data["ks.cfg"], "1");
}

#[tokio::test]
async fn a_template_that_a_config_names_is_not_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let missing = store.commit(put(config(serde_json::json!({"name": "t"})))).await.unwrap_err();
    assert!(missing.to_string().contains("ConfigTemplate t does not exist"), "{missing}");
    store.commit(put(template("1"))).await.unwrap();
    let unknown = store.commit(put(config(serde_json::json!({"name": "t", "version": 2})))).await.unwrap_err();
    assert!(unknown.to_string().contains("has no version 2; it has 1"), "{unknown}");
    store.commit(put(config(serde_json::json!({"name": "t"})))).await.unwrap();
    let delete = |kind: Kind, name: &str| {
        let key = Key { kind, namespace: None, name: name.parse().unwrap() };
        Change::Delete { key, version: None }
    };
    let refused = store.commit(delete(Kind::ConfigTemplate, "t")).await.unwrap_err();
    assert!(refused.to_string().contains("BootConfig c") && refused.to_string().contains("spec.template"), "{refused}");
    store.commit(delete(Kind::BootConfig, "c")).await.unwrap();
    store.commit(delete(Kind::ConfigTemplate, "t")).await.unwrap();
}

#[tokio::test]
async fn another_config_of_a_host_has_not_been_rendered() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.commit(put(template("1"))).await.unwrap();
    let mut other = config(serde_json::json!({"name": "t"}));
    store.commit(put(other.clone())).await.unwrap();
    other.meta_mut().name = "d".parse().unwrap();
    store.commit(put(other)).await.unwrap();
    let mac: Mac = "52:54:00:00:00:07".parse().unwrap();
    let host = |config: &str, ip: &str| {
        let spec = serde_json::json!({"bootMACAddress": mac.to_string(), "bootConfigRef": config, "ip": ip});
        let host = serde_json::json!({"metadata": {"name": "h"}, "spec": spec});
        put(Object::from_json(Kind::BareMetalHost, host).unwrap())
    };
    store.commit(host("c", "10.77.0.31")).await.unwrap();
    let rendered = crate::fleet::RenderedTemplate { template: "t".parse().unwrap(), version: 1, error: None };
    store.commit(Change::RecordRendering { mac, rendered: Some(Box::new(rendered)) }).await.unwrap();
    let is_known = || store.snapshot().host_by_mac(mac).unwrap().status.rendered_template.is_some();
    store.commit(host("c", "10.77.0.32")).await.unwrap();
    assert!(is_known());
    store.commit(host("d", "10.77.0.32")).await.unwrap();
    assert!(!is_known());
}
