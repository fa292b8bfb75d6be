//! Who may attach which image over iSCSI: the decision's answer, in the target's words.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::boot::{Drop, Facts, Stage, Why};
use crate::config::{Access, Config};
use crate::event::{Event, Protocol};
use crate::fleet::{Delivery, Host, Image, Mac, Name};
use crate::gate::Gate;
use crate::iscsi::login::Refusal;
use crate::iscsi::medium::{Identity, Kind, Lun};
use crate::iscsi::serve::{self as target, Admission, Door, Grant, LoginClaim, Report};
use crate::iscsi::session::TargetEntry;
use crate::iso::ReadAt;
use crate::media;

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
            return Admission::Admit(Grant { targets: self.targets(login), ..Grant::default() });
        };
        let prefix = format!("{}:", self.gate.site.iqn.to_lowercase());
        let Some(name) = target.strip_prefix(&prefix).and_then(|name| name.parse::<Name>().ok()) else {
            return Admission::Refuse(Refusal::NotFound);
        };
        match self.find(login, &name) {
            Ok((image, host)) => self.attach(login, &image, host.as_deref()),
            Err(why) => {
                match facts(&self.gate, login) {
                    Some(facts) => self.gate.refused(&facts, Protocol::Iscsi, why),
                    None => self.gate.counters.refuse(Protocol::Iscsi, why, Some(login.peer.ip())),
                }
                Admission::Refuse(Refusal::Forbidden)
            }
        }
    }

    /// Finds the image, and the host whose view of it is to be seen; none where the site is open to all.
    fn find(&self, login: &LoginClaim, name: &Name) -> Result<(Arc<Image>, Option<Arc<Host>>), Why> {
        match self.access {
            Access::Any => {
                let image = self.gate.store.glance().image(name).cloned().ok_or(Why::OtherImage)?;
                Ok((image, None))
            }
            Access::Assigned => {
                let facts = facts(&self.gate, login).ok_or(Why::NoSuchHost)?;
                self.gate.login(&facts, name).map(|(image, host)| (image, Some(host)))
            }
        }
    }

    fn attach(&self, login: &LoginClaim, image: &Image, host: Option<&Host>) -> Admission {
        if let Some(portal) = &image.spec.portal {
            let portal = std::net::SocketAddr::new(portal.address, portal.port).to_string();
            return Admission::Redirect { portal, permanent: false };
        }
        match self.units(login, image, host) {
            Ok(units) => Admission::Admit(Grant { units, ..Grant::default() }),
            Err(error) => {
                tracing::warn!(image = %image.metadata.name, %error, "an image cannot be attached");
                Admission::Refuse(Refusal::Unavailable)
            }
        }
    }

    /// Puts the image on unit 0, and what is attached beside it on the next ones.
    fn units(&self, login: &LoginClaim, image: &Image, host: Option<&Host>) -> anyhow::Result<Units> {
        let at = Some(login.local.ip());
        let mut units = Units::from([(0, self.unit(image, host, at)?)]);
        let state = self.gate.store.glance();
        let companions = image.spec.companions.iter().filter_map(|name| state.image(name));
        for (number, companion) in (1..).zip(companions) {
            units.insert(number, self.unit(companion, None, at)?);
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
        let medium = self.gate.medium(image, host, at)?.medium;
        // A CD-ROM boots under BIOS and UEFI alike, and is what an installer looks for (boot-facts 17, 20).
        Ok((Lun::new(Kind::Cdrom, medium.len(), Identity::of(image.metadata.uid.as_bytes())), medium))
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
        Report::Refused { peer, login, end } => {
            tracing::debug!(%peer, ?login, ?end, "an iSCSI login failed");
            gate.counters.discard(Protocol::Iscsi, Drop::BadClaim, Some(peer.ip()));
        }
        Report::Rejected { peer, opcode, why } => {
            tracing::debug!(%peer, opcode, ?why, "an iSCSI PDU was rejected");
            gate.counters.discard(Protocol::Iscsi, Drop::BadHeader, Some(peer.ip()));
        }
        Report::Full(peer) => gate.counters.discard(Protocol::Iscsi, Drop::Overload, Some(peer.ip())),
        Report::ReadFailed { peer, lun, error } => tracing::error!(%peer, lun, error, "an image cannot be read"),
    }
}
