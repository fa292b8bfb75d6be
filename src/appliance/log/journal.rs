//! The log in the native protocol of systemd's journal (systemd.io/JOURNAL_NATIVE_PROTOCOL): fields, and no time stamp,
//! since the journal has its own.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::fields::LogLine;

/// The socket of the journal.
const SOCKET: &str = "/run/systemd/journal/socket";
/// The variable in which systemd names the device and inode of the stream to the journal (systemd.exec(5)).
const STREAM_VARIABLE: &str = "JOURNAL_STREAM";
/// Name of the program in the journal.
const IDENTIFIER: &str = "bootlatch";

/// The layer that sends each line to the journal.
#[derive(Debug)]
pub struct JournalLayer {
    socket: UnixDatagram,
}

impl JournalLayer {
    /// Returns the layer; `None` unless standard error is connected to the journal, and the journal has a socket.
    pub fn connect() -> Option<Self> {
        let named = std::env::var(STREAM_VARIABLE).ok()?;
        let status = nix::sys::stat::fstat(io::stderr().as_fd()).ok()?;
        if !is_stream(&named, status.st_dev, status.st_ino) || !std::path::Path::new(SOCKET).exists() {
            return None;
        }
        Some(Self { socket: UnixDatagram::unbound().ok()? })
    }
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (level, line) = (*event.metadata().level(), LogLine::of(event));
        // The journal's socket is made again when it is updated, so it is named each time.
        if self.socket.send_to(&encode(level, &line), SOCKET).is_err() {
            // A line that is too long for a datagram, or no journal at all: the stream takes the text alone.
            let _ = writeln!(io::stderr(), "<{}>{}", priority(level), line.to_text());
        }
    }
}

/// Returns whether a stream is the one that the variable names: `DEVICE:INODE`.
fn is_stream(named: &str, device: u64, inode: u64) -> bool {
    named.split_once(':').is_some_and(|(first, second)| first.parse() == Ok(device) && second.parse() == Ok(inode))
}

/// Returns the priority of a level, as in syslog (RFC 5424, section 6.2.1).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Returns a line as a datagram. The message has the fields too: `journalctl` shows nothing else by default.
fn encode(level: Level, line: &LogLine) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(512);
    put(&mut datagram, "MESSAGE", &line.to_text());
    put(&mut datagram, "PRIORITY", &priority(level).to_string());
    put(&mut datagram, "SYSLOG_IDENTIFIER", IDENTIFIER);
    for (name, value) in &line.fields {
        put(&mut datagram, &name.to_ascii_uppercase().replace('.', "_"), &value.to_text());
    }
    datagram
}

/// Appends a field. Values are printable, so none contains the line break that ends a field.
fn put(datagram: &mut Vec<u8>, name: &str, value: &str) {
    datagram.extend_from_slice(name.as_bytes());
    datagram.push(b'=');
    datagram.extend(value.bytes().map(|octet| if octet == b'\n' { b' ' } else { octet }));
    datagram.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::fields::Value;
    use super::*;

    #[test]
    fn a_line_becomes_the_fields_of_the_journal() {
        let fields = vec![
            ("event", Value::Text("held".into())),
            ("host", Value::Text("vm".into())),
            ("octets", Value::Unsigned(7)),
        ];
        let line = LogLine { message: "host held".into(), fields };
        let expected = "MESSAGE=host held event=held host=vm octets=7\nPRIORITY=4\nSYSLOG_IDENTIFIER=bootlatch\n\
                        EVENT=held\nHOST=vm\nOCTETS=7\n";
        assert_eq!(String::from_utf8(encode(Level::WARN, &line)).unwrap(), expected);
    }

    #[test]
    fn the_stream_to_the_journal_is_known_by_device_and_inode() {
        for (named, expected) in
            [("8:42", true), ("8:43", false), ("9:42", false), ("8", false), ("", false), ("8:", false)]
        {
            assert_eq!(is_stream(named, 8, 42), expected, "{named}");
        }
    }
}
