//! What hosts read: their views of images, the seeds beside them, and what they prove themselves with.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::boot::{ConfigProof, Facts, Reason, Stage, Verdict};
use crate::event::{Event, ScriptAction};
use crate::fleet::lifecycle::Transition;
use crate::fleet::{BootConfig, Chap, Delivery, Format, Host, Image, Mac, Method, Name, Object, Phase};
use crate::gate::tokens::BootTokens;
use crate::images::library::{self, ImageView};
use crate::iso::{self, ReadAt};
use crate::store::{Change, Observation};

use crate::gate::{Decision, Gate, config_url};

/// Is a host's view of its image, held under a URL: the same bytes for as long as anybody reads there.
#[derive(Debug, Clone)]
pub struct MediaLease {
    pub image: Name,
    pub seen: ImageView,
    /// Is where it is read, below our URLs.
    pub path: String,
}

/// Says how much of what is a host's alone its view of an image shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigVisibility {
    Whole,
    /// Neither its config, nor where that is: who asks may be anybody.
    WithoutConfig,
}

impl ConfigVisibility {
    pub fn whole_if(shows: bool) -> Self {
        if shows { Self::Whole } else { Self::WithoutConfig }
    }
}

/// Is an image that a host may attach, as it is to see it.
#[derive(Debug, Clone)]
pub struct Attached {
    pub image: Arc<Image>,
    pub host: Arc<Host>,
    pub shown: ConfigVisibility,
}

/// Says why a host's medium is not given.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    #[error("{0}")]
    Reason(Reason),
    #[error(transparent)]
    Medium(#[from] library::ImageError),
}

impl Gate {
    /// Gives an image as a host sees it; as it is where no host is named.
    ///
    /// # Errors
    /// The file cannot be read, or what was declared of it cannot be done.
    pub fn medium(
        &self,
        image: &Image,
        host: Option<(&Host, ConfigVisibility)>,
        at: Option<IpAddr>,
    ) -> Result<ImageView, library::ImageError> {
        let Some((host, shown)) = host else { return self.media.view(image, iso::Wishes::default()) };
        let config = self.told_of(host, image).filter(|_| shown == ConfigVisibility::Whole);
        let site = self.site_at(at);
        let url = config_url(&site, self.token(Some(host)), config.as_deref());
        let mut wishes = iso::wishes(image, Some(host), config.as_deref(), &url);
        site.fill(&mut wishes.edit.append, &image.metadata.name, host.spec.boot_mac_address);
        let is_within = |_: &Arc<BootConfig>| image.spec.config_delivery == Delivery::Embed;
        let carries = config.filter(is_within).map(|config| (host.spec.boot_mac_address, config.metadata.name.clone()));
        Ok(ImageView { carries, ..self.media.view(image, wishes)? })
    }

    /// Makes the NoCloud seed of a host's config; none where that is no cloud-init.
    ///
    /// # Errors
    /// The files do not fit a seed.
    pub fn seed_of(&self, host: &Host) -> Result<Option<Bytes>, iso::CannotCompose> {
        let state = self.store.load();
        let config = host.spec.boot_config_ref.as_ref().and_then(|name| state.boot_config(name));
        let Some(config) = config.filter(|config| config.spec.format == Format::CloudInit) else { return Ok(None) };
        let is_seeds = |name: &String| iso::SEED_FILES.contains(&name.as_str());
        let files = config.spec.data.iter().filter(|(name, _)| is_seeds(name));
        let files = files.map(|(name, text)| (name.clone(), text.clone())).collect();
        iso::seed(host.metadata.name.as_str(), &host.instance(), &files).map(Some)
    }

    /// Makes the NoCloud seed that a host attaches beside its image; none where its config is no cloud-init.
    ///
    /// # Errors
    /// The files do not fit a seed.
    pub fn seed(&self, host: &Host) -> Result<Option<Arc<dyn ReadAt>>, iso::CannotCompose> {
        Ok(self.seed_of(host)?.map(|seed| -> Arc<dyn ReadAt> { Arc::new(iso::Memory(seed)) }))
    }

    /// Gives what the script of a host sets to prove itself with where an image is: at our target the host's own or
    /// the site's, at another's portal what is declared for that alone.
    pub fn chap_for(&self, image: &Image, host: &Host) -> Option<Chap> {
        match &image.spec.portal {
            Some(portal) => portal.chap.clone(),
            None => self.chap(Some(host)).cloned(),
        }
    }

    /// Gives the token that a host shows at our target by its initiator's name, where the site asks for one and
    /// what it attaches holds its config. No other target is shown it.
    pub fn shown_at_login(&self, image: &Image, host: &Host) -> String {
        let is_asked = self.site.config_access.require != ConfigProof::Address && image.spec.portal.is_none();
        match is_asked && self.told_of(host, image).is_some() {
            true => self.token(Some(host)),
            false => String::new(),
        }
    }

    /// Gives what a host proves itself with to our target: its own, or the site's.
    pub fn chap<'a>(&'a self, host: Option<&'a Host>) -> Option<&'a Chap> {
        host.and_then(|host| host.spec.chap.as_ref()).or(self.site.chap.as_ref())
    }

    /// Begins a host's boot from a virtual medium: what a script does for machines that boot over the network.
    /// The URL is for its BMC.
    ///
    /// # Errors
    /// The host is not to boot an image now, or its view cannot be had.
    pub async fn insert(self: &Arc<Self>, mac: Mac) -> Result<MediaLease, MediaError> {
        let facts = Facts { mac, firmware: None, stage: Stage::Ipxe, address: None, uuid: None };
        let ruling = self.decide_now(&facts);
        let name = match &ruling.verdict {
            Verdict::SanBoot(name) => name.clone(),
            Verdict::Ignore(why) | Verdict::LocalDisk(why) => return Err(MediaError::Reason(*why)),
            Verdict::Wait(name) => return Err(self.withheld(name)),
            Verdict::Menu | Verdict::Enrol(_) | Verdict::Chainload(_) | Verdict::Configure(_) => {
                return Err(MediaError::Reason(Reason::NotAssigned));
            }
        };
        let place = self.store.load().image(&name).and_then(|image| image.spec.remote_location());
        if let Some(place) = place {
            return Err(MediaError::Medium(library::ImageError::Elsewhere { place }));
        }
        // A view that cannot be made is no boot: it is made first, for the host as this boot leaves it.
        let change = Change::Advance { mac, change: Transition::Offer, sighting: Observation::default(), event: None };
        if let Ok(Object::Host(offered)) = self.store.dry_run(change) {
            self.compose(offered, name.clone(), ConfigVisibility::Whole, None).await?;
        }
        let event = Event::Script { action: ScriptAction::VirtualMedia, image: Some(name.clone()), reason: None };
        let host = self.advance(&facts, Transition::Offer, Some(event)).await.map_err(MediaError::Reason)?;
        self.hold(host, name, ConfigVisibility::Whole, None).await
    }

    /// Says why a host's medium waits for an image.
    fn withheld(&self, name: &Name) -> MediaError {
        let reason = self.store.load().image(name).and_then(|image| self.media.reason(image).map(str::to_owned));
        reason.map_or(MediaError::Reason(Reason::ImageUnavailable), |reason| {
            MediaError::Medium(library::ImageError::Broken(format!("{name} cannot be served now: {reason}")))
        })
    }

    /// Finds the medium that is held under a token, of a URL that names an image; nothing where it is to be looked
    /// for by `hold_again`. One that holds the machine's config is read by the install alone that it was made for,
    /// and within the window of its last reading.
    ///
    /// # Errors
    /// Reason nobody is given anything.
    pub fn held(&self, token: &str, image: &str) -> Result<Option<ImageView>, Reason> {
        let mac = BootTokens::claimed(token).ok_or(Reason::TokenInvalid)?;
        let host = self.store.load().host_by_mac(mac).cloned().ok_or(Reason::UnknownHost)?;
        if host.status.phase == Phase::Held {
            return Err(Reason::Held);
        }
        let name = image.parse::<Name>().map_err(|_| Reason::OtherImageAssigned)?;
        let is_given = |seen: &ImageView, idle| match &seen.carries {
            None => true,
            Some((_, config)) => {
                let is_hosts = host.spec.boot_config_ref.as_ref() == Some(config);
                let is_installs = self.tokens.holds_medium(token, &host, &name, &mark(seen, &host));
                is_hosts && is_installs && self.is_in_time(&host, idle)
            }
        };
        match self.media.held(token, is_given) {
            Some(None) => Err(Reason::TokenInvalid),
            found => Ok(found.flatten()),
        }
    }

    /// Makes the medium that a token was given for before a restart: the host's view as it is now must still
    /// be that one. May wait for a disk.
    ///
    /// # Errors
    /// Reason nobody is given anything.
    pub fn restore_lease(&self, token: &str, image: &str, at: Option<IpAddr>) -> Result<ImageView, MediaError> {
        let mac = BootTokens::claimed(token).ok_or(MediaError::Reason(Reason::TokenInvalid))?;
        let name = image.parse::<Name>().map_err(|_| MediaError::Reason(Reason::OtherImageAssigned))?;
        let facts = Facts { mac, firmware: None, stage: Stage::IscsiLogin, address: None, uuid: None };
        let (image, host) = self.login(&facts, &name).map_err(MediaError::Reason)?;
        let views =
            [ConfigVisibility::Whole, ConfigVisibility::WithoutConfig].map(|shown| [(shown, None), (shown, at)]);
        for (shown, at) in views.into_iter().flatten() {
            let seen = self.medium(&image, Some((&host, shown)), at)?;
            // Who read it until the restart is not known any more.
            let is_given = seen.carries.is_none() || self.is_in_time(&host, self.media.age());
            if is_given && self.tokens.holds_medium(token, &host, &name, &mark(&seen, &host)) {
                self.media.hold(token.to_owned(), seen.clone());
                return Ok(seen);
            }
        }
        Err(MediaError::Reason(Reason::TokenInvalid))
    }

    /// Adds to a ruling where its medium is read, where the image is booted over HTTP.
    pub async fn with_medium(self: &Arc<Self>, ruling: Decision, at: Option<IpAddr>) -> Decision {
        let (Verdict::SanBoot(name), Some(host)) = (&ruling.verdict, &ruling.host) else { return ruling };
        let over_http = |image: &Arc<Image>| image.spec.method == Method::Http && image.spec.is_local();
        if !self.store.load().image(name).is_some_and(over_http) {
            return ruling;
        }
        let shown = ConfigVisibility::whole_if(ruling.tied);
        match self.hold(host.clone(), name.clone(), shown, at).await {
            Ok(held) => Decision { medium: Some(held.path), ..ruling },
            Err(error) => {
                tracing::warn!(image = %name, %error, "an image cannot be given over HTTP");
                ruling
            }
        }
    }

    /// Makes a host's view, and holds it under a token of its own.
    async fn hold(
        self: &Arc<Self>,
        host: Arc<Host>,
        name: Name,
        shown: ConfigVisibility,
        at: Option<IpAddr>,
    ) -> Result<MediaLease, MediaError> {
        let seen = self.compose(host.clone(), name.clone(), shown, at).await?;
        self.warn(&host, &seen.warnings);
        let token = self.tokens.of_medium(&host, &name, &mark(&seen, &host));
        self.media.hold(token.clone(), seen.clone());
        Ok(MediaLease { path: format!("media/{token}/{name}.iso"), image: name, seen })
    }

    /// Makes a host's view, of a file that may have to be read first.
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
            Ok(gate.medium(&image, Some((&host, shown)), at)?)
        });
        made.await.unwrap_or_else(|error| {
            tracing::error!(%error, "failed to compose a host's view of an image");
            Err(MediaError::Reason(Reason::InternalError))
        })
    }
}

/// Identifies what a medium's token is of: bytes, and where they hold the host's config, its present install.
fn mark(seen: &ImageView, host: &Host) -> String {
    let install = host.status.install.as_ref().and_then(|install| install.first_offer_time);
    match (&seen.carries, install) {
        (None, _) => seen.tag.clone(),
        (Some(_), None) => format!("{} of no install", seen.tag),
        (Some(_), Some(at)) => format!("{} of {}", seen.tag, at.as_millisecond()),
    }
}
