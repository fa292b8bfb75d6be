//! Who may attach which image over iSCSI: the decision's answer, in the target's words.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::boot::{DropReason, Facts, Reason, Stage};
use crate::config::{Config, IscsiAccess};
use crate::event::{DeliveryChannel, Event, Protocol};
use crate::fleet::{AttachAs, Chap, Delivery, Host, Image, Mac, Name};
use crate::gate::Gate;
use crate::gate::media::{Attached, ConfigVisibility};
use crate::images::library::{self, ImageView};
use crate::iscsi::chap::ChapTerms;
use crate::iscsi::connection::{End, TargetEntry};
use crate::iscsi::login::{LoginError, Refusal};
use crate::iscsi::medium::{Identity, Kind, Lun};
use crate::iscsi::serve::{self as target, Admission, Door, Grant, LoginClaim, Report};
use crate::iso::ReadAt;

/// Serves iSCSI until told to stop.
pub fn serve(
    listener: std::net::TcpListener,
    config: &Config,
    gate: Arc<Gate>,
    stopped: watch::Receiver<bool>,
) -> impl Future<Output = anyhow::Result<()>> + use<> {
    let usher = Usher { gate: gate.clone(), access: config.iscsi.access };
    let door = Door {
        authorize: Box::new(move |claim| usher.admit(claim)),
        report: Box::new(move |report| tell(&gate, report)),
    };
    async move {
        target::serve(TcpListener::from_std(listener)?, Arc::new(door), stopped).await;
        Ok(())
    }
}

type Units = BTreeMap<u8, (Lun, Arc<dyn ReadAt>)>;

struct Usher {
    gate: Arc<Gate>,
    access: IscsiAccess,
}

impl Usher {
    fn admit(&self, login: &LoginClaim) -> Admission {
        let Some(target) = &login.claim.target else {
            let (targets, chap) = (self.targets(login), self.chap(login));
            return Admission::Admit(Grant { targets, chap, ..Grant::default() });
        };
        let Some(name) = image_of(&self.gate, target) else {
            self.gate.counters.count_refused(Protocol::Iscsi, Reason::OtherImageAssigned, Some(login.peer.ip()));
            return Admission::Refuse(Refusal::NotFound);
        };
        match self.find(login, &name) {
            Ok((image, own)) => self.attach(login, &image, own.as_ref().map(|(host, shown)| (&**host, *shown))),
            Err(why) => self.refuse(login, &name, why),
        }
    }

    fn refuse(&self, login: &LoginClaim, name: &Name, why: Reason) -> Admission {
        // What cannot be served now may be soon: the initiator had best ask again.
        let wanting = || self.gate.store.load().image(name).and_then(|image| self.gate.unavailable_reason(image));
        let words = Some(why).filter(|why| *why == Reason::ImageUnavailable).and_then(|_| wanting());
        let words = words.map_or_else(|| why.to_string(), |reason| format!("{name} cannot be served now: {reason}"));
        match facts(&self.gate, login) {
            Some(facts) => self.gate.refuse_with(&facts, Protocol::Iscsi, why, words),
            None => self.gate.counters.count_refused(Protocol::Iscsi, why, Some(login.peer.ip())),
        }
        Admission::Refuse(if why == Reason::ImageUnavailable { Refusal::Unavailable } else { Refusal::Forbidden })
    }

    /// Finds the image, and the host whose view of it is to be seen; none where the site is open to all.
    fn find(&self, login: &LoginClaim, name: &Name) -> Result<(Arc<Image>, Option<Own>), Reason> {
        let its_own = match facts(&self.gate, login) {
            // A name is a claim: a view may hold what is its host's alone.
            Some(facts) => self.gate.attach(&facts, named(&self.gate, login).and_then(|(_, token)| token), name),
            None => Err(Reason::UnknownHost),
        };
        match (its_own, self.access) {
            (Ok(Attached { image, host, shown }), _) => Ok((image, Some((host, shown)))),
            (Err(why), IscsiAccess::Assigned) => Err(why),
            (Err(_), IscsiAccess::Any) => {
                let image = self.gate.store.load().image(name).cloned().ok_or(Reason::OtherImageAssigned)?;
                Ok((image, None))
            }
        }
    }

    /// Gives what the initiator proves itself with: its host's, or the site's.
    fn chap(&self, login: &LoginClaim) -> Option<ChapTerms> {
        let facts = facts(&self.gate, login);
        let host = facts.and_then(|facts| self.gate.store.load().host_by_mac(facts.mac).cloned());
        let Chap { username, secret, target_username, target_secret } = self.gate.chap(host.as_deref())?.clone();
        let ours = target_username.zip(target_secret).map(|(name, secret)| (name, secret.0.into_bytes()));
        Some(ChapTerms { name: username, secret: secret.0.into_bytes(), ours })
    }

    fn attach(&self, login: &LoginClaim, image: &Image, own: Option<(&Host, ConfigVisibility)>) -> Admission {
        if let Some(portal) = &image.spec.portal {
            let portal = std::net::SocketAddr::new(portal.address, portal.port).to_string();
            return Admission::Redirect { portal, permanent: false };
        }
        match self.units(login, image, own) {
            Ok(units) => Admission::Admit(Grant { units, chap: self.chap(login), ..Grant::default() }),
            Err(error) => {
                let (reason, why) = (Reason::ImageUnavailable, format!("{}: {error:#}", image.metadata.name));
                tracing::debug!(peer = %login.peer, why, "an image cannot be attached");
                match own {
                    Some((host, _)) => {
                        self.gate.record_refusal(host.spec.boot_mac_address, Protocol::Iscsi, reason, why)
                    }
                    None => self.gate.record_refusal_at(Some(login.peer.ip()), Protocol::Iscsi, reason, why),
                }
                Admission::Refuse(Refusal::Unavailable)
            }
        }
    }

    /// Puts the image on unit 0, and what is attached beside it on the next ones.
    fn units(
        &self,
        login: &LoginClaim,
        image: &Image,
        own: Option<(&Host, ConfigVisibility)>,
    ) -> anyhow::Result<Units> {
        let mut units = Units::from([(0, self.unit(login, image, own)?)]);
        let state = self.gate.store.load();
        // An installer without its drivers is no use: the machine asks again until they are there.
        for (number, name) in (1..).zip(&image.spec.companions) {
            let companion =
                state.image(name).ok_or_else(|| anyhow!("there is no ISCSICdrom {name} to go beside it"))?;
            let unit = self.unit(login, companion, None).with_context(|| format!("{name} cannot go beside it"))?;
            units.insert(number, unit);
        }
        if let (Delivery::Seed, Some((host, ConfigVisibility::Whole))) = (image.spec.config_delivery, own)
            && let Some(seed) = self.gate.seed(host)?
        {
            let number = units.last_key_value().map_or(1, |(last, _)| last + 1);
            let identity = Identity::of(format!("seed {}", host.metadata.uid).as_bytes());
            let config = host.spec.boot_config_ref.clone().map(|name| (host.spec.boot_mac_address, name));
            let lun = Lun::new(Kind::Cdrom, seed.len(), identity);
            units.insert(number, (lun, self.told(login, config, DeliveryChannel::SeedUnit, seed)));
        }
        Ok(units)
    }

    fn unit(
        &self,
        login: &LoginClaim,
        image: &Image,
        own: Option<(&Host, ConfigVisibility)>,
    ) -> Result<(Lun, Arc<dyn ReadAt>), library::ImageError> {
        let ImageView { medium, warnings, carries, .. } = self.gate.medium(image, own, Some(login.local.ip()))?;
        let medium = self.told(login, carries, DeliveryChannel::Embedded, medium);
        if let Some((host, _)) = own {
            self.gate.warn(host, &warnings);
        }
        let kind = match image.spec.attach_as {
            AttachAs::Cdrom => Kind::Cdrom,
            AttachAs::Disk => Kind::Disk,
        };
        Ok((Lun::new(kind, medium.len(), Identity::of(image.metadata.uid.as_bytes())), medium))
    }

    /// Gives a unit whose first read is told, where it holds a machine's config.
    fn told(
        &self,
        login: &LoginClaim,
        carries: Option<(Mac, Name)>,
        way: DeliveryChannel,
        medium: Arc<dyn ReadAt>,
    ) -> Arc<dyn ReadAt> {
        let Some((mac, config)) = carries else { return medium };
        let facts = Facts { mac, firmware: None, stage: Stage::IscsiLogin, address: Some(login.peer.ip()), uuid: None };
        let (gate, runtime) = (self.gate.clone(), tokio::runtime::Handle::current());
        let tell = move || runtime.block_on(gate.release(&facts, &config, way));
        Arc::new(Told { medium, is_told: AtomicBool::new(false), tell: Box::new(tell) })
    }

    /// Lists what an initiator could attach: its own image, or all of them where the site is open.
    fn targets(&self, login: &LoginClaim) -> Vec<TargetEntry> {
        let state = self.gate.store.load();
        let names = state.images().map(|image| &image.metadata.name);
        let attachable = names.filter(|name| self.find(login, name).is_ok());
        let entry = |name: &Name| TargetEntry {
            name: self.gate.site.target_iqn(name),
            portals: vec![self.gate.site.iscsi.to_string()],
        };
        attachable.map(entry).collect()
    }
}

/// Returns the image that a target of this server serves.
fn image_of(gate: &Gate, target: &str) -> Option<Name> {
    let prefix = format!("{}:", gate.site.iqn.to_lowercase());
    target.strip_prefix(&prefix)?.parse().ok()
}

/// Is the host whose view of an image is to be seen, and how much of it.
type Own = (Arc<Host>, ConfigVisibility);

/// Tells whose initiator it is: by the name that our script set, or by the address it comes from.
fn facts(gate: &Gate, login: &LoginClaim) -> Option<Facts> {
    let named = named(gate, login).map(|(mac, _)| mac);
    let mac = named.or_else(|| gate.owner_of(login.peer.ip()).ok().flatten())?;
    Some(Facts { mac, firmware: None, stage: Stage::IscsiLogin, address: Some(login.peer.ip()), uuid: None })
}

/// Reads the name that our script set: the machine, and the token that it shows where the site asks for one.
fn named<'a>(gate: &Gate, login: &'a LoginClaim) -> Option<(Mac, Option<&'a str>)> {
    let name = login.claim.initiator.strip_prefix(&format!("{}:", gate.site.iqn.to_lowercase()))?;
    let (mac, token) = name.split_once(':').map_or((name, None), |(mac, token)| (mac, Some(token)));
    Some((mac.parse().ok()?, token))
}

/// Gives an initiator's name as it may be told: without the token in it.
fn tellable(gate: &Gate, login: &LoginClaim) -> String {
    match named(gate, login) {
        Some((mac, Some(_))) => format!("{}:{}", gate.site.iqn.to_lowercase(), mac.dashed()),
        Some((_, None)) | None => login.claim.initiator.clone(),
    }
}

/// Is a unit that holds a config. That this is given is on disk before the first byte of the unit leaves.
struct Told {
    medium: Arc<dyn ReadAt>,
    is_told: AtomicBool,
    tell: Box<dyn Fn() -> Result<(), Reason> + Send + Sync>,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Told").field(&self.medium).finish()
    }
}

impl ReadAt for Told {
    fn len(&self) -> u64 {
        self.medium.len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if !self.is_told.load(Ordering::Acquire) {
            (self.tell)().map_err(|why| io::Error::other(why.sentence()))?;
            self.is_told.store(true, Ordering::Release);
        }
        self.medium.read_at(offset, into)
    }

    fn read_now(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        match self.is_told.load(Ordering::Acquire) {
            true => self.medium.read_now(offset, into),
            // To be told of waits for the disk.
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

fn tell(gate: &Gate, report: Report) {
    match report {
        Report::Attached(login) => {
            gate.counters.count_answered(Protocol::Iscsi);
            gate.counters.iscsi_sessions.fetch_add(1, Ordering::Relaxed);
            if let Some(target) = login.claim.target.clone() {
                let (initiator, image) = (tellable(gate, &login), image_of(gate, &target));
                let event = Event::IscsiLogin { initiator, target, image };
                gate.store.record_event(facts(gate, &login).map(|facts| facts.mac), event);
            }
        }
        Report::Ended { login, end, sent } => {
            gate.counters.iscsi_sessions.fetch_sub(1, Ordering::Relaxed);
            gate.counters.iscsi_read_bytes.fetch_add(sent, Ordering::Relaxed);
            tracing::debug!(peer = %login.peer, ?end, sent, "an iSCSI session ended");
        }
        Report::Refused {
            peer,
            login: Some(login),
            end: Some(End::Login(LoginError::Chap(_) | LoginError::NoChap)),
        } => match facts(gate, &login) {
            Some(facts) => gate.refused(&facts, Protocol::Iscsi, Reason::ChapFailed),
            None => gate.counters.count_refused(Protocol::Iscsi, Reason::ChapFailed, Some(peer.ip())),
        },
        // It was refused by the gate, and counted there.
        Report::Refused { end: Some(End::Login(LoginError::Refused(_))), .. } => {}
        Report::Refused {
            login: Some(login), end: Some(End::Login(LoginError::Redirected { portal, .. })), ..
        } => {
            gate.counters.count_answered(Protocol::Iscsi);
            let mac = facts(gate, &login).map(|facts| facts.mac);
            let (initiator, target) = (tellable(gate, &login), login.claim.target.unwrap_or_default());
            let image = image_of(gate, &target);
            let event = Event::IscsiRedirect { initiator, target, image, portal };
            gate.store.record_event(mac, event);
        }
        Report::Refused { peer, login, end } => {
            let initiator = login.map(|login| tellable(gate, &login));
            tracing::debug!(%peer, initiator, ?end, "an iSCSI login failed");
            gate.counters.count_dropped(Protocol::Iscsi, DropReason::ContradictedClaim, Some(peer.ip()));
        }
        Report::Rejected { peer, opcode, why } => {
            tracing::debug!(%peer, opcode, ?why, "an iSCSI PDU was rejected");
            gate.counters.count_dropped(Protocol::Iscsi, DropReason::BadHeader, Some(peer.ip()));
        }
        Report::Full(peer) => gate.counters.count_dropped(Protocol::Iscsi, DropReason::Overload, Some(peer.ip())),
        Report::ReadFailed { peer, login, lun, error } => {
            tracing::debug!(%peer, lun, error, "an image cannot be read");
            let mac = login.and_then(|login| facts(gate, &login)).map(|facts| facts.mac);
            gate.record_read_failure(mac, lun, error);
        }
    }
}
