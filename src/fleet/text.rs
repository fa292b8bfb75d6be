//! Text of machines and media, made safe for a terminal, a page, a script and a log.

use std::borrow::Cow;

/// Returns a text without control, bidirectional and other invisible characters: escape sequences would act on a
/// terminal, line breaks would forge a line of a log or of a script, and bidirectional controls show a text in another
/// order than it has. White space becomes a space each.
pub fn printable(text: &str) -> Cow<'_, str> {
    filtered(text, false)
}

/// Returns a text as `printable` does, but with its line breaks.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    filtered(text, true)
}

/// Returns whether a text has none of the characters that `printable` removes.
pub fn is_printable(text: &str) -> bool {
    !text.chars().any(is_unsafe)
}

fn filtered(text: &str, keeps_lines: bool) -> Cow<'_, str> {
    if is_printable(text) {
        return Cow::Borrowed(text);
    }
    let safe = |sign: char| match sign {
        '\n' if keeps_lines => Some(sign),
        '\t' | '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(' '),
        _ => Some(sign).filter(|sign| !is_unsafe(*sign)),
    };
    Cow::Owned(text.chars().filter_map(safe).collect())
}

/// Returns whether a character is a control (C0, C1, DEL), a bidirectional control, a line separator, or invisible
/// (Unicode's general category Cf).
fn is_unsafe(sign: char) -> bool {
    sign.is_control()
        || matches!(sign,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// Formats a number of octets for people, with three digits: `512B`, `4.38GiB`.
pub fn binary_size(octets: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if octets < 1024 {
        return format!("{octets}B");
    }
    let mut size = octets as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        // What would be rounded to 1024 is 1 of the larger unit.
        if size < 1023.5 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    let decimals = match size {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{size:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        for (octets, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00KiB"),
            (1536, "1.50KiB"),
            (10 << 20, "10.0MiB"),
            (650 << 20, "650MiB"),
            ((1 << 30) - 1, "1.00GiB"),
            (4_700_372_992, "4.38GiB"),
            (u64::MAX, "16.0EiB"),
        ] {
            assert_eq!(binary_size(octets), text, "{octets}");
        }
    }

    #[test]
    fn what_acts_on_a_reader_is_removed() {
        let rows = [
            ("Debian 13.1", "Debian 13.1"),
            ("日本語 Ünïcödé", "日本語 Ünïcödé"),
            ("\u{1b}[2J\u{1b}]0;owned\u{7}name", "[2J]0;ownedname"),
            ("\u{9b}31mred", "31mred"),
            ("one\r\nINFO two\tthree\u{2028}four", "one  INFO two three four"),
            ("safe\u{202e}cod.exe\u{2066}", "safecod.exe"),
            ("a\u{200b}\u{feff}\u{e0041}b", "ab"),
            ("nul\0del\u{7f}", "nuldel"),
        ];
        for (text, expected) in rows {
            assert_eq!(printable(text), expected, "{text:?}");
            assert_eq!(is_printable(text), text == expected, "{text:?}");
        }
        assert_eq!(printable_lines("one\n\u{1b}[1mtwo\r\n"), "one\n[1mtwo \n");
        assert!(matches!(printable("plain"), Cow::Borrowed(_)));
    }
}
