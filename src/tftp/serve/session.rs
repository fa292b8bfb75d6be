//! One client's session: its request, its transfer and the content.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc::{EINVAL, EIO, EMSGSIZE};

use super::content::{FileContent, ReadAhead};
use super::port::UdpPort;
use crate::tftp::netascii;
use crate::tftp::options::{NegotiatedOptions, OptionLimits, RequestedOptions};
use crate::tftp::packet::{DATA_HEADER, TransferMode, data_header};
use crate::tftp::path::RequestedFile;
use crate::tftp::serve::mmsg::{SendBatch, SocketName};
use crate::tftp::serve::types::{FileRefusal, FirstAck, TftpSettings, TransferEnd, TransferReport};
use crate::tftp::transfer::{Blocks, Ending, Transfer, TransferStep, on_wire};

/// Maximum number of datagrams of one system call (the kernel's UDP_MAX_SEGMENTS was 64 up to 6.8).
const MAX_SEGMENTS: usize = 64;
/// Block size, in octets, up to which a transfer in lockstep may be slow for its blocks alone.
const SMALL_BLOCK: u16 = 512;
/// Time after which a transfer in small blocks is slow.
const SLOW_TRANSFER: Duration = Duration::from_secs(20);
/// Maximum number of octets of one system call.
const MAX_SEND_BYTES: usize = 65_000;

/// The state of one client while it is served.
#[derive(Debug)]
pub struct TransferSession {
    pub path: PeerPath,
    pub request: SessionRequest,
    pub stage: SessionState,
    /// What must succeed once the client has acknowledged for the first time; `None` if nothing must, or it has begun.
    pub first_ack: Option<FirstAck>,
    /// The transfer's next step while `first_ack` runs, and the time at which it is given up.
    pub held: Option<(TransferStep, Instant)>,
    /// The step that waits for octets that another thread reads. Nothing of it was sent.
    pub blocked: Option<TransferStep>,
    /// Whether another thread reads octets for the session.
    pub is_reading: bool,
    /// Whether the session waits for its turn to read.
    pub is_queued: bool,
    /// The octets that another thread read last.
    pub ahead: ReadAhead,
    /// The message of the ERROR by which the client ends the transfer.
    pub client_error: Option<Box<str>>,
    since: Instant,
    /// Whether the client's silence was reported.
    is_silence_reported: bool,
    /// Whether the transfer was reported as slow.
    is_slowness_reported: bool,
    /// Whether the kernel segments a window into datagrams. It cannot for blocks beyond the MTU.
    segments: bool,
    started: bool,
}

/// The network path of a session's packets.
#[derive(Debug, Clone, Copy)]
pub struct PeerPath {
    pub peer: SocketAddr,
    pub name: SocketName,
    /// The local address that the peer sent to.
    pub local: IpAddr,
    /// Index of the listener.
    pub listener: usize,
    pub port: usize,
    /// The MTU of the path to the peer, in octets.
    pub mtu: u32,
    /// Whether no other transfer has the port, and nobody can predict its number. Only then a window is granted: an
    /// acknowledgement shows that its sender receives our packets.
    pub has_own_port: bool,
}

/// The request of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    pub asked: Arc<RequestedFile>,
    pub options: RequestedOptions,
    pub mode: TransferMode,
}

/// The state of a session.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all sessions are sending: a box would cost each of them")]
pub enum SessionState {
    /// Waiting for the answer of the content callback.
    Waiting,
    Sending {
        transfer: Transfer,
        content: FileContent,
    },
}

/// The reason the packets of a step were not sent.
#[derive(Debug)]
pub enum SendFailure {
    Content(io::Error),
    Port(io::Error),
}

impl TransferSession {
    pub fn new(path: PeerPath, request: SessionRequest, now: Instant) -> Self {
        TransferSession {
            path,
            request,
            stage: SessionState::Waiting,
            first_ack: None,
            held: None,
            blocked: None,
            is_reading: false,
            is_queued: false,
            ahead: ReadAhead::default(),
            client_error: None,
            is_silence_reported: false,
            is_slowness_reported: false,
            since: now,
            segments: true,
            started: false,
        }
    }

    /// Starts the transfer, and returns its first step.
    pub fn begin(&mut self, content: FileContent, settings: &TftpSettings, now: Instant) -> TransferStep {
        let mut bounds = OptionLimits::of_mtu(self.path.mtu, self.path.peer.is_ipv6());
        self.segments = settings.block_size.is_none_or(|size| size <= bounds.block_size);
        bounds.block_size = settings.block_size.unwrap_or(bounds.block_size);
        bounds.window = if self.path.has_own_port { bounds.window } else { 1 };
        let granted = NegotiatedOptions::new(self.request.options, bounds);
        let (transfer, step) = Transfer::new(granted, content.size(), settings.patience, now);
        self.stage = SessionState::Sending { transfer, content };
        step
    }

    /// Keeps the step that follows the client's first acknowledgement, until `until`. Returns what must succeed before it
    /// is taken; `None` if the step can be taken at once.
    pub fn hold(&mut self, step: TransferStep, until: Instant) -> Option<FirstAck> {
        let first_ack = self.first_ack.take_if(|_| !matches!(step, TransferStep::Wait))?;
        self.held = Some((step, until));
        Some(first_ack)
    }

    /// Returns the report of the start, at the first call.
    pub fn start(&mut self) -> Option<TransferReport> {
        let SessionState::Sending { content, .. } = &self.stage else { return None };
        if std::mem::replace(&mut self.started, true) {
            return None;
        }
        Some(TransferReport::Started { peer: self.path.peer, asked: self.request.asked.clone(), size: content.size() })
    }

    /// Returns the report of a client that has fallen silent, once.
    pub fn silence(&mut self, now: Instant) -> Option<TransferReport> {
        let SessionState::Sending { transfer, content } = &self.stage else { return None };
        if self.is_silence_reported || !transfer.is_silent(now) {
            return None;
        }
        self.is_silence_reported = true;
        let (octets, size) = (transfer.acknowledged(), content.size());
        Some(TransferReport::Silent { peer: self.path.peer, asked: self.request.asked.clone(), octets, size })
    }

    /// Returns the report of a client that goes on after it was reported as silent.
    pub fn resumption(&mut self, now: Instant) -> Option<TransferReport> {
        let SessionState::Sending { transfer, content } = &self.stage else { return None };
        if !self.is_silence_reported || transfer.is_silent(now) {
            return None;
        }
        self.is_silence_reported = false;
        let (octets, size) = (transfer.acknowledged(), content.size());
        Some(TransferReport::Resumed { peer: self.path.peer, asked: self.request.asked.clone(), octets, size })
    }

    /// Returns the report of a transfer that takes long because of its small blocks, once.
    pub fn slowness(&mut self, now: Instant) -> Option<TransferReport> {
        let SessionState::Sending { transfer, content } = &self.stage else { return None };
        let granted = transfer.granted();
        let is_small = granted.window == 1 && granted.block_size <= SMALL_BLOCK;
        if !is_small || self.is_slowness_reported || now < self.since + SLOW_TRANSFER {
            return None;
        }
        self.is_slowness_reported = true;
        let (octets, size) = (transfer.acknowledged(), content.size());
        Some(TransferReport::Slow { peer: self.path.peer, asked: self.request.asked.clone(), octets, size })
    }

    /// Returns the report of the end, if the transfer was started.
    pub fn end(self, how: TransferEnd, now: Instant) -> Option<TransferReport> {
        let SessionState::Sending { transfer, content } = self.stage else { return None };
        let complete = matches!(how, TransferEnd::Peer(Ending::Complete));
        Some(TransferReport::Ended {
            peer: self.path.peer,
            asked: self.request.asked,
            how,
            octets: if complete { content.size() } else { transfer.acknowledged() },
            size: content.size(),
            message: self.client_error,
            took: now.saturating_duration_since(self.since),
            resent: transfer.resent_blocks(),
            granted: *transfer.granted(),
        })
    }

    /// Returns whether the peer has acknowledged a packet.
    pub fn is_proven(&self) -> bool {
        match &self.stage {
            SessionState::Waiting => false,
            SessionState::Sending { transfer, .. } => transfer.is_proven(),
        }
    }

    /// Returns the time at which the session must be looked at, unless a packet arrives before. Nothing is due while it
    /// waits for a disk, except that it is given up.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            SessionState::Waiting => None,
            SessionState::Sending { transfer, .. } if self.blocked.is_some() => Some(transfer.give_up_at()),
            SessionState::Sending { transfer, .. } => Some(transfer.deadline()),
        }
    }

    /// Reads the octets of blocks of a file into memory in one read, and more as far as `share` allows, so that all of the
    /// blocks are sent or none. Returns whether the octets exceed the share, so that they must not be kept.
    ///
    /// # Errors
    /// As [`FileContent::part_now`].
    pub fn load(&mut self, blocks: Blocks, share: u64) -> io::Result<bool> {
        let SessionState::Sending { transfer, content } = &self.stage else { return Ok(false) };
        let span = transfer.span_of(blocks);
        if matches!(content, FileContent::Shared(_)) || self.ahead.part(&span).is_some() {
            return Ok(false);
        }
        let is_large = span.end - span.start > share;
        self.ahead.refill(content, span, share)?;
        Ok(is_large)
    }

    /// Forgets the octets that are loaded, once the blocks are sent or posted.
    pub fn forget_loaded(&mut self) {
        self.ahead = ReadAhead::default();
    }

    pub fn post_option_ack(&self, port: &UdpPort, batch: &mut SendBatch) {
        let SessionState::Sending { transfer, .. } = &self.stage else { return };
        let fill = |out: &mut Vec<u8>| {
            transfer.option_ack(out);
            Ok::<(), Infallible>(())
        };
        let Ok(()) = batch.post(self.path.name, port.source(self.path.local), fill);
    }

    /// Sends a window, whose octets are loaded, with as few system calls as possible. Returns the blocks that remain to
    /// be posted: a single block, or the whole window if the path does not support segmentation.
    pub fn send_window(&mut self, port: &UdpPort, blocks: Blocks) -> Result<Option<Blocks>, SendFailure> {
        if blocks.count() == 1 || !self.segments {
            return Ok(Some(blocks));
        }
        match self.send_segments(port, blocks) {
            // The path does not support segmentation (udp(7)): the window is sent again, block by block.
            Err(SendFailure::Port(error)) if matches!(error.raw_os_error(), Some(EINVAL | EIO | EMSGSIZE)) => {
                self.segments = false;
                Ok(Some(blocks))
            }
            other => other.map(|()| None),
        }
    }

    /// Returns the octets of a range that is loaded.
    fn loaded<'a>(&'a self, content: &'a FileContent, span: &Range<u64>) -> io::Result<&'a [u8]> {
        content.shared(span).or_else(|| self.ahead.part(span)).ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    pub fn post_block(&self, port: &UdpPort, block: u64, batch: &mut SendBatch) -> io::Result<()> {
        let SessionState::Sending { transfer, content } = &self.stage else { return Ok(()) };
        let octets = self.loaded(content, &transfer.span(block))?;
        let Ok(()) = batch.post(self.path.name, port.source(self.path.local), |out| {
            out.extend(data_header(on_wire(block)));
            out.extend_from_slice(octets);
            Ok::<(), Infallible>(())
        });
        Ok(())
    }

    fn send_segments(&self, port: &UdpPort, blocks: Blocks) -> Result<(), SendFailure> {
        let SessionState::Sending { transfer, content } = &self.stage else { return Ok(()) };
        let octets = self.loaded(content, &transfer.span_of(blocks)).map_err(SendFailure::Content)?;
        let block_size = usize::from(transfer.granted().block_size);
        let segment = transfer.granted().block_size.saturating_add(DATA_HEADER as u16);
        let headers: Vec<[u8; DATA_HEADER]> = blocks.iter().map(|block| data_header(on_wire(block))).collect();
        // The file's last block may be empty.
        let bodies = octets.chunks(block_size).chain(std::iter::repeat(&[][..]));
        let slices = headers.iter().zip(bodies).flat_map(|(head, body)| [IoSlice::new(head), IoSlice::new(body)]);
        let slices: Vec<IoSlice<'_>> = slices.collect();
        let at_once = (MAX_SEND_BYTES / usize::from(segment)).clamp(1, MAX_SEGMENTS);
        for part in slices.chunks(2 * at_once) {
            let several = (part.len() > 2).then_some(segment);
            port.send(part, several, self.path.local, self.path.peer).map_err(SendFailure::Port)?;
        }
        Ok(())
    }
}

/// Encodes a file for a netascii transfer; `None` if the file must be read from a disk first.
pub fn netascii(content: &FileContent, largest: u64) -> Option<Result<FileContent, FileRefusal>> {
    if content.size() > largest {
        return Some(Err(FileRefusal::Netascii));
    }
    let text = match content.part_now(0..content.size()) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
        text => text.map_err(|_| FileRefusal::NotFound),
    };
    Some(text.map(|text| FileContent::Shared(netascii::encode(&text).into())))
}

/// The memory of a session, without the shared content.
const _: () = assert!(size_of::<TransferSession>() < 1024);
