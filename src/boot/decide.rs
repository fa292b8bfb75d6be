use crate::fleet::lifecycle::is_exhausted;
use crate::fleet::{BootMode, BootTarget, Host, Name, Phase};

use super::{BootProtocol, Facts, Reason, Site, Stage, Verdict};

/// Decides what a machine boots, for every protocol.
///
/// A machine that never was seen is either to be enrolled first or to be ignored; what it boots is
/// decided from the host that it becomes.
pub fn decide(facts: &Facts, host: Option<&Host>, site: &Site) -> Verdict {
    let Some(host) = host else { return enrol(facts, site) };
    match facts.stage {
        Stage::Installer => return configure(host),
        Stage::Rom | Stage::Ipxe | Stage::LimitedIpxe | Stage::IscsiLogin => {}
    }
    let aim = match aim(host, site) {
        Ok(image) => image,
        Err(verdict) => return render_for_stage(facts, verdict, site),
    };
    match facts.stage {
        Stage::Rom | Stage::LimitedIpxe => chainload(facts, site),
        Stage::IscsiLogin | Stage::Installer if aim == Target::Menu => Verdict::Ignore(Reason::NotAssigned),
        Stage::Ipxe | Stage::IscsiLogin | Stage::Installer => match aim {
            Target::Menu => Verdict::Menu,
            Target::Image(image) => Verdict::SanBoot(image.clone()),
        },
    }
}

/// Drafts the host that a machine never seen before becomes by the site's rule.
pub fn enrol(facts: &Facts, site: &Site) -> Verdict {
    let architecture = facts.firmware.map(|firmware| firmware.architecture);
    let asks_to_boot = match facts.stage {
        Stage::Rom | Stage::Ipxe | Stage::LimitedIpxe => true,
        // A login or a config is asked for by a machine that was told to: a stranger's is no boot.
        Stage::IscsiLogin | Stage::Installer => false,
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

/// Finds what a host is to boot now, or the reason why it boots nothing of ours.
fn aim<'a>(host: &'a Host, site: &Site) -> Result<Target<'a>, Leave> {
    let image = match &host.spec.image {
        BootTarget::Image(image) => image,
        BootTarget::LocalDisk | BootTarget::Menu if host.status.phase == Phase::Held => {
            return Err(Leave::Alone(Reason::Held));
        }
        BootTarget::Menu => return Ok(Target::Menu),
        BootTarget::LocalDisk if host.status.phase == Phase::Installed => {
            return Err(Leave::ToDisk(Reason::InstallCompleted));
        }
        BootTarget::LocalDisk => return Err(Leave::ToDisk(Reason::NotAssigned)),
    };
    match (host.status.phase, host.spec.boot_mode) {
        (Phase::Held, _) => Err(Leave::Alone(Reason::Held)),
        (Phase::LocalBoot, _) => Err(Leave::ToDisk(Reason::NotAssigned)),
        (_, BootMode::Forever) => Ok(Target::Image(image)),
        (Phase::Installed, BootMode::Once) => Err(Leave::ToDisk(Reason::InstallCompleted)),
        (Phase::Failed, BootMode::Once) => Err(Leave::ToDisk(Reason::InstallFailed)),
        (Phase::Offered | Phase::Installing, BootMode::Once) if is_exhausted(host, &site.install) => {
            Err(Leave::ToDisk(Reason::MaxBootsReached))
        }
        (Phase::Assigned | Phase::Offered | Phase::Installing, BootMode::Once) => Ok(Target::Image(image)),
    }
}

#[derive(PartialEq)]
enum Target<'a> {
    Image(&'a Name),
    Menu,
}

enum Leave {
    Alone(Reason),
    ToDisk(Reason),
}

/// Sends a machine to its disk in the way that its stage can take.
fn render_for_stage(facts: &Facts, leave: Leave, site: &Site) -> Verdict {
    let why = match leave {
        Leave::Alone(why) => return Verdict::Ignore(why),
        Leave::ToDisk(why) => why,
    };
    match (facts.stage, facts.firmware.map(|firmware| firmware.loading)) {
        // UEFI tries HTTP Boot after iPXE left with `exit 1`, and has its disk next in the order:
        // an answer would load iPXE a second time (boot-facts 16).
        (Stage::Rom, Some(BootProtocol::Http)) => Verdict::Ignore(why),
        // A PXE ROM that gets no answer retries for a minute; iPXE leaves for the disk at once.
        (Stage::Rom | Stage::LimitedIpxe, _) => chainload(facts, site),
        (Stage::Ipxe, _) => Verdict::LocalDisk(why),
        (Stage::IscsiLogin | Stage::Installer, _) => Verdict::Ignore(why),
    }
}

fn chainload(facts: &Facts, site: &Site) -> Verdict {
    site.program(facts).map_or(Verdict::Ignore(Reason::NoBootProgram), |program| Verdict::Chainload(program.clone()))
}

/// A config outlives the install: the first boot from the disk may ask for it again.
fn configure(host: &Host) -> Verdict {
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

    fn check(stage: Stage, phase: Phase, expected: Verdict) {
        let got =
            decide(&facts(stage, 0, BootProtocol::Pxe), Some(&host(phase, "live", BootMode::Once)), &site("hold"));
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
        for stage in [Stage::Rom, Stage::Ipxe, Stage::LimitedIpxe, Stage::IscsiLogin, Stage::Installer] {
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
    fn a_machine_that_is_done_goes_to_its_disk_through_every_gate() {
        for (phase, why) in [(Phase::Installed, Reason::InstallCompleted), (Phase::Failed, Reason::InstallFailed)] {
            check(Stage::Ipxe, phase, Verdict::LocalDisk(why));
            check(Stage::IscsiLogin, phase, Verdict::Ignore(why));
            check(Stage::Rom, phase, program("undionly.kpxe"));
        }
    }

    #[test]
    fn http_boot_is_not_answered_on_the_way_to_the_disk() {
        let done = host(Phase::Installed, "live", BootMode::Once);
        let got = decide(&facts(Stage::Rom, 16, BootProtocol::Http), Some(&done), &site("hold"));
        assert_eq!(got, Verdict::Ignore(Reason::InstallCompleted));
        let due = host(Phase::Assigned, "live", BootMode::Once);
        let got = decide(&facts(Stage::Rom, 16, BootProtocol::Http), Some(&due), &site("hold"));
        assert_eq!(got, program("snponly.efi"));
    }

    #[test]
    fn for_ever_means_every_boot() {
        for phase in [Phase::Assigned, Phase::Offered, Phase::Installing, Phase::Installed, Phase::Failed] {
            let host = host(phase, "live", BootMode::Forever);
            assert_eq!(decide(&facts(Stage::Ipxe, 0, BootProtocol::Pxe), Some(&host), &site("hold")), live());
        }
    }

    #[test]
    fn a_menu_is_shown_to_whoever_stands_there_and_attaches_nothing() {
        let host = host(Phase::LocalBoot, "menu", BootMode::Once);
        let ask = |stage| decide(&facts(stage, 0, BootProtocol::Pxe), Some(&host), &site("hold"));
        assert_eq!(ask(Stage::Rom), program("undionly.kpxe"));
        assert_eq!(ask(Stage::Ipxe), Verdict::Menu);
        assert_eq!(ask(Stage::IscsiLogin), Verdict::Ignore(Reason::NotAssigned));
    }

    #[test]
    fn an_install_that_used_up_its_boots_is_not_offered_again() {
        let mut host = host(Phase::Offered, "live", BootMode::Once);
        host.status.install = Some(Install { boot_count: 10, ..Install::default() });
        let got = decide(&facts(Stage::Ipxe, 0, BootProtocol::Pxe), Some(&host), &site("hold"));
        assert_eq!(got, Verdict::LocalDisk(Reason::MaxBootsReached));
    }

    #[test]
    fn a_stranger_is_met_by_the_sites_rule() {
        let ask = |rule: &str, stage| decide(&facts(stage, 7, BootProtocol::Pxe), None, &site(rule));
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
    fn firmware_without_a_program_is_left_alone() {
        let host = host(Phase::Assigned, "live", BootMode::Once);
        let got = decide(&facts(Stage::Rom, 33, BootProtocol::Pxe), Some(&host), &site("hold"));
        assert_eq!(got, Verdict::Ignore(Reason::NoBootProgram));
    }

    #[test]
    fn a_config_is_given_before_and_after_the_install() {
        let mut host = host(Phase::Installed, "live", BootMode::Once);
        assert_eq!(
            decide(&facts(Stage::Installer, 0, BootProtocol::Pxe), Some(&host), &site("hold")),
            Verdict::Ignore(Reason::NoConfig)
        );
        host.spec.boot_config_ref = Some("target".parse().unwrap());
        let got = decide(&facts(Stage::Installer, 0, BootProtocol::Pxe), Some(&host), &site("hold"));
        assert_eq!(got, Verdict::Configure("target".parse().unwrap()));
    }
}
