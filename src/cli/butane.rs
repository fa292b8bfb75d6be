//! Butane configs of this machine, which become Ignition configs before they are sent: the server reads no local files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::provision::butane::{LocalFiles, TreeEntry, TreeNode, compile, is_butane, line_of};

/// Name of the file of a Butane config: `NAME.bu` or `NAME.butane`, which becomes `NAME.ign`.
const SUFFIXES: [&str; 2] = [".bu", ".butane"];

/// Compiles a file if it is a Butane config, and returns its new name and text. Others stay as they are. Local files are
/// looked for in `files_dir`, or beside the config. Prints the warnings.
///
/// # Errors
/// The config, or the Ignition config that it becomes, is wrong.
pub fn compile_file(
    name: String,
    text: String,
    path: &Path,
    files_dir: Option<&Path>,
) -> anyhow::Result<(String, String)> {
    let stem = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
    if stem.is_none() && !is_butane(&text) {
        return Ok((name, text));
    }
    let new_name = stem.map_or_else(|| name.clone(), |stem| format!("{stem}.ign"));
    Ok((new_name, compile_text(&text, path, files_dir)?))
}

/// Compiles a Butane config. Prints the warnings.
///
/// # Errors
/// As [`compile_file`].
pub fn compile_text(text: &str, path: &Path, files_dir: Option<&Path>) -> anyhow::Result<String> {
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = FilesDir(files_dir.unwrap_or(beside).to_owned());
    let place = |message: &String| match line_of(text, message) {
        Some(line) => format!("{}: line {line}: {message}", path.display()),
        None => format!("{}: {message}", path.display()),
    };
    let compiled = compile(text, Some(&files)).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(place).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })?;
    compiled.warnings.iter().for_each(|warning| eprintln!("bootlatch: {}", place(warning)));
    Ok(format!("{:#}\n", compiled.config))
}

/// A directory of local files.
struct FilesDir(PathBuf);

impl FilesDir {
    /// Returns the path of a file below the directory.
    fn path(&self, file: &str) -> Result<PathBuf, String> {
        let text = |error: std::io::Error| error.to_string();
        let path = self.0.join(file).canonicalize().map_err(text)?;
        let directory = self.0.canonicalize().map_err(text)?;
        if path.starts_with(&directory) { Ok(path) } else { Err(format!("not below {}", self.0.display())) }
    }
}

impl LocalFiles for FilesDir {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        std::fs::read(self.path(path)?).map_err(|error| error.to_string())
    }

    fn tree(&self, path: &str) -> Result<Vec<TreeEntry>, String> {
        let directory = self.path(path)?;
        let mut entries = Vec::new();
        walk(&directory, "", &mut entries).map_err(|error| format!("{error:#}"))?;
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(entries)
    }
}

/// Adds the files and links below a directory.
fn walk(directory: &Path, below: &str, entries: &mut Vec<TreeEntry>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name().into_string();
        let name = name.map_err(|name| anyhow::anyhow!("{}: not UTF-8", name.display()))?;
        let relative = if below.is_empty() { name } else { format!("{below}/{name}") };
        let node = if kind.is_dir() {
            walk(&path, &relative, entries)?;
            continue;
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&path)?.into_os_string().into_string();
            TreeNode::Link { target: target.map_err(|_| anyhow::anyhow!("{}: not UTF-8", path.display()))? }
        } else if kind.is_file() {
            let is_executable = entry.metadata()?.permissions().mode() & 0o111 != 0;
            TreeNode::File { content: std::fs::read(&path).with_context(|| path.display().to_string())?, is_executable }
        } else {
            anyhow::bail!("{}: neither a file nor a link", path.display());
        };
        entries.push(TreeEntry { path: relative, node });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_files_are_those_below_the_directory() {
        let place = tempfile::tempdir().unwrap();
        let files = FilesDir(place.path().join("files"));
        std::fs::create_dir_all(files.0.join("tree/sub")).unwrap();
        std::fs::write(files.0.join("tree/sub/run"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(files.0.join("tree/sub/run"), PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("sub/run", files.0.join("tree/link")).unwrap();
        std::fs::write(place.path().join("outside"), "secret").unwrap();
        std::os::unix::fs::symlink("../outside", files.0.join("link")).unwrap();
        assert!(files.read("../outside").unwrap_err().contains("not below"));
        assert!(files.read("link").unwrap_err().contains("not below"));
        assert_eq!(files.read("tree/link").unwrap(), b"#!/bin/sh\n");
        let run = TreeNode::File { content: b"#!/bin/sh\n".to_vec(), is_executable: true };
        assert_eq!(
            files.tree("tree").unwrap(),
            [
                TreeEntry { path: "link".to_owned(), node: TreeNode::Link { target: "sub/run".to_owned() } },
                TreeEntry { path: "sub/run".to_owned(), node: run },
            ]
        );
    }

    #[test]
    fn a_butane_config_is_known_by_its_name_or_its_variant() {
        let compiled = |name: &str, text: &str| compile_file(name.into(), text.into(), Path::new(name), None).unwrap();
        let butane = "variant: fcos\nversion: 1.5.0\n";
        let (name, text) = compiled("target.bu", butane);
        assert_eq!((name.as_str(), text.contains("\"3.4.0\"")), ("target.ign", true));
        assert!(compiled("config.ign", butane).1.contains("\"3.4.0\""));
        assert_eq!(compiled("config.ign", "{}"), ("config.ign".to_owned(), "{}".to_owned()));
        let error = compile_file("a.bu".into(), "variant: x\n".into(), Path::new("a.bu"), None).unwrap_err();
        assert!(error.to_string().starts_with("a.bu: line 1: variant \"x\""), "{error}");
    }
}
