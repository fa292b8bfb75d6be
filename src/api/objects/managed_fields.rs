//! Server-side apply: who set which field. Pure.
//!
//! Each manager that applied has an entry in `metadata.managedFields` with the fields it set, as
//! Kubernetes' FieldsV1. What a manager applied before and leaves out now is taken away, unless another
//! manager set it too. A field that another manager set differently is a conflict, or taken over by force.

use serde_json::{Map, Value, json};

/// Is a field that somebody else set to another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub manager: String,
    /// Is the field's path, as in `.spec.image`.
    pub field: String,
}

type Path = Vec<String>;

/// Spells a wish as the server does: what is the same in other words is no difference. `normal` is the object that
/// the wish makes, as the server writes it; what it leaves out is nothing.
pub fn respell(wish: &mut Value, normal: &Value) {
    for path in leaves(wish) {
        let first = path.first().map(String::as_str);
        let place = path.iter().try_fold(&mut *wish, |value, part| value.get_mut(part));
        if let (Some("spec"), Some(place)) = (first, place) {
            *place = at(normal, &path).cloned().unwrap_or_default();
        }
    }
}

/// Applies what a manager wishes for to an object as it is. `now` is RFC 3339.
///
/// # Errors
/// The fields that others set to other values, where force is not used. The object is as it was then.
pub fn apply(live: &mut Value, mut wish: Value, manager: &str, force: bool, now: &str) -> Result<(), Vec<Conflict>> {
    wish = stripped(wish);
    let wished = leaves(&wish);
    let mut entries = entries(live);
    let is_mine = |entry: &Value| entry["manager"] == manager && entry["operation"] == "Apply";
    // Whoever applies again what he did keeps his place: otherwise two who take turns would each be a change.
    let place = entries.iter().position(is_mine).unwrap_or(entries.len());
    let (mine, others): (Vec<Value>, Vec<Value>) = entries.drain(..).partition(is_mine);
    let before: Vec<Path> = mine.first().map(|entry| owned(&entry["fieldsV1"])).unwrap_or_default();
    let theirs: Vec<(String, Vec<Path>)> = others
        .iter()
        .map(|entry| (entry["manager"].as_str().unwrap_or_default().to_owned(), owned(&entry["fieldsV1"])))
        .collect();
    let said = |value: &Value, path: &Path| at(value, path).filter(|value| !value.is_null()).cloned();
    let differs = |path: &Path| said(live, path) != said(&wish, path);
    let conflicts: Vec<Conflict> = theirs
        .iter()
        .flat_map(|(manager, paths)| paths.iter().map(move |path| (manager, path)))
        .filter(|(_, path)| wished.contains(path) && differs(path))
        .map(|(manager, path)| Conflict { manager: manager.clone(), field: format!(".{}", path.join(".")) })
        .collect();
    if !conflicts.is_empty() && !force {
        return Err(conflicts);
    }
    let lost: Vec<Path> = wished.iter().filter(|path| differs(path)).cloned().collect();
    for path in &before {
        if !wished.contains(path) && !theirs.iter().any(|(_, paths)| paths.contains(path)) {
            remove(live, path);
        }
    }
    json_patch::merge(live, &wish);
    let mut entries: Vec<Value> = others.into_iter().filter_map(|entry| without(entry, &lost)).collect();
    entries.insert(place.min(entries.len()), entry(mine.first(), &wished, manager, now));
    if let Some(meta) = live.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.insert("managedFields".into(), entries.into());
    }
    Ok(())
}

fn entry(before: Option<&Value>, wished: &[Path], manager: &str, now: &str) -> Value {
    let fields = tree(wished);
    let same = before.filter(|entry| entry["fieldsV1"] == fields);
    let time = same.map_or(json!(now), |entry| entry["time"].clone());
    json!({"manager": manager, "operation": "Apply", "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1", "fieldsV1": fields})
}

/// Takes what names the object, and what is not a manager's to set, out of a wish.
pub fn stripped(mut wish: Value) -> Value {
    let Some(map) = wish.as_object_mut() else { return wish };
    for field in ["apiVersion", "kind", "status"] {
        map.shift_remove(field);
    }
    if let Some(meta) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|field, _| !NOT_ONES_OWN.contains(&field.as_str()));
        if meta.is_empty() {
            map.shift_remove("metadata");
        }
    }
    wish
}

/// Are the fields of `metadata` that name an object or that the server alone sets.
const NOT_ONES_OWN: [&str; 10] = [
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

/// Lists the paths of everything that is no mapping: scalars, and lists as a whole.
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
    fn what_is_left_out_is_taken_away() {
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
    fn who_applies_again_changes_nothing_whoever_came_between() {
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
        respell(&mut wish, &json!({"metadata": {}, "spec": {"mac": "aa:bb", "bmc": {"address": "b", "username": ""}}}));
        assert_eq!(
            wish,
            json!({"metadata": {"labels": {"a": "X"}}, "spec": {"mac": "aa:bb", "ref": null, "bmc": {"address": "b"}}})
        );
        let mut live = json!({"metadata": {"name": "a"}, "spec": {}});
        applied(&mut live, "one", wish["spec"].clone(), false).unwrap();
        applied(&mut live, "two", wish["spec"].clone(), false).unwrap();
    }

    #[test]
    fn another_managers_value_is_a_conflict_or_taken_by_force() {
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
