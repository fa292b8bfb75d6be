//! Words of the diagnosis: durations, sizes, and the steps of a boot for people.

use std::fmt::Write as _;
use std::time::Duration;

use super::evidence::{
    DhcpClient, Download, DownloadOutcome, ElsewhereRequest, FileTransfer, OtherOffer, ScriptStep, Step,
    TransferOutcome,
};

/// Returns a duration for people: seconds up to two minutes, else minutes.
pub fn seconds(duration: Duration) -> String {
    match duration.saturating_add(Duration::from_millis(500)).as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

/// Returns a number with its noun.
pub fn plural(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Returns a size for people, in decimal units.
pub fn size(octets: u64) -> String {
    match octets {
        0..1_000 => format!("{octets} bytes"),
        1_000..1_000_000 => format!("{} kB", octets / 1_000),
        1_000_000..1_000_000_000 => format!("{}.{} MB", octets / 1_000_000, octets / 100_000 % 10),
        _ => format!("{}.{} GB", octets / 1_000_000_000, octets / 100_000_000 % 10),
    }
}

/// Returns one line for people about a step.
pub fn describe(step: &Step) -> String {
    match step {
        Step::PoweredOn => "switched on, or restarted".to_owned(),
        Step::WakeSent => "Wake-on-LAN packets sent".to_owned(),
        Step::NetworkBootSet => "the BMC is to boot it from the network".to_owned(),
        Step::PoweredOff => "switched off".to_owned(),
        Step::BmcFailed { message, .. } => format!("BMC: {message}"),
        Step::Discover { xid, secs, client: by, relay, .. } => {
            let relay = relay.map_or_else(String::new, |relay| format!(" through the relay {relay}"));
            format!("DISCOVER of {} (xid {xid:08x}, secs {secs}){relay}", client(by))
        }
        Step::Offered { file, has_address, delay } => {
            let what = if *has_address { "an address and " } else { "" };
            let late = delay.map_or_else(String::new, |delay| format!(", {} later", seconds(delay)));
            format!("offered {what}{file}{late}")
        }
        Step::NoAddress { reason } => format!("no address for it: {reason}"),
        Step::ReplyNotSent { to, error } => format!("reply to {to} not sent: {error}"),
        Step::OtherOffer(offer) => describe_offer(offer),
        Step::Request { server, address, client: by } => {
            let server = server.map_or_else(String::new, |server| format!(" from {server}"));
            format!("REQUEST of {}: the address {address}{server}", client(by))
        }
        Step::Acknowledged { address } => format!("acknowledged the address {address}"),
        Step::ProxyRequest { xid } => format!("request on port 4011 (xid {xid:08x})"),
        Step::SolicitV6 => "DHCPv6 SOLICIT of firmware".to_owned(),
        Step::RequestV6 => "DHCPv6 REQUEST of firmware: another server answers it".to_owned(),
        Step::Refused { protocol, message, .. } => format!("refused over {}: {message}", protocol.name()),
        Step::FileRequested { file, port } => format!("TFTP request for {file} from port {port}"),
        Step::Transfer(transfer) => describe_transfer(transfer),
        Step::Unreachable { by, code, from_port } => {
            format!("ICMP unreachable (code {code}) of {by} for a packet from our port {from_port}")
        }
        Step::ArpUnanswered { address } => format!("nobody answers ARP for {address}"),
        Step::HeadRequested { file, size: whole } => format!("HTTP: size of {file} asked ({})", size(*whole)),
        Step::Download(download) => describe_download(download),
        Step::Script { action } => format!("boot script: {}", describe_script(*action)),
        Step::ConfigWithheld { from } => {
            let from = from.map_or_else(String::new, |from| format!(" ({from})"));
            format!("this script has no config: nothing ties the address that it was asked from{from} to the machine")
        }
        Step::ScriptFailed { command, errno } => format!("script reports that {command} failed: {errno:#010x}"),
        Step::Login { image } => format!("iSCSI login to {image}"),
        Step::LoginRefused { target, reason, from, .. } => {
            let reason = reason.map_or("no such target", |reason| reason.sentence());
            format!("iSCSI login to {target} from {from} refused: {reason}")
        }
        Step::AskedFromElsewhere { what, from, neighbour, .. } => {
            let what = match what {
                ElsewhereRequest::Login => "iSCSI login",
                ElsewhereRequest::Config => "request for the config",
            };
            let mac = neighbour.map_or_else(String::new, |mac| format!(" ({mac})"));
            format!("{what} in its name from {from}{mac}")
        }
        Step::Read { octets, is_over } => {
            let end = if *is_over { ", session closed" } else { "" };
            format!("{} of the image read{end}", size(*octets))
        }
        Step::ReadFailed { message } => format!("read failed: {message}"),
        Step::BadRange { range } => format!("impossible range asked: {range}"),
        Step::ConfigServed { octets } => format!("config served ({})", size(*octets)),
        Step::InstallerActive => "the installer is active".to_owned(),
        Step::InstallerFailed { source, message } => format!("{source}: {message}"),
        Step::Completed => "install reported complete".to_owned(),
        Step::CompletedEarly { .. } => "reported complete before the install began".to_owned(),
        Step::CompletionRefused { reason } => format!("report of completion refused: {reason}"),
        Step::OtherInterface { mac, client: by } => format!("DISCOVER of {} over its interface {mac}", client(by)),
    }
}

fn client(client: &DhcpClient) -> String {
    match client {
        DhcpClient::Firmware(_, architecture) => format!("firmware ({architecture})"),
        DhcpClient::Ipxe => "iPXE".to_owned(),
        DhcpClient::System => "a running system".to_owned(),
    }
}

fn describe_offer(offer: &OtherOffer) -> String {
    let mut text = format!("offer of the server {}", offer.server);
    if let Some(address) = offer.address {
        let _ = write!(text, ": the address {address}");
    }
    if let Some(file) = &offer.file {
        let _ = write!(text, ", the boot file {file}");
    } else if offer.claims_boot {
        text.push_str(", as a boot server");
    }
    text
}

fn describe_transfer(transfer: &FileTransfer) -> String {
    let FileTransfer { file, outcome, octets, size: whole, .. } = transfer;
    let (of, whole) = (format!("{} of {}", size(*octets), size(*whole)), *whole);
    match outcome {
        TransferOutcome::UnderWay => format!("TFTP: {file} under way, at {of}"),
        TransferOutcome::Complete => format!("TFTP: {file} complete ({})", size(whole)),
        TransferOutcome::Probed => format!("TFTP: size of {file} asked ({})", size(whole)),
        TransferOutcome::Aborted { code, text } => {
            format!("TFTP: {file} aborted by the client at {of}: error {code} {text}")
        }
        TransferOutcome::Silent => format!("TFTP: {file} silent at {of}"),
        TransferOutcome::Slow => format!("TFTP: {file} slow, at {of}"),
        TransferOutcome::Failed => format!("TFTP: {file} failed here at {of}"),
    }
}

fn describe_download(download: &Download) -> String {
    let Download { file, outcome, octets, size: whole, agent, .. } = download;
    let of = format!("{} of {}", size(*octets), size(*whole));
    let by = if agent.is_empty() { String::new() } else { format!(" ({agent})") };
    match outcome {
        DownloadOutcome::UnderWay => format!("HTTP: {file} under way, at {of}{by}"),
        DownloadOutcome::Complete => format!("HTTP: {file} complete ({}){by}", size(*whole)),
        DownloadOutcome::Aborted => format!("HTTP: {file} broken off by the client at {of}{by}"),
        DownloadOutcome::Silent => format!("HTTP: {file} silent at {of}{by}"),
    }
}

/// Returns what a script does, after "boot script:".
pub fn describe_script(action: ScriptStep) -> &'static str {
    match action {
        ScriptStep::Attach => "attach the image",
        ScriptStep::Load => "load the image over HTTP",
        ScriptStep::LocalDisk => "boot the local disk",
        ScriptStep::Wait => "wait, or show a menu",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_short() {
        let sizes = [33, 250_000, 1_600_000, 2_050_000_000].map(size);
        assert_eq!(sizes, ["33 bytes", "250 kB", "1.6 MB", "2.0 GB"]);
        assert_eq!(
            [12, 119, 120, 840].map(|value| seconds(Duration::from_secs(value))),
            ["12 s", "119 s", "2 min", "14 min"]
        );
    }
}
