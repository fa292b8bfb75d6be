//! The media of hosts: their views of images and NoCloud seeds, and the CHAP secrets for the target.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::boot::installer::vendor_data;
use crate::boot::{ConfigProof, Facts, Reason, Stage, Verdict};
use crate::event::{Event, ScriptAction};
use crate::fleet::lifecycle::Transition;
use crate::fleet::{BootConfig, Chap, Delivery, Format, Host, Image, Mac, Method, Name, Object, Phase};
use crate::gate::tokens::BootTokens;
use crate::images::library::{self, ImageView};
use crate::iso::{self, ReadAt};
use crate::store::{Change, Observation};

use crate::gate::script::config_url;
use crate::gate::{Gate, HostDecision, IdentifiedClient};

/// File of a NoCloud source that its provider writes.
const VENDOR_DATA: &str = "vendor-data";

/// A host's view of its image under a URL of its own. The bytes stay the same while they are read.
#[derive(Debug, Clone)]
pub struct MediaLease {
    /// The image.
    pub image: Name,
    /// The view.
    pub seen: ImageView,
    /// Path below our URLs where the view is read.
    pub path: String,
}

impl MediaLease {
    /// Returns the token in the path.
    pub fn token(&self) -> &str {
        self.path.split('/').nth(1).unwrap_or_default()
    }
}

/// The part of a host's view of an image that a client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigVisibility {
    /// The whole view.
    Whole,
    /// The view without the host's config, its URL and the host's own kernel arguments, for any client.
    WithoutConfig,
}

impl ConfigVisibility {
    /// Returns `Whole` if the config is shown.
    pub fn whole_if(shows: bool) -> Self {
        if shows { Self::Whole } else { Self::WithoutConfig }
    }
}

/// An image that a host may attach.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The image.
    pub image: Arc<Image>,
    /// The host.
    pub host: Arc<Host>,
    /// The part of the host's view that is shown.
    pub shown: ConfigVisibility,
}

/// The reason that a host's medium is not served.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// A decision refuses it.
    #[error("{0}")]
    Reason(Reason),
    /// The image's file cannot be served, or the view cannot be made.
    #[error(transparent)]
    Medium(#[from] library::ImageError),
    /// The seed of the host's config cannot be made.
    #[error(transparent)]
    Seed(#[from] iso::ViewError),
}

impl MediaError {
    /// Returns the reason for a refusal.
    pub fn refusal(&self) -> Reason {
        match self {
            Self::Reason(reason) => *reason,
            Self::Medium(library::ImageError::Config(_)) => Reason::ConfigNotRendered,
            Self::Medium(_) | Self::Seed(_) => Reason::ImageUnavailable,
        }
    }
}

impl Gate {
    /// Returns a host's view of an image; without a host, the image as it is in its file.
    ///
    /// # Errors
    /// The file cannot be read, or the host's changes cannot be applied to it.
    pub fn medium(
        &self,
        image: &Image,
        host: Option<(&Host, ConfigVisibility)>,
        at: Option<IpAddr>,
    ) -> Result<ImageView, library::ImageError> {
        let (customization, carries) = self.customize(image, host, at)?;
        Ok(ImageView { carries, ..self.media.view(image, customization)? })
    }

    /// Returns a host's view as [`Self::medium`], for somebody who does not read it: nothing is kept of it.
    ///
    /// # Errors
    /// As for [`Self::medium`].
    pub fn preview_medium(
        &self,
        image: &Image,
        host: Option<(&Host, ConfigVisibility)>,
        at: Option<IpAddr>,
    ) -> Result<ImageView, library::ImageError> {
        let (customization, carries) = self.customize(image, host, at)?;
        Ok(ImageView { carries, ..self.media.preview(image, &customization)? })
    }

    /// Returns a host's view as [`Self::medium`], if that is possible without asking a file system and without rendering a
    /// config.
    pub fn medium_now(
        &self,
        image: &Image,
        host: Option<(&Host, ConfigVisibility)>,
        at: Option<IpAddr>,
    ) -> Option<ImageView> {
        let embedded = host.filter(|_| image.spec.config_delivery == Delivery::Embed);
        let embedded = embedded.and_then(|(host, _)| Some((host, self.config_in_view(host, image)?)));
        if embedded.is_some_and(|(host, config)| self.rendered_config(host, &config, at).is_none()) {
            return None;
        }
        let (customization, carries) = self.customize(image, host, at).ok()?;
        Some(ImageView { carries, ..self.media.view_now(image, &customization)? })
    }

    /// Returns what changes in a host's view of an image, and the config that the view contains.
    ///
    /// # Errors
    /// The config cannot be rendered.
    fn customize(
        &self,
        image: &Image,
        host: Option<(&Host, ConfigVisibility)>,
        at: Option<IpAddr>,
    ) -> Result<(iso::Customization, Option<(Mac, Name)>), library::ImageError> {
        let Some((host, shown)) = host else { return Ok(Default::default()) };
        let mut config = self.config_in_view(host, image).filter(|_| shown == ConfigVisibility::Whole);
        if let Some(config) = config.as_mut().filter(|_| image.spec.config_delivery == Delivery::Embed) {
            let rendered = self.render_config(host, config, at);
            *config = rendered.map_err(|error| library::ImageError::Config(error.to_string()))?.config;
        }
        let site = self.site_at(at);
        let url = config_url(&site, self.token(Some(host)), config.as_deref());
        // The host's own kernel arguments are shown to the same clients as its config.
        let own = Some(host).filter(|_| shown == ConfigVisibility::Whole);
        let addresses = iso::ServerAddresses { config: &url, syslog: site.syslog };
        let reporting = config.as_deref().filter(|_| image.spec.config_delivery == Delivery::Embed);
        let reporting = reporting.and_then(|config| self.with_vendor_data(host, config, at));
        let config_now = reporting.as_ref().or(config.as_deref());
        let mut customization = iso::customization_for(image, own, config_now, addresses);
        site.fill(&mut customization.edit.append, &image.metadata.name, host.spec.boot_mac_address);
        let is_within = |_: &Arc<BootConfig>| image.spec.config_delivery == Delivery::Embed;
        let carries = config.filter(is_within).map(|config| (host.spec.boot_mac_address, config.metadata.name.clone()));
        Ok((customization, carries))
    }

    /// Returns the NoCloud seed of a host's config as it is rendered; `None` if the config is not for cloud-init. With
    /// `report_url` it has the settings that have cloud-init report there, unless the config has vendor-data of its own.
    ///
    /// # Errors
    /// The files do not fit a seed.
    pub fn seed_of(
        &self,
        host: &Host,
        config: &BootConfig,
        report_url: Option<&str>,
    ) -> Result<Option<Bytes>, iso::ViewError> {
        if config.spec.format != Format::CloudInit {
            return Ok(None);
        }
        let with_vendor_data = report_url.map(|url| with_vendor_data(config, url));
        let config = with_vendor_data.as_ref().unwrap_or(config);
        let files = config.spec.files().filter(|(name, _)| iso::SEED_FILES.contains(name));
        let files: BTreeMap<String, &[u8]> = files.map(|(name, content)| (name.to_owned(), content)).collect();
        iso::build_seed(host.metadata.name.as_str(), &host.instance(), &files).map(Some)
    }

    /// Returns the NoCloud seed that a host attaches with its image, at our address that it reached; `None` if its config
    /// is not for cloud-init.
    ///
    /// # Errors
    /// The files do not fit a seed, or cannot be rendered.
    pub fn seed(&self, host: &Host, at: Option<IpAddr>) -> Result<Option<Arc<dyn ReadAt>>, MediaError> {
        let config = self.host_config(host, at).map_err(|error| library::ImageError::Config(error.to_string()))?;
        let Some(config) = config else { return Ok(None) };
        let seed = self.seed_of(host, &config, Some(&self.report_url(host, at)))?;
        Ok(seed.map(|seed| -> Arc<dyn ReadAt> { Arc::new(iso::MemoryImage(seed)) }))
    }

    /// Returns a config for cloud-init with the settings that have it report its progress; `None` for another config.
    fn with_vendor_data(&self, host: &Host, config: &BootConfig, at: Option<IpAddr>) -> Option<BootConfig> {
        (config.spec.format == Format::CloudInit).then(|| with_vendor_data(config, &self.report_url(host, at)))
    }

    /// Returns the CHAP secrets in a host's script: for our target those of the host or of the configuration, for an
    /// external portal those of the portal.
    pub fn chap_for(&self, image: &Image, host: &Host) -> Option<Chap> {
        match &image.spec.portal {
            Some(portal) => portal.chap.clone(),
            None => self.chap(Some(host)),
        }
    }

    /// Returns the token in the initiator name of a host's script, if the configuration demands one and the attached
    /// view contains the host's config; else an empty text. An external portal never sees it.
    pub fn login_token(&self, image: &Image, host: &Host) -> String {
        let is_demanded = self.site().config_access.require != ConfigProof::Address && image.spec.portal.is_none();
        match is_demanded && self.config_in_view(host, image).is_some() {
            true => self.token(Some(host)),
            false => String::new(),
        }
    }

    /// Returns the CHAP secrets of a host for our target: its own, or those of the configuration.
    pub fn chap(&self, host: Option<&Host>) -> Option<Chap> {
        host.and_then(|host| host.spec.chap.clone()).or_else(|| self.site().chap.clone())
    }

    /// Begins a host's boot from a virtual medium, as a script does for a boot over the network. The URL is for the
    /// host's BMC.
    ///
    /// # Errors
    /// The host does not boot an image now, or its view cannot be made.
    pub async fn insert(self: &Arc<Self>, mac: Mac) -> Result<MediaLease, MediaError> {
        let facts = Facts { mac, firmware: None, stage: Stage::Ipxe, address: None, uuid: None };
        let name = match &self.decide_now(&facts).decision.verdict {
            Verdict::SanBoot(name) => name.clone(),
            Verdict::Ignore(reason) | Verdict::LocalDisk(reason) => return Err(MediaError::Reason(*reason)),
            Verdict::Wait(name) => return Err(self.unavailable(name)),
            Verdict::Menu | Verdict::Enrol(_) | Verdict::Chainload(_) | Verdict::Configure(_) => {
                return Err(MediaError::Reason(Reason::NotAssigned));
            }
        };
        let place = self.store.load().image(&name).and_then(|image| image.spec.remote_location());
        if let Some(place) = place {
            return Err(MediaError::Medium(library::ImageError::Remote { location: place }));
        }
        // The view is made before the boot is recorded: a view that cannot be made uses up no boot.
        let change =
            Change::Advance { mac, transition: Transition::Offer, observation: Observation::default(), event: None };
        if let Ok(Object::Host(offered)) = self.store.dry_run(change) {
            self.compose(offered, name.clone(), ConfigVisibility::Whole, None).await?;
        }
        let event = Event::Script { action: ScriptAction::VirtualMedia, image: Some(name.clone()), reason: None };
        let caller = IdentifiedClient { facts, evidence: None };
        let host = self.advance(&caller, Transition::Offer, Some(event)).await.map_err(MediaError::Reason)?;
        self.hold(host, name, ConfigVisibility::Whole, None).await
    }

    /// Returns why a host's medium waits for an image.
    fn unavailable(&self, name: &Name) -> MediaError {
        let reason = self.store.load().image(name).and_then(|image| self.media.reason(image).map(str::to_owned));
        reason.map_or(MediaError::Reason(Reason::ImageUnavailable), |reason| {
            MediaError::Medium(library::ImageError::Broken(format!("{name} cannot be served now: {reason}")))
        })
    }

    /// Returns the medium under a token, of a URL that names an image; `None` if `restore_lease` has to make it again.
    /// Only the install that it was made for may read a medium that contains the host's config, and only within
    /// `config_access.token_ttl` of its last read.
    ///
    /// # Errors
    /// The reason for the refusal.
    pub fn held(&self, token: &str, image: &str) -> Result<Option<ImageView>, Reason> {
        let mac = BootTokens::claimed(token).ok_or(Reason::TokenInvalid)?;
        let host = self.store.load().host_by_mac(mac).ok_or(Reason::UnknownHost)?;
        if host.status.phase == Phase::Held {
            return Err(Reason::Held);
        }
        let name = image.parse::<Name>().map_err(|_| Reason::OtherImageAssigned)?;
        let is_given = |seen: &ImageView, idle| match &seen.carries {
            None => true,
            Some((_, config)) => {
                let is_hosts = host.spec.boot_config_ref.as_ref() == Some(config);
                let is_installs = self.tokens.holds_medium(token, &host, &name, &mark(seen, &host));
                let is_over = self.store.load().boot_config(config).is_some_and(|config| self.is_over(&host, config));
                is_hosts && is_installs && !is_over && self.may_resume_reading(&host, idle)
            }
        };
        match self.media.held(token, is_given) {
            Some(None) => Err(Reason::TokenInvalid),
            found => Ok(found.flatten()),
        }
    }

    /// Makes the medium of a token that was issued before a restart: the host's view must not have changed since. May
    /// wait for a disk.
    ///
    /// # Errors
    /// The reason for the refusal.
    pub fn restore_lease(&self, token: &str, image: &str, at: Option<IpAddr>) -> Result<ImageView, MediaError> {
        let mac = BootTokens::claimed(token).ok_or(MediaError::Reason(Reason::TokenInvalid))?;
        let name = image.parse::<Name>().map_err(|_| MediaError::Reason(Reason::OtherImageAssigned))?;
        let facts = Facts { mac, firmware: None, stage: Stage::IscsiLogin, address: None, uuid: None };
        let (image, host) = self.login(&facts, &name).map_err(MediaError::Reason)?;
        let views =
            [ConfigVisibility::Whole, ConfigVisibility::WithoutConfig].map(|shown| [(shown, None), (shown, at)]);
        for (shown, at) in views.into_iter().flatten() {
            let seen = self.medium(&image, Some((&host, shown)), at)?;
            // The time of the last read is not known after a restart.
            let is_given = seen.carries.is_none() || self.may_resume_reading(&host, self.media.age());
            if is_given && self.tokens.holds_medium(token, &host, &name, &mark(&seen, &host)) {
                self.media.hold(token.to_owned(), seen.clone());
                return Ok(seen);
            }
        }
        Err(MediaError::Reason(Reason::TokenInvalid))
    }

    /// Adds the path of the medium to a decision to boot an image over HTTP.
    pub(super) async fn with_medium(self: &Arc<Self>, decided: HostDecision, at: Option<IpAddr>) -> HostDecision {
        let (Verdict::SanBoot(name), Some(host)) = (&decided.decision.verdict, &decided.host) else { return decided };
        if !self.store.load().image(name).is_some_and(|image| is_attached_over_http(image)) {
            return decided;
        }
        let shown = ConfigVisibility::whole_if(decided.tied);
        match self.hold(host.clone(), name.clone(), shown, at).await {
            Ok(held) => HostDecision { medium: Some(held.path), ..decided },
            Err(error) => {
                tracing::warn!(image = %name, %error, "cannot serve the image over HTTP");
                decided
            }
        }
    }

    /// Makes a host's view, and keeps it under a token of its own.
    async fn hold(
        self: &Arc<Self>,
        host: Arc<Host>,
        name: Name,
        shown: ConfigVisibility,
        at: Option<IpAddr>,
    ) -> Result<MediaLease, MediaError> {
        let seen = self.compose(host.clone(), name.clone(), shown, at).await?;
        self.warn(&host, &seen.warnings);
        let token = self.lease_token(&host, &name, &seen);
        self.media.hold(token.clone(), seen.clone());
        Ok(MediaLease { path: lease_path(&token, &name), image: name, seen })
    }

    /// Returns the token of a host's view.
    pub(super) fn lease_token(&self, host: &Host, name: &Name, seen: &ImageView) -> String {
        self.tokens.of_medium(host, name, &mark(seen, host))
    }

    /// Makes a host's view on a thread that may wait for the disk.
    async fn compose(
        self: &Arc<Self>,
        host: Arc<Host>,
        name: Name,
        shown: ConfigVisibility,
        at: Option<IpAddr>,
    ) -> Result<ImageView, MediaError> {
        let gate = self.clone();
        let made = tokio::task::spawn_blocking(move || {
            let image =
                gate.store.load().image(&name).cloned().ok_or(MediaError::Reason(Reason::OtherImageAssigned))?;
            let made = gate.medium(&image, Some((&host, shown)), at);
            if shown == ConfigVisibility::Whole {
                gate.record_delivery(&image, &host, at);
            }
            Ok(made?)
        });
        made.await.unwrap_or_else(|error| {
            tracing::error!(%error, "failed to compose a host's view of an image");
            Err(MediaError::Reason(Reason::InternalError))
        })
    }
}

/// Returns a config with the vendor-data by which cloud-init reports to a URL, unless it has other vendor-data.
fn with_vendor_data(config: &BootConfig, report_url: &str) -> BootConfig {
    let mut config = config.clone();
    if config.spec.content(VENDOR_DATA).is_none() {
        let vendor_data = vendor_data(report_url, config.main_text().unwrap_or_default());
        config.spec.data.insert(VENDOR_DATA.to_owned(), vendor_data);
    }
    config
}

/// Returns whether iPXE attaches an image over HTTP, from this server.
pub(super) fn is_attached_over_http(image: &Image) -> bool {
    image.spec.method == Method::Http && image.spec.is_local()
}

/// Returns the path of a leased view below our URLs.
pub(super) fn lease_path(token: &str, name: &Name) -> String {
    format!("media/{token}/{name}.iso")
}

/// Returns the text that a medium's token authenticates: the tag of the bytes, and the present install if the bytes
/// contain the host's config.
fn mark(seen: &ImageView, host: &Host) -> String {
    let install = host.status.install.as_ref().and_then(|install| install.first_offer_time);
    match (&seen.carries, install) {
        (None, _) => seen.tag.clone(),
        (Some(_), None) => format!("{} of no install", seen.tag),
        (Some(_), Some(at)) => format!("{} of {}", seen.tag, at.as_millisecond()),
    }
}
