//! The boot decision: what a machine boots, from facts about it and its host's record. Pure.

use crate::fleet::lifecycle::is_exhausted;
use crate::fleet::{BootMode, BootTarget, Host, Name, Phase};

use super::{BootProtocol, Decision, Facts, Reason, Site, Stage, Verdict};

/// Decides what a machine boots, for every protocol.
///
/// An unknown machine is either enrolled first or ignored. What it boots is decided from the host that it becomes.
pub fn decide(facts: &Facts, host: Option<&Host>, site: &Site) -> Decision {
    verdict(facts, host, site).into()
}

fn verdict(facts: &Facts, host: Option<&Host>, site: &Site) -> Verdict {
    let Some(host) = host else { return enrol(facts, site) };
    match facts.stage {
        Stage::Installer => return decide_installer(host),
        Stage::IscsiReturn => {
            if let Some(image) = completed_image(host) {
                return Verdict::SanBoot(image.clone());
            }
        }
        Stage::Rom | Stage::Ipxe | Stage::LimitedIpxe | Stage::IscsiLogin => {}
    }
    let target = match target(host, facts.stage, site) {
        Ok(target) => target,
        Err(no_boot) => return verdict_without_boot(facts, no_boot, site),
    };
    match facts.stage {
        Stage::Rom | Stage::LimitedIpxe => chainload(facts, site),
        Stage::IscsiLogin | Stage::IscsiReturn | Stage::Installer if target == NetworkBoot::Menu => {
            Verdict::Ignore(Reason::NotAssigned)
        }
        Stage::Ipxe | Stage::IscsiLogin | Stage::IscsiReturn | Stage::Installer => match target {
            NetworkBoot::Menu => Verdict::Menu,
            NetworkBoot::Image(image) => Verdict::SanBoot(image.clone()),
        },
    }
}

/// Drafts the host that an unknown machine becomes by the first rule that matches it.
fn enrol(facts: &Facts, site: &Site) -> Verdict {
    let architecture = facts.firmware.map(|firmware| firmware.architecture);
    let asks_to_boot = match facts.stage {
        Stage::Rom | Stage::Ipxe | Stage::LimitedIpxe => true,
        // A boot script leads to a login and to a config request: an unknown machine has had none.
        Stage::IscsiLogin | Stage::IscsiReturn | Stage::Installer => false,
    };
    if !asks_to_boot {
        return Verdict::Ignore(Reason::UnknownHost);
    }
    let action = site.unknown_hosts.action(facts.mac, architecture, facts.address);
    match action.draft(facts.mac, site.namespace.clone(), architecture) {
        Some(mut host) => {
            host.status.uuid = facts.uuid;
            Verdict::Enrol(Box::new(host))
        }
        None => Verdict::Ignore(Reason::UnknownHostIgnored),
    }
}

/// Returns what a host boots over the network now, or why it does not.
fn target<'a>(host: &'a Host, stage: Stage, site: &Site) -> Result<NetworkBoot<'a>, NoBoot> {
    let image = match &host.spec.image {
        BootTarget::Image(image) => image,
        BootTarget::LocalDisk | BootTarget::Menu if host.status.phase == Phase::Held => {
            return Err(NoBoot::Ignore(Reason::Held));
        }
        BootTarget::Menu => return Ok(NetworkBoot::Menu),
        BootTarget::LocalDisk if host.status.phase == Phase::Installed => {
            return Err(NoBoot::LocalDisk(Reason::InstallCompleted));
        }
        BootTarget::LocalDisk => return Err(NoBoot::LocalDisk(Reason::NotAssigned)),
    };
    match (host.status.phase, host.spec.boot_mode) {
        (Phase::Held, _) => Err(NoBoot::Ignore(Reason::Held)),
        (Phase::LocalBoot, _) => Err(NoBoot::LocalDisk(Reason::NotAssigned)),
        (_, BootMode::Forever) => Ok(NetworkBoot::Image(image)),
        (Phase::Installed, BootMode::Once) => Err(NoBoot::LocalDisk(Reason::InstallCompleted)),
        (Phase::Failed, BootMode::Once) => Err(NoBoot::LocalDisk(Reason::InstallFailed)),
        // Only what begins another boot is one too many: the last allowed boot attaches its image and gets its config.
        (Phase::Offered | Phase::Installing, BootMode::Once)
            if begins_boot(stage) && is_exhausted(host, &site.install) =>
        {
            Err(NoBoot::LocalDisk(Reason::MaxBootsReached))
        }
        (Phase::Assigned | Phase::Offered | Phase::Installing, BootMode::Once) => Ok(NetworkBoot::Image(image)),
    }
}

/// Returns whether a request begins a boot.
fn begins_boot(stage: Stage) -> bool {
    match stage {
        Stage::Rom | Stage::Ipxe | Stage::LimitedIpxe => true,
        Stage::IscsiLogin | Stage::IscsiReturn | Stage::Installer => false,
    }
}

/// A boot over the network.
#[derive(PartialEq)]
enum NetworkBoot<'a> {
    Image(&'a Name),
    Menu,
}

/// No boot over the network.
enum NoBoot {
    /// No answer to the machine.
    Ignore(Reason),
    /// A boot from the local disk.
    LocalDisk(Reason),
}

/// Boots a machine from its disk, by the method that its stage supports.
fn verdict_without_boot(facts: &Facts, no_boot: NoBoot, site: &Site) -> Verdict {
    let reason = match no_boot {
        NoBoot::Ignore(reason) => return Verdict::Ignore(reason),
        NoBoot::LocalDisk(reason) => reason,
    };
    match (facts.stage, facts.firmware.map(|firmware| firmware.loading)) {
        // UEFI tries HTTP Boot after iPXE left with `exit 1`, and has its disk next in the order:
        // an answer would load iPXE a second time (boot-facts 16).
        (Stage::Rom, Some(BootProtocol::Http)) => Verdict::Ignore(reason),
        // A PXE ROM that gets no answer retries for a minute; iPXE leaves for the disk at once.
        (Stage::Rom | Stage::LimitedIpxe, _) => chainload(facts, site),
        (Stage::Ipxe, _) => Verdict::LocalDisk(reason),
        (Stage::IscsiLogin | Stage::IscsiReturn | Stage::Installer, _) => Verdict::Ignore(reason),
    }
}

fn chainload(facts: &Facts, site: &Site) -> Verdict {
    site.program(facts).map_or(Verdict::Ignore(Reason::NoBootProgram), |program| Verdict::Chainload(program.clone()))
}

/// Returns the image of a completed install. Its installer reports in one of its last steps, and reads on until the
/// machine boots.
fn completed_image(host: &Host) -> Option<&Name> {
    match (&host.spec.image, host.status.phase, host.spec.boot_mode) {
        (BootTarget::Image(image), Phase::Installed, BootMode::Once) => Some(image),
        (BootTarget::Image(_) | BootTarget::LocalDisk | BootTarget::Menu, _, BootMode::Once | BootMode::Forever) => {
            None
        }
    }
}

/// Returns the config of a host. A config outlives the install: the first boot from the disk may fetch it again.
fn decide_installer(host: &Host) -> Verdict {
    match (&host.spec.boot_config_ref, host.status.phase) {
        (_, Phase::Held) => Verdict::Ignore(Reason::Held),
        (None, _) => Verdict::Ignore(Reason::NoConfig),
        (Some(config), _) => Verdict::Configure(config.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::site::tests::site;
    use crate::boot::{Firmware, Program};
    use crate::fleet::{Architecture, HostSpec, HostStatus, Install, Mac, Meta};

    const VM: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    const STAGES: [Stage; 6] =
        [Stage::Rom, Stage::Ipxe, Stage::LimitedIpxe, Stage::IscsiLogin, Stage::IscsiReturn, Stage::Installer];

    fn facts(stage: Stage, architecture: u16, loading: BootProtocol) -> Facts {
        let firmware = Some(Firmware { architecture: Architecture(architecture), loading });
        Facts { mac: VM, firmware, stage, address: None, uuid: None }
    }

    fn host(phase: Phase, image: &str, mode: BootMode) -> Host {
        let mut spec = HostSpec::for_mac(VM);
        spec.image = image.parse().unwrap();
        spec.boot_mode = mode;
        let status = HostStatus { phase, ..HostStatus::default() };
        Host { metadata: Meta::named("vm".parse().unwrap(), None), spec, status }
    }

    fn ask(facts: &Facts, host: Option<&Host>) -> Verdict {
        decide(facts, host, &site("hold")).verdict
    }

    fn check(stage: Stage, phase: Phase, expected: Verdict) {
        let got = ask(&facts(stage, 0, BootProtocol::Pxe), Some(&host(phase, "live", BootMode::Once)));
        assert_eq!(got, expected, "{stage:?} {phase:?}");
    }

    fn program(name: &str) -> Verdict {
        Verdict::Chainload(Program(name.into()))
    }

    fn live() -> Verdict {
        Verdict::SanBoot("live".parse().unwrap())
    }

    #[test]
    fn a_held_machine_is_never_answered() {
        for stage in STAGES {
            check(stage, Phase::Held, Verdict::Ignore(Reason::Held));
        }
    }

    #[test]
    fn an_assigned_machine_boots_its_image_until_it_is_done() {
        for phase in [Phase::Assigned, Phase::Offered, Phase::Installing] {
            check(Stage::Rom, phase, program("undionly.kpxe"));
            check(Stage::LimitedIpxe, phase, program("undionly.kpxe"));
            check(Stage::Ipxe, phase, live());
            check(Stage::IscsiLogin, phase, live());
        }
    }

    #[test]
    fn an_installed_machine_boots_its_disk_at_every_stage() {
        for (phase, why) in [(Phase::Installed, Reason::InstallCompleted), (Phase::Failed, Reason::InstallFailed)] {
            check(Stage::Ipxe, phase, Verdict::LocalDisk(why));
            check(Stage::IscsiLogin, phase, Verdict::Ignore(why));
            check(Stage::Rom, phase, program("undionly.kpxe"));
        }
    }

    #[test]
    fn an_installer_that_is_done_may_come_back_for_its_medium() {
        use Phase::{Assigned, Failed, Held, Installed, Installing, LocalBoot, Offered};
        for (phase, expected) in [
            (Installed, live()),
            (Assigned, live()),
            (Offered, live()),
            (Installing, live()),
            (Failed, Verdict::Ignore(Reason::InstallFailed)),
            (LocalBoot, Verdict::Ignore(Reason::NotAssigned)),
            (Held, Verdict::Ignore(Reason::Held)),
        ] {
            check(Stage::IscsiReturn, phase, expected);
        }
        for (image, reason) in [("localboot", Reason::InstallCompleted), ("menu", Reason::NotAssigned)] {
            let host = host(Installed, image, BootMode::Once);
            let got = ask(&facts(Stage::IscsiReturn, 0, BootProtocol::Pxe), Some(&host));
            assert_eq!(got, Verdict::Ignore(reason), "{image}");
        }
        assert_eq!(ask(&facts(Stage::IscsiReturn, 0, BootProtocol::Pxe), None), Verdict::Ignore(Reason::UnknownHost));
    }

    #[test]
    fn no_boot_of_an_installed_machine_leads_to_its_image() {
        let host = host(Phase::Installed, "live", BootMode::Once);
        for stage in [Stage::Rom, Stage::Ipxe, Stage::LimitedIpxe] {
            for loading in [BootProtocol::Pxe, BootProtocol::Http] {
                let got = ask(&facts(stage, 7, loading), Some(&host));
                assert_ne!(got, live(), "{stage:?} {loading:?}");
            }
        }
    }

    #[test]
    fn http_boot_is_not_answered_for_a_boot_from_the_disk() {
        let done = host(Phase::Installed, "live", BootMode::Once);
        let got = decide(&facts(Stage::Rom, 16, BootProtocol::Http), Some(&done), &site("hold")).verdict;
        assert_eq!(got, Verdict::Ignore(Reason::InstallCompleted));
        let due = host(Phase::Assigned, "live", BootMode::Once);
        let got = decide(&facts(Stage::Rom, 16, BootProtocol::Http), Some(&due), &site("hold")).verdict;
        assert_eq!(got, program("snponly.efi"));
    }

    #[test]
    fn boot_mode_forever_boots_the_image_at_every_boot() {
        for phase in [Phase::Assigned, Phase::Offered, Phase::Installing, Phase::Installed, Phase::Failed] {
            let host = host(phase, "live", BootMode::Forever);
            assert_eq!(decide(&facts(Stage::Ipxe, 0, BootProtocol::Pxe), Some(&host), &site("hold")).verdict, live());
        }
    }

    #[test]
    fn a_menu_is_shown_and_attaches_no_image() {
        let host = host(Phase::LocalBoot, "menu", BootMode::Once);
        let ask = |stage| decide(&facts(stage, 0, BootProtocol::Pxe), Some(&host), &site("hold")).verdict;
        assert_eq!(ask(Stage::Rom), program("undionly.kpxe"));
        assert_eq!(ask(Stage::Ipxe), Verdict::Menu);
        assert_eq!(ask(Stage::IscsiLogin), Verdict::Ignore(Reason::NotAssigned));
    }

    #[test]
    fn an_install_that_used_all_its_boots_ends() {
        let mut host = host(Phase::Offered, "live", BootMode::Once);
        host.status.install = Some(Install { boot_count: 10, ..Install::default() });
        let got = decide(&facts(Stage::Ipxe, 0, BootProtocol::Pxe), Some(&host), &site("hold")).verdict;
        assert_eq!(got, Verdict::LocalDisk(Reason::MaxBootsReached));
        let login = decide(&facts(Stage::IscsiLogin, 0, BootProtocol::Pxe), Some(&host), &site("hold")).verdict;
        assert_eq!(login, live(), "the last boot attaches its image");
    }

    #[test]
    fn an_unknown_machine_is_enrolled_by_the_rules() {
        let ask = |rule: &str, stage| decide(&facts(stage, 7, BootProtocol::Pxe), None, &site(rule)).verdict;
        assert_eq!(ask("ignore", Stage::Rom), Verdict::Ignore(Reason::UnknownHostIgnored));
        for (rule, phase) in [("hold", Phase::Held), ("localboot", Phase::LocalBoot), ("install live", Phase::Assigned)]
        {
            let Verdict::Enrol(host) = ask(rule, Stage::Rom) else { panic!("{rule} enrols") };
            assert_eq!(host.status.phase, phase);
        }
        for stage in [Stage::IscsiLogin, Stage::Installer] {
            assert_eq!(ask("install live", stage), Verdict::Ignore(Reason::UnknownHost));
        }
    }

    #[test]
    fn firmware_without_a_program_is_not_answered() {
        let host = host(Phase::Assigned, "live", BootMode::Once);
        let got = decide(&facts(Stage::Rom, 33, BootProtocol::Pxe), Some(&host), &site("hold")).verdict;
        assert_eq!(got, Verdict::Ignore(Reason::NoBootProgram));
    }

    #[test]
    fn a_config_is_served_before_and_after_the_install() {
        let mut host = host(Phase::Installed, "live", BootMode::Once);
        assert_eq!(
            decide(&facts(Stage::Installer, 0, BootProtocol::Pxe), Some(&host), &site("hold")).verdict,
            Verdict::Ignore(Reason::NoConfig)
        );
        host.spec.boot_config_ref = Some("target".parse().unwrap());
        let got = decide(&facts(Stage::Installer, 0, BootProtocol::Pxe), Some(&host), &site("hold")).verdict;
        assert_eq!(got, Verdict::Configure("target".parse().unwrap()));
    }
}
