//! Syslog messages: RFC 5424, RFC 3164, and what programs send in its place.

use crate::boot::installer::{InstallerLine, InstallerSource, LogLevel};

/// Maximum length of a tag, in octets. RFC 5424 allows 48 for APP-NAME.
const MAX_TAG_LENGTH: usize = 64;
/// The marker of an absent field (RFC 5424, section 6).
const NIL: &str = "-";
/// Octets of a time as RFC 3164 writes it: `Jan  2 15:04:05`.
const TIME_LENGTH: usize = 15;
/// Names of the months (RFC 3164, section 4.1.2).
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Parses a message. Octets that are not UTF-8 are replaced. The host name in it is ignored: it proves nothing. Returns
/// nothing for a message without a text.
pub fn parse(message: &[u8]) -> Option<InstallerLine> {
    let text = String::from_utf8_lossy(message);
    let text = text.trim_matches(|sign: char| sign.is_whitespace() || sign == '\0');
    let (level, rest) = priority(text);
    let (tag, content) = match rest.strip_prefix("1 ").filter(|_| level.is_some()) {
        Some(rest) => structured(rest),
        None => traditional(rest),
    };
    let content = without_clock(tag, content).trim();
    // Anaconda names itself twice.
    let own = tag.and_then(|tag| content.strip_prefix(tag)?.strip_prefix(": "));
    let content = own.unwrap_or(content);
    (!content.is_empty()).then(|| InstallerLine {
        source: InstallerSource::Syslog,
        stage: tag.map(str::to_owned),
        level,
        message: content.to_owned(),
    })
}

/// Splits off the priority, `<0>` to `<191>`: eight times the facility, and the severity.
fn priority(text: &str) -> (Option<LogLevel>, &str) {
    let parsed = text.strip_prefix('<').and_then(|rest| rest.split_once('>')).and_then(|(number, rest)| {
        let number: u8 = number.parse().ok().filter(|number| *number < 192)?;
        Some((LogLevel::from_number(number % 8)?, rest))
    });
    parsed.map_or((None, text), |(level, rest)| (Some(level), rest))
}

/// Returns the tag and the content of a message of RFC 5424, after its version.
fn structured(text: &str) -> (Option<&str>, &str) {
    let mut fields = text.splitn(6, ' ');
    let (_time, _host, name) = (fields.next(), fields.next(), fields.next());
    let (_process, _id, rest) = (fields.next(), fields.next(), fields.next().unwrap_or_default());
    let content = rest[structured_data_length(rest)..].trim_start();
    let content = content.strip_prefix('\u{feff}').unwrap_or(content);
    (name.filter(|name| *name != NIL && is_tag(name)), content)
}

/// Returns the length of the structured data at the beginning of a text: `-`, or `[id name="value"]`, repeated.
fn structured_data_length(text: &str) -> usize {
    if text == NIL || text.starts_with("- ") {
        return NIL.len();
    }
    let (mut length, mut is_quoted, mut is_escaped, mut is_within) = (0, false, false, false);
    for (at, sign) in text.char_indices() {
        match sign {
            '[' if !is_within => is_within = true,
            _ if !is_within => break,
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ']' if !is_quoted => {
                is_within = false;
                length = at + 1;
            }
            _ => {}
        }
    }
    length
}

/// Returns the tag and the content of a message of RFC 3164. The time and the host name may be missing: busybox sends no host
/// name, and rsyslog may send the time of RFC 3339.
fn traditional(text: &str) -> (Option<&str>, &str) {
    let rest = without_time(text);
    if let Some(found) = tagged(rest) {
        return found;
    }
    // The first word is the host's name if a tag follows it.
    let after_host = rest.split_once(' ').map(|(_, rest)| rest.trim_start());
    after_host.and_then(tagged).unwrap_or((None, rest))
}

/// Returns a text without the time at its beginning.
fn without_time(text: &str) -> &str {
    let is_digit = |octet: &u8| octet.is_ascii_digit();
    if let Some((time, rest)) = text.split_at_checked(TIME_LENGTH)
        && MONTHS.iter().any(|month| time.starts_with(month))
        && time.as_bytes().get(7..9).is_some_and(|hour| hour.iter().all(is_digit))
    {
        return rest.trim_start();
    }
    match text.split_once(' ') {
        Some((time, rest)) if time.parse::<jiff::Timestamp>().is_ok() => rest.trim_start(),
        _ => text,
    }
}

/// Splits a text into its tag and its content: `tag: content` or `tag[process]: content`.
fn tagged(text: &str) -> Option<(Option<&str>, &str)> {
    let (word, rest) = match text.split_once(": ") {
        Some((word, rest)) => (word, rest),
        None => (text.strip_suffix(':')?, ""),
    };
    let name = word.split_once('[').map_or(word, |(name, _)| name);
    let is_whole = word.len() == name.len() || word.ends_with(']');
    (is_whole && !word.contains(' ') && is_tag(name)).then_some((Some(name), rest))
}

fn is_tag(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_TAG_LENGTH
        && !name.contains(|sign: char| sign.is_whitespace() || sign.is_control())
}

/// Returns a line of the kernel without its clock (`[    2.123456] `), so that a repetition shows.
fn without_clock<'a>(tag: Option<&str>, content: &'a str) -> &'a str {
    let clock = content.strip_prefix('[').filter(|_| tag == Some("kernel")).and_then(|rest| rest.split_once("] "));
    match clock {
        Some((time, rest)) if time.trim().parse::<f64>().is_ok() => rest,
        _ => content,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(message: &[u8]) -> Option<(Option<LogLevel>, Option<String>, String)> {
        parse(message).map(|line| (line.level, line.stage, line.message))
    }

    #[test]
    fn messages_of_real_programs_are_understood() {
        use LogLevel::*;
        let rows: [(&str, Option<LogLevel>, Option<&str>, &str); 22] = [
            // busybox's syslogd, which debian-installer runs: no host name.
            (
                "<30>Jan  2 15:04:05 main-menu[318]: WARNING **: Menu item 'x' failed.",
                Some(Info),
                Some("main-menu"),
                "WARNING **: Menu item 'x' failed.",
            ),
            ("<13>Jan 12 15:04:05 partman: mke2fs 1.47.0", Some(Notice), Some("partman"), "mke2fs 1.47.0"),
            ("<4>Jan  2 15:04:05 kernel: [    2.123456] sda: sda1", Some(Warning), Some("kernel"), "sda: sda1"),
            // rsyslog, which Anaconda runs: RSYSLOG_TraditionalForwardFormat.
            (
                "<142>Jan  2 15:04:05 localhost anaconda[1234]: anaconda: ui.lib: a line",
                Some(Info),
                Some("anaconda"),
                "ui.lib: a line",
            ),
            (
                "<139>Jan  2 15:04:05 localhost dracut-initqueue[500]: Warning: x",
                Some(Err),
                Some("dracut-initqueue"),
                "Warning: x",
            ),
            // RSYSLOG_ForwardFormat.
            ("<13>2026-01-02T15:04:05.123456+01:00 node1 sshd[7]: hello", Some(Notice), Some("sshd"), "hello"),
            ("<13>2026-01-02T15:04:05Z node1 app: hello", Some(Notice), Some("app"), "hello"),
            // logger(1).
            (
                "<13>1 2026-01-02T15:04:05.123456+00:00 node1 root - - [timeQuality tzKnown=\"1\" isSynced=\"0\"] hello [x]",
                Some(Notice),
                Some("root"),
                "hello [x]",
            ),
            ("<11>1 - - tag 12 ID - hello", Some(Err), Some("tag"), "hello"),
            ("<11>1 - - - - - - \u{feff}hello", Some(Err), None, "hello"),
            (
                "<165>1 2003-10-11T22:14:15.003Z h evntslog - ID47 [a@1 b=\"x\\\"]y\" c=\"]\"][d@1] An application",
                Some(Notice),
                Some("evntslog"),
                "An application",
            ),
            (
                "<34>1 2003-10-11T22:14:15.003Z h su - ID47 [broken 'su root' failed",
                Some(Crit),
                Some("su"),
                "[broken 'su root' failed",
            ),
            (
                "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
                Some(Crit),
                Some("su"),
                "'su root' failed for lonvick on /dev/pts/8",
            ),
            // Without a time, a tag, or a priority.
            ("<13>tag: hello", Some(Notice), Some("tag"), "hello"),
            ("<13>just words of a program", Some(Notice), None, "just words of a program"),
            ("hello there", None, None, "hello there"),
            ("<999>hello", None, None, "<999>hello"),
            ("<13>Jan  2 15:04:05 no tag here at all", Some(Notice), None, "no tag here at all"),
            ("<30>Jan  2 15:04:05 host (udev-worker)[300]: x: y: z", Some(Info), Some("(udev-worker)"), "x: y: z"),
            ("<13>Jan  2 15:04:05 tag: two\nlines\n", Some(Notice), Some("tag"), "two\nlines"),
            ("<13>kernel: [x] y", Some(Notice), Some("kernel"), "[x] y"),
            ("<13>Jan  2 15:04:05 http://x/: y", Some(Notice), Some("http://x/"), "y"),
        ];
        for (text, level, tag, content) in rows {
            let expected = Some((level, tag.map(str::to_owned), content.to_owned()));
            assert_eq!(parsed(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_message_without_a_text_is_none() {
        for text in
            ["", "\n", "<13>", "<13>1 - - - - - -", "<13>Jan  2 15:04:05 tag:", "<13>Jan  2 15:04:05 host tag[1]: \n\0"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parsed(b"<13>a: \xff\xfe").unwrap().2, "\u{fffd}\u{fffd}");
    }

    proptest! {
        #[test]
        fn any_octets_are_parsed_without_a_panic(message in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(&message);
        }

        #[test]
        fn any_text_in_the_place_of_a_field_is_parsed_without_a_panic(text in "<[0-9]{1,3}>[1 ]{0,2}[-a-z:\\[\\]\" é\\\\]{0,40}") {
            parse(text.as_bytes());
        }
    }
}
