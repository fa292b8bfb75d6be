//! A client of QEMU's machine protocol (QMP): one command at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// Time that QEMU has to answer, on a machine that is busy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum length of a message of QEMU.
const MAX_MESSAGE: u64 = 1 << 20;

/// A connection to one QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
    /// Number of the last command. An answer that comes late is that of a command before.
    command: u64,
}

impl Qmp {
    /// Takes up the connection.
    ///
    /// # Errors
    /// QEMU has ended, or does not answer in time.
    pub fn connect(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let mut qmp = Self { stream: BufReader::new(stream), command: 0 };
        qmp.message()?; // the greeting
        qmp.run("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command; returns its result.
    ///
    /// # Errors
    /// QEMU refuses the command, has ended, or does not answer in time.
    pub fn run(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        self.command += 1;
        let request = json!({"execute": command, "arguments": arguments, "id": self.command});
        self.stream.get_mut().write_all(request.to_string().as_bytes())?;
        loop {
            let mut answer = self.message()?;
            // Events, which have no number, come between the answers.
            if answer["id"] != self.command {
                continue;
            }
            if let Some(error) = answer.get("error") {
                return Err(io::Error::other(format!("{command}: {}", error["desc"].as_str().unwrap_or_default())));
            }
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
        }
    }

    /// Presses keys one after the other. A hyphen is between keys that are pressed together.
    ///
    /// # Errors
    /// Those of [`Qmp::run`].
    pub fn press(&mut self, keys: &[String]) -> io::Result<()> {
        for key in keys {
            let chord: Vec<_> = key.split('-').map(|one| json!({"type": "qcode", "data": one})).collect();
            self.run("send-key", json!({"keys": chord}))?;
        }
        Ok(())
    }

    /// Returns whether QEMU has stopped the machine: KVM cannot go on with it.
    ///
    /// # Errors
    /// Those of [`Qmp::run`].
    pub fn has_internal_error(&mut self) -> io::Result<bool> {
        Ok(self.run("query-status", json!({}))?["status"] == "internal-error")
    }

    /// Writes the screen to a PNG file.
    ///
    /// # Errors
    /// Those of [`Qmp::run`].
    pub fn screenshot(&mut self, file: &Path) -> io::Result<()> {
        self.run("screendump", json!({"filename": file, "format": "png"})).map(drop)
    }

    fn message(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.stream.by_ref().take(MAX_MESSAGE).read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}
