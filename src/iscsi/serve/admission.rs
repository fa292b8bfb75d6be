//! The iSCSI adapter of the gate: who may attach which image, and how connection events are recorded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context as _, anyhow};

use crate::boot::diagnosis::Step;
use crate::boot::{DropReason, Facts, Reason, Stage};
use crate::bounds::{Excess, Source};
use crate::event::{DeliveryChannel, Event, Protocol};
use crate::fleet::{AttachAs, Chap, Delivery, Host, Image, Mac, Name};
use crate::gate::Gate;
use crate::gate::media::{Attached, ConfigVisibility, MediaError};
use crate::images::library::{ImageError, ImageView};
use crate::iscsi::chap::ChapTerms;
use crate::iscsi::login::{LoginError, LoginRefusal};
use crate::iscsi::medium::{DeviceKind, Lun, UnitIdentity};
use crate::iscsi::outcome::{End, TargetEntry};
use crate::iscsi::serve::chap_failures::ChapFailures;
use crate::iscsi::serve::{
    Admission, ConnectionHandler, ConnectionReport, Grant, GrantedUnit, LoginClaim, MediaAccess, RecordFirstRead,
    SentBytes, Target,
};

/// The images that an initiator may attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachPolicy {
    /// Only the image that is assigned to its host.
    Assigned,
    /// Every image.
    Any,
}

/// Creates the target that is attached by a policy.
pub fn target(policy: AttachPolicy, per_source: usize, gate: Arc<Gate>) -> Target {
    let failures = Arc::new(ChapFailures::default());
    let authorizer = LoginAuthorizer { gate: gate.clone(), policy, failures: failures.clone() };
    let known = gate.clone();
    let handler = ConnectionHandler {
        authorize: Box::new(move |claim, access| authorizer.admit(claim, access)),
        report: Box::new(move |report| {
            record_failure(&failures, &report);
            record_report(&gate, report);
        }),
        is_known: Box::new(move |address| known.store.load().is_known_address(address.to_canonical())),
        per_source,
    };
    Target::new(Arc::new(handler))
}

pub(super) type GrantedUnits = BTreeMap<u8, GrantedUnit>;

/// Returns the bytes of an image for a login: a host's view of it, or the image as it is.
pub(super) type MakeView<'a> = &'a dyn Fn(&Image, Option<(&Host, ConfigVisibility)>) -> Result<ImageView, ImageError>;

/// The host whose view of an image is attached, and how much of its config that view shows.
pub(super) type OwnView = (Arc<Host>, ConfigVisibility);

/// Decides about logins with the gate.
pub(super) struct LoginAuthorizer {
    pub(super) gate: Arc<Gate>,
    pub(super) policy: AttachPolicy,
    pub(super) failures: Arc<ChapFailures>,
}

impl LoginAuthorizer {
    /// Decides whether a login is admitted, and with which units; `None` if that takes longer than `access` allows.
    fn admit(&self, login: &LoginClaim, access: MediaAccess) -> Option<Admission> {
        if self.must_wait(login) {
            self.gate.counters.count_refused(Protocol::Iscsi, Reason::ChapThrottled, Some(login.peer.ip()));
            return Some(Admission::Refuse(LoginRefusal::Unavailable));
        }
        let Some(target) = &login.claim.target else {
            // Each image is decided about.
            if access == MediaAccess::InMemory {
                return None;
            }
            let (targets, chap) = (self.targets(login), self.chap(login));
            return Some(Admission::Admit(Grant { targets, chap, ..Grant::default() }));
        };
        let Some(name) = image_of(&self.gate, target) else {
            self.gate.counters.count_refused(Protocol::Iscsi, Reason::OtherImageAssigned, Some(login.peer.ip()));
            if let Some(facts) = facts(&self.gate, login) {
                self.gate.trace_refused_login(facts.mac, target, None, login.peer.ip(), false);
            }
            return Some(Admission::Refuse(LoginRefusal::NotFound));
        };
        match self.find_image(login, &name) {
            Ok((image, own)) => {
                self.attach(login, &image, own.as_ref().map(|(host, visibility)| (&**host, *visibility)), access)
            }
            Err(why) => Some(self.refuse(login, &name, why)),
        }
    }

    /// Returns whether too many logins of this source, or in this name, failed by CHAP.
    fn must_wait(&self, login: &LoginClaim) -> bool {
        let address = login.peer.ip();
        let is_own_address = || {
            let named = parse_initiator(&self.gate, login).map(|(mac, _)| mac);
            named.is_some() && self.gate.owner_of(address).ok().flatten() == named
        };
        self.failures.must_wait(Source::of(address), &login.claim.initiator, Instant::now(), is_own_address)
    }

    /// Records a refusal and returns it. An image that cannot be served now may be served later, so the initiator is
    /// asked to retry.
    fn refuse(&self, login: &LoginClaim, name: &Name, why: Reason) -> Admission {
        let unavailable = || self.gate.store.load().image(name).and_then(|image| self.gate.unavailable_reason(image));
        let detail = Some(why).filter(|why| *why == Reason::ImageUnavailable).and_then(|_| unavailable());
        let words = detail.map_or_else(|| why.to_string(), |reason| format!("{name} cannot be served now: {reason}"));
        match facts(&self.gate, login) {
            Some(facts) => {
                let target = login.claim.target.as_deref().unwrap_or_default();
                let has_token = parse_initiator(&self.gate, login).is_some_and(|(_, token)| token.is_some());
                self.gate.trace_refused_login(facts.mac, target, Some(why), login.peer.ip(), has_token);
                self.gate.refuse_with_message(&facts, Protocol::Iscsi, why, words);
            }
            None => self.gate.counters.count_refused(Protocol::Iscsi, why, Some(login.peer.ip())),
        }
        Admission::Refuse(if why == Reason::ImageUnavailable {
            LoginRefusal::Unavailable
        } else {
            LoginRefusal::Forbidden
        })
    }

    /// Finds the image, and the host whose view of it is attached; no host if the policy admits any initiator.
    fn find_image(&self, login: &LoginClaim, name: &Name) -> Result<(Arc<Image>, Option<OwnView>), Reason> {
        let own = match facts(&self.gate, login) {
            // The initiator name is only a claim, and a view may hold secrets of its host.
            Some(facts) => {
                let token = parse_initiator(&self.gate, login).and_then(|(_, token)| token);
                self.gate.attach(&facts, token, name)
            }
            None => Err(Reason::UnknownHost),
        };
        self.apply_policy(own, name)
    }

    /// Returns the image and the host's view by what the gate decided and what the configuration admits.
    pub(super) fn apply_policy(
        &self,
        own: Result<Attached, Reason>,
        name: &Name,
    ) -> Result<(Arc<Image>, Option<OwnView>), Reason> {
        match (own, self.policy) {
            (Ok(Attached { image, host, shown }), _) => Ok((image, Some((host, shown)))),
            (Err(why), AttachPolicy::Assigned) => Err(why),
            (Err(_), AttachPolicy::Any) => {
                let image = self.gate.store.load().image(name).cloned().ok_or(Reason::OtherImageAssigned)?;
                Ok((image, None))
            }
        }
    }

    /// Returns the CHAP terms of a login: those of its host, or the configured ones.
    fn chap(&self, login: &LoginClaim) -> Option<ChapTerms> {
        let facts = facts(&self.gate, login);
        let host = facts.and_then(|facts| self.gate.store.load().host_by_mac(facts.mac));
        let Chap { username, secret, target_username, target_secret } = self.gate.chap(host.as_deref())?;
        let ours = target_username.zip(target_secret).map(|(name, secret)| (name, secret.0.into_bytes()));
        Some(ChapTerms { name: username, secret: secret.0.into_bytes(), ours })
    }

    /// Returns the answer to a login that may attach the image: its units, or the portal that serves it.
    fn attach(
        &self,
        login: &LoginClaim,
        image: &Image,
        own: Option<(&Host, ConfigVisibility)>,
        access: MediaAccess,
    ) -> Option<Admission> {
        if let Some(portal) = &image.spec.portal {
            let portal = std::net::SocketAddr::new(portal.address, portal.port).to_string();
            return Some(Admission::Redirect { portal, permanent: false });
        }
        let units = match access {
            MediaAccess::InMemory => Ok(self.units_now(login, image, own)?),
            MediaAccess::MayWait => {
                let at = Some(login.local.ip());
                let units = self.units(login, image, own, &|image, own| {
                    let view = self.gate.medium(image, own, at)?;
                    self.warn(own, &view);
                    Ok(view)
                });
                if let Some((host, ConfigVisibility::Whole)) = own {
                    self.gate.record_delivery(image, host, at);
                }
                units
            }
        };
        Some(match units {
            Ok(units) => Admission::Admit(Grant { units, chap: self.chap(login), ..Grant::default() }),
            Err(error) => {
                let (reason, why) = (refusal(&error), format!("{}: {error:#}", image.metadata.name));
                tracing::debug!(peer = %login.peer, why, "image not attached");
                match own {
                    Some((host, _)) => {
                        self.gate.record_refusal(host.spec.boot_mac_address, Protocol::Iscsi, reason, why)
                    }
                    None => self.gate.record_refusal_at_address(Some(login.peer.ip()), Protocol::Iscsi, reason, why),
                }
                Admission::Refuse(LoginRefusal::Unavailable)
            }
        })
    }

    /// Returns the units of an image that is attached alone, without its companions and without a seed, if its view is
    /// in memory.
    fn units_now(
        &self,
        login: &LoginClaim,
        image: &Image,
        own: Option<(&Host, ConfigVisibility)>,
    ) -> Option<GrantedUnits> {
        if !image.spec.companions.is_empty() || image.spec.config_delivery == Delivery::Seed {
            return None;
        }
        let view = self.gate.medium_now(image, own, Some(login.local.ip()))?;
        if let Some((host, ConfigVisibility::Whole)) = own {
            self.gate.record_delivery(image, host, Some(login.local.ip()));
        }
        self.warn(own, &view);
        Some(GrantedUnits::from([(0, self.unit(login, image, view))]))
    }

    /// Records the warnings of a host's view in its timeline.
    fn warn(&self, own: Option<(&Host, ConfigVisibility)>, view: &ImageView) {
        if let Some((host, _)) = own {
            self.gate.warn(host, &view.warnings);
        }
    }

    /// Returns the image as unit 0, then its companions, then the host's seed.
    pub(super) fn units(
        &self,
        login: &LoginClaim,
        image: &Image,
        own: Option<(&Host, ConfigVisibility)>,
        make: MakeView<'_>,
    ) -> anyhow::Result<GrantedUnits> {
        let mut units = GrantedUnits::from([(0, self.unit(login, image, make(image, own)?))]);
        let state = self.gate.store.load();
        // An installer without its drivers cannot work, so the login fails until they are there.
        for (number, name) in (1..).zip(&image.spec.companions) {
            let companion = state.image(name).ok_or_else(|| anyhow!("companion {name}: no such ISCSICdrom"))?;
            let view = make(companion, None).with_context(|| format!("companion {name}"))?;
            units.insert(number, self.unit(login, companion, view));
        }
        if let (Delivery::Seed, Some((host, ConfigVisibility::Whole))) = (image.spec.config_delivery, own)
            && let Some(seed) = self.gate.seed(host, Some(login.local.ip()))?
        {
            let number = units.last_key_value().map_or(1, |(last, _)| last + 1);
            let identity = UnitIdentity::from_seed(format!("seed {}", host.metadata.uid).as_bytes());
            let config = host.spec.boot_config_ref.clone().map(|name| (host.spec.boot_mac_address, name));
            let lun = Lun::new(DeviceKind::Cdrom, seed.len(), identity);
            let record_first = self.recorder(login, config, DeliveryChannel::SeedUnit);
            units.insert(number, GrantedUnit { lun, medium: seed, record_first });
        }
        Ok(units)
    }

    /// Returns the unit of an image, with a view of it.
    fn unit(&self, login: &LoginClaim, image: &Image, view: ImageView) -> GrantedUnit {
        let ImageView { medium, carries, .. } = view;
        let kind = match image.spec.attach_as {
            AttachAs::Cdrom => DeviceKind::Cdrom,
            AttachAs::Disk => DeviceKind::Disk,
        };
        let lun = Lun::new(kind, medium.len(), UnitIdentity::from_seed(image.metadata.uid.as_bytes()));
        GrantedUnit { lun, medium, record_first: self.recorder(login, carries, DeliveryChannel::Embedded) }
    }

    /// Returns the record that precedes the first data of a unit with a host's config: the delivery of the config is
    /// durable before any byte of it leaves. `None` for a unit without a config.
    fn recorder(
        &self,
        login: &LoginClaim,
        carries: Option<(Mac, Name)>,
        channel: DeliveryChannel,
    ) -> Option<RecordFirstRead> {
        let (mac, config) = carries?;
        let facts = Facts { mac, firmware: None, stage: Stage::IscsiLogin, address: Some(login.peer.ip()), uuid: None };
        let gate = self.gate.clone();
        Some(Arc::new(move || {
            let (gate, config) = (gate.clone(), config.clone());
            Box::pin(async move {
                gate.record_config_delivery(&facts, &config, channel)
                    .await
                    .map_err(|reason| reason.sentence().to_owned())
            })
        }))
    }

    /// Returns the targets that the initiator may attach, for SendTargets.
    fn targets(&self, login: &LoginClaim) -> Vec<TargetEntry> {
        let state = self.gate.store.load();
        let names = state.images().map(|image| &image.metadata.name);
        let attachable = names.filter(|name| self.find_image(login, name).is_ok());
        // Where the initiator reached the target: another portal may be on a network that it does not reach.
        let site = self.gate.site().reached_at(login.local.ip().to_canonical());
        let entry = |name: &Name| TargetEntry { name: site.target_iqn(name), portals: vec![site.iscsi.to_string()] };
        attachable.map(entry).collect()
    }
}

/// Returns the reason for a login that attaches nothing.
fn refusal(error: &anyhow::Error) -> Reason {
    let of_view = || error.downcast_ref::<ImageError>().filter(|error| matches!(error, ImageError::Config(_)));
    match error.downcast_ref::<MediaError>() {
        Some(error) => error.refusal(),
        None if of_view().is_some() => Reason::ConfigNotRendered,
        None => Reason::ImageUnavailable,
    }
}

/// Returns the image that a target of this server serves.
pub(super) fn image_of(gate: &Gate, target: &str) -> Option<Name> {
    let prefix = format!("{}:", gate.site().iqn.to_lowercase());
    target.strip_prefix(&prefix)?.parse().ok()
}

/// Returns the facts of a login: the host by the initiator name that the boot script sets, else by its address.
fn facts(gate: &Gate, login: &LoginClaim) -> Option<Facts> {
    let named = parse_initiator(gate, login).map(|(mac, _)| mac);
    let mac = named.or_else(|| gate.owner_of(login.peer.ip()).ok().flatten())?;
    Some(Facts { mac, firmware: None, stage: Stage::IscsiLogin, address: Some(login.peer.ip()), uuid: None })
}

/// Parses the initiator name that the boot script sets: the MAC address, and the token if there is one.
fn parse_initiator<'a>(gate: &Gate, login: &'a LoginClaim) -> Option<(Mac, Option<&'a str>)> {
    let name = login.claim.initiator.strip_prefix(&format!("{}:", gate.site().iqn.to_lowercase()))?;
    let (mac, token) = name.split_once(':').map_or((name, None), |(mac, token)| (mac, Some(token)));
    Some((mac.parse().ok()?, token))
}

/// Returns the initiator name without its token, for logs and the timeline.
fn loggable_initiator(gate: &Gate, login: &LoginClaim) -> String {
    match parse_initiator(gate, login) {
        Some((mac, Some(_))) => format!("{}:{}", gate.site().iqn.to_lowercase(), mac.dashed()),
        Some((_, None)) | None => login.claim.initiator.clone(),
    }
}

/// Records a login that failed by CHAP.
fn record_failure(failures: &ChapFailures, report: &ConnectionReport) {
    let ConnectionReport::Refused { peer, login: Some(login), end: Some(End::Login(LoginError::Chap(_))) } = report
    else {
        return;
    };
    failures.record(Source::of(peer.ip()), &login.claim.initiator, Instant::now());
}

/// Records a session that began, and what it reads from now on.
fn record_login(gate: &Gate, login: &LoginClaim, sent: SentBytes) {
    let Some(target) = login.claim.target.clone() else { return };
    let (initiator, image) = (loggable_initiator(gate, login), image_of(gate, &target));
    let mac = facts(gate, login).map(|facts| facts.mac);
    if let (Some(mac), Some(image)) = (mac, &image) {
        gate.trace(mac, Step::Login { image: image.clone() });
        gate.traces.follow_session(mac, sent.0);
    }
    gate.store.record_event(mac, Event::IscsiLogin { initiator, target, image });
}

/// Records an event of a connection in the counters, the log and the timeline.
fn record_report(gate: &Gate, report: ConnectionReport) {
    match report {
        ConnectionReport::Attached { login, sent } => {
            gate.counters.count_answered(Protocol::Iscsi);
            gate.counters.iscsi_sessions.fetch_add(1, Ordering::Relaxed);
            record_login(gate, &login, sent);
        }
        ConnectionReport::Sent(count) => {
            gate.counters.iscsi_read_bytes.fetch_add(count, Ordering::Relaxed);
        }
        ConnectionReport::Ended { login, end, sent, session } => {
            gate.counters.iscsi_sessions.fetch_sub(1, Ordering::Relaxed);
            if let Some(facts) = facts(gate, &login).filter(|_| login.claim.target.is_some()) {
                // Firmware abandons its session: its connection ends long after the kernel has made another.
                if !gate.traces.follows_other(facts.mac, &session.0) {
                    gate.trace(facts.mac, Step::Read { octets: sent, is_over: true });
                }
            }
            tracing::debug!(peer = %login.peer, end = end.map(tracing::field::display), sent, "iSCSI session ended");
        }
        ConnectionReport::Refused {
            peer,
            login: Some(login),
            end: Some(End::Login(LoginError::Chap(_) | LoginError::NoChap)),
        } => match facts(gate, &login) {
            Some(facts) => {
                let target = login.claim.target.as_deref().unwrap_or_default();
                gate.trace_refused_login(facts.mac, target, Some(Reason::ChapFailed), peer.ip(), false);
                gate.refuse(&facts, Protocol::Iscsi, Reason::ChapFailed);
            }
            None => gate.counters.count_refused(Protocol::Iscsi, Reason::ChapFailed, Some(peer.ip())),
        },
        // The gate refused the login and counted it.
        ConnectionReport::Refused { end: Some(End::Login(LoginError::Refused(_))), .. } => {}
        ConnectionReport::Refused {
            login: Some(login),
            end: Some(End::Login(LoginError::Redirected { portal, .. })),
            ..
        } => {
            gate.counters.count_answered(Protocol::Iscsi);
            let mac = facts(gate, &login).map(|facts| facts.mac);
            let (initiator, target) = (loggable_initiator(gate, &login), login.claim.target.unwrap_or_default());
            let image = image_of(gate, &target);
            let event = Event::IscsiRedirect { initiator, target, image, portal };
            gate.store.record_event(mac, event);
        }
        ConnectionReport::Refused { peer, login, end } => {
            let initiator = login.map(|login| loggable_initiator(gate, &login));
            tracing::debug!(%peer, initiator, end = end.map(tracing::field::display), "iSCSI login failed");
            gate.counters.count_dropped(Protocol::Iscsi, DropReason::ContradictedClaim, Some(peer.ip()));
        }
        ConnectionReport::Rejected { peer, opcode, why } => {
            tracing::debug!(%peer, opcode, reason = why.code(), "iSCSI PDU rejected");
            gate.counters.count_dropped(Protocol::Iscsi, DropReason::BadHeader, Some(peer.ip()));
        }
        ConnectionReport::Full { peer, excess } => {
            let reason = match excess {
                Excess::Source => DropReason::SourceLimit,
                Excess::Total => DropReason::Overload,
            };
            gate.counters.count_dropped(Protocol::Iscsi, reason, Some(peer.ip()));
        }
        ConnectionReport::ReadFailed { peer, login, lun, error } => {
            tracing::debug!(%peer, lun, error, "image read failed");
            let mac = login.and_then(|login| facts(gate, &login)).map(|facts| facts.mac);
            gate.record_read_failure(mac, lun, error);
        }
    }
}

#[cfg(test)]
#[path = "../tests/admission.rs"]
mod tests;
