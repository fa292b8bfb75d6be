//! Rehearsals of logins: what an initiator would be granted, by the functions that answer it. Nothing is recorded.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::boot::rehearsal::{AttachedUnit, Attachment, StepDecision};
use crate::boot::{Decision, Reason, Stage, Verdict};
use crate::fleet::{Host, Image, Name};
use crate::gate::Gate;
use crate::gate::media::ConfigVisibility;
use crate::gate::rehearsal::RehearsedLogin;
use crate::iscsi::login::Claim;
use crate::iscsi::medium::DeviceKind;
use crate::iscsi::serve::admission::{AttachPolicy, GrantedUnits, LoginAuthorizer, image_of};
use crate::iscsi::serve::{GrantedUnit, LoginClaim};

/// Port of the initiator's end in a rehearsal; the answer does not depend on it.
const INITIATOR_PORT: u16 = 0;

/// Returns the decision about a login, and what it would attach. May wait for a disk.
pub fn rehearse(gate: &Arc<Gate>, policy: AttachPolicy, login: &RehearsedLogin) -> (StepDecision, Attachment) {
    let authorizer = LoginAuthorizer { gate: gate.clone(), policy, failures: Arc::default() };
    let portal = SocketAddr::new(login.machine.at, gate.site().iscsi.port());
    let mut attachment = Attachment {
        target: login.target.clone(),
        portal: portal.to_string(),
        initiator: login.initiator.clone(),
        chap_username: gate.chap(login.machine.host.as_deref()).map(|chap| chap.username),
        units: Vec::new(),
        error: None,
    };
    let Some(name) = image_of(gate, &login.target) else {
        return (StepDecision::refused(Reason::OtherImageAssigned), attachment);
    };
    let facts = login.machine.facts(Stage::IscsiLogin);
    let own = gate.decide_attach(&facts, &login.machine.evidence, login.machine.host.clone(), &name);
    let (image, own) = match authorizer.apply_policy(own, &name) {
        Ok(found) => found,
        Err(reason) => return (StepDecision::refused(reason), attachment),
    };
    let decision = StepDecision::of(&Decision { record: None, ..Verdict::SanBoot(name).into() });
    if let Some(portal) = &image.spec.portal {
        attachment.portal = SocketAddr::new(portal.address, portal.port).to_string();
        return (decision, attachment);
    }
    let own = own.as_ref().map(|(host, shown)| (&**host, *shown));
    match grant(&authorizer, login, portal, &image, own) {
        Ok(units) => attachment.units = describe(&image, units),
        Err(error) => attachment.error = Some(format!("{}: {error:#}", image.metadata.name)),
    }
    (decision, attachment)
}

/// Returns the units of a login.
fn grant(
    authorizer: &LoginAuthorizer,
    login: &RehearsedLogin,
    local: SocketAddr,
    image: &Image,
    own: Option<(&Host, ConfigVisibility)>,
) -> anyhow::Result<GrantedUnits> {
    let claim = Claim {
        initiator: login.initiator.clone(),
        target: Some(login.target.clone()),
        isid: [0; 6],
        discovery: false,
    };
    let peer = SocketAddr::new(login.machine.address.unwrap_or(login.machine.at), INITIATOR_PORT);
    let claim = LoginClaim { claim, peer, local };
    let at = Some(local.ip());
    authorizer.units(&claim, image, own, &|image, own| authorizer.gate.preview_medium(image, own, at))
}

/// Describes units: the image, its companions, and the seed of a config, in this order.
fn describe(image: &Image, units: GrantedUnits) -> Vec<AttachedUnit> {
    let names: Vec<&Name> = std::iter::once(&image.metadata.name).chain(&image.spec.companions).collect();
    let unit = |(number, unit): (u8, GrantedUnit)| AttachedUnit {
        lun: number,
        device: match unit.lun.kind {
            DeviceKind::Cdrom => "cdrom",
            DeviceKind::Disk => "disk",
        },
        image: names.get(usize::from(number)).map(ToString::to_string),
        bytes: unit.medium.len(),
        block_size: unit.lun.kind.block_size(),
        serial: unit.lun.identity.serial().to_owned(),
        carries_config: unit.record_first.is_some(),
    };
    units.into_iter().map(unit).collect()
}
