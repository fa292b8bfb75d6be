//! The control of a running rig: a unix socket in its own /run, which is reached through the supervisor's root directory.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::Context;
use rustix::termios::{OptionalActions, isatty, tcgetattr, tcsetattr};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::outputs;

/// The socket, as the rig sees it.
const SOCKET: &str = "/run/rig/control.sock";
/// Maximum length of a request.
const MAX_REQUEST: u64 = 64 << 10;
/// Time for a request to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for an answer: before it, the screens of all machines may be written.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(180);
/// The key that leaves a console: Ctrl-].
const LEAVE: u8 = 0x1d;

/// A request to a running rig.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// The state of the machines and of what is expected of them.
    Status,
    /// The console of a machine: what it writes from now on, and what is typed.
    Console(String),
    /// The screen of a machine, into a PNG file.
    Screenshot(String, PathBuf),
    /// Keys that are pressed at a machine.
    Press(String, Vec<String>),
    /// The end of the rig. An expectation that is not met is its error.
    Down,
}

/// A request, and the connection that awaits the answer.
#[derive(Debug)]
pub struct Call {
    /// The request.
    pub request: Request,
    /// The connection.
    pub stream: UnixStream,
}

impl Call {
    /// Answers with a text; returns the connection.
    pub fn answer(mut self, result: Result<String, String>) -> UnixStream {
        let line = match result {
            Ok(text) => json!({"text": text}),
            Err(error) => json!({"error": error}),
        };
        // A client that has gone needs no answer.
        let _ = writeln!(self.stream, "{line}");
        self.stream
    }
}

/// Listens for requests, and passes them to the supervisor.
///
/// # Errors
/// The socket cannot be bound.
pub fn listen<E: From<Call> + Send + 'static>(to: SyncSender<E>) -> io::Result<()> {
    let listener = UnixListener::bind(SOCKET)?;
    std::thread::spawn(move || {
        // One after the other: each has a short time to say what it wants.
        for stream in listener.incoming().map_while(Result::ok) {
            if let Ok(call) = read(stream)
                && to.send(call.into()).is_err()
            {
                return;
            }
        }
    });
    Ok(())
}

fn read(stream: UnixStream) -> io::Result<Call> {
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    let request = serde_json::from_str(&line(&stream)?)?;
    stream.set_read_timeout(None)?;
    Ok(Call { request, stream })
}

/// Reads a line octet by octet: what follows it belongs to somebody else.
fn line(mut stream: &UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut octet = [0];
    while (line.len() as u64) < MAX_REQUEST {
        stream.read_exact(&mut octet)?;
        if octet[0] == b'\n' {
            return String::from_utf8(line).map_err(io::Error::other);
        }
        line.push(octet[0]);
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Sends a request to the rig of an output directory; returns its answer. After [`Request::Down`] nothing of it is left.
///
/// # Errors
/// No rig runs there, or it refuses.
pub fn ask(output: &Path, request: &Request) -> anyhow::Result<String> {
    let (answer, _) = call(output, request)?;
    if matches!(request, Request::Down) {
        outputs::wait_for_end(output)?;
    }
    answer.map_err(anyhow::Error::msg)
}

fn call(output: &Path, request: &Request) -> anyhow::Result<(Result<String, String>, UnixStream)> {
    let path = format!("/proc/{}/root{SOCKET}", outputs::pid(output)?);
    let mut stream = UnixStream::connect(path).with_context(|| format!("no rig runs with {}", output.display()))?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    writeln!(stream, "{}", serde_json::to_string(request)?)?;
    let answer: Value = serde_json::from_str(&line(&stream).context("the rig does not answer")?)?;
    // A console may be silent for long, and a terminal be stopped.
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    let answer = match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["text"].as_str().unwrap_or_default().to_owned()),
    };
    Ok((answer, stream))
}

/// Connects the terminal with the console of a machine, until Ctrl-] or the end of the rig.
///
/// # Errors
/// No rig runs there, or it has no such machine.
pub fn attach(output: &Path, machine: String) -> anyhow::Result<()> {
    let (answer, stream) = call(output, &Request::Console(machine))?;
    let text = answer.map_err(anyhow::Error::msg)?;
    let stdin = io::stdin();
    let before = isatty(&stdin).then(|| tcgetattr(&stdin)).transpose()?;
    if let Some(before) = &before {
        eprintln!("{text} Ctrl-] leaves it.\r");
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
    }
    let mut typed = stream.try_clone()?;
    std::thread::spawn(move || {
        let mut octet = [0];
        while io::stdin().read_exact(&mut octet).is_ok() && octet[0] != LEAVE {
            if typed.write_all(&octet).is_err() {
                return;
            }
        }
        // At the end of a file that is piped in, what the machine writes is still shown.
        if octet[0] == LEAVE {
            let _ = typed.shutdown(std::net::Shutdown::Both);
        }
    });
    let mut reader = BufReader::new(stream);
    let shown = show(&mut reader);
    if let Some(before) = &before {
        tcsetattr(&stdin, OptionalActions::Now, before)?;
    }
    shown.map_err(Into::into)
}

fn show(reader: &mut BufReader<UnixStream>) -> io::Result<()> {
    let mut out = io::stdout();
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let length = bytes.len();
        out.write_all(bytes)?;
        out.flush()?;
        reader.consume(length);
    }
}
