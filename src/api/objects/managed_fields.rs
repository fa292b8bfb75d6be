//! Server-side apply: which manager set which field. Pure.
//!
//! Each manager that applied has an entry in `metadata.managedFields` with the fields it set, as Kubernetes' FieldsV1.
//! A field that a manager applied before and now leaves out is removed, unless another manager set it too. A field that
//! another manager set to another value is a conflict, or is taken over with `force`.

use serde_json::{Map, Value, json};

/// A field that another manager set to another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Name of the other manager.
    pub manager: String,
    /// Path of the field, as in `.spec.image`.
    pub field: String,
}

type Path = Vec<String>;

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
    let value_at = |value: &Value, path: &Path| at(value, path).filter(|value| !value.is_null()).cloned();
    let differs = |path: &Path| value_at(live, path) != value_at(&applied, path);
    let conflicts: Vec<Conflict> = theirs
        .iter()
        .flat_map(|(manager, paths)| paths.iter().map(move |path| (manager, path)))
        .filter(|(_, path)| set.contains(path) && differs(path))
        .map(|(manager, path)| Conflict { manager: manager.clone(), field: format!(".{}", path.join(".")) })
        .collect();
    if !conflicts.is_empty() && !force {
        return Err(conflicts);
    }
    let lost: Vec<Path> = set.iter().filter(|path| differs(path)).cloned().collect();
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

fn without(mut entry: Value, lost: &[Path]) -> Option<Value> {
    let kept: Vec<Path> = owned(&entry["fieldsV1"]).into_iter().filter(|path| !lost.contains(path)).collect();
    if kept.is_empty() {
        return None;
    }
    entry["fieldsV1"] = tree(&kept);
    Some(entry)
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
        done.map_err(|conflicts| conflicts.into_iter().map(|one| format!("{} {}", one.manager, one.field)).collect())
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
