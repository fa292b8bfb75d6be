//! Who may attach which image over iSCSI: the decision's answer, in the target's words.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::boot::{Drop, Facts, Stage, Why};
use crate::config::{Access, Config};
use crate::event::{Event, Protocol};
use crate::fleet::{AttachAs, Chap, Delivery, Host, Image, Mac, Name};
use crate::gate::Gate;
use crate::iscsi::chap::ChapTerms;
use crate::iscsi::login::{LoginError, Refusal};
use crate::iscsi::medium::{Identity, Kind, Lun};
use crate::iscsi::serve::{self as target, Admission, Door, Grant, LoginClaim, Report};
use crate::iscsi::session::{End, TargetEntry};
use crate::iso::ReadAt;
use crate::media::{self, Seen};

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
    access: Access,
}

impl Usher {
    fn admit(&self, login: &LoginClaim) -> Admission {
        let Some(target) = &login.claim.target else {
            let (targets, chap) = (self.targets(login), self.chap(login));
            return Admission::Admit(Grant { targets, chap, ..Grant::default() });
        };
        let prefix = format!("{}:", self.gate.site.iqn.to_lowercase());
        let Some(name) = target.strip_prefix(&prefix).and_then(|name| name.parse::<Name>().ok()) else {
            self.gate.counters.refuse(Protocol::Iscsi, Why::OtherImage, Some(login.peer.ip()));
            return Admission::Refuse(Refusal::NotFound);
        };
        match self.find(login, &name) {
            Ok((image, host)) => self.attach(login, &image, host.as_deref()),
            Err(why) => self.refuse(login, &name, why),
        }
    }

    fn refuse(&self, login: &LoginClaim, name: &Name, why: Why) -> Admission {
        // What cannot be served now may be soon: the initiator had best ask again.
        let wanting = || self.gate.store.glance().image(name).and_then(|image| self.gate.wanting(image));
        let words = Some(why).filter(|why| *why == Why::ImageBroken).and_then(|_| wanting());
        let words = words.map_or_else(|| why.to_string(), |reason| format!("{name} cannot be served now: {reason}"));
        match facts(&self.gate, login) {
            Some(facts) => self.gate.refused_saying(&facts, Protocol::Iscsi, why, words),
            None => self.gate.counters.refuse(Protocol::Iscsi, why, Some(login.peer.ip())),
        }
        Admission::Refuse(if why == Why::ImageBroken { Refusal::Unavailable } else { Refusal::Forbidden })
    }

    /// Finds the image, and the host whose view of it is to be seen; none where the site is open to all.
    fn find(&self, login: &LoginClaim, name: &Name) -> Result<(Arc<Image>, Option<Arc<Host>>), Why> {
        let its_own = match facts(&self.gate, login) {
            // A name is a claim: a view may hold what is its host's alone.
            Some(facts) if self.gate.is_anothers(facts.mac, login.peer.ip()) => Err(Why::AddressContradicted),
            Some(facts) => self.gate.login(&facts, name),
            None => Err(Why::NoSuchHost),
        };
        match (its_own, self.access) {
            (Ok((image, host)), _) => Ok((image, Some(host))),
            (Err(why), Access::Assigned) => Err(why),
            (Err(_), Access::Any) => {
                let image = self.gate.store.glance().image(name).cloned().ok_or(Why::OtherImage)?;
                Ok((image, None))
            }
        }
    }

    /// Gives what the initiator proves itself with: its host's, or the site's.
    fn chap(&self, login: &LoginClaim) -> Option<ChapTerms> {
        let facts = facts(&self.gate, login);
        let host = facts.and_then(|facts| self.gate.store.glance().host_by_mac(facts.mac).cloned());
        let Chap { username, secret, target_username, target_secret } = self.gate.chap(host.as_deref())?.clone();
        let ours = target_username.zip(target_secret).map(|(name, secret)| (name, secret.0.into_bytes()));
        Some(ChapTerms { name: username, secret: secret.0.into_bytes(), ours })
    }

    fn attach(&self, login: &LoginClaim, image: &Image, host: Option<&Host>) -> Admission {
        if let Some(portal) = &image.spec.portal {
            let portal = std::net::SocketAddr::new(portal.address, portal.port).to_string();
            return Admission::Redirect { portal, permanent: false };
        }
        match self.units(login, image, host) {
            Ok(units) => Admission::Admit(Grant { units, chap: self.chap(login), ..Grant::default() }),
            Err(error) => {
                let why = format!("{}: {error:#}", image.metadata.name);
                tracing::debug!(peer = %login.peer, why, "an image cannot be attached");
                match host {
                    Some(host) => self.gate.tell_vain(host.spec.boot_mac_address, Protocol::Iscsi, why),
                    None => self.gate.tell_vain_at(Some(login.peer.ip()), Protocol::Iscsi, why),
                }
                Admission::Refuse(Refusal::Unavailable)
            }
        }
    }

    /// Puts the image on unit 0, and what is attached beside it on the next ones.
    fn units(&self, login: &LoginClaim, image: &Image, host: Option<&Host>) -> anyhow::Result<Units> {
        let at = Some(login.local.ip());
        let mut units = Units::from([(0, self.unit(image, host, at)?)]);
        let state = self.gate.store.glance();
        // An installer without its drivers is no use: the machine asks again until they are there.
        for (number, name) in (1..).zip(&image.spec.companions) {
            let companion =
                state.image(name).ok_or_else(|| anyhow!("there is no ISCSICdrom {name} to go beside it"))?;
            let unit = self.unit(companion, None, at).with_context(|| format!("{name} cannot go beside it"))?;
            units.insert(number, unit);
        }
        if let (Delivery::Seed, Some(host)) = (image.spec.config_delivery, host)
            && let Some(seed) = self.gate.seed(host)?
        {
            let number = units.last_key_value().map_or(1, |(last, _)| last + 1);
            let identity = Identity::of(format!("seed {}", host.metadata.uid).as_bytes());
            units.insert(number, (Lun::new(Kind::Cdrom, seed.len(), identity), seed));
        }
        Ok(units)
    }

    fn unit(
        &self,
        image: &Image,
        host: Option<&Host>,
        at: Option<IpAddr>,
    ) -> Result<(Lun, Arc<dyn ReadAt>), media::Error> {
        let Seen { medium, warnings, .. } = self.gate.medium(image, host, at)?;
        if let Some(host) = host {
            self.gate.warn(host, &warnings);
        }
        let kind = match image.spec.attach_as {
            AttachAs::Cdrom => Kind::Cdrom,
            AttachAs::Disk => Kind::Disk,
        };
        Ok((Lun::new(kind, medium.len(), Identity::of(image.metadata.uid.as_bytes())), medium))
    }

    /// Lists what an initiator could attach: its own image, or all of them where the site is open.
    fn targets(&self, login: &LoginClaim) -> Vec<TargetEntry> {
        let state = self.gate.store.glance();
        let names = state.images().map(|image| &image.metadata.name);
        let attachable = names.filter(|name| self.find(login, name).is_ok());
        let entry = |name: &Name| TargetEntry {
            name: self.gate.site.target_iqn(name),
            portals: vec![self.gate.site.iscsi.to_string()],
        };
        attachable.map(entry).collect()
    }
}

/// Tells whose initiator it is: by the name that our script set, or by the address it comes from.
fn facts(gate: &Gate, login: &LoginClaim) -> Option<Facts> {
    let prefix = format!("{}:", gate.site.iqn.to_lowercase());
    let named = login.claim.initiator.strip_prefix(&prefix).and_then(|name| name.parse::<Mac>().ok());
    let mac = named.or_else(|| gate.whose(login.peer.ip()).ok().flatten())?;
    Some(Facts { mac, firmware: None, stage: Stage::IscsiLogin, address: Some(login.peer.ip()), uuid: None })
}

fn tell(gate: &Gate, report: Report) {
    match report {
        Report::Attached(login) => {
            gate.counters.answer(Protocol::Iscsi);
            let event = Event::IscsiLogin {
                initiator: login.claim.initiator.clone(),
                target: login.claim.target.clone().unwrap_or_default(),
            };
            if login.claim.target.is_some() {
                gate.store.note(facts(gate, &login).map(|facts| facts.mac), event);
            }
        }
        Report::Ended { login, end, sent } => tracing::debug!(peer = %login.peer, ?end, sent, "an iSCSI session ended"),
        Report::Refused {
            peer,
            login: Some(login),
            end: Some(End::Login(LoginError::Chap(_) | LoginError::NoChap)),
        } => match facts(gate, &login) {
            Some(facts) => gate.refused(&facts, Protocol::Iscsi, Why::BadSecret),
            None => gate.counters.refuse(Protocol::Iscsi, Why::BadSecret, Some(peer.ip())),
        },
        // It was refused by the gate, and counted there.
        Report::Refused { end: Some(End::Login(LoginError::Refused(_) | LoginError::Redirected { .. })), .. } => {}
        Report::Refused { peer, login, end } => {
            tracing::debug!(%peer, ?login, ?end, "an iSCSI login failed");
            gate.counters.discard(Protocol::Iscsi, Drop::BadClaim, Some(peer.ip()));
        }
        Report::Rejected { peer, opcode, why } => {
            tracing::debug!(%peer, opcode, ?why, "an iSCSI PDU was rejected");
            gate.counters.discard(Protocol::Iscsi, Drop::BadHeader, Some(peer.ip()));
        }
        Report::Full(peer) => gate.counters.discard(Protocol::Iscsi, Drop::Overload, Some(peer.ip())),
        Report::ReadFailed { peer, login, lun, error } => {
            tracing::debug!(%peer, lun, error, "an image cannot be read");
            let mac = login.and_then(|login| facts(gate, &login)).map(|facts| facts.mac);
            gate.tell_unreadable(mac, lun, error);
        }
    }
}
