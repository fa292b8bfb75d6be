//! The TFTP adapter of the gate: boot programs, site files, and the boot scripts that the decision renders.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use tokio::sync::watch;

use crate::boot::diagnosis::{FileTransfer, Step, TransferOutcome, TransferPace};
use crate::boot::rehearsal::ServedFile;
use crate::boot::{DropReason, Facts, Program, Reason, ScriptFormat, Stage};
use crate::event::{Event, Protocol};
use crate::fleet::Mac;
use crate::gate::{Gate, PendingOffer};
use crate::images::library::ImageLibrary;
use crate::iso::{self, FileInImage};
use crate::tftp::options::NegotiatedOptions;
use crate::tftp::packet::PacketError;
use crate::tftp::path::{FileName, RelativePath, RequestedFile};
use crate::tftp::serve::{
    self as tftp, DropCause, FileAnswer, FileContent, FileRefusal, FirstAck, ListenerChanges, Responder, SiteFolder,
    TftpSettings, TransferEnd, TransferReport, TransferRequest,
};
use crate::tftp::transfer::Ending;

/// Maximum number of queued reports: a start and an end for each of 4,096 transfers, and as many drops.
const MAX_QUEUED_REPORTS: usize = 16_384;

/// Files that a boot program loads next and cannot work without: the core of SYSLINUX and PXELINUX, and shim's GRUB.
const SECOND_STAGE: [&str; 4] = ["ldlinux.c32", "ldlinux.e64", "grubx64.efi", "grubaa64.efi"];

/// Maximum length of a file's name in the timeline, in characters.
const MAX_FILE_NAME: usize = 128;
/// Maximum size of a boot program, in bytes.
const PROGRAM_BYTES: u64 = 256 << 20;

/// The boot programs in memory by name, read before privileges are dropped.
pub type ProgramCache = HashMap<String, Bytes>;

/// Reads boot programs from packages and from the firmware directories. A program that is missing is a warning only, because the site may
/// not need it.
///
/// # Errors
/// A program exists and cannot be read; the error names its path.
pub fn read_programs<'a>(
    settings: &BootFileSettings,
    programs: impl IntoIterator<Item = &'a Program>,
) -> anyhow::Result<ProgramCache> {
    let mut cache = ProgramCache::new();
    for program in programs {
        match settings.find_program(&program.0) {
            Some(path) => {
                let bytes = iso::file::read(&path, PROGRAM_BYTES);
                let bytes = bytes.with_context(|| format!("firmware_dir: {}", path.display()))?;
                cache.insert(program.to_string(), bytes.into());
            }
            None => {
                let path = settings.folders.first().map(|folder| folder.join(&*program.0)).unwrap_or_default();
                tracing::warn!(path = %path.display(), "boot program missing: install bootlatch-firmware, or run firmware/stage");
            }
        }
    }
    Ok(cache)
}

/// The settings of the boot files service.
#[derive(Debug, Clone)]
pub struct BootFileSettings {
    /// The largest block size in octets instead of the one that the MTU allows (`tftp.max_block_size`).
    pub max_block_size: Option<u16>,
    /// Time that transfers may take to finish after a stop.
    pub drain: Duration,
    /// Maximum number of concurrent transfers of one source (`limits.tftp_transfers_per_source`).
    pub transfers_per_source: usize,
    /// The directories of plain files, in the order in which a name is looked up.
    pub folders: Vec<PathBuf>,
    /// Boot programs of packages, which come first: the name that machines ask for, and the file.
    pub packaged: Vec<(String, PathBuf)>,
}

impl BootFileSettings {
    /// Returns the file of a boot program: that of a package, or the first one in the folders.
    fn find_program(&self, name: &str) -> Option<PathBuf> {
        let packaged = self.packaged.iter().filter(|(packaged, _)| packaged == name).map(|(_, path)| path.clone());
        packaged.chain(self.folders.iter().map(|folder| folder.join(name))).find(|path| is_present(path))
    }
}

/// Returns whether there is a file, readable or not.
fn is_present(path: &Path) -> bool {
    !matches!(std::fs::metadata(path), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
}

/// Serves TFTP until `stopped` turns true. `on_progress` is called with each host that starts a transfer.
pub fn serve<P: Fn(Mac) + Send + 'static>(
    changes: ListenerChanges,
    settings: &BootFileSettings,
    files: Arc<BootFiles>,
    on_progress: P,
    mut stopped: watch::Receiver<bool>,
) -> impl Future<Output = anyhow::Result<()>> + use<P> {
    let gate = files.gate.clone();
    let tftp_settings = TftpSettings {
        block_size: settings.max_block_size,
        drain: settings.drain,
        transfers_per_source: settings.transfers_per_source,
        ..TftpSettings::default()
    };
    let known = gate.clone();
    let is_known = move |address: IpAddr| known.store.load().is_known_address(address);
    let runtime = tokio::runtime::Handle::current();
    let content = move |request: TransferRequest, responder: Responder| files.answer(&runtime, &request, responder);
    // The owner of an address is looked up in the neighbour table, which is too slow for the thread that sends blocks.
    // Unlike that of the standard library, this queue takes memory for what is in it only.
    let (reports, mut queued) = tokio::sync::mpsc::channel(MAX_QUEUED_REPORTS);
    let recorder = tokio::task::spawn_blocking(move || {
        while let Some(report) = queued.blocking_recv() {
            record_report(&gate, &on_progress, report);
        }
    });
    let report = move |report| {
        if reports.try_send(report).is_err() {
            tracing::warn!(limit = MAX_QUEUED_REPORTS, "TFTP report lost: queue full");
        }
    };
    async move {
        let shutdown = async move { drop(stopped.wait_for(|stop| *stop).await) };
        let served = tftp::serve(changes, tftp_settings, content, report, is_known, shutdown).await.context("TFTP");
        recorder.await.context("TFTP reports")?;
        served
    }
}

/// The sources of files, in the order of lookup.
pub struct BootFiles {
    gate: Arc<Gate>,
    programs: ProgramCache,
    folders: Vec<SiteFolder>,
    /// Programs of packages: the name, the folder, and the file there.
    packaged: Vec<(String, SiteFolder, RelativePath)>,
}

impl std::fmt::Debug for BootFiles {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("BootFiles").field("folders", &self.folders).finish_non_exhaustive()
    }
}

impl BootFiles {
    /// Opens the sources of files.
    pub fn open(settings: &BootFileSettings, gate: Arc<Gate>, programs: ProgramCache) -> Self {
        let folders = settings.folders.iter().filter_map(|path| SiteFolder::open(path).ok()).collect();
        let packaged = settings.packaged.iter().filter_map(|(name, path)| {
            let folder = SiteFolder::open(path.parent()?).ok()?;
            let file = RequestedFile::parse(path.file_name()?.as_encoded_bytes()).ok()?;
            Some((name.clone(), folder, file.candidates().into_iter().next()?))
        });
        Self { gate, programs, folders, packaged: packaged.collect() }
    }

    /// Answers a request: a script by the gate's decision, a program or file at once.
    fn answer(self: &Arc<Self>, runtime: &tokio::runtime::Handle, request: &TransferRequest, responder: Responder) {
        let files = self.clone();
        let mac = request.asked.mac();
        match &request.asked.file {
            FileName::Autoexec | FileName::Pxelinux(_) | FileName::Grub(_) => {
                let form = match request.asked.file {
                    FileName::Pxelinux(_) => ScriptFormat::Pxelinux,
                    FileName::Grub(_) => ScriptFormat::Grub,
                    FileName::Autoexec | FileName::Plain(_) => ScriptFormat::Autoexec,
                };
                // Not every name carries a MAC address: iPXE's EFI programs drop the folder of their own name. Then
                // the peer's address identifies the host.
                let request = request.clone();
                drop(runtime.spawn(async move {
                    let mac = mac.or_else(|| files.gate.owner_of(request.peer.ip()).ok().flatten());
                    let facts = mac.map(|mac| facts(mac, Stage::Ipxe, &request));
                    responder.answer(files.script(facts, form, request.service).await);
                }));
            }
            FileName::Plain(_) => {
                let authorized = |mac| self.gate.authorize_program(&facts(mac, Stage::Ipxe, request), Protocol::Tftp);
                if let Some(Err(reason)) = mac.map(authorized) {
                    return responder.answer(FileAnswer::Refused(reason.sentence()));
                }
                let paths = request.asked.candidates();
                if let Some(content) = self.program(&paths) {
                    return responder.answer(FileAnswer::Content(content));
                }
                // A disk may be slow, and a file system may not answer at all: this thread sends everybody's blocks.
                drop(runtime.spawn_blocking(move || responder.answer(files.first_file(&paths))));
            }
        }
    }

    /// Returns the host's script. A host that cannot be identified gets none, and requests it over HTTP.
    async fn script(&self, facts: Option<Facts>, form: ScriptFormat, at: Option<IpAddr>) -> FileAnswer {
        let Some(facts) = facts else { return FileAnswer::NotFound };
        let (decided, pending) = self.gate.offer_script(&facts, Protocol::Tftp, at).await;
        self.gate.trace_script(&facts, &decided, form);
        let script = FileContent::Shared(self.gate.render(&facts, &decided, form, at).into());
        match pending {
            Some(offer) => FileAnswer::Confirmable(script, self.on_first_ack(offer)),
            None => FileAnswer::Content(script),
        }
    }

    /// Returns the step that makes an offer durable before the rest of its script leaves.
    fn on_first_ack(&self, offer: PendingOffer) -> FirstAck {
        let (gate, runtime) = (self.gate.clone(), tokio::runtime::Handle::current());
        FirstAck(Arc::new(move |done| {
            let (gate, offer) = (gate.clone(), offer.clone());
            drop(runtime.spawn(async move { done(gate.acknowledge(&offer).await.map_err(Reason::sentence)) }));
        }))
    }

    /// Returns the first of some files that is a boot program in memory.
    fn program(&self, paths: &[RelativePath]) -> Option<FileContent> {
        let bytes = paths.iter().find_map(|path| self.programs.get(path.as_str()))?;
        Some(FileContent::Shared(bytes.clone()))
    }

    /// Describes the file that a plain name selects, and sends nothing. May wait for the disk.
    pub fn describe(&self, url: String, name: &str) -> ServedFile {
        let missing = |error: String| ServedFile { url: url.clone(), bytes: None, sha256: None, error: Some(error) };
        let asked = match RequestedFile::parse(name.as_bytes()) {
            Ok(asked) => asked,
            Err(error) => return missing(error.to_string()),
        };
        let paths = asked.candidates();
        let content = match self.program(&paths).map_or_else(|| self.first_file(&paths), FileAnswer::Content) {
            FileAnswer::Content(content) => content,
            _ => return missing(missing_file(&self.gate, &asked).unwrap_or_else(|| "no such file".to_owned())),
        };
        match iso::content_digest::sha256(content.size(), |part| content.part(part)) {
            Ok(sha256) => {
                ServedFile { url: url.clone(), bytes: Some(content.size()), sha256: Some(sha256), error: None }
            }
            Err(error) => missing(error.to_string()),
        }
    }

    /// Returns the first of some files that exists. May wait for the disk.
    fn first_file(&self, paths: &[RelativePath]) -> FileAnswer {
        let mut answers = paths.iter().map(|path| self.file(path));
        answers.find(|answer| !matches!(answer, FileAnswer::NotFound)).unwrap_or(FileAnswer::NotFound)
    }

    /// Returns a file within an image, or a site file. May wait for the disk.
    fn file(&self, path: &RelativePath) -> FileAnswer {
        if let Some(content) = self.within_image(path.as_str()) {
            return content;
        }
        let packaged = self.packaged.iter().filter(|(name, ..)| name == path.as_str());
        let packaged = packaged.filter_map(|(_, folder, file)| folder.file(file).ok());
        let found = packaged.chain(self.folders.iter().filter_map(|folder| folder.file(path).ok())).next();
        found.map_or(FileAnswer::NotFound, FileAnswer::Content)
    }

    /// Returns the file `iso/NAME/PATH` of an image, for loaders that fetch kernels over TFTP.
    fn within_image(&self, path: &str) -> Option<FileAnswer> {
        let (name, inner) = path.strip_prefix("iso/")?.split_once('/')?;
        let image = self.gate.store.load().image(&name.parse().ok()?).cloned()?;
        let found = self.gate.media.open(&image).ok().and_then(|opened| {
            let extents = ImageLibrary::find(&*opened.file, inner).ok().flatten()?;
            Some(FileInImage::new(opened.file.clone(), extents))
        });
        Some(found.map_or(FileAnswer::NotFound, |file| FileAnswer::Content(FileContent::Medium(Arc::new(file)))))
    }
}

fn facts(mac: Mac, stage: Stage, request: &TransferRequest) -> Facts {
    Facts { mac, firmware: None, stage, address: Some(request.peer.ip()), uuid: None }
}

/// Returns the name of a file for the timeline.
fn file_name(asked: &RequestedFile) -> String {
    match &asked.file {
        FileName::Autoexec => "autoexec.ipxe".to_owned(),
        FileName::Plain(path) => path.to_string().chars().take(MAX_FILE_NAME).collect(),
        FileName::Pxelinux(_) => "pxelinux.cfg".to_owned(),
        FileName::Grub(_) => "grub.cfg".to_owned(),
    }
}

/// Returns an error text if the file that was not found is one that a host needs for its boot. Loaders also ask for many
/// optional files.
fn missing_file(gate: &Gate, asked: &RequestedFile) -> Option<String> {
    let paths = asked.candidates();
    if let Some(path) = paths.first().filter(|path| path.as_str().starts_with("iso/")) {
        return Some(format!("{path}: no such file in the image"));
    }
    let is_needed =
        |path: &&RelativePath| gate.site().has_program(path.as_str()) || SECOND_STAGE.contains(&path.as_str());
    paths.iter().find(is_needed).map(|path| {
        format!("boot program {path} is missing in firmware_dir: install bootlatch-firmware, or run firmware/stage")
    })
}

/// Records an event of the TFTP server in the counters, the log and the timeline.
fn record_report(gate: &Gate, on_progress: &impl Fn(Mac), report: TransferReport) {
    let mac = |asked: &RequestedFile, peer: std::net::SocketAddr| {
        asked.mac().or_else(|| gate.owner_of(peer.ip()).ok().flatten())
    };
    match report {
        TransferReport::Requested { peer, asked } => {
            let step = Step::FileRequested { file: file_name(&asked).into(), port: peer.port() };
            mac(&asked, peer).inspect(|mac| gate.trace(*mac, step));
        }
        TransferReport::Silent { peer, asked, octets, size } => {
            trace_transfer(gate, mac(&asked, peer), &asked, TransferOutcome::Silent, (octets, size), None);
        }
        TransferReport::Resumed { peer, asked, octets, size } => {
            trace_transfer(gate, mac(&asked, peer), &asked, TransferOutcome::UnderWay, (octets, size), None);
        }
        TransferReport::Slow { peer, asked, octets, size } => {
            trace_transfer(gate, mac(&asked, peer), &asked, TransferOutcome::Slow, (octets, size), None);
        }
        TransferReport::Started { peer, asked, size } => {
            let mac = mac(&asked, peer);
            trace_transfer(gate, mac, &asked, TransferOutcome::UnderWay, (0, size), None);
            mac.inspect(|mac| on_progress(*mac));
            gate.store.record_event(mac, Event::TftpStarted { file: file_name(&asked) })
        }
        TransferReport::Ended {
            peer,
            asked,
            how: TransferEnd::Peer(Ending::Complete),
            octets,
            took,
            resent,
            granted,
            ..
        } => {
            gate.counters.count_answered(Protocol::Tftp);
            gate.counters.tftp_sent_bytes.fetch_add(octets, std::sync::atomic::Ordering::Relaxed);
            let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            let mac = mac(&asked, peer);
            trace_transfer(gate, mac, &asked, TransferOutcome::Complete, (octets, octets), Some(granted));
            gate.store.record_event(
                mac,
                Event::TftpCompleted { file: file_name(&asked), bytes: octets, milliseconds, resent },
            );
        }
        TransferReport::Ended { peer, asked, how, octets, size, message, granted, .. } => {
            if let Some(outcome) = outcome(&how, message) {
                trace_transfer(gate, mac(&asked, peer), &asked, outcome, (octets, size), Some(granted));
            }
            if let TransferEnd::Peer(Ending::Forged) = how {
                gate.counters.count_dropped(Protocol::Tftp, DropReason::ForgedAck, Some(peer.ip()));
            }
            tracing::debug!(%peer, file = file_name(&asked), reason = how.code(), octets, "TFTP transfer aborted");
        }
        TransferReport::Refused { peer, asked, why } => {
            if let (FileRefusal::NotFound, Some(asked)) = (why, &asked)
                && let Some(missing) = missing_file(gate, asked)
            {
                mac(asked, peer)
                    .inspect(|mac| gate.record_refusal(*mac, Protocol::Tftp, Reason::FileNotFound, missing));
            }
            let reason = match why {
                FileRefusal::Write => DropReason::WriteRefused,
                FileRefusal::Name(_) | FileRefusal::NotFound | FileRefusal::Netascii => DropReason::FileNotFound,
                FileRefusal::Decided(_) => return,
            };
            gate.counters.count_dropped(Protocol::Tftp, reason, Some(peer.ip()));
        }
        TransferReport::Dropped { peer, why } => record_drop(gate, peer, why),
    }
}

/// Records the end of a transfer for the diagnosis, or its present state; of `size` octets so many were acknowledged.
fn trace_transfer(
    gate: &Gate,
    mac: Option<Mac>,
    asked: &RequestedFile,
    outcome: TransferOutcome,
    (octets, size): (u64, u64),
    granted: Option<NegotiatedOptions>,
) {
    let pace = granted.map(|granted| TransferPace { block_size: granted.block_size, window: granted.window });
    if let Some(mac) = mac {
        let transfer = FileTransfer { file: file_name(asked).into(), outcome, octets, size, pace };
        gate.trace(mac, Step::Transfer(Box::new(transfer)));
    }
}

/// Counts a dropped datagram, or several that the kernel dropped.
fn record_drop(gate: &Gate, peer: Option<std::net::SocketAddr>, why: DropCause) {
    let reason = match why {
        DropCause::Overflow(count) => {
            gate.counters.socket_receive_drops.fetch_add(count.into(), std::sync::atomic::Ordering::Relaxed);
            return;
        }
        DropCause::Malformed(PacketError::Truncated | PacketError::TextCutOff) => DropReason::Truncated,
        DropCause::Malformed(PacketError::OptionCutOff) => DropReason::BadOption,
        DropCause::Malformed(PacketError::NoName) => DropReason::FileNotFound,
        DropCause::Malformed(
            PacketError::UnknownOpcode(_) | PacketError::RequestTooLong | PacketError::UnknownMode,
        ) => DropReason::BadHeader,
        DropCause::Stray => DropReason::NoTransfer,
        DropCause::Multicast => DropReason::OtherServer,
        DropCause::SourceLimit => DropReason::SourceLimit,
        DropCause::NoRoute(_) | DropCause::NotSent(_) => DropReason::SendFailed,
        DropCause::Overload | DropCause::NoAnswer | DropCause::Stopping => DropReason::Overload,
    };
    gate.counters.count_dropped(Protocol::Tftp, reason, peer.map(|peer| peer.ip()));
}

/// Returns the outcome of a transfer for the diagnosis; `None` for an end that is no fault of anybody.
fn outcome(how: &TransferEnd, message: Option<Box<str>>) -> Option<TransferOutcome> {
    match how {
        TransferEnd::Peer(Ending::Complete) => Some(TransferOutcome::Complete),
        TransferEnd::Peer(Ending::Probed) => Some(TransferOutcome::Probed),
        TransferEnd::Peer(Ending::Aborted(code)) => {
            Some(TransferOutcome::Aborted { code: *code, text: message.unwrap_or_default() })
        }
        TransferEnd::Peer(Ending::Silent) => Some(TransferOutcome::Silent),
        TransferEnd::Unreadable(_) | TransferEnd::Unconfirmed(_) => Some(TransferOutcome::Failed),
        TransferEnd::Peer(Ending::Forged) | TransferEnd::Replaced | TransferEnd::Displaced | TransferEnd::Stopped => {
            None
        }
    }
}

#[cfg(test)]
#[path = "../tests/boot_files.rs"]
mod tests;
