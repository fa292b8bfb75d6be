//! The frames of syslog over TCP (RFC 6587): octet counting, and lines that end with LF or NUL.

use super::MAX_LINE_BYTES;

/// Maximum length that octet counting may announce. Nobody logs that much at once.
const MAX_COUNTED_BYTES: usize = 1024 * 1024;

/// A message of a stream, without its framing.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// The octets, at most `MAX_LINE_BYTES`.
    pub line: Vec<u8>,
    /// Whether the rest of the message was left out.
    pub is_cut: bool,
}

/// The error of a stream whose next message cannot be found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the announced length is more than {MAX_COUNTED_BYTES} octets")]
pub struct UnknownFraming;

/// Splits a stream into messages. Each may be framed in its own way, as receivers allow.
#[derive(Debug, Default)]
pub struct Deframer {
    state: State,
    line: Vec<u8>,
    is_cut: bool,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// Between two messages.
    #[default]
    Start,
    /// Within the digits of a length, or of a line that begins with digits.
    Length(usize),
    /// Within a message of which so many octets are missing.
    Counted(usize),
    /// Within a line.
    Line,
}

impl Deframer {
    /// Takes octets of the stream, and calls `take` with each message that is complete.
    ///
    /// # Errors
    /// The length of a message is absurd: the stream cannot be read on.
    pub fn push(&mut self, mut octets: &[u8], mut take: impl FnMut(Frame)) -> Result<(), UnknownFraming> {
        while let Some((octet, rest)) = octets.split_first() {
            self.state = match (self.state, *octet) {
                (State::Start, b'\n' | b'\r' | 0 | b' ') => State::Start,
                (State::Start | State::Length(_), digit @ b'0'..=b'9') => {
                    let before = if let State::Length(length) = self.state { length } else { 0 };
                    let length = before.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
                    self.add(&[digit]);
                    if length > MAX_COUNTED_BYTES {
                        return Err(UnknownFraming);
                    }
                    State::Length(length)
                }
                (State::Length(length), b' ') if length > 0 => {
                    self.line.clear();
                    State::Counted(length)
                }
                (State::Counted(missing), _) => {
                    let part = &octets[..missing.min(octets.len())];
                    self.add(part);
                    octets = &octets[part.len()..];
                    if missing == part.len() {
                        take(self.finish_frame());
                    }
                    self.state =
                        if missing == part.len() { State::Start } else { State::Counted(missing - part.len()) };
                    continue;
                }
                (State::Start | State::Length(_) | State::Line, _) => {
                    let end = octets.iter().position(|octet| matches!(octet, b'\n' | 0));
                    let part = &octets[..end.unwrap_or(octets.len())];
                    self.add(part);
                    octets = &octets[part.len()..];
                    self.state = State::Line;
                    if end.is_some() {
                        octets = &octets[1..];
                        self.state = State::Start;
                        take(self.finish_frame());
                    }
                    continue;
                }
            };
            octets = rest;
        }
        Ok(())
    }

    /// Returns what is left at the end of the stream: a last line without its end.
    pub fn finish(&mut self) -> Option<Frame> {
        let is_open = !matches!(std::mem::take(&mut self.state), State::Start);
        (is_open && !self.line.is_empty()).then(|| self.finish_frame())
    }

    fn add(&mut self, part: &[u8]) {
        let room = MAX_LINE_BYTES - self.line.len();
        self.is_cut |= part.len() > room;
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn finish_frame(&mut self) -> Frame {
        Frame { line: std::mem::take(&mut self.line), is_cut: std::mem::take(&mut self.is_cut) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(stream: &[u8], step: usize) -> Result<Vec<Frame>, UnknownFraming> {
        let (mut deframer, mut frames) = (Deframer::default(), Vec::new());
        for part in stream.chunks(step.max(1)) {
            deframer.push(part, |frame| frames.push(frame))?;
        }
        frames.extend(deframer.finish());
        Ok(frames)
    }

    fn lines(stream: &[u8], step: usize) -> Vec<String> {
        let text = |frame: Frame| String::from_utf8(frame.line).unwrap();
        frames(stream, step).unwrap().into_iter().map(text).collect()
    }

    #[test]
    fn messages_are_found_by_length_and_by_line_end() {
        let rows: [(&[u8], &[&str]); 8] = [
            (b"<13>a: one\n<13>b: two\n", &["<13>a: one", "<13>b: two"]),
            (b"10 <13>a: one10 <13>b: two", &["<13>a: one", "<13>b: two"]),
            (b"11 <13>a: one\n11 <13>b: two\n", &["<13>a: one\n", "<13>b: two\n"]),
            (b"10 <13>a: one\n<13>b: two\n", &["<13>a: one", "<13>b: two"]),
            (b"<13>a: one\0<13>b: two\0", &["<13>a: one", "<13>b: two"]),
            (b"\n\n\r\n<13>a: one\r\n", &["<13>a: one\r"]),
            (b"12:30 a line\n<13>b", &["12:30 a line", "<13>b"]),
            (b"0 x\n", &["0 x"]),
        ];
        for (stream, expected) in rows {
            for step in [1, 2, 3, 7, 100] {
                assert_eq!(lines(stream, step), expected, "{:?} by {step}", String::from_utf8_lossy(stream));
            }
        }
    }

    #[test]
    fn a_long_message_is_cut_and_the_next_one_is_found() {
        let long = "x".repeat(MAX_LINE_BYTES + 100);
        let by_line = format!("<13>{long}\n<13>next\n");
        let by_length = format!("{} <13>{long}8 <13>next", long.len() + 4);
        for stream in [by_line, by_length] {
            for step in [1000, 100_000] {
                let found = frames(stream.as_bytes(), step).unwrap();
                assert_eq!((found[0].line.len(), found[0].is_cut), (MAX_LINE_BYTES, true));
                assert_eq!(found[1], Frame { line: b"<13>next".to_vec(), is_cut: false });
            }
        }
        let fits = "x".repeat(MAX_LINE_BYTES);
        assert!(!frames(format!("{fits}\n").as_bytes(), 100).unwrap()[0].is_cut);
    }

    #[test]
    fn an_absurd_length_is_an_error() {
        assert_eq!(frames(b"99999999 <13>x", 3), Err(UnknownFraming));
        assert_eq!(frames("9".repeat(100_000).as_bytes(), 1000), Err(UnknownFraming));
    }

    proptest! {
        #[test]
        fn any_stream_is_split_alike_whatever_its_parts_are(stream in prop::collection::vec(any::<u8>(), 0..300), step in 1usize..20) {
            prop_assert_eq!(frames(&stream, step), frames(&stream, 300));
        }
    }
}
