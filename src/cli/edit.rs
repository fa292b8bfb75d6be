//! `bootlatch edit`: an object in an editor.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use hyper::Method;
use serde_json::{Map, Value};

use crate::fleet::Kind;
use crate::provision::yaml_error;

use super::client::{ApiClient, ClientError};
use super::lookup::{self, SERVER_FIELDS};
use super::reference::{kind_and_name, object_path};
use super::show::print;

/// Edits an object. The text is kept in a file if the server refuses it.
///
/// # Errors
/// The editor fails, or the server refuses the object.
pub async fn edit(client: &mut ApiClient, kind: Kind, namespace: &str, word: &str) -> anyhow::Result<()> {
    let mut object = lookup::object(client, kind, namespace, word).await?;
    let name = object["metadata"]["name"].as_str().unwrap_or(word).to_owned();
    let place = kind_and_name(kind, &name);
    let version = object["metadata"]["resourceVersion"].take();
    strip(&mut object);
    let before = serde_saphyr::to_string(&object)?;
    let path = write_file(&name, &before)?;
    run_editor(&path).await?;
    let after = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    if after == before {
        let _ = std::fs::remove_file(&path);
        return print(&format!("{place} unchanged\n"));
    }
    let kept =
        |error: anyhow::Error| error.context(format!("{place}: not changed; your text is in {}", path.display()));
    let edited = serde_saphyr::from_str::<Value>(&after).map_err(|error| kept(anyhow!("{}", yaml_error(&error))))?;
    for field in ["/kind", "/metadata/name", "/metadata/namespace"] {
        if edited.pointer(field) != object.pointer(field) {
            let field = field.trim_start_matches('/').replace('/', ".");
            return Err(kept(anyhow!("{field}: cannot be changed; create another object")));
        }
    }
    let patch = merge_patch(&object, &edited);
    write_patch(client, &object_path(kind, namespace, &name), (&object, version), patch).await.map_err(kept)?;
    let _ = std::fs::remove_file(&path);
    print(&format!("{place} edited\n"))
}

/// Maximum number of attempts while only what the server sets is changed by others.
const MAX_ATTEMPTS: usize = 5;

/// Writes a patch to the version of an object that it was made from. A later version is taken if only what the server
/// sets differs, such as the phase of a host.
async fn write_patch(
    client: &mut ApiClient,
    path: &str,
    (before, mut version): (&Value, Value),
    mut patch: Value,
) -> anyhow::Result<()> {
    for attempt in 1.. {
        patch["metadata"]["resourceVersion"] = version.clone();
        let Err(error) = client.merge(path, &patch).await else { break };
        let is_conflict = matches!(error.downcast_ref(), Some(ClientError::Refused { code: 409, .. }));
        if !is_conflict || attempt == MAX_ATTEMPTS {
            return Err(error);
        }
        let mut present = client.ask(Method::GET, path, None).await?;
        let latest = present["metadata"]["resourceVersion"].take();
        strip(&mut present);
        if latest == version || present != *before {
            return Err(error);
        }
        version = latest;
    }
    Ok(())
}

/// Removes what the server sets.
fn strip(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.shift_remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        SERVER_FIELDS.iter().for_each(|field| _ = metadata.shift_remove(*field));
    }
}

/// Writes the text to a new file that only its owner can read.
fn write_file(name: &str, text: &str) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::OpenOptionsExt;
    let directory = std::env::temp_dir();
    for number in 0..100 {
        let path = directory.join(format!("bootlatch-edit-{name}-{}-{number}.yaml", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        match options.write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes()).with_context(|| path.display().to_string())?;
                return Ok(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    bail!("{}: too many files of earlier edits", directory.display())
}

/// Runs the editor: `$KUBE_EDITOR`, `$EDITOR`, else vi. The variable may contain options.
async fn run_editor(path: &Path) -> anyhow::Result<()> {
    let of_variable = |name| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = of_variable("KUBE_EDITOR").or_else(|| of_variable("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // As in git and kubectl, a shell splits the words of the variable.
    let mut command = std::process::Command::new("/bin/sh");
    command.arg("-c").arg(format!("{editor} \"$1\"")).arg(&editor).arg(path);
    let status = tokio::task::spawn_blocking(move || command.status()).await?;
    let status = status.with_context(|| format!("editor {editor}"))?;
    match status.success() {
        true => Ok(()),
        false => bail!("editor {editor}: {status}; your text is in {}", path.display()),
    }
}

/// Returns the merge patch (RFC 7386) that makes one value of another.
fn merge_patch(before: &Value, after: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return after.clone() };
    let mut patch = Map::new();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in after {
        match before.get(key) {
            Some(old) if old == value => {}
            Some(old) => _ = patch.insert(key.clone(), merge_patch(old, value)),
            None => _ = patch.insert(key.clone(), value.clone()),
        }
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_has_only_what_changed() {
        let before = json!({"spec": {"image": "a", "ip": "1", "list": [1, 2]}, "metadata": {"labels": {"x": "1"}}});
        let after = json!({"spec": {"image": "b", "list": [1], "new": {"a": 1}}, "metadata": {"labels": {"x": "1"}}});
        let patch = merge_patch(&before, &after);
        assert_eq!(patch, json!({"spec": {"ip": null, "image": "b", "list": [1], "new": {"a": 1}}}));
        let mut patched = before;
        json_patch::merge(&mut patched, &patch);
        assert_eq!(patched, after);
    }
}
