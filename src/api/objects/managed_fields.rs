//! The managers of fields, for server-side apply. Pure.
//!
//! Each manager that applied has an entry in `metadata.managedFields` with the fields it set, as Kubernetes' FieldsV1;
//! and each that wrote by other means one with the operation `Update`. A field that a manager applied before and now
//! leaves out is removed, unless another manager set it too. A field that another manager set to another value is a
//! conflict, or is taken over with `force`. An update conflicts with nobody: it takes over the fields that it changes.
//! A manager does not conflict with its own updates.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// A field that another manager set to another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Name of the other manager.
    pub manager: String,
    /// Path of the field.
    pub path: Path,
}

impl Conflict {
    /// Returns the field's path as text, as in `.spec.image`.
    pub fn field(&self) -> String {
        format!(".{}", self.path.join("."))
    }
}

/// The keys that lead to a field.
pub type Path = Vec<String>;

/// Rewrites the values of an applied configuration in the server's spelling, so that another spelling of the same value
/// is no difference. `normal` is the resulting object as the server writes it; a field that it omits becomes null.
pub fn normalize(applied: &mut Value, normal: &Value) {
    for path in leaves(applied) {
        let first = path.first().map(String::as_str);
        let place = path.iter().try_fold(&mut *applied, |value, part| value.get_mut(part));
        if let (Some("spec"), Some(place)) = (first, place) {
            *place = at(normal, &path).cloned().unwrap_or_default();
        }
    }
}

/// Returns the managers of an object that a manager wrote by other means than apply. It takes over the fields that it
/// sets to another value, and a removed field has no manager. `before` is the object that it replaces, `after` the
/// written one as the server spells it. `now` is in RFC 3339.
pub fn after_update(before: Option<&Value>, after: &Value, manager: &str, now: &str) -> Vec<Value> {
    // Kubernetes' way to remove all managers is one empty entry.
    let given: Vec<Value> = entries(after).into_iter().filter(|entry| *entry != json!({})).collect();
    let old = before.map(|before| strip_server_fields(before.clone())).unwrap_or_default();
    let new = strip_server_fields(after.clone());
    let differs = |path: &Path| value_at(&old, path) != value_at(&new, path);
    let (changed, lost): (BTreeSet<Path>, BTreeSet<Path>) =
        (leaves(&new).into_iter().filter(differs).collect(), leaves(&old).into_iter().filter(differs).collect());
    if changed.is_empty() && lost.is_empty() {
        return given;
    }
    let is_mine = |entry: &Value| entry["manager"] == manager && entry["operation"] == "Update";
    let mine = given.iter().find(|entry| is_mine(entry));
    let mut owned_now: Vec<Path> = mine.map(|entry| owned(&entry["fieldsV1"])).unwrap_or_default();
    owned_now.retain(|path| !lost.contains(path) && !changed.contains(path));
    owned_now.extend(changed.iter().filter(|path| value_at(&new, path).is_some()).cloned());
    let taken: BTreeSet<Path> = changed.into_iter().chain(lost).collect();
    let entry = (!owned_now.is_empty()).then(|| {
        json!({
            "manager": manager, "operation": "Update", "apiVersion": "v1", "time": now, "fieldsType": "FieldsV1",
            "fieldsV1": tree(&owned_now),
        })
    });
    let (mut kept, mut entry) = (Vec::new(), entry);
    for one in given {
        match is_mine(&one) {
            true => kept.extend(entry.take()),
            false => kept.extend(without(one, &taken)),
        }
    }
    kept.extend(entry);
    with_few_updaters(kept)
}

/// Maximum number of managers with updates of their own, as in Kubernetes. The updates of the others count as one manager's.
const MAX_UPDATERS: usize = 10;

/// The manager of the updates that have no manager of their own any more, as in Kubernetes.
const ANCIENT_CHANGES: &str = "ancient-changes";

/// Joins the oldest updates to one entry if there are more than `MAX_UPDATERS`.
fn with_few_updaters(entries: Vec<Value>) -> Vec<Value> {
    let is_update = |entry: &&Value| entry["operation"] == "Update";
    let mut updates: Vec<&Value> = entries.iter().filter(is_update).collect();
    if updates.len() <= MAX_UPDATERS {
        return entries;
    }
    let time = |entry: &Value| entry["time"].as_str().unwrap_or_default().to_owned();
    updates.sort_by_key(|entry| (entry["manager"] != ANCIENT_CHANGES, time(entry)));
    updates.truncate(updates.len() - MAX_UPDATERS + 1);
    let old: Vec<Value> = updates.iter().map(|entry| (*entry).clone()).collect();
    let paths: BTreeSet<Path> = old.iter().flat_map(|entry| owned(&entry["fieldsV1"])).collect();
    let joined = json!({
        "manager": ANCIENT_CHANGES, "operation": "Update", "apiVersion": "v1",
        "time": old.iter().map(time).max(), "fieldsType": "FieldsV1",
        "fieldsV1": tree(&paths.into_iter().collect::<Vec<_>>()),
    });
    let others = entries.into_iter().filter(|entry| !old.contains(entry));
    std::iter::once(joined).chain(others).collect()
}

/// Returns the conflicts that are left for kubectl's first server-side apply of an object that it applied from the
/// client's side: a field that nobody else set since, or that still has the value of that apply, is its own.
pub fn without_own_client_side_apply(live: &Value, conflicts: Vec<Conflict>) -> Vec<Conflict> {
    let last = live.pointer("/metadata/annotations").and_then(|all| all.get(LAST_APPLIED)).and_then(Value::as_str);
    let Some(last) = last.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { return conflicts };
    let is_own = |Conflict { manager, path }: &Conflict| {
        let applied = value_at(&last, path);
        manager == CLIENT_SIDE_APPLY || applied.is_some() && applied == value_at(live, path)
    };
    conflicts.into_iter().filter(|conflict| !is_own(conflict)).collect()
}

/// Manager of kubectl's apply from the client's side.
const CLIENT_SIDE_APPLY: &str = "kubectl-client-side-apply";

/// Annotation in which kubectl keeps the configuration that it last applied from the client's side.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Applies a manager's configuration to an object. `now` is in RFC 3339.
///
/// # Errors
/// The fields that other managers set to other values, unless `force` is set. The object is unchanged then.
pub fn apply(live: &mut Value, mut applied: Value, manager: &str, force: bool, now: &str) -> Result<(), Vec<Conflict>> {
    applied = strip_server_fields(applied);
    let set = leaves(&applied);
    let mut entries = entries(live);
    let is_mine = |entry: &Value| entry["manager"] == manager && entry["operation"] == "Apply";
    // A manager keeps its position: otherwise two managers that apply in turn would change the object each time.
    let place = entries.iter().position(is_mine).unwrap_or(entries.len());
    let (mine, others): (Vec<Value>, Vec<Value>) = entries.drain(..).partition(is_mine);
    let before: Vec<Path> = mine.first().map(|entry| owned(&entry["fieldsV1"])).unwrap_or_default();
    let theirs: Vec<(String, Vec<Path>)> = others
        .iter()
        .map(|entry| (entry["manager"].as_str().unwrap_or_default().to_owned(), owned(&entry["fieldsV1"])))
        .collect();
    let differs = |path: &Path| value_at(live, path) != value_at(&applied, path);
    let conflicts: Vec<Conflict> = theirs
        .iter()
        .flat_map(|(manager, paths)| paths.iter().map(move |path| (manager, path)))
        .filter(|(other, path)| *other != manager && set.contains(path) && differs(path))
        .map(|(manager, path)| Conflict { manager: manager.clone(), path: path.clone() })
        .collect();
    if !conflicts.is_empty() && !force {
        return Err(conflicts);
    }
    let lost: BTreeSet<Path> = set.iter().filter(|path| differs(path)).cloned().collect();
    for path in &before {
        if !set.contains(path) && !theirs.iter().any(|(_, paths)| paths.contains(path)) {
            remove(live, path);
        }
    }
    json_patch::merge(live, &applied);
    let mut entries: Vec<Value> = others.into_iter().filter_map(|entry| without(entry, &lost)).collect();
    entries.insert(place.min(entries.len()), entry(mine.first(), &set, manager, now));
    if let Some(meta) = live.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.insert("managedFields".into(), entries.into());
    }
    Ok(())
}

fn entry(before: Option<&Value>, set: &[Path], manager: &str, now: &str) -> Value {
    let fields = tree(set);
    let same = before.filter(|entry| entry["fieldsV1"] == fields);
    let time = same.map_or(json!(now), |entry| entry["time"].clone());
    json!({"manager": manager, "operation": "Apply", "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields})
}

/// Removes the fields that name the object or that only the server sets from an applied configuration.
pub fn strip_server_fields(mut applied: Value) -> Value {
    let Some(map) = applied.as_object_mut() else { return applied };
    for field in ["apiVersion", "kind", "status"] {
        map.shift_remove(field);
    }
    if let Some(meta) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|field, _| !SERVER_FIELDS.contains(&field.as_str()));
        if meta.is_empty() {
            map.shift_remove("metadata");
        }
    }
    applied
}

/// Fields of `metadata` that name an object or that only the server sets.
const SERVER_FIELDS: [&str; 10] = [
    "name",
    "namespace",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "selfLink",
];

fn entries(live: &Value) -> Vec<Value> {
    live.pointer("/metadata/managedFields").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Returns the paths of all values that are not mappings: scalars, and lists as a whole.
fn leaves(value: &Value) -> Vec<Path> {
    fn walk(value: &Value, path: &mut Path, found: &mut Vec<Path>) {
        match value.as_object() {
            Some(map) => {
                for (key, value) in map {
                    path.push(key.clone());
                    walk(value, path, found);
                    path.pop();
                }
            }
            None => found.push(path.clone()),
        }
    }
    let mut found = Vec::new();
    walk(value, &mut Vec::new(), &mut found);
    found
}

fn owned(fields: &Value) -> Vec<Path> {
    fn walk(fields: &Map<String, Value>, path: &mut Path, found: &mut Vec<Path>) {
        for (key, below) in fields {
            let Some(name) = key.strip_prefix("f:") else { continue };
            path.push(name.to_owned());
            match below.as_object() {
                Some(below) if below.keys().any(|key| key.starts_with("f:")) => walk(below, path, found),
                _ => found.push(path.clone()),
            }
            path.pop();
        }
    }
    let mut found = Vec::new();
    if let Some(fields) = fields.as_object() {
        walk(fields, &mut Vec::new(), &mut found);
    }
    found
}

fn tree(paths: &[Path]) -> Value {
    let mut root = json!({});
    for path in paths {
        let mut place = &mut root;
        for part in path {
            place = &mut place[format!("f:{part}")];
            if place.is_null() {
                *place = json!({});
            }
        }
    }
    root
}

fn without(mut entry: Value, lost: &BTreeSet<Path>) -> Option<Value> {
    let kept: Vec<Path> = owned(&entry["fieldsV1"]).into_iter().filter(|path| !lost.contains(path)).collect();
    if kept.is_empty() {
        return None;
    }
    entry["fieldsV1"] = tree(&kept);
    Some(entry)
}

/// Returns the value of a field; `None` for null, which is an absent value.
fn value_at<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    at(value, path).filter(|value| !value.is_null())
}

fn at<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, part| value.get(part))
}

fn remove(value: &mut Value, path: &Path) {
    let Some((last, parents)) = path.split_last() else { return };
    let parent = parents.iter().try_fold(value, |value, part| value.get_mut(part));
    if let Some(map) = parent.and_then(Value::as_object_mut) {
        map.shift_remove(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(live: &mut Value, manager: &str, spec: Value, force: bool) -> Result<(), Vec<String>> {
        let wish = json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a"}, "spec": spec});
        let done = apply(live, wish, manager, force, "2026-11-21T00:00:00Z");
        done.map_err(|conflicts| conflicts.into_iter().map(|one| format!("{} {}", one.manager, one.field())).collect())
    }

    /// Writes an object by other means than apply.
    fn updated(live: &mut Value, manager: &str, patch: Value, now: &str) {
        let before = live.clone();
        json_patch::merge(live, &patch);
        live["metadata"]["managedFields"] = after_update(Some(&before), live, manager, now).into();
    }

    /// Returns the managers with their operations and fields, as in `one Apply .spec.image .spec.ip`.
    fn managers(live: &Value) -> Vec<String> {
        let fields = |entry: &Value| {
            owned(&entry["fieldsV1"]).iter().map(|path| format!(" .{}", path.join("."))).collect::<String>()
        };
        let text = |word: &Value| word.as_str().unwrap().to_owned();
        entries(live)
            .iter()
            .map(|one| format!("{} {}{}", text(&one["manager"]), text(&one["operation"]), fields(one)))
            .collect()
    }

    #[test]
    fn an_update_takes_over_what_it_changes() {
        let mut live = json!({"metadata": {"name": "a"}, "spec": {"image": "x", "ip": "1"}});
        live["metadata"]["managedFields"] = after_update(None, &live, "maker", "1").into();
        assert_eq!(managers(&live), ["maker Update .spec.image .spec.ip"]);
        applied(&mut live, "one", json!({"image": "x"}), false).unwrap();
        let refused = applied(&mut live, "one", json!({"image": "y"}), false);
        assert_eq!(refused, Err(vec!["maker .spec.image".to_owned()]));
        updated(&mut live, "editor", json!({"spec": {"image": "z"}}), "2");
        assert_eq!(managers(&live), ["maker Update .spec.ip", "editor Update .spec.image"]);
        let refused = applied(&mut live, "one", json!({"image": "x"}), false);
        assert_eq!(refused, Err(vec!["editor .spec.image".to_owned()]));
        applied(&mut live, "one", json!({"image": "x"}), true).unwrap();
        assert_eq!(managers(&live), ["maker Update .spec.ip", "one Apply .spec.image"]);
    }

    #[test]
    fn a_removed_field_has_no_manager_and_no_change_leaves_all_as_it_is() {
        let mut live = json!({"metadata": {"name": "a", "labels": {"x": "1", "y": "2"}}, "spec": {}});
        live["metadata"]["managedFields"] = after_update(None, &live, "maker", "1").into();
        let before = live.clone();
        updated(&mut live, "editor", json!({"metadata": {"labels": {"x": "1", "gone": null}}}), "2");
        assert_eq!(live, before);
        updated(&mut live, "editor", json!({"metadata": {"labels": {"x": null}}}), "2");
        assert_eq!(managers(&live), ["maker Update .metadata.labels.y"]);
        updated(&mut live, "maker", json!({"metadata": {"labels": null}}), "3");
        assert_eq!(managers(&live), [""; 0]);
        live["metadata"]["managedFields"] = json!([{}]);
        let same = live.clone();
        assert!(after_update(Some(&same), &live, "editor", "4").is_empty(), "one empty entry removes all managers");
    }

    #[test]
    fn the_oldest_of_many_updates_are_joined() {
        let mut live = json!({"metadata": {"name": "a"}, "spec": {}});
        for number in 10..10 + 3 * MAX_UPDATERS {
            updated(
                &mut live,
                &format!("one{number}"),
                json!({"spec": {format!("f{number}"): 1}}),
                &number.to_string(),
            );
        }
        let found = managers(&live);
        assert_eq!(found.len(), MAX_UPDATERS);
        assert!(
            found[0].starts_with("ancient-changes Update .spec.f10 ") && found[0].ends_with(" .spec.f30"),
            "{found:?}"
        );
        assert_eq!(
            (found[1].as_str(), live["metadata"]["managedFields"][0]["time"].as_str()),
            ("one31 Update .spec.f31", Some("30"))
        );
    }

    #[test]
    fn a_manager_does_not_conflict_with_its_own_updates() {
        let mut live = json!({"metadata": {"name": "a"}, "spec": {"image": "x"}});
        live["metadata"]["managedFields"] = after_update(None, &live, "one", "1").into();
        applied(&mut live, "one", json!({"image": "y"}), false).unwrap();
        assert_eq!(managers(&live), ["one Apply .spec.image"]);
    }

    #[test]
    fn what_kubectl_applied_from_the_clients_side_is_its_own() {
        let last = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"image": "x", "ip": "1"}}).to_string();
        let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
        let mut live =
            json!({"metadata": {"name": "a", "annotations": annotations}, "spec": {"image": "x", "ip": "1"}});
        live["metadata"]["managedFields"] = after_update(None, &live, "kubectl-client-side-apply", "1").into();
        updated(&mut live, "editor", json!({"spec": {"ip": "2"}}), "2");
        let wish = json!({"spec": {"image": "y", "ip": "3"}});
        let conflicts = apply(&mut live, wish, "kubectl", false, "2").unwrap_err();
        let left: Vec<_> = without_own_client_side_apply(&live, conflicts).iter().map(Conflict::field).collect();
        assert_eq!(left, [".spec.ip"], "another client changed the ip since");
    }

    #[test]
    fn a_field_that_is_left_out_is_removed() {
        let mut live = json!({"metadata": {"name": "a"}, "spec": {"kept": 1}});
        applied(&mut live, "one", json!({"image": "x", "bmc": {"address": "b", "username": "u"}}), false).unwrap();
        assert_eq!(live["spec"], json!({"kept": 1, "image": "x", "bmc": {"address": "b", "username": "u"}}));
        applied(&mut live, "one", json!({"bmc": {"address": "c"}}), false).unwrap();
        assert_eq!(live["spec"], json!({"kept": 1, "bmc": {"address": "c"}}));
        let again = live.clone();
        applied(&mut live, "one", json!({"bmc": {"address": "c"}}), false).unwrap();
        assert_eq!(live, again);
    }

    #[test]
    fn applying_again_changes_nothing_after_another_manager() {
        let mut live = json!({"metadata": {"name": "a"}, "spec": {}});
        for manager in ["one", "two"] {
            applied(&mut live, manager, json!({"image": "x"}), false).unwrap();
        }
        let before = live.clone();
        for manager in ["one", "two"] {
            applied(&mut live, manager, json!({"image": "x"}), false).unwrap();
            assert_eq!(live, before, "{manager}");
        }
    }

    #[test]
    fn another_spelling_is_no_difference() {
        let mut wish =
            json!({"metadata": {"labels": {"a": "X"}}, "spec": {"mac": "AA-BB", "ref": "", "bmc": {"address": "b"}}});
        normalize(
            &mut wish,
            &json!({"metadata": {}, "spec": {"mac": "aa:bb", "bmc": {"address": "b", "username": ""}}}),
        );
        assert_eq!(
            wish,
            json!({"metadata": {"labels": {"a": "X"}}, "spec": {"mac": "aa:bb", "ref": null, "bmc": {"address": "b"}}})
        );
        let mut live = json!({"metadata": {"name": "a"}, "spec": {}});
        applied(&mut live, "one", wish["spec"].clone(), false).unwrap();
        applied(&mut live, "two", wish["spec"].clone(), false).unwrap();
    }

    #[test]
    fn a_value_of_another_manager_is_a_conflict_or_taken_over_by_force() {
        let mut live = json!({"metadata": {"name": "a"}, "spec": {}});
        applied(&mut live, "one", json!({"image": "x", "ip": "1"}), false).unwrap();
        applied(&mut live, "two", json!({"image": "x"}), false).unwrap();
        let refused = applied(&mut live, "two", json!({"image": "y"}), false);
        assert_eq!(refused, Err(vec!["one .spec.image".to_owned()]));
        applied(&mut live, "two", json!({"image": "y"}), true).unwrap();
        assert_eq!(live["spec"], json!({"image": "y", "ip": "1"}));
        let refused = applied(&mut live, "one", json!({"image": "x", "ip": "1"}), false);
        assert_eq!(refused, Err(vec!["two .spec.image".to_owned()]));
        applied(&mut live, "one", json!({"ip": "1"}), false).unwrap();
        assert_eq!(live["spec"], json!({"image": "y", "ip": "1"}));
    }
}
