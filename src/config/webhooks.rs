//! The settings of webhooks.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::fleet::NotificationKind;

use super::{ConfigError, Validator, credentials};

/// Maximum number of webhooks.
const MAX_WEBHOOKS: usize = 16;
/// Maximum length of a name, in characters.
const MAX_NAME_LENGTH: usize = 64;

/// A webhook: a receiver of notifications.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Name, for logs and metrics, and by which the webhook reads on after a restart.
    pub name: String,
    /// The URL. It may contain a secret, so it is not shown.
    pub url: hyper::Uri,
    /// File of the secrets that requests are signed with.
    pub secret_file: PathBuf,
    /// File of the certificate authorities; `None` for those of the system.
    pub ca_file: Option<PathBuf>,
    /// The kinds of notifications.
    pub events: Vec<NotificationKind>,
}

/// `[[webhooks]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWebhook {
    name: Option<Spanned<String>>,
    url: Spanned<String>,
    secret_file: PathBuf,
    ca_file: Option<PathBuf>,
    events: Option<Spanned<Vec<Spanned<String>>>>,
}

impl Validator<'_> {
    pub(super) fn webhooks(&self, raw: &[RawWebhook]) -> Result<Vec<Webhook>, ConfigError> {
        if let Some(excess) = raw.get(MAX_WEBHOOKS) {
            let message = format!("more than {MAX_WEBHOOKS} webhooks");
            return Err(self.error("webhooks", Some(excess.url.span()), &message));
        }
        let mut webhooks: Vec<Webhook> = Vec::new();
        for webhook in raw {
            let read = self.webhook(webhook)?;
            if webhooks.iter().any(|known| known.name == read.name) {
                let span = webhook.name.as_ref().map_or(webhook.url.span(), Spanned::span);
                let message = format!("the name {:?} is used twice: set another name", read.name);
                return Err(self.error("webhooks.name", Some(span), &message));
            }
            webhooks.push(read);
        }
        Ok(webhooks)
    }

    fn webhook(&self, raw: &RawWebhook) -> Result<Webhook, ConfigError> {
        let RawWebhook { name, url, secret_file, ca_file, events } = raw;
        let parsed = url.get_ref().parse::<hyper::Uri>().ok();
        let is_web = |url: &hyper::Uri| {
            let authority = url.authority().map(|authority| authority.as_str()).unwrap_or_default();
            matches!(url.scheme_str(), Some("http" | "https")) && !authority.is_empty() && !authority.contains('@')
        };
        let Some(parsed) = parsed.filter(is_web) else {
            let message = "expected a URL that begins with http:// or https://, without a user name";
            return Err(self.error("webhooks.url", Some(url.span()), message));
        };
        let authority = parsed.authority().map(|authority| authority.to_string()).unwrap_or_default();
        let name = match name {
            None => authority,
            Some(name) if is_name(name.get_ref()) => name.get_ref().clone(),
            Some(name) => {
                let message = format!("a name has 1 to {MAX_NAME_LENGTH} letters, digits, '-', '_', '.' and ':'");
                return Err(self.error("webhooks.name", Some(name.span()), &message));
            }
        };
        let events = match events {
            None => NotificationKind::USUAL.to_vec(),
            Some(events) if events.get_ref().is_empty() => {
                let message = "empty: the webhook would be told nothing";
                return Err(self.error("webhooks.events", Some(events.span()), message));
            }
            Some(events) => {
                let kinds = events.get_ref().iter().map(|event| self.read("webhooks.events", event));
                kinds.collect::<Result<Vec<_>, _>>()?
            }
        };
        let (secret_file, ca_file) = (credentials::path(secret_file.clone()), ca_file.clone().map(credentials::path));
        Ok(Webhook { name, url: parsed, secret_file, ca_file, events })
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_LENGTH).contains(&name.len())
        && name.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_.:".contains(sign))
}
