//! Errors of the configuration and of a start.

use std::path::PathBuf;

/// An invalid configuration: the file, the line if it is known, the key, and the fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error. It is in the text, so it is no source.
        cause: std::io::Error,
    },
    /// The file is not TOML, or has a key that does not exist.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line and what is wrong there.
        message: String,
    },
    /// A key has an invalid value.
    #[error("{place}: {key}: {message}")]
    Value {
        /// The file and line, or the flag.
        place: String,
        /// The key, with its table.
        key: String,
        /// The value that was found, and the expected one.
        message: String,
    },
}

impl ConfigError {
    /// Returns the file with the error; `None` for a flag, or if no line is known.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Read { path, .. } | Self::Syntax { path, .. } => Some(path.clone()),
            Self::Value { place, .. } => place.rsplit_once(": line ").map(|(path, _)| path.into()),
        }
    }

    /// Returns the file with the line or the key, without what stands there.
    pub fn place(&self) -> String {
        match self {
            Self::Read { path, .. } => path.display().to_string(),
            Self::Syntax { path, message } => match message.split_once(": ") {
                Some((line, _)) if line.starts_with("line ") => format!("{}: {line}", path.display()),
                _ => path.display().to_string(),
            },
            Self::Value { place, key, .. } => format!("{place}: {key}"),
        }
    }
}

/// The error of a start that would fail again until an operator acts: the state is lost, damaged or not what it was.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartRefused(pub String);

/// The context of an error that the log has as a line: the command line does not print it again.
#[derive(Debug, thiserror::Error)]
#[error("the server ended")]
pub struct Logged;
