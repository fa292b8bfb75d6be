//! The webhooks of the configuration, with the secrets of their files.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};

use crate::config::Config;
use crate::controllers::webhooks::WebhookTarget;
use crate::event::WebhookCounters;
use crate::http_client::Server;
use crate::http_client::tls::{self, TlsOptions, TrustAnchor};
use crate::iso::file;
use crate::webhooks::signature::SigningKeys;

/// Maximum length of a file of secrets, in octets.
const MAX_SECRET_FILE: u64 = 1024;

/// Reads the secrets of all webhooks. Root may read files that the server's user cannot.
///
/// # Errors
/// A file cannot be read, or has no secret or certificate.
pub fn read(config: &Config) -> anyhow::Result<Vec<WebhookTarget>> {
    config.webhooks.iter().map(read_webhook).collect()
}

fn read_webhook(webhook: &crate::config::Webhook) -> anyhow::Result<WebhookTarget> {
    let name = &webhook.name;
    let keys = read_keys(&webhook.secret_file).with_context(|| format!("webhooks: {name}: secret_file"))?;
    let tls = TlsOptions::from(webhook.ca_file.clone().map_or(TrustAnchor::System, TrustAnchor::File));
    let server = Server::of(&webhook.url).ok_or_else(|| anyhow!("webhooks: {name}: url: not a URL of HTTP"))?;
    if server.tls {
        // Each connection reads the authorities again; here they are only checked.
        tls::config(&tls).with_context(|| format!("webhooks: {name}: ca_file"))?;
    }
    let target = webhook.url.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let counters = Arc::new(WebhookCounters::new(name.clone()));
    Ok(WebhookTarget { server, target, tls, keys, kinds: webhook.events.clone(), counters })
}

fn read_keys(path: &Path) -> anyhow::Result<SigningKeys> {
    let bytes = file::read(path, MAX_SECRET_FILE).with_context(|| path.display().to_string())?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    SigningKeys::parse(text).with_context(|| path.display().to_string())
}
