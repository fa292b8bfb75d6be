//! Tests of the manifests.

use super::*;

fn namespace() -> Name {
    "default".parse().unwrap()
}

fn declared(path: &Path, key: u8) -> Result<Vec<ManifestDocument>, ManifestError> {
    parse_file(path, &read(path)?, &namespace(), &[key; 32]).into_iter().collect()
}

fn wrong(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    std::fs::write(&path, text).unwrap();
    declared(&path, 0).unwrap_err().to_string()
}

#[test]
fn a_yaml_stream_is_split_into_documents() {
    let text = "# hosts\n---\napiVersion: v1\nkind: BootConfig\nmetadata: {name: c}\nspec:\n  format: script\n  data:\n    script: |\n      a\n      --- b\n---\napiVersion: v1\nkind: BareMetalHost\nmetadata: {name: vm}\nspec: {bootMACAddress: \"52-54-00-00-00-01\", image: \"\"}\n";
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.yaml"), text).unwrap();
    let found = declared(&directory.path().join("a.yaml"), 0).unwrap();
    let keys: Vec<_> = found.iter().map(|one| (one.line, one.object.key().to_string())).collect();
    assert_eq!(keys, [(3, "BootConfig c".to_owned()), (13, "BareMetalHost default/vm".to_owned())]);
}

#[test]
fn an_error_names_file_and_line() {
    let head = "apiVersion: v1\nkind: BareMetalHost\nmetadata: {name: vm}\n";
    let check = |text: &str, parts: &[&str]| {
        let error = wrong(text);
        for part in parts.iter().chain(&["a.yaml"]) {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    };
    check(&format!("---\n{head}spec:\n  bootMACAddress: nonsense\n"), &["line 6", "nonsense"]);
    check(&format!("{head}spec:\n  bootMacAddress: \"52:54:00:00:00:01\"\n"), &["line 5", "bootMacAddress"]);
    check("kind: BareMetalHost\n", &["line 1", "apiVersion"]);
    check("\n\napiVersion: v1\nkind: Pod\n", &["line 4", "Pod"]);
    check("a: [1\n", &["line"]);
}

/// Returns the objects of a text, and the errors in it.
fn outcome(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut objects, mut wrong) = (Vec::new(), Vec::new());
    for one in parse_file(Path::new("a.yaml"), text, &namespace(), &[0; 32]) {
        match one {
            Ok(document) => objects.push(document.object.key().to_string()),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    (objects, wrong)
}

#[test]
fn a_wrong_document_does_not_hinder_the_others() {
    let host = |name: &str, number: u8| {
        format!(
            "apiVersion: v1\nkind: BareMetalHost\nmetadata: {{name: {name}}}\nspec: {{bootMACAddress: \"52:54:00:00:00:0{number}\"}}\n"
        )
    };
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";
    let broken = "apiVersion: v1\nkind: [\n";
    let (objects, wrong) = outcome(&format!("{}---\n{pod}---\n{broken}---\n{}", host("a", 1), host("b", 2)));
    assert_eq!(objects, ["BareMetalHost default/a", "BareMetalHost default/b"]);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].starts_with("a.yaml: line 7: ") && wrong[0].contains("Pod"), "{wrong:?}");
}

#[test]
fn a_list_declares_its_items() {
    let item = "- apiVersion: v1\n  kind: BareMetalHost\n  metadata: {name: a, uid: u, resourceVersion: \"7\"}\n  spec: {bootMACAddress: \"52:54:00:00:00:01\"}\n  status: {phase: Installed}\n";
    let wrong_item = "- {apiVersion: v1, kind: Pod, metadata: {name: p}}\n- {apiVersion: v1, kind: BootConfig, metadata: {name: c}, spec: {format: x}}\n";
    let (objects, wrong) = outcome(&format!(
        "apiVersion: v1\nkind: List\nmetadata: {{resourceVersion: \"\"}}\nitems:\n{item}{wrong_item}"
    ));
    assert_eq!(objects, ["BareMetalHost default/a"]);
    assert!(wrong[0].contains("items[1].kind") && wrong[1].contains("items[2].spec.format"), "{wrong:?}");
}

#[test]
fn a_manifest_is_as_strict_as_the_api() {
    let with = |meta: &str, spec: &str| {
        outcome(&format!(
            "apiVersion: v1\nkind: ISCSICdrom\nmetadata: {{name: a{meta}}}\nspec: {{isoFile: a.iso{spec}}}\n"
        ))
    };
    for (meta, spec) in [("", ""), (", selfLink: x, namespace: other, finalizers: []", ""), (", namespace: null", "")] {
        assert_eq!(with(meta, spec), (vec!["ISCSICdrom a".to_owned()], vec![]), "{meta} {spec}");
    }
    let rows = [
        (", finalizers: [a/b]", "", "finalizers"),
        (", labels: {rack: 1}", "", "metadata.labels"),
        ("", ", description: 5", "spec.description"),
        ("", ", isoFile: b.iso", "duplicate key"),
        ("", ", colour: red", "colour"),
    ];
    for (meta, spec, expected) in rows {
        let (objects, wrong) = with(meta, spec);
        assert!(objects.is_empty() && wrong[0].contains(expected), "{meta} {spec}: {wrong:?}");
    }
}

fn text(image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: BareMetalHost\nmetadata: {{name: vm}}\nspec: {{bootMACAddress: \"52:54:00:00:00:01\", image: \"{image}\"}}\n"
    )
}

#[test]
fn documents_follow_the_ones_they_refer_to() {
    let object = |text: &str| {
        let text = format!("apiVersion: v1\nkind: {text}");
        ManifestDocument {
            path: "a.yaml".into(),
            line: 1,
            object: parse(&text, &namespace()).remove(0).unwrap().object,
        }
    };
    let image = |name: &str, companions: &str| {
        let spec = format!("{{isoFile: a.iso, companions: [{companions}]}}");
        object(&format!("ISCSICdrom\nmetadata: {{name: {name}}}\nspec: {spec}\n"))
    };
    let host = || object("BareMetalHost\nmetadata: {name: h}\nspec: {bootMACAddress: \"52:54:00:00:00:01\"}\n");
    let config = || object("BootConfig\nmetadata: {name: c}\nspec: {format: script, data: {script: a}}\n");
    let all = vec![host(), image("a", "c, b"), image("b", "d"), image("c", "elsewhere"), image("d", ""), config()];
    let mut wrong = Vec::new();
    let ordered_all = ordered(all, &mut wrong);
    assert!(wrong.is_empty(), "{wrong:?}");
    let names: Vec<_> = ordered_all.iter().map(|one| one.object.meta().name.as_str()).collect();
    assert_eq!(names, ["c", "c", "d", "b", "a", "h"]);
    let rest = ordered(vec![host(), image("a", "b"), image("b", "c"), image("c", "a")], &mut wrong);
    let [round] = &wrong[..] else { panic!("{wrong:?}") };
    assert!(round.to_string().contains("spec.companions") && round.to_string().contains("cycle"), "{round}");
    assert_eq!(rest.len(), 3, "the others stay");
}

#[test]
fn the_code_depends_on_text_and_key() {
    let directory = tempfile::tempdir().unwrap();
    let code_of = |text: &str, key: u8| {
        let path = directory.path().join("a.yaml");
        std::fs::write(&path, text).unwrap();
        applied_code(&declared(&path, key).unwrap()[0].object).unwrap().clone()
    };
    assert_eq!(code_of(&text("a"), 1), code_of(&text("a"), 1));
    assert_ne!(code_of(&text("a"), 1), code_of(&text("b"), 1));
    assert_ne!(code_of(&text("a"), 1), code_of(&text("a"), 2));
}

#[test]
fn hidden_files_and_backups_are_not_manifests() {
    for (name, expected) in [
        ("a.yaml", true),
        ("a.yml", true),
        ("a.json", true),
        (".h.yaml", false),
        (".#a.yaml", false),
        ("a.yaml~", false),
        ("#a.yaml#", false),
        ("a.yaml.bak", false),
    ] {
        assert_eq!(is_manifest(&Path::new("/m").join(name)), expected, "{name}");
    }
}

#[test]
fn an_object_declared_twice_is_reported_with_both_places_and_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    let other = text("localboot").replace("vm", "other");
    let files = [("a.yaml", format!("{other}---\n{}", text("i1"))), ("d.yaml", text(""))];
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        all.extend(declared(&path, 0).unwrap());
    }
    let mut wrong = Vec::new();
    let once = without_duplicates(all, &mut wrong);
    assert_eq!(once.iter().map(|one| one.object.meta().name.as_str()).collect::<Vec<_>>(), ["other"]);
    let [error] = &wrong[..] else { panic!("{wrong:?}") };
    let told = error.to_string();
    for part in ["a.yaml: line 6: BareMetalHost default/vm", "d.yaml line 1"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(error.place(), "a.yaml: line 6");
}
