//! Conversion of raw values into validated ones. Each error names the file, the line and the key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use jiff::{Span, SpanRelativeTo};
use toml::Spanned;

use crate::boot::{Program, Programs};
use crate::fleet::Architecture;
use crate::fleet::enrolment::EnrolmentRule;
use crate::fleet::lifecycle::{Completion, InstallPolicy};

use super::firmware::RawDirectories;
use super::sources::Sources;
use super::{ConfigError, Flags, RawCompletion, RawInstall, RawRule};

/// Maximum number of directories of boot programs.
const MAX_FIRMWARE_DIRS: usize = 8;
/// Maximum duration that a key takes: a leap year, in seconds.
const MAX_SECONDS: i64 = 366 * 86_400;

/// The files, from which errors take their place.
pub(super) struct Validator<'a>(pub &'a Sources);

impl Validator<'_> {
    /// Returns an error about a key's value.
    pub fn error(&self, key: &str, span: Option<Range<usize>>, message: &str) -> ConfigError {
        let place = match span {
            Some(span) => {
                let (path, line) = self.0.place(span.start);
                format!("{}: line {line}", path.display())
            }
            None => self.0.main().display().to_string(),
        };
        ConfigError::Value { place, key: key.to_owned(), message: message.to_owned() }
    }

    /// Returns an error about a key that does not exist, or about a value of the wrong type.
    pub fn syntax(&self, offset: Option<usize>, message: &str) -> ConfigError {
        let Some(offset) = offset else {
            return ConfigError::Syntax { path: self.0.main().to_owned(), message: message.to_owned() };
        };
        let (path, line) = self.0.place(offset);
        ConfigError::Syntax { path: path.to_owned(), message: format!("line {line}: {message}") }
    }

    /// Parses a value by its type.
    pub fn read<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        key: &str,
        value: &Spanned<String>,
    ) -> Result<T, ConfigError> {
        let named = |error: T::Err| naming(&error.to_string(), value.get_ref());
        value.get_ref().parse().map_err(|error: T::Err| self.error(key, Some(value.span()), &named(error)))
    }

    /// Parses the flag if it is given, the file's key otherwise.
    pub fn choose<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        key: &str,
        flag: Option<&str>,
        file: Option<&Spanned<String>>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(flag) = flag else { return file.map(|value| self.read(key, value)).transpose() };
        let place = || format!("--{}", key.replace('_', "-"));
        let invalid = |error: T::Err| ConfigError::Value {
            place: place(),
            key: key.to_owned(),
            message: naming(&error.to_string(), flag),
        };
        flag.parse().map(Some).map_err(invalid)
    }

    /// Parses a duration, as in `90m`, `1h 30m` or `2d`: at least 1 s, at most 366 days.
    pub fn duration(&self, key: &str, value: Option<&Spanned<String>>) -> Result<Option<Duration>, ConfigError> {
        let Some(value) = value else { return Ok(None) };
        let seconds = value.get_ref().parse::<Span>().ok().and_then(|span| {
            let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
            (1..=MAX_SECONDS).contains(&duration.as_secs()).then(|| duration.unsigned_abs())
        });
        seconds.map(Some).ok_or_else(|| {
            let text = value.get_ref();
            let message = format!("{text:?} is not a duration: expected a number with s, m, h or d, as in 90m");
            self.error(key, Some(value.span()), &message)
        })
    }

    /// Returns the directories of the boot programs.
    pub fn firmware_dirs(
        &self,
        flags: &Flags,
        raw: Option<Spanned<RawDirectories>>,
    ) -> Result<Vec<PathBuf>, ConfigError> {
        let span = raw.as_ref().map(Spanned::span);
        let found = match (&flags.firmware_dir, raw) {
            (Some(flag), _) => vec![flag.clone()],
            (None, Some(raw)) => raw.into_inner().into_paths(),
            (None, None) => vec!["/usr/share/bootlatch/firmware".into()],
        };
        match found.len() {
            1..=MAX_FIRMWARE_DIRS => Ok(found),
            count => {
                let message = format!("{count} directories: expected 1 to {MAX_FIRMWARE_DIRS}");
                Err(self.error("firmware_dir", span, &message))
            }
        }
    }

    /// Validates the name of a boot program.
    pub fn program(&self, key: &str, span: Range<usize>, name: &str) -> Result<Program, ConfigError> {
        if name.is_empty() || name.starts_with('/') || name.split('/').any(|part| part == "..") {
            let message = format!("{name:?} is not the name of a file in firmware_dir");
            return Err(self.error(key, Some(span), &message));
        }
        Ok(Program(name.into()))
    }

    /// Parses the first octets of a MAC address.
    pub fn mac_prefix(&self, key: &str, text: &Spanned<String>) -> Result<Vec<u8>, ConfigError> {
        crate::fleet::octets(text.get_ref()).ok_or_else(|| {
            let message = format!("{:?} is not a MAC address or the beginning of one", text.get_ref());
            self.error(key, Some(text.span()), &message)
        })
    }

    pub fn rules(&self, raw: &[RawRule]) -> Result<Vec<EnrolmentRule>, ConfigError> {
        raw.iter().map(|rule| self.rule(rule)).collect()
    }

    fn rule(&self, raw: &RawRule) -> Result<EnrolmentRule, ConfigError> {
        let mac_prefix = raw.mac.as_ref().map(|mac| self.mac_prefix("rules.mac", mac)).transpose()?.unwrap_or_default();
        Ok(EnrolmentRule {
            mac_prefix,
            architecture: raw.architecture.as_ref().map(|text| self.read("rules.architecture", text)).transpose()?,
            subnet: raw.subnet.as_ref().map(|text| self.read::<IpNet>("rules.subnet", text)).transpose()?,
            action: self.read("rules.action", &raw.action)?,
        })
    }

    pub fn install(&self, raw: &RawInstall) -> Result<InstallPolicy, ConfigError> {
        let max_boots = match &raw.max_boots {
            Some(boots) if *boots.get_ref() == 0 => {
                return Err(self.error("install.max_boots", Some(boots.span()), "0 boots cannot install anything"));
            }
            Some(boots) => *boots.get_ref(),
            None => 10,
        };
        Ok(InstallPolicy {
            completion: match raw.completion.unwrap_or(RawCompletion::BootComplete) {
                RawCompletion::BootComplete => Completion::BootComplete,
                RawCompletion::ConfigFetched => Completion::ConfigFetched,
                RawCompletion::ScriptFetched => Completion::ScriptFetched,
            },
            timeout: self.duration("install.timeout", raw.timeout.as_ref())?.unwrap_or(Duration::from_secs(3600)),
            max_boots,
            power_on: raw.power_on,
        })
    }

    pub fn programs(&self, raw: BTreeMap<Spanned<String>, String>) -> Result<Programs, ConfigError> {
        let defaults = [(0, "undionly.kpxe"), (7, "snponly.efi"), (11, "ipxe-arm64.efi")];
        let mut programs: BTreeMap<_, _> =
            defaults.map(|(code, name)| (Architecture(code), Program(name.into()))).into();
        for (key, name) in raw {
            let program = self.program("programs", key.span(), &name)?;
            programs.insert(self.read("programs", &key)?, program);
        }
        Ok(Programs(programs))
    }

    pub fn congestion_control(&self, name: Option<Spanned<String>>) -> Result<Option<String>, ConfigError> {
        let Some(name) = name else { return Ok(None) };
        // The kernel's TCP_CA_NAME_MAX (16) includes the terminating zero.
        let is_name = |name: &str| (1..16).contains(&name.len()) && name.bytes().all(|octet| octet.is_ascii_graphic());
        if !is_name(name.get_ref()) {
            let message = "the name of a congestion control has 1 to 15 characters, as in cubic";
            return Err(self.error("tcp_congestion_control", Some(name.span()), message));
        }
        Ok(Some(name.into_inner()))
    }
}

/// Returns the text of an error, with the value that it is about.
fn naming(error: &str, value: &str) -> String {
    if error.contains(value) { error.to_owned() } else { format!("{error}: {value:?}") }
}
