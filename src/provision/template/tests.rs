use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::fleet::{HostSpec, HostStatus, Mac, Meta};

fn spec(body: Value) -> ConfigTemplateSpec {
    serde_json::from_value(body).unwrap()
}

fn host(values: Value) -> Host {
    let mut metadata = Meta::named("web1".parse().unwrap(), Some("default".parse().unwrap()));
    metadata.labels.insert("rack".into(), "r1".into());
    let mut spec = HostSpec::for_mac(Mac([0x52, 0x54, 0, 0, 0, 1]));
    spec.ip = Some("192.0.2.7".parse().unwrap());
    spec.values = values.as_object().cloned().map(Box::new);
    Host { metadata, spec, status: HostStatus::default() }
}

/// Renders a template for a host with values.
fn rendered(template: Value, values: Value) -> Result<BTreeMap<String, String>, String> {
    let spec = spec(template);
    let kept =
        TemplateVersion { version: 3, creation_timestamp: None, reports_completion: None, spec: Some(Arc::new(spec)) };
    let site = TemplateSite { url: "http://192.0.2.1".into(), address: "192.0.2.1".parse().unwrap() };
    render(&"web".parse().unwrap(), &kept, &host(values), &site).map_err(|error| error.to_string())
}

fn kickstart(text: &str, values: Value) -> Result<String, String> {
    let files = rendered(json!({"format": "kickstart", "data": {"ks.cfg": text}}), values);
    files.map(|mut files| files.remove("ks.cfg").unwrap())
}

#[test]
fn the_host_the_site_and_values_are_in_scope() {
    let scope =
        "{{ host.name }} {{ host.namespace }} {{ host.mac }} {{ host.ip }} {{ host.labels.rack }} {{ site.url }}\n";
    assert_eq!(kickstart(scope, json!({})).unwrap(), "web1 default 52:54:00:00:00:01 192.0.2.7 r1 http://192.0.2.1\n");
    let loops = "{% for dns in values.dns %}nameserver {{ dns }}\n{% endfor %}";
    assert_eq!(kickstart(loops, json!({"dns": ["a", "b"]})).unwrap(), "nameserver a\nnameserver b\n");
    assert_eq!(
        kickstart("{{ values.x|default('none') }} {{ host.uuid is defined }}\n", json!({})).unwrap(),
        "none False\n"
    );
}

#[test]
fn values_of_the_host_are_merged_over_the_defaults() {
    let template = json!({"format": "kickstart", "data": {"ks.cfg": "{{ values|tojson }}"},
                          "defaults": {"net": {"mtu": 1500, "vlan": 7}, "disk": "sda", "gone": 1}});
    let files = rendered(template, json!({"net": {"mtu": 9000}, "disk": "vda", "gone": null})).unwrap();
    assert_eq!(files["ks.cfg"], r#"{"disk": "vda", "net": {"mtu": 9000, "vlan": 7}}"#);
}

#[test]
fn filters_take_addresses_apart() {
    let text = "{{ values.ip|address }} {{ values.ip|prefix }} {{ values.ip|netmask }} {{ values.ip|network }} \
                {{ 'a b'|urlencode }} {{ 'ab'|b64encode }}\n";
    let expected = "192.0.2.5 28 255.255.255.240 192.0.2.0/28 a%20b YWI=\n";
    assert_eq!(kickstart(text, json!({"ip": "192.0.2.5/28"})).unwrap(), expected);
    let wrong = kickstart("x\n{{ values.ip|netmask }}\n", json!({"ip": "192.0.2.5"})).unwrap_err();
    let names = "expected an address with its prefix, as in 192.0.2.5/24 in `values.ip|netmask`";
    assert!(wrong.contains("ks.cfg line 2:") && wrong.ends_with(names), "{wrong}");
    let secret = kickstart("{{ values.ip|netmask }}\n", json!({"ip": "hunter2"})).unwrap_err();
    assert!(!secret.contains("hunter2"), "{secret}");
}

#[test]
fn an_error_names_template_version_file_line_and_variable() {
    for (text, message) in [
        ("text\n{{ values.password }}\n", "ks.cfg line 2: values.password is undefined"),
        ("text\n\n{{ values.net.ip }}\n", "ks.cfg line 3: values.net.ip is undefined"),
        ("{% for x in values.disks %}{{ x }}{% endfor %}\n", "a value in `for x in values.disks` is undefined"),
        ("{{ nothing }}\n", "nothing is undefined"),
        ("{{ values.ip|netmask }}\n", "a value in `values.ip|netmask` is undefined"),
        ("{{ host.labels.role }}\n", "host.labels.role is undefined"),
        ("{{ host.name|nofilter }}\n", "nofilter"),
        ("{{ host.name + 1 }}\n", "line 1"),
    ] {
        let error = kickstart(text, json!({})).unwrap_err();
        assert!(error.starts_with("template web version 3: ks.cfg line") && error.contains(message), "{text}: {error}");
    }
}

#[test]
fn steps_and_output_are_bounded() {
    let endless = "{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}\n";
    let error = kickstart(endless, json!({})).unwrap_err();
    assert!(error.contains("more than 100000 steps"), "{error}");
    let large = "{% for a in range(1000) %}{{ values.text }}{% endfor %}\n";
    let error = kickstart(large, json!({"text": "x".repeat(2000)})).unwrap_err();
    assert!(error.contains("larger than 1048576 octets"), "{error}");
}

#[test]
fn nothing_outside_of_the_scope_can_be_read() {
    for text in ["{% include '/etc/passwd' %}\n", "{% import 'x' as y %}\n", "{{ debug() }}\n", "{{ now() }}\n"] {
        assert!(kickstart(text, json!({})).is_err(), "{text}");
    }
}

#[test]
fn what_is_rendered_is_checked_as_a_config() {
    let template =
        json!({"format": "cloud-init", "data": {"user-data": "#cloud-config\npackages: {{ values.packages }}\n"}});
    assert!(rendered(template.clone(), json!({"packages": ["vim"]})).is_ok());
    let error = rendered(template, json!({"packages": "vim"})).unwrap_err();
    assert!(error.contains("rendered user-data: /packages: expected a list"), "{error}");
}

#[test]
fn a_schema_admits_values_of_its_types_alone() {
    let template = json!({"format": "kickstart", "data": {"ks.cfg": "{{ values.cpus }}\n"},
                          "schema": {"cpus": {"type": "integer", "required": true}, "note": {"type": "string"}}});
    for (values, message) in [
        (json!({"cpus": 2}), None),
        (json!({"cpus": "2"}), Some("spec.values.cpus: expected the type integer, found string")),
        (json!({}), Some("spec.values.cpus: missing")),
        (json!({"cpus": 2, "cpu": 1}), Some("spec.values.cpu: the template has no such value; it has cpus, note")),
    ] {
        let error = rendered(template.clone(), values).err();
        match message {
            None => assert_eq!(error, None),
            Some(message) => assert!(error.as_deref().is_some_and(|error| error.contains(message)), "{error:?}"),
        }
    }
}

#[test]
fn a_text_that_cannot_be_parsed_is_refused_with_its_line() {
    let body = json!({"format": "kickstart", "data": {"ks.cfg": "text\n{% if x %}\n", "b.cfg": "{{ a b }}\n"}});
    let faults = check_template(&spec(body)).unwrap_err();
    let found: Vec<_> = faults.iter().map(|fault| (fault.field.as_str(), fault.message.contains("line "))).collect();
    assert_eq!(found, [("spec.data.b.cfg", true), ("spec.data.ks.cfg", true)]);
}

#[test]
fn a_template_reports_completion_by_its_texts() {
    let reports = |text: &str| {
        let spec = spec(json!({"format": "kickstart", "data": {"ks.cfg": text}}));
        template_status(&spec).versions[0].reports_completion
    };
    assert_eq!(reports("%post\ncurl {{ site.url }}/api/v1/boot-complete\n%end\n"), Some(true));
    assert_eq!(reports("text {{ host.name }} {{ site.url -}}\n"), Some(false));
    for text in ["{{ values.post }}\n", "{% set a = values.b %}{{ a }}\n", "{{ host.ip|default(values.post) }}\n"] {
        assert_eq!(reports(text), None, "{text}: a value may have the call");
    }
}
