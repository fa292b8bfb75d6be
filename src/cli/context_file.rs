//! The file of contexts: servers by name, so that no command must name the server, its token and its certificate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};

use crate::provision::yaml_error;

use super::local_files;

/// The contexts of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextFile {
    /// Name of the context that commands use without `--context`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// The contexts by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One server, and how it is reached. The fields are the options of the same names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// URL of the server.
    pub server: String,
    /// File with the bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Certificate authority, or certificate of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// SHA-256 fingerprint of the certificate of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// Private key of the client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
}

/// Error of a name that no context has.
#[derive(Debug, thiserror::Error)]
#[error("context {0:?} does not exist; `bootlatch context list` lists the contexts")]
pub struct NoSuchContext(pub String);

/// Returns the path of the file: below `$XDG_CONFIG_HOME`, else below `~/.config`.
///
/// # Errors
/// Neither variable is set.
pub fn path() -> anyhow::Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let base = base.ok_or_else(|| anyhow!("no directory for contexts: set HOME or XDG_CONFIG_HOME"))?;
    Ok(base.join("bootlatch/config"))
}

/// Reads the contexts; none if there is no file.
///
/// # Errors
/// The file cannot be read, or has other content.
pub fn load() -> anyhow::Result<ContextFile> {
    let Ok(path) = path() else { return Ok(ContextFile::default()) };
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text).with_context(|| path.display().to_string()),
        Err(error) if [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            Ok(ContextFile::default())
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn parse(text: &str) -> anyhow::Result<ContextFile> {
    if text.trim().is_empty() {
        return Ok(ContextFile::default());
    }
    serde_saphyr::from_str(text).map_err(|error| anyhow!("{}", yaml_error(&error)))
}

impl ContextFile {
    /// Returns the context of a name, else the current one; none without either.
    ///
    /// # Errors
    /// No context has the name.
    pub fn find(&self, name: Option<&str>) -> anyhow::Result<Option<&Context>> {
        let Some(name) = name.or(self.current.as_deref()) else { return Ok(None) };
        let context = self.contexts.get(name).ok_or_else(|| NoSuchContext(name.to_owned()))?;
        Ok(Some(context))
    }

    /// Writes the file, readable by its owner only.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self) -> anyhow::Result<()> {
        let path = path()?;
        self.write(&path).with_context(|| path.display().to_string())
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let directory = path.parent().ok_or_else(|| anyhow!("no directory"))?;
        std::fs::create_dir_all(directory)?;
        Ok(local_files::replace(path, serde_saphyr::to_string(self)?.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_found_by_its_name_or_as_the_current_one() {
        let text = "current: lab\ncontexts:\n  lab: {server: 'https://192.0.2.1:6443', token_file: /t}\n  hall: {server: 'unix:/x'}\n";
        let file = parse(text).unwrap();
        let server = |name| file.find(name).map(|context| context.map(|context| context.server.clone()));
        assert_eq!(server(None).unwrap().as_deref(), Some("https://192.0.2.1:6443"));
        assert_eq!(server(Some("hall")).unwrap().as_deref(), Some("unix:/x"));
        assert!(server(Some("no")).unwrap_err().to_string().contains("context list"));
        assert_eq!(ContextFile::default().find(None).unwrap(), None);
        assert!(parse("contexts:\n  lab: {server: x, tokn: y}\n").unwrap_err().to_string().contains("tokn"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b/config");
        let context = Context { server: "unix:/x".into(), ca: Some("/ca".into()), ..Context::default() };
        let file = ContextFile { current: Some("x".into()), contexts: [("x".to_owned(), context)].into() };
        file.write(&path).unwrap();
        assert_eq!(parse(&std::fs::read_to_string(path).unwrap()).unwrap(), file);
    }
}
