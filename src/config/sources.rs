//! The files of the configuration: the one that is named, then `conf.d/*.toml` next to it, in the order of their names.
//! Tables merge, arrays of tables are appended, and any other value takes the place of an earlier one.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{ConfigError, renamed_keys};

/// The directory of further files, next to the one that is named.
const DROP_IN_DIRECTORY: &str = "conf.d";
/// Maximum number of files.
const MAX_FILES: usize = 100;
/// Maximum size of all files, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// The files of a configuration, in the order in which they are read.
pub(super) struct Sources(Vec<SourceFile>);

struct SourceFile {
    path: PathBuf,
    /// The text, behind as many spaces as the files before it have octets: an offset into it belongs to one file only.
    padded: String,
    /// Offset of the text.
    start: usize,
}

impl Sources {
    /// Reads the files. `is_named`: the operator named the first one, so it must exist.
    ///
    /// # Errors
    /// A file or the directory cannot be read, or there are too many.
    pub fn read(path: &Path, is_named: bool) -> Result<Self, ConfigError> {
        Self::read_without(path, is_named, &[])
    }

    /// Reads the files but some.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_without(path: &Path, is_named: bool, left_out: &[PathBuf]) -> Result<Self, ConfigError> {
        let mut found = Self(Vec::new());
        match read_text(path) {
            Err(ConfigError::Read { cause, .. }) if cause.kind() == ErrorKind::NotFound && !is_named => {
                found.add("", path)?;
            }
            text => found.add(&text?, path)?,
        }
        let drop_ins = drop_ins(&path.with_file_name(DROP_IN_DIRECTORY))?;
        for drop_in in drop_ins.into_iter().filter(|path| !left_out.contains(path)) {
            found.add(&read_text(&drop_in)?, &drop_in)?;
        }
        Ok(found)
    }

    /// Returns a configuration of one text.
    pub fn of(text: &str, path: &Path) -> Self {
        Self(vec![SourceFile { path: path.to_owned(), padded: text.to_owned(), start: 0 }])
    }

    fn add(&mut self, text: &str, path: &Path) -> Result<(), ConfigError> {
        let start = self.0.last().map_or(0, |last| last.padded.len() + 1);
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if self.0.len() == MAX_FILES || start + text.len() > MAX_BYTES {
            let message = format!("more than {MAX_FILES} files, or more than {MAX_BYTES} octets in all of them");
            return Err(ConfigError::Syntax { path: path.to_owned(), message });
        }
        let padded = " ".repeat(start) + text;
        self.0.push(SourceFile { path: path.to_owned(), padded, start });
        Ok(())
    }

    /// Returns the paths of the files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|file| file.path.as_path())
    }

    /// Returns the file that was named.
    pub fn main(&self) -> &Path {
        self.0.first().map_or(Path::new(""), |file| &file.path)
    }

    /// Returns the file and the line that an offset belongs to.
    pub fn place(&self, offset: usize) -> (&Path, usize) {
        let file = self.0.iter().rev().find(|file| file.start <= offset);
        file.map_or((Path::new(""), 1), |file| (&file.path, line(&file.padded, offset)))
    }

    /// Parses the files and merges them into one table.
    ///
    /// # Errors
    /// A file is not TOML, or has a key that was renamed.
    pub fn merged(&self) -> Result<Spanned<DeTable<'_>>, ConfigError> {
        let mut all = Spanned::new(0..0, DeTable::new());
        for file in &self.0 {
            let syntax = |line: Option<usize>, message: &str| {
                let line = line.map_or_else(String::new, |line| format!("line {line}: "));
                ConfigError::Syntax { path: file.path.clone(), message: format!("{line}{message}") }
            };
            let table = DeTable::parse(&file.padded).map_err(|error| {
                let span = error.span();
                // The place of a key that is there twice is the key itself.
                let key = span.clone().filter(|_| error.message().contains("duplicate key"));
                let key = key.and_then(|key| file.padded.get(key)).map_or_else(String::new, |key| format!("{key}: "));
                syntax(span.map(|span| line(&file.padded, span.start)), &format!("{key}{}", error.message()))
            })?;
            renamed_keys::check(table.get_ref())
                .map_err(|(offset, message)| syntax(Some(line(&file.padded, offset)), &message))?;
            merge(all.get_mut(), table.into_inner());
        }
        Ok(all)
    }
}

/// Returns whether a file is in the directory of further files of a configuration.
pub(super) fn is_drop_in(main: &Path, file: &Path) -> bool {
    file.parent() == Some(&main.with_file_name(DROP_IN_DIRECTORY))
}

/// Returns the files of a directory that end in `.toml` and are not hidden, in the order of their names; none without the
/// directory.
fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |cause| ConfigError::Read { path: directory.to_owned(), cause };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |cause| ConfigError::Read { path: path.to_owned(), cause };
    let mut text = String::new();
    // One octet more than the limit: the sum of all files is checked where they are added.
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// Merges a later file's table into that of the files before it.
fn merge<'a>(earlier: &mut DeTable<'a>, later: DeTable<'a>) {
    for (key, mut value) in later {
        match (earlier.get_mut(&key).map(Spanned::get_mut), value.get_mut()) {
            (Some(DeValue::Table(table)), DeValue::Table(more)) => merge(table, std::mem::take(more)),
            (Some(DeValue::Array(tables)), DeValue::Array(more)) if are_tables(tables) && are_tables(more) => {
                for table in std::mem::replace(more, DeArray::new()) {
                    tables.push(table);
                }
            }
            _ => {
                // The key as well: its place is that of the later one.
                earlier.remove(&key);
                earlier.insert(key, value);
            }
        }
    }
}

fn are_tables(array: &[Spanned<DeValue<'_>>]) -> bool {
    !array.is_empty() && array.iter().all(|one| one.get_ref().is_table())
}

/// Returns the number of the line that holds an offset, counted from 1.
pub(super) fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::in_force;
    use crate::config::{Config, Flags, load, load_what_is_valid};

    /// Loads `bootlatch.toml` of a directory with these files.
    fn read(files: &[(&str, &str)]) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("conf.d")).unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let flags = Flags { config: Some(directory.path().join("bootlatch.toml")), ..Flags::default() };
        let prefix = format!("{}/", directory.path().display());
        load(&flags).map_err(|error| error.to_string().replace(&prefix, "")).map(|mut config| {
            config.origins.values_mut().for_each(|origin| *origin = origin.replace(&prefix, ""));
            config
        })
    }

    const MAIN: (&str, &str) = (
        "bootlatch.toml",
        "interface = \"eth1\"\nhttp_port = 80\n[dhcp]\nrelays = [\"10.0.0.1\"]\nport = 67\n[[rules]]\naction = \"menu\"\n",
    );

    #[test]
    fn later_files_override_values_merge_tables_and_append_arrays_of_tables() {
        let config = read(&[
            ("conf.d/20.toml", "http_port = 82\n\n[dhcp]\nrelays = [\"10.0.0.2\"]\n[[rules]]\naction = \"ignore\"\n"),
            MAIN,
            (
                "conf.d/10.toml",
                "http_port = 81\n[dhcp]\nproxy_port = 4012\n[[rules]]\nmac = \"52\"\naction = \"hold\"\n",
            ),
            ("conf.d/.hidden.toml", "nonsense"),
            ("conf.d/30.toml.bak", "nonsense"),
        ])
        .unwrap();
        assert_eq!((config.http_port, config.dhcp.port, config.dhcp.proxy_port), (82, 67, 4012));
        assert_eq!(config.dhcp.relays.len(), 1, "an array of values is replaced");
        let actions: Vec<_> = config.unknown_hosts.first.iter().map(|rule| rule.action.to_string()).collect();
        assert_eq!(actions, ["menu", "hold", "ignore"]);
        let names: Vec<_> = config.files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["bootlatch.toml", "10.toml", "20.toml"]);
        let origin = |key: &str| in_force(&config).into_iter().find(|one| one.key == key).unwrap().origin;
        let rows = [
            ("interfaces", "bootlatch.toml:1"),
            ("http_port", "conf.d/20.toml:1"),
            ("dhcp.port", "bootlatch.toml:5"),
            ("dhcp.proxy_port", "conf.d/10.toml:3"),
            ("dhcp.relays", "conf.d/20.toml:4"),
            ("rules", "bootlatch.toml:6, conf.d/10.toml:4, conf.d/20.toml:5"),
        ];
        for (key, expected) in rows {
            assert_eq!(origin(key), expected, "{key}");
        }
    }

    #[test]
    fn an_empty_list_removes_what_earlier_files_have() {
        let config = read(&[MAIN, ("conf.d/10.toml", "rules = []\n[dhcp]\nrelays = []")]).unwrap();
        assert!(config.unknown_hosts.first.is_empty() && config.dhcp.relays.is_empty());
    }

    #[test]
    fn an_error_names_the_file_and_the_line_that_has_it() {
        let rows = [
            ("interface =", "conf.d/10.toml: line 1: "),
            ("user = \"a\"\nuser = \"b\"", "conf.d/10.toml: line 2: user: duplicate key"),
            ("\nnonsense = 1", "conf.d/10.toml: line 2: nonsense: unknown field"),
            ("\n[dhcp]\nmode = \"prox\"", "conf.d/10.toml: line 3: dhcp.mode: "),
            ("\n[install]\ntimeout = \"never\"", "conf.d/10.toml: line 3: install.timeout: "),
            ("\n[trust]\nconfig = \"token\"", "conf.d/10.toml: line 2: trust: this key was renamed"),
            ("[[rules]]\n\naction = \"instal\"", "conf.d/10.toml: line 3: rules.action: "),
            ("[[interfaces]]\nname = \"eth1\"", "conf.d/10.toml: line 2: interfaces.name: "),
            ("dhcp = 1", "conf.d/10.toml: line 1: dhcp: "),
            ("[[rules]]\nmac = \"52\"", "conf.d/10.toml: line 1: "),
        ];
        for (text, expected) in rows {
            let said = read(&[MAIN, ("conf.d/10.toml", text), ("conf.d/20.toml", "user = \"root\"")]).unwrap_err();
            assert!(said.starts_with(expected), "{text:?}: {said}");
        }
        let said = read(&[("bootlatch.toml", "a = 1"), ("conf.d/10.toml", "interface = \"lo\"")]).unwrap_err();
        assert!(said.starts_with("bootlatch.toml: line 1: a: "), "{said}");
    }

    #[test]
    fn what_is_valid_is_loaded_without_the_files_that_are_wrong() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("conf.d")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        for (name, text) in [
            MAIN,
            ("conf.d/10.toml", "user ="),
            ("conf.d/20.toml", "http_port = 81"),
            ("conf.d/30.toml", "\n[dhcp]\nmode = \"prox\""),
            ("conf.d/40.toml", "[install]\ntimeout = \"never\""),
        ] {
            write(name, text);
        }
        let flags = Flags { config: Some(directory.path().join("bootlatch.toml")), ..Flags::default() };
        let (config, errors) = load_what_is_valid(&flags);
        assert_eq!(config.unwrap().http_port, 81);
        let places: Vec<_> = errors.iter().map(|error| error.place()).collect();
        assert!(
            ["10.toml: line 1", "30.toml: line 3", "40.toml: line 2: install.timeout"]
                .iter()
                .all(|place| places.iter().any(|known| known.ends_with(place))),
            "{places:?}"
        );
        assert_eq!(errors.len(), 3);
        write("bootlatch.toml", "nonsense = 1");
        let (config, errors) = load_what_is_valid(&flags);
        assert!(config.unwrap_err().to_string().contains("bootlatch.toml: line 1: nonsense") && !errors.is_empty());
    }

    #[test]
    fn the_files_are_bounded() {
        let large = format!("# {}", "x".repeat(MAX_BYTES));
        let said = read(&[MAIN, ("conf.d/10.toml", &large)]).unwrap_err();
        assert!(said.starts_with("conf.d/10.toml: more than 100 files"), "{said}");
        let names: Vec<_> = (0..MAX_FILES).map(|number| format!("conf.d/{number}.toml")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), "")).chain([MAIN]).collect();
        assert!(read(&many).unwrap_err().contains("more than 100 files"));
        assert!(read(&many[1..]).is_ok());
    }

    #[test]
    fn a_file_that_was_named_must_exist_and_the_default_one_need_not() {
        assert!(read(&[("conf.d/10.toml", "interface = \"lo\"")]).unwrap_err().contains("bootlatch.toml"));
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources::read(&directory.path().join("bootlatch.toml"), false).unwrap();
        assert!(sources.merged().unwrap().get_ref().is_empty());
    }
}
