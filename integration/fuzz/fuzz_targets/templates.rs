//! Requests for generated configs: what is generated passes our own checks, and no error repeats a key.
#![no_main]

use bootlatch::fleet::{BootConfigSpec, Format};
use bootlatch::provision::generate::{Generated, Template, cloudinit, file_name, ignition, parse_file_name};
use bootlatch::provision::{FieldError, check};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// A public key; those of users are not shown in errors either.
const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

fn check_generated(result: Result<Generated, FieldError>, has_key: bool) {
    match result {
        Err(wrong) => {
            assert!(!wrong.message.is_empty(), "{wrong:?}");
            assert!(!has_key || !wrong.message.contains(KEY), "{wrong:?}");
        }
        Ok(generated) => {
            for config in &generated.configs {
                assert!(check(&config.spec).is_ok(), "{:?}: {:?}", check(&config.spec), config.spec);
                for (_, file) in &config.files {
                    assert!(config.spec.data.contains_key(*file), "{file}");
                    let name = file_name(&config.name, file).expect("a generated file");
                    assert_eq!(parse_file_name(&name), Some((config.name.clone(), *file)));
                }
            }
        }
    }
}

/// Returns a request with a field of the fuzzer: text, or JSON.
fn request(which: u8, text: &str) -> Value {
    let given = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    let key = format!("ssh-ed25519 {KEY}{text}");
    let mut body = json!({"hostname": "node1.example.org", "template": "kubernetes-node", "packages": ["vim"],
        "users": [{"name": "ops", "sshKeys": []}], "volume": "bootlatch"});
    if which & 0x40 == 0x40 {
        return json!({"hostname": "node1", "userData": format!("#!/bin/sh\n{text}"), "values": {"FLAKE_REF": text}});
    }
    match which % 8 {
        0 => body["hostname"] = given,
        1 => body["packages"] = json!([given]),
        2 => body["users"] = json!([{"name": given, "sshKeys": []}]),
        3 => body["users"] = json!([{"name": "ops", "sshKeys": [key]}]),
        4 => body["network"] = given,
        5 => body["template"] = given,
        6 => body["volume"] = given,
        _ => return given,
    }
    body
}

fuzz_target!(|data: &[u8]| {
    let Some((which, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    check_generated(cloudinit(request(*which, text), "http://192.0.2.1"), which % 8 == 3);
    if let Ok(body) = serde_json::from_str(text) {
        check_generated(ignition(body), false);
    }
    if let Ok(template) = text.parse::<Template>() {
        assert_eq!(template.as_str(), text);
    }
    let format = Format::ALL[usize::from(*which) % Format::ALL.len()];
    let main = format.main_file();
    let file = if which & 0x80 == 0x80 { "network-config" } else { main };
    let data = [(main.to_owned(), "#cloud-config\n".to_owned()), (file.to_owned(), text.to_owned())].into();
    let spec = BootConfigSpec { format, data, binary_data: Default::default(), confidential: false, template: None };
    for wrong in check(&spec).err().into_iter().flatten() {
        assert!(wrong.field.starts_with("spec.data") && !wrong.message.is_empty(), "{wrong:?}");
    }
});
