//! The log: lines of text or JSON on standard error, or fields of the journal.

mod fields;
mod journal;
mod json;

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::config::LogFormat;
use crate::fleet::text::printable;

use journal::JournalLayer;
use json::JsonLayer;

/// A layer that writes the log.
type LogLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts the log. `BOOTLATCH_LOG` sets the filter, such as `bootlatch=debug`. Returns whether the lines are text for
/// people.
pub fn start(format: LogFormat) -> bool {
    let given = std::env::var("BOOTLATCH_LOG").unwrap_or_else(|_| "info".to_owned());
    let parsed = given.parse::<Targets>();
    let filter = parsed.as_ref().map_or_else(|_| Targets::new().with_default(LevelFilter::INFO), Targets::clone);
    let journal = if format == LogFormat::Auto { JournalLayer::connect() } else { None };
    let (log, is_text): (LogLayer, bool) = match (format, journal) {
        (LogFormat::Json, _) => (Box::new(JsonLayer), false),
        (LogFormat::Auto, Some(journal)) => (Box::new(journal), false),
        (LogFormat::Auto | LogFormat::Text, _) => (text_layer(), true),
    };
    // A second start within one process, as in a test, keeps the first log.
    let _ = tracing_subscriber::registry().with(log).with(filter).try_init();
    if let Err(error) = parsed {
        tracing::warn!(filter = given, %error, "invalid BOOTLATCH_LOG: default level info in use");
    }
    is_text
}

/// Returns the layer that writes lines of text, with colours on a terminal.
fn text_layer() -> LogLayer {
    let colours = io::stderr().is_terminal();
    let writer = move || PrintableWriter { out: io::stderr(), colours };
    Box::new(tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours).with_target(false))
}

/// A writer of log lines, each in one call. What a machine sent can neither begin a line of its own nor act on the
/// terminal: the subscriber has escaped the escape character in every field, and the rest is removed here.
struct PrintableWriter<W> {
    out: W,
    /// Whether the subscriber writes escape sequences for colours.
    colours: bool,
}

impl<W: Write> Write for PrintableWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (text, end) = text.strip_suffix('\n').map_or((&*text, ""), |text| (text, "\n"));
        let safe: String = match self.colours {
            false => printable(text).into_owned(),
            true => text.split('\u{1b}').map(printable).collect::<Vec<_>>().join("\u{1b}"),
        };
        self.out.write_all((safe + end).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str, colours: bool) -> String {
        let mut writer = PrintableWriter { out: Vec::new(), colours };
        writer.write_all(line.as_bytes()).unwrap();
        String::from_utf8(writer.out).unwrap()
    }

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(written("INFO a=1\n", false), "INFO a=1\n");
        assert_eq!(written("INFO a=x\nERROR b\u{202e}\u{9b}\n", false), "INFO a=x ERROR b\n");
        assert_eq!(written("\u{1b}[32m INFO\u{1b}[0m a\nb\n", true), "\u{1b}[32m INFO\u{1b}[0m a b\n");
    }
}
