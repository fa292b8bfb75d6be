//! The text of a serial console: without the sequences that move a cursor or change colours, and with the time of each line.
//! Pure.

use std::time::Duration;

/// The escape character.
const ESCAPE: char = '\u{1b}';

/// Makes plain text of what a machine writes.
#[derive(Debug, Default)]
pub struct PlainText {
    state: State,
    /// Octets of a character whose rest has not come.
    rest: Vec<u8>,
    is_at_line_start: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After an escape.
    Escape,
    /// In a control sequence (ECMA-48 5.4).
    Sequence,
    /// The octet after an escape that selects a character set.
    Charset,
}

impl PlainText {
    /// Returns the plain text of further output. Lines end with a line feed; a new position of the cursor ends one too.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut out = String::new();
        let rest = std::mem::take(&mut self.rest);
        for chunk in rest.utf8_chunks() {
            chunk.valid().chars().for_each(|sign| self.sign(sign, &mut out));
            // A character that was cut at the end may be completed by the next output.
            match chunk.invalid() {
                [] => {}
                invalid if rest.ends_with(invalid) && invalid.len() < 4 && is_start(invalid) => {
                    self.rest = invalid.to_vec()
                }
                _ => out.push('\u{fffd}'),
            }
        }
        out
    }

    fn sign(&mut self, sign: char, out: &mut String) {
        self.state = match (self.state, sign) {
            (_, ESCAPE) => State::Escape,
            (State::Escape, '[') => State::Sequence,
            (State::Escape, '(' | ')') => State::Charset,
            (State::Escape | State::Charset, _) => State::Text,
            (State::Sequence, 'H' | 'f') => {
                self.end_line(out);
                State::Text
            }
            (State::Sequence, '\u{40}'..='\u{7e}') => State::Text,
            (State::Sequence, _) => State::Sequence,
            (State::Text, '\n') => {
                out.push('\n');
                self.is_at_line_start = true;
                State::Text
            }
            (State::Text, sign) => {
                if !sign.is_control() || sign == '\t' {
                    out.push(sign);
                    self.is_at_line_start = false;
                }
                State::Text
            }
        };
    }

    fn end_line(&mut self, out: &mut String) {
        if !self.is_at_line_start {
            out.push('\n');
            self.is_at_line_start = true;
        }
    }
}

/// Returns whether these octets may be the start of a longer character.
fn is_start(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0xc2..=0xf4))
}

/// Writes the time before each line.
#[derive(Debug, Default)]
pub struct TimedLines {
    is_within: bool,
}

impl TimedLines {
    /// Returns text with the time before each line that begins in it.
    pub fn push(&mut self, text: &str, time: Duration) -> String {
        let mut out = String::new();
        for line in text.split_inclusive('\n') {
            if !self.is_within {
                out += &format!("{:9.3}  ", time.as_secs_f64());
            }
            out += line;
            self.is_within = !line.ends_with('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_positions_are_removed_across_pieces() {
        let mut plain = PlainText::default();
        let pieces: [&[u8]; 5] = [b"a\x1b[1;3", b"1mb\r\n\x1b[2;1Hc\x1b[3", b";1Hd\xc3", b"\xa4\xff", b"\x1b(Be\x07"];
        let text: String = pieces.iter().map(|piece| plain.push(piece)).collect();
        assert_eq!(text, "ab\nc\nd\u{e4}\u{fffd}e");
    }

    #[test]
    fn each_line_has_its_time() {
        let mut lines = TimedLines::default();
        let text = lines.push("a\nb", Duration::from_millis(1500)) + &lines.push("c\n", Duration::from_secs(2));
        assert_eq!(text, "    1.500  a\n    1.500  bc\n");
    }
}
