//! What TFTP serves: the boot programs, and the boot files that the decision renders.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use tokio::sync::watch;

use crate::boot::{DropReason, Facts, Reason, ScriptFormat, Stage};
use crate::config::Config;
use crate::dhcp::serve::Progress;
use crate::event::{Event, Protocol};
use crate::fleet::Mac;
use crate::gate::Gate;
use crate::images::library::ImageLibrary;
use crate::iso::FileWithin;
use crate::tftp::packet::Malformed;
use crate::tftp::path::{Asked, File};
use crate::tftp::serve::{
    self as tftp, Answer, Content, Dropped, Ended, Listener, Refusal, Report, Request, Settings, SiteFolder, Ticket,
};
use crate::tftp::transfer::Ending;

/// Bounds what waits to be told of: a start and an end for each of 4,096 transfers, and as many drops.
const REPORTS: usize = 16_384;

/// Are what boot programs load next and cannot do without: SYSLINUX's and PXELINUX's core, and shim's GRUB.
const LOADED_NEXT: [&str; 4] = ["ldlinux.c32", "ldlinux.e64", "grubx64.efi", "grubaa64.efi"];

/// Holds the boot programs in memory: read once, while everything is readable, and served from there.
pub type Cache = HashMap<String, Bytes>;

/// Reads the boot programs that the configuration names.
///
/// # Errors
/// A program that is there and cannot be read. One that is missing is a warning: the site may not need it.
pub fn read_programs(config: &Config) -> anyhow::Result<Cache> {
    let mut cache = Cache::new();
    let others = config.overrides.iter().map(|other| &other.program);
    for program in config.programs.0.values().chain(others) {
        let path = config.firmware_dir.join(&*program.0);
        match std::fs::read(&path) {
            Ok(bytes) => drop(cache.insert(program.to_string(), bytes.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), "the boot program is missing: run firmware/stage");
            }
            Err(error) => return Err(error).with_context(|| format!("firmware_dir: {}", path.display())),
        }
    }
    Ok(cache)
}

/// A TFTP listener and the address of the other services on the same interface.
#[derive(Debug)]
pub struct Endpoint {
    /// The bound socket.
    pub listener: Listener,
    /// Address of this server on the interface, at which machines reach HTTP and iSCSI.
    pub reached_at: std::net::Ipv4Addr,
}

/// Serves TFTP until told to stop.
pub fn serve(
    doors: Vec<Endpoint>,
    config: &Config,
    gate: Arc<Gate>,
    programs: Cache,
    progress: Progress,
    mut stopped: watch::Receiver<bool>,
) -> impl Future<Output = anyhow::Result<()>> + use<> {
    let settings =
        Settings { block_size: config.tftp.max_block_size, drain: config.shutdown_timeout, ..Settings::default() };
    let folders = [&config.firmware_dir, &config.files_dir].into_iter().filter_map(|path| SiteFolder::open(path).ok());
    let (listeners, reached_at) = doors.into_iter().map(|door| (door.listener, IpAddr::from(door.reached_at))).unzip();
    let files = Arc::new(Files { gate: gate.clone(), programs, folders: folders.collect(), reached_at });
    let runtime = tokio::runtime::Handle::current();
    let content = move |request: Request, ticket: Ticket| files.answer(&runtime, &request, ticket);
    // To tell whose transfer it was takes the neighbour table: too long for the thread that sends the blocks.
    let (reports, told) = std::sync::mpsc::sync_channel(REPORTS);
    let telling = tokio::task::spawn_blocking(move || told.iter().for_each(|report| tell(&gate, &progress, report)));
    let report = move |report| {
        if reports.try_send(report).is_err() {
            tracing::warn!(limit = REPORTS, "more happens over TFTP than can be told");
        }
    };
    async move {
        let shutdown = async move { drop(stopped.wait_for(|stop| *stop).await) };
        let served = tftp::serve(listeners, settings, content, report, shutdown).await.context("TFTP");
        telling.await.context("telling of TFTP")?;
        served
    }
}

struct Files {
    gate: Arc<Gate>,
    programs: Cache,
    /// Are looked into in this order.
    folders: Vec<SiteFolder>,
    /// Says where machines find HTTP and iSCSI, by the listener that they asked at.
    reached_at: Vec<IpAddr>,
}

impl Files {
    fn answer(self: &Arc<Self>, runtime: &tokio::runtime::Handle, request: &Request, ticket: Ticket) {
        let files = self.clone();
        let mac = request.asked.mac();
        match &request.asked.file {
            File::Autoexec | File::Pxelinux(_) | File::Grub(_) => {
                let form = match request.asked.file {
                    File::Pxelinux(_) => ScriptFormat::Pxelinux,
                    File::Grub(_) => ScriptFormat::Grub,
                    File::Autoexec | File::Plain(_) => ScriptFormat::Autoexec,
                };
                // Not all names carry a MAC address; iPXE's EFI programs ask without the folder that their
                // own name had. The address tells then.
                let request = request.clone();
                drop(runtime.spawn(async move {
                    let mac = mac.or_else(|| files.gate.owner_of(request.peer.ip()).ok().flatten());
                    let facts = mac.map(|mac| facts(mac, Stage::Ipxe, &request));
                    ticket.answer(files.script(facts, form, request.listener).await);
                }));
            }
            File::Plain(path) => {
                let authorized = |mac| self.gate.authorize_program(&facts(mac, Stage::Ipxe, request), Protocol::Tftp);
                if let Some(Err(reason)) = mac.map(authorized) {
                    return ticket.answer(Answer::Refused(reason.sentence()));
                }
                ticket.answer(self.program(path));
            }
        }
    }

    /// Answers with the machine's script; one that cannot be told goes on to ask over HTTP.
    async fn script(&self, facts: Option<Facts>, form: ScriptFormat, listener: usize) -> Answer {
        let Some(facts) = facts else { return Answer::NotFound };
        let at = self.reached_at.get(listener).copied();
        let ruling = self.gate.script(&facts, None, Protocol::Tftp, at).await;
        Answer::Content(Content::Shared(self.gate.render(&facts, &ruling, form, at).into()))
    }

    fn program(&self, path: &crate::tftp::path::RelativePath) -> Answer {
        if let Some(bytes) = self.programs.get(path.as_str()) {
            return Answer::Content(Content::Shared(bytes.clone()));
        }
        if let Some(content) = self.within_image(path.as_str()) {
            return content;
        }
        let found = self.folders.iter().find_map(|folder| folder.file(path).ok());
        found.map_or(Answer::NotFound, Answer::Content)
    }
}

impl Files {
    /// Finds `iso/NAME/PATH`: a file within an image, for loaders that fetch kernels over TFTP.
    fn within_image(&self, path: &str) -> Option<Answer> {
        let (name, inner) = path.strip_prefix("iso/")?.split_once('/')?;
        let image = self.gate.store.load().image(&name.parse().ok()?).cloned()?;
        let found = self.gate.media.open(&image).ok().and_then(|opened| {
            let extents = ImageLibrary::find(&*opened.file, inner).ok().flatten()?;
            Some(FileWithin::new(opened.file.clone(), extents))
        });
        Some(found.map_or(Answer::NotFound, |file| Answer::Content(Content::Medium(Arc::new(file)))))
    }
}

fn facts(mac: Mac, stage: Stage, request: &Request) -> Facts {
    Facts { mac, firmware: None, stage, address: Some(request.peer.ip()), uuid: None }
}

fn name(asked: &Asked) -> String {
    match &asked.file {
        File::Autoexec => "autoexec.ipxe".to_owned(),
        File::Plain(path) => path.to_string(),
        File::Pxelinux(_) => "pxelinux.cfg".to_owned(),
        File::Grub(_) => "grub.cfg".to_owned(),
    }
}

/// Says what a machine cannot boot without, where what it asked for is that. Loaders look for much else that need
/// not be there.
fn missing(gate: &Gate, asked: &Asked) -> Option<String> {
    let File::Plain(path) = &asked.file else { return None };
    let path = path.as_str();
    if path.starts_with("iso/") {
        return Some(format!("there is no {path}"));
    }
    let is_needed = gate.site.has_program(path) || LOADED_NEXT.contains(&path);
    is_needed.then(|| format!("there is no boot program {path} in firmware_dir: run firmware/stage"))
}

/// Puts what the server tells into the counters and the timelines.
fn tell(gate: &Gate, progress: &Progress, report: Report) {
    let mac =
        |asked: &Asked, peer: std::net::SocketAddr| asked.mac().or_else(|| gate.owner_of(peer.ip()).ok().flatten());
    match report {
        Report::Started { peer, asked, .. } => {
            let mac = mac(&asked, peer);
            mac.inspect(|mac| progress.tell(*mac));
            gate.store.record_event(mac, Event::TftpStarted { file: name(&asked) })
        }
        Report::Ended { peer, asked, how: Ended::Peer(Ending::Complete), octets, took, resent } => {
            gate.counters.count_answered(Protocol::Tftp);
            gate.counters.tftp_sent_bytes.fetch_add(octets, std::sync::atomic::Ordering::Relaxed);
            let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            gate.store.record_event(
                mac(&asked, peer),
                Event::TftpCompleted { file: name(&asked), bytes: octets, milliseconds, resent },
            );
        }
        Report::Ended { peer, asked, how, octets, .. } => {
            tracing::debug!(%peer, file = name(&asked), ?how, octets, "a transfer ended early");
        }
        Report::Refused { peer, asked, why } => {
            if let (Refusal::NotFound, Some(asked)) = (why, &asked)
                && let Some(missing) = missing(gate, asked)
            {
                mac(asked, peer)
                    .inspect(|mac| gate.record_refusal(*mac, Protocol::Tftp, Reason::FileNotFound, missing));
            }
            let reason = match why {
                Refusal::Write => DropReason::WriteRefused,
                Refusal::Name(_) | Refusal::NotFound | Refusal::Netascii => DropReason::FileNotFound,
                Refusal::Decided(_) => return,
            };
            gate.counters.count_dropped(Protocol::Tftp, reason, Some(peer.ip()));
        }
        Report::Dropped { peer, why } => {
            let reason = match why {
                Dropped::Overflow(count) => {
                    gate.counters.socket_receive_drops.fetch_add(count.into(), std::sync::atomic::Ordering::Relaxed);
                    return;
                }
                Dropped::Malformed(Malformed::Truncated | Malformed::TextCutOff) => DropReason::Truncated,
                Dropped::Malformed(Malformed::OptionCutOff) => DropReason::BadOption,
                Dropped::Malformed(Malformed::NoName) => DropReason::FileNotFound,
                Dropped::Malformed(
                    Malformed::UnknownOpcode(_) | Malformed::RequestTooLong | Malformed::UnknownMode,
                ) => DropReason::BadHeader,
                Dropped::Stray => DropReason::NoTransfer,
                Dropped::ToMany => DropReason::OtherServer,
                Dropped::NoWay(_) | Dropped::NotSent(_) => DropReason::SendFailed,
                Dropped::Overload | Dropped::Silence | Dropped::Stopping => DropReason::Overload,
            };
            gate.counters.count_dropped(Protocol::Tftp, reason, peer.map(|peer| peer.ip()));
        }
    }
}
