//! What a machine whose boot goes on is to do next, and until when, by the clocks of its firmware.

use std::time::Duration;

use super::super::evidence::{DhcpClient, ScriptStep, Step, TransferOutcome, Uptime};
use super::super::scene::{Boot, Progress};
use super::super::{image, network, power, program, script};
use super::LedgerStage;

/// Pause of our script that waits for an image, and some time for the request.
const WAIT_PAUSE: Duration = Duration::from_secs(35);
/// Time from the first SOLICIT in which EDK2 gives IPv6 up: it repeats it after 5, 14 and 31 s, gives up after 64 s
/// (`ovmf-2022-pxe6-x64.pcap`), and begins IPv4 a few seconds later.
const IPV6_TIMEOUT: Duration = Duration::from_secs(75);

/// The next step of a boot that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextStep {
    /// The stage that is on.
    pub stage: LedgerStage,
    /// What the machine is to do, after "it".
    pub text: &'static str,
    /// Time by which a machine that boots as it should has done that; `None` if it may take any time.
    pub due: Option<Uptime>,
}

/// Returns the next step of a boot.
pub fn next_step(boot: &Boot<'_>, is_held: bool, install_timeout: Duration) -> Option<NextStep> {
    let is_asking = (Progress::Discover..=Progress::ProxyRequest).contains(&boot.reached);
    if is_held && (is_asking || boot.reached == Progress::IpxeDiscover) {
        let text =
            "is told no boot file, since it is held: it boots its disk, or waits until somebody assigns an image";
        return Some(NextStep { stage: LedgerStage::Dhcp, text, due: None });
    }
    let (stage, text, wait) = match boot.reached {
        Progress::Nothing | Progress::Done => return None,
        Progress::Power if boot.has(|step| *step == Step::RequestV6) => return None,
        Progress::Power if boot.has(|step| *step == Step::SolicitV6) => {
            let first = boot.steps.iter().find(|evidence| evidence.step == Step::SolicitV6)?.first;
            let text = "gives IPv6 up and asks over IPv4";
            return Some(NextStep { stage: LedgerStage::Ipv6, text, due: Some(first + IPV6_TIMEOUT) });
        }
        Progress::Power => (LedgerStage::Power, "sends its first request", Some(power::POWER_ON_TIMEOUT)),
        Progress::Discover => (LedgerStage::Dhcp, "takes an address", Some(network::OFFER_TIMEOUT)),
        Progress::Address => (LedgerStage::Dhcp, "asks for its boot file", Some(network::BOOT_FILE_TIMEOUT)),
        Progress::ProxyRequest => (LedgerStage::Dhcp, "asks for its boot file", Some(network::PROXY_TIMEOUT)),
        Progress::ProgramRequest => {
            let is_probed = |step: &Step| step.transfer_with(&TransferOutcome::Probed).is_some();
            let wait = boot.steps.last().filter(|evidence| is_probed(&evidence.step)).map(|_| program::PROBE_TIMEOUT);
            (LedgerStage::Program, "loads its boot program", wait)
        }
        Progress::Program => (
            LedgerStage::ProgramStart,
            "starts its boot program, which asks for its script",
            Some(program::PROGRAM_TIMEOUT),
        ),
        Progress::IpxeDiscover
            if boot.has(|step| matches!(step, Step::Discover { client: DhcpClient::Firmware(..), .. })) =>
        {
            (LedgerStage::ProgramStart, "takes an address again, for iPXE", Some(program::IPXE_DHCP_TIMEOUT))
        }
        Progress::IpxeDiscover => (LedgerStage::Dhcp, "takes an address", Some(program::IPXE_DHCP_TIMEOUT)),
        Progress::IpxeAddress => (LedgerStage::Script, "asks for its script", Some(script::SCRIPT_TIMEOUT)),
        Progress::Script => after_script(boot)?,
        Progress::Image => (
            LedgerStage::Kernel,
            "starts its kernel, which asks for an address or its config",
            Some(image::KERNEL_TIMEOUT),
        ),
        Progress::System => {
            let begin = boot.steps.iter().find(|evidence| matches!(evidence.step, Step::Script { .. }))?.first;
            let due = Some(begin + install_timeout).filter(|_| !install_timeout.is_zero());
            return Some(NextStep { stage: LedgerStage::Install, text: "reports that its install is complete", due });
        }
    };
    Some(NextStep { stage, text, due: wait.map(|wait| boot.last() + wait) })
}

/// Returns what follows the script that the machine has.
fn after_script(boot: &Boot<'_>) -> Option<(LedgerStage, &'static str, Option<Duration>)> {
    let action = boot.find_map(|evidence| match evidence.step {
        Step::Script { action } => Some(action),
        _ => None,
    });
    Some(match action {
        Some(ScriptStep::Attach) => (LedgerStage::Loader, "attaches its image", Some(image::LOGIN_TIMEOUT)),
        Some(ScriptStep::Load) => (LedgerStage::Loader, "reads its image", Some(image::LOGIN_TIMEOUT)),
        Some(ScriptStep::Wait) => (LedgerStage::Wait, "asks for its script again", Some(WAIT_PAUSE)),
        Some(ScriptStep::LocalDisk) => return None,
        None => (LedgerStage::Script, "runs its script", Some(program::PROGRAM_TIMEOUT)),
    })
}
