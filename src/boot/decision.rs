use serde::{Deserialize, Serialize};

use crate::fleet::lifecycle::Transition;
use crate::fleet::{Host, Image, Name};

use super::{ConfigProof, Reason, Verdict};

/// A verdict with its effects. The effects are values: the gate carries them out, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The answer to the machine.
    pub verdict: Verdict,
    /// The transition of the host that must be durable before a script or a config with this verdict leaves. A DHCP
    /// reply only points to the script: it records nothing.
    pub record: Option<Transition>,
    /// The event for the machine's timeline.
    pub event: Option<BootEvent>,
}

/// The event of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootEvent {
    /// A boot script is served.
    Script {
        /// The content of the script.
        action: ScriptAction,
        /// The image that it boots.
        image: Option<Name>,
        /// The reason for it.
        reason: Option<Reason>,
    },
    /// The machine is sent to its local disk.
    LocalDisk(Reason),
    /// The machine waits for this image.
    WaitingForImage(Name),
    /// The request is refused.
    Refused(Reason),
    /// A config is served.
    ConfigFetched(Name),
}

/// The content of a boot script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptAction {
    /// A boot of the image over the network.
    Boot,
    /// A boot of the image from a virtual medium of the BMC.
    VirtualMedia,
    /// A boot from the local disk.
    LocalDisk,
    /// A menu of images.
    Menu,
}

impl ScriptAction {
    /// Returns the code of the action, in snake case.
    pub fn code(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::VirtualMedia => "virtual_media",
            Self::LocalDisk => "local_disk",
            Self::Menu => "menu",
        }
    }
}

impl From<Verdict> for Decision {
    /// Adds the effects that follow from a verdict.
    fn from(verdict: Verdict) -> Self {
        let script = |action, image, reason| Some(BootEvent::Script { action, image, reason });
        let (record, event) = match &verdict {
            Verdict::SanBoot(image) => (Some(Transition::Offer), script(ScriptAction::Boot, Some(image.clone()), None)),
            Verdict::LocalDisk(reason @ Reason::MaxBootsReached) => {
                (Some(Transition::MaxBootsReached), script(ScriptAction::LocalDisk, None, Some(*reason)))
            }
            Verdict::LocalDisk(reason) => (None, Some(BootEvent::LocalDisk(*reason))),
            // Nothing is offered: waiting uses up no boot of an install.
            Verdict::Wait(image) => (None, Some(BootEvent::WaitingForImage(image.clone()))),
            Verdict::Menu => (None, script(ScriptAction::Menu, None, None)),
            Verdict::Ignore(reason) => (None, Some(BootEvent::Refused(*reason))),
            Verdict::Configure(config) => {
                (Some(Transition::FetchConfig), Some(BootEvent::ConfigFetched(config.clone())))
            }
            Verdict::Enrol(_) | Verdict::Chainload(_) => (None, None),
        };
        Self { verdict, record, event }
    }
}

impl Decision {
    /// Refuses an install whose config could not be fetched: `require` demands the token of a script, and a machine
    /// whose address is not `tied` to it gets no token.
    pub fn require_proof(self, host: Option<&Host>, tied: bool, require: ConfigProof) -> Self {
        let has_config = host.is_some_and(|host| host.spec.boot_config_ref.is_some());
        let is_boot = matches!(self.verdict, Verdict::SanBoot(_));
        match is_boot && has_config && !tied && require != ConfigProof::Address {
            true => Verdict::Ignore(Reason::AddressUnverified).into(),
            false => self,
        }
    }

    /// Removes the record for a client whose address is not `tied` to the machine. It may read what anybody may read, and
    /// moves no lifecycle: it could use up the boots of another machine's install, or end it.
    pub fn for_client(self, tied: bool) -> Self {
        Self { record: self.record.filter(|_| tied), ..self }
    }

    /// Turns a boot into a wait if the image, or a companion that is attached with it, is broken.
    pub fn wait_if_broken<'a>(self, image: impl Fn(&Name) -> Option<&'a Image>) -> Self {
        let Verdict::SanBoot(name) = &self.verdict else { return self };
        let is_broken = |name: &&Name| image(name).is_some_and(|image| image.status.is_broken());
        let companions = image(name).map_or(&[][..], |image| image.spec.attached_companions());
        let awaited = std::iter::once(name).chain(companions).find(is_broken).cloned();
        awaited.map_or(self, |name| Verdict::Wait(name).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{HostSpec, HostStatus, ImageStatus, Mac, Meta};

    fn live() -> Name {
        "live".parse().unwrap()
    }

    #[test]
    fn what_a_host_depends_on_is_recorded_and_nothing_else() {
        let rows = [
            (Verdict::SanBoot(live()), Some(Transition::Offer)),
            (Verdict::Configure(live()), Some(Transition::FetchConfig)),
            (Verdict::LocalDisk(Reason::MaxBootsReached), Some(Transition::MaxBootsReached)),
            (Verdict::LocalDisk(Reason::InstallCompleted), None),
            (Verdict::Wait(live()), None),
            (Verdict::Menu, None),
            (Verdict::Ignore(Reason::Held), None),
        ];
        for (verdict, record) in rows {
            let decision = Decision::from(verdict);
            assert_eq!(decision.record, record, "{decision:?}");
            assert!(decision.event.is_some(), "{decision:?}");
        }
    }

    #[test]
    fn a_claim_records_nothing() {
        for verdict in [
            Verdict::SanBoot(live()),
            Verdict::Configure(live()),
            Verdict::LocalDisk(Reason::MaxBootsReached),
            Verdict::LocalDisk(Reason::InstallCompleted),
            Verdict::Menu,
        ] {
            let decision = Decision::from(verdict);
            assert_eq!(decision.clone().for_client(true), decision);
            let claimed = decision.clone().for_client(false);
            assert_eq!(claimed, Decision { record: None, ..decision }, "the answer and its event are the same");
        }
    }

    #[test]
    fn an_install_without_a_way_to_its_config_is_refused() {
        let mut spec = HostSpec::for_mac(Mac([2, 0, 0, 0, 0, 1]));
        let host = |spec: &HostSpec| Host {
            metadata: Meta::named("vm".parse().unwrap(), None),
            spec: spec.clone(),
            status: HostStatus::default(),
        };
        let without = host(&spec);
        spec.boot_config_ref = Some("c".parse().unwrap());
        let with = host(&spec);
        for require in [ConfigProof::Address, ConfigProof::Token, ConfigProof::Both] {
            for (host, tied) in [(&without, false), (&without, true), (&with, false), (&with, true)] {
                let got = Decision::from(Verdict::SanBoot(live())).require_proof(Some(host), tied, require);
                let is_refused = std::ptr::eq(host, &with) && !tied && require != ConfigProof::Address;
                let expected =
                    if is_refused { Verdict::Ignore(Reason::AddressUnverified) } else { Verdict::SanBoot(live()) };
                assert_eq!(got.verdict, expected, "{require:?} {tied}");
            }
        }
        let menu = Decision::from(Verdict::Menu).require_proof(Some(&with), false, ConfigProof::Both);
        assert_eq!(menu.verdict, Verdict::Menu);
    }

    #[test]
    fn a_boot_waits_for_its_image_and_for_those_attached_with_it() {
        let image = |name: &str, broken: bool, companions: &[&str]| {
            let mut spec = crate::fleet::ImageSpec::of_file("live.iso");
            spec.companions = companions.iter().map(|name| name.parse().unwrap()).collect();
            let phase = if broken { ImageStatus::BROKEN } else { ImageStatus::READY };
            let status = ImageStatus { phase: phase.into(), ..ImageStatus::default() };
            Image { metadata: Meta::named(name.parse().unwrap(), None), spec, status }
        };
        for (live_broken, drivers_broken, awaited) in [
            (false, false, None),
            (true, false, Some("live")),
            (false, true, Some("drivers")),
            (true, true, Some("live")),
        ] {
            let images = [image("live", live_broken, &["drivers"]), image("drivers", drivers_broken, &[])];
            let find = |name: &Name| images.iter().find(|image| image.metadata.name == *name);
            let got = Decision::from(Verdict::SanBoot(live())).wait_if_broken(find);
            let expected = awaited.map_or(Verdict::SanBoot(live()), |name| Verdict::Wait(name.parse().unwrap()));
            assert_eq!(got, expected.into());
        }
        let mut live = image("live", false, &["drivers"]);
        live.spec.method = crate::fleet::Method::Kernel;
        let images = [live, image("drivers", true, &[])];
        let find = |name: &Name| images.iter().find(|image| image.metadata.name == *name);
        let boot = || Decision::from(Verdict::SanBoot("live".parse().unwrap()));
        assert_eq!(boot().wait_if_broken(find), boot(), "a boot by its kernel attaches no companions");
        assert_eq!(boot().wait_if_broken(|_| None), boot());
        let disk = || Decision::from(Verdict::LocalDisk(Reason::InstallCompleted));
        assert_eq!(disk().wait_if_broken(|_| Some(&images[1])), disk());
    }
}
