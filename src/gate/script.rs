//! Boot scripts: a decision in the words of a boot loader.

use std::net::IpAddr;
use std::sync::Arc;

use crate::boot::{Context, Facts, ScriptFormat, Site, Verdict, bootstrap_script, render};
use crate::fleet::{BootConfig, Chap, Format, Host, Image, Secret};
use crate::gate::{Gate, HostDecision};
use crate::iso;

/// Whether a script shows its secrets: tokens, and the secrets of CHAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretDisplay {
    /// They are shown.
    Shown,
    /// `REDACTED` stands in their place.
    Redacted,
}

impl SecretDisplay {
    /// Returns a secret, or what stands in its place. An empty text is no secret.
    pub fn text(self, secret: String) -> String {
        match self {
            Self::Redacted if !secret.is_empty() => Secret::REDACTED.to_owned(),
            Self::Redacted | Self::Shown => secret,
        }
    }

    fn chap(self, chap: Chap) -> Chap {
        let Chap { username, secret, target_username, target_secret } = chap;
        let text = |secret: Secret| Secret(self.text(secret.0));
        Chap { username, secret: text(secret), target_username, target_secret: target_secret.map(text) }
    }
}

impl Gate {
    /// Renders a decision as a boot script. `at` is our address that the machine reached.
    pub fn render(&self, facts: &Facts, decided: &HostDecision, format: ScriptFormat, at: Option<IpAddr>) -> String {
        self.with_context(facts, decided, at, SecretDisplay::Shown, |context| {
            render(&decided.decision.verdict, format, context)
        })
    }

    /// Calls a function with the content of a decision's boot script.
    pub(super) fn with_context<T>(
        &self,
        facts: &Facts,
        decided: &HostDecision,
        at: Option<IpAddr>,
        secrets: SecretDisplay,
        then: impl FnOnce(&Context<'_>) -> T,
    ) -> T {
        let site = self.site_at(at);
        let state = self.store.load();
        let verdict = &decided.decision.verdict;
        let host = decided.host.as_deref();
        let choice = |image: &Arc<Image>| (image.metadata.name.to_string(), image.spec.description.clone());
        let (image, choices) = match verdict {
            Verdict::SanBoot(name) => (state.image(name).map(Arc::as_ref), Vec::new()),
            Verdict::Menu => (None, state.images().map(choice).collect()),
            Verdict::Ignore(_)
            | Verdict::Enrol(_)
            | Verdict::Chainload(_)
            | Verdict::Wait(_)
            | Verdict::Configure(_)
            | Verdict::LocalDisk(_) => (None, Vec::new()),
        };
        // Anybody can request a script in the machine's name: what belongs to the machine alone goes to its own
        // address only.
        let own = host.filter(|_| decided.tied);
        let config = own.and_then(|host| state.boot_config(host.spec.boot_config_ref.as_ref()?)).map(Arc::as_ref);
        let url = image.map(|_| config_url(&site, secrets.text(self.token(host)), config)).unwrap_or_default();
        let addresses = iso::ServerAddresses { config: &url, syslog: site.syslog };
        let mut arguments = image.map(|image| iso::kernel_arguments(image, own, config, addresses)).unwrap_or_default();
        if let Some(image) = image {
            site.fill(&mut arguments, &image.metadata.name, facts.mac);
        }
        let config_url = if config.is_some() && image.is_some() { url.as_str() } else { "" };
        let medium_url = decided.medium.as_ref().map(|path| format!("{}/{path}", site.url())).unwrap_or_default();
        let chap = image.zip(own).and_then(|(image, own)| self.chap_for(image, own)).map(|chap| secrets.chap(chap));
        let token = image.zip(own).map(|(image, own)| self.login_token(image, own)).unwrap_or_default();
        let token = secrets.text(token);
        let (mac, chap, token, medium_url) = (facts.mac, chap.as_ref(), token.as_str(), medium_url.as_str());
        let (arguments, choices) = (arguments.as_slice(), choices.as_slice());
        let context =
            Context { site: &site, mac, host, image, arguments, config_url, token, chap, medium_url, choices };
        then(&context)
    }

    /// Renders the script that makes an iPXE request its own script, at our address that it reached.
    pub fn bootstrap_script(&self, at: Option<IpAddr>) -> String {
        bootstrap_script(&self.site_at(at))
    }

    /// Returns the site as machines see it that reached one of our addresses.
    pub(super) fn site_at(&self, at: Option<IpAddr>) -> Arc<Site> {
        let site = self.site.load_full();
        match at {
            Some(at) if at != site.address => Arc::new(site.reached_at(at)),
            _ => site,
        }
    }

    /// Returns the URL at which the installer of a host's present install reports, at our address that the machine reached.
    pub fn report_url(&self, host: &Host, at: Option<IpAddr>) -> String {
        format!("{}/api/v1/report/{}", self.site_at(at).url(), self.token(Some(host)))
    }

    /// Returns the token of a host's present install; empty without a host.
    pub(super) fn token(&self, host: Option<&Host>) -> String {
        host.map(|host| self.tokens.of(host)).unwrap_or_default()
    }
}

/// Returns the URL at which an installer fetches its config, with the token of this install.
pub(super) fn config_url(site: &Site, token: String, config: Option<&BootConfig>) -> String {
    match config.map(|config| config.spec.format) {
        Some(Format::CloudInit) => format!("{}/nocloud/{token}/", site.url()),
        None | Some(Format::Ignition | Format::Kickstart | Format::Preseed | Format::Script) => {
            format!("{}/api/v1/bootconfig?token={token}", site.url())
        }
    }
}
