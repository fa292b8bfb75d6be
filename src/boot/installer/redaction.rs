//! The removal of secrets from the text of an installer.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use super::config_secrets::{PartTexts, config_secrets};
use super::secret_forms::{is_secret_name, random_runs, runs};
use crate::fleet::{BootConfig, Secret};

/// Minimum length, in octets, of a secret that is masked within words too. A shorter one is masked where it is a word.
const MIN_PART_LENGTH: usize = 4;
/// Maximum number of secrets. Of a config with more, no text is shown.
const MAX_SECRETS: usize = 65_536;

/// The secrets of one config, and their removal from texts.
pub struct Redactor {
    /// Secrets that are masked wherever they are; `None` if there are none.
    parts: Option<AhoCorasick>,
    /// Short secrets, which are masked where they are words.
    words: BTreeSet<String>,
    /// The secrets, of which a text that was cut may have the beginning only.
    all: Vec<String>,
    /// Whether there are more secrets than can be looked for.
    hides_all: bool,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Redactor({} secrets)", self.all.len())
    }
}

impl Redactor {
    /// Creates the redactor of a config's secrets.
    pub fn of_config(config: &BootConfig, part_texts: PartTexts) -> Self {
        Self::new(config_secrets(config, part_texts))
    }

    /// Creates the redactor of some secrets.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let secrets: BTreeSet<String> = secrets.into_iter().filter(|secret| !secret.is_empty()).collect();
        let (parts, words): (BTreeSet<String>, _) =
            secrets.iter().cloned().partition(|secret| secret.len() >= MIN_PART_LENGTH);
        let is_small = secrets.len() <= MAX_SECRETS;
        let automaton = (is_small && !parts.is_empty())
            .then(|| AhoCorasick::builder().match_kind(MatchKind::Standard).build(&parts).ok());
        let hides_all = !is_small || matches!(automaton, Some(None));
        Self { parts: automaton.flatten(), words, all: secrets.into_iter().collect(), hides_all }
    }

    /// Creates a redactor that shows nothing of a text.
    pub fn of_everything() -> Self {
        Self { parts: None, words: BTreeSet::new(), all: Vec::new(), hides_all: true }
    }

    /// Returns whether another redactor masks the same.
    pub fn has_same_secrets(&self, other: &Self) -> bool {
        (&self.all, self.hides_all) == (&other.all, other.hides_all)
    }

    /// Returns the ranges of the secrets in a text. `is_cut` is whether the text was cut at its end, and may end within a
    /// secret.
    fn find(&self, text: &str, is_cut: bool) -> Vec<Range<usize>> {
        if self.hides_all {
            return std::iter::once(0..text.len()).collect();
        }
        let parts = self.parts.iter().flat_map(|parts| parts.find_overlapping_iter(text)).map(|found| found.range());
        let words = words(text).filter(|range| self.words.contains(&text[range.clone()]));
        let torn = is_cut.then(|| self.torn_secret(text)).flatten();
        parts.chain(words).chain(torn).collect()
    }

    /// Returns the range of the beginning of a secret at the end of a text.
    fn torn_secret(&self, text: &str) -> Option<Range<usize>> {
        let longest = |secret: &String| {
            let ends = (1..secret.len()).rev().filter(|end| secret.is_char_boundary(*end));
            ends.filter(|end| text.ends_with(&secret[..*end])).max()
        };
        self.all.iter().filter_map(longest).max().map(|length| text.len() - length..text.len())
    }
}

/// Returns a text with the secrets masked: those of the redactors, and what is a secret by its form in whichever text, as in
/// `password=...`. `is_cut` is whether the text was cut at its end, and may end within a secret.
pub fn redact<'a>(text: &'a str, redactors: &[&Redactor], is_cut: bool) -> Cow<'a, str> {
    let known = redactors.iter().flat_map(|redactor| redactor.find(text, is_cut));
    let by_form = random_runs(text).chain(credentials(text)).chain(assignments(text));
    let mut ranges: Vec<Range<usize>> = known.chain(by_form).filter(|range| !range.is_empty()).collect();
    if ranges.is_empty() {
        return Cow::Borrowed(text);
    }
    ranges.sort_by_key(|range| (range.start, range.end));
    Cow::Owned(masked(text, ranges))
}

/// Returns the ranges of the user names and passwords in URLs.
fn credentials(text: &str) -> impl Iterator<Item = Range<usize>> {
    const MARK: &str = "://";
    text.match_indices(MARK).filter_map(|(at, mark)| {
        let start = at + mark.len();
        let rest = &text[start..];
        let end = rest.find(|sign: char| sign.is_whitespace() || "/\"'?#".contains(sign)).unwrap_or(rest.len());
        rest[..end].rfind('@').map(|length| start..start + length)
    })
}

/// Returns the ranges of values with a secret's name: `name=value`, `name: value`, `"name": "value"`, `--name value`, and of
/// what follows `Bearer` and `Basic`.
fn assignments(text: &str) -> impl Iterator<Item = Range<usize>> {
    let is_name = |sign: char| sign.is_ascii_alphanumeric() || "_-./".contains(sign);
    runs(text, is_name).filter_map(move |name| {
        let word = &text[name.clone()];
        if matches!(word, "-u" | "--user") {
            return password_of_user(text, name.end);
        }
        let is_scheme = matches!(word, "Bearer" | "Basic");
        if !is_scheme && !is_secret_name(word) {
            return None;
        }
        let rest = &text[name.end..];
        let is_option = word.starts_with("--") || is_scheme;
        let gap = rest.find(|sign: char| !" \"'".contains(sign)).unwrap_or(rest.len());
        let after = match rest[gap..].chars().next() {
            Some('=' | ':') => gap + 1,
            _ if is_option && rest.starts_with(' ') => 0,
            _ => return None,
        };
        let value = &rest[after..];
        let quote = value.trim_start().chars().next().filter(|sign| "\"'".contains(*sign));
        let start = value.len() - value.trim_start().len() + quote.map_or(0, char::len_utf8);
        let value = &value[start..];
        let end = match quote {
            Some(quote) => value.find(quote),
            None => value.find(|sign: char| sign.is_whitespace() || "&,;\"')}]".contains(sign)),
        };
        let range = name.end + after + start..name.end + after + start + end.unwrap_or(value.len());
        (!range.is_empty()).then_some(range)
    })
}

/// Returns the range of the password in `USER:PASSWORD`, the word after an option that ends at `end`.
fn password_of_user(text: &str, end: usize) -> Option<Range<usize>> {
    let rest = text[end..].strip_prefix(' ')?;
    let word = rest.split_whitespace().next()?;
    let (user, password) = word.split_once(':')?;
    let start = text.len() - rest.trim_start().len() + user.len() + 1;
    (!password.is_empty()).then(|| start..start + password.len())
}

/// Returns the ranges of the words of a text.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    runs(text, |sign| sign.is_alphanumeric())
}

/// Returns a text with ranges masked, which are sorted by their start. Ranges that overlap are masked as one.
fn masked(text: &str, ranges: Vec<Range<usize>>) -> String {
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for range in ranges {
        if range.start >= done {
            out.push_str(&text[done..range.start]);
            out.push_str(Secret::REDACTED);
        }
        done = done.max(range.end);
    }
    out.push_str(&text[done..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        Redactor::new(secrets.iter().map(|secret| (*secret).to_owned()))
    }

    fn mask_patterns(text: &str) -> Cow<'_, str> {
        redact(text, &[], false)
    }

    #[test]
    fn secrets_are_masked_wherever_they_are() {
        let redactor = redactor(&["geheim", "geheimnis", "heimlich", "open sesame", "abc", "über"]);
        let rows = [
            ("the password is geheim!", "the password is REDACTED!"),
            ("-pgeheimnis x", "-pREDACTED x"),
            ("geheimlich", "REDACTED"),
            ("say open sesame twice: open sesame", "say REDACTED twice: REDACTED"),
            ("abc is a word, abcd is another", "REDACTED is a word, abcd is another"),
            ("überall", "REDACTEDall"),
            ("nothing", "nothing"),
        ];
        for (text, expected) in rows {
            assert_eq!(redact(text, &[&redactor], false), expected);
        }
        assert!(!format!("{redactor:?}").contains("geheim"));
    }

    #[test]
    fn a_secret_within_another_ones_secret_is_masked_with_it() {
        let (config, host) = (redactor(&["geheim"]), redactor(&["bmc-geheim-x"]));
        assert_eq!(redact("it is bmc-geheim-x.", &[&config, &host], false), "it is REDACTED.");
    }

    #[test]
    fn a_text_that_was_cut_ends_before_the_part_of_a_secret() {
        let redactor = redactor(&["geheimnis", "über"]);
        for (text, expected) in
            [("it is gehei", "it is REDACTED"), ("it is ü", "it is REDACTED"), ("it is", "it is"), ("", "")]
        {
            assert_eq!(redact(text, &[&redactor], true), expected);
        }
        assert_eq!(redact("it is gehei", &[&redactor], false), "it is gehei");
    }

    #[test]
    fn of_a_config_with_too_many_secrets_nothing_is_shown() {
        let redactor = Redactor::new((0..=MAX_SECRETS).map(|number| format!("secret{number}")));
        assert_eq!(redact("anything", &[&redactor], false), Secret::REDACTED);
        assert_eq!(redact("anything", &[&Redactor::new([])], false), "anything");
    }

    #[test]
    fn what_is_a_secret_by_its_form_is_masked() {
        let token = "525400123456".to_owned() + &"ab".repeat(16);
        let rows = [
            (
                format!("Command line: inst.ks=http://10.0.0.1/c?token={token} quiet"),
                "Command line: inst.ks=http://10.0.0.1/c?token=REDACTED quiet",
            ),
            (format!("GET /nocloud/{token}/user-data"), "GET /nocloud/REDACTED/user-data"),
            ("rootpw $6$abc$defghi.jkl/x done".into(), "rootpw REDACTED done"),
            ("fetch https://me:geheim@mirror/x".into(), "fetch https://REDACTED@mirror/x"),
            ("password=geheim&x=1".into(), "password=REDACTED&x=1"),
            ("{\"password\": \"ge heim\", \"a\": 1}".into(), "{\"password\": \"REDACTED\", \"a\": 1}"),
            ("curl -u me:geheim http://x".into(), "curl -u me:REDACTED http://x"),
            ("+ mysql --password geheim db".into(), "+ mysql --password REDACTED db"),
            ("Authorization: Bearer abc.def".into(), "Authorization: REDACTED REDACTED"),
            ("key AbC3dE5fG7hI9jK1lM2nO4pQ6rS8".into(), "key REDACTED"),
        ];
        for (text, expected) in rows {
            assert_eq!(mask_patterns(&text), expected, "{text}");
        }
        for text in [
            "Setting up linux-image-6.1.0-18-amd64 (6.1.76-1) ...",
            "LABEL=Fedora-Server-dvd-x86_64-43 not found",
            "/run/install/repo/LiveOS/squashfs.img",
            "NetworkManagerDispatcherService2 started",
            "Setting password for user admin",
            "",
        ] {
            assert!(matches!(mask_patterns(text), Cow::Borrowed(_)), "{text}: {}", mask_patterns(text));
        }
    }
}
