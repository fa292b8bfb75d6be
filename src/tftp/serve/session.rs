//! One client's session: its request, its transfer and the content.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

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
    since: Instant,
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

    /// Returns the report of the end, if the transfer was started.
    pub fn end(self, how: TransferEnd, now: Instant) -> Option<TransferReport> {
        let SessionState::Sending { transfer, content } = self.stage else { return None };
        let complete = matches!(how, TransferEnd::Peer(Ending::Complete));
        Some(TransferReport::Ended {
            peer: self.path.peer,
            asked: self.request.asked,
            how,
            octets: if complete { content.size() } else { transfer.acknowledged() },
            took: now.saturating_duration_since(self.since),
            resent: transfer.resent_blocks(),
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

    /// Forgets octets that were read ahead of blocks that were sent since.
    pub fn forget_sent(&mut self, blocks: Blocks) {
        let SessionState::Sending { transfer, .. } = &self.stage else { return };
        if self.ahead.is_before(transfer.span_of(blocks).start) {
            self.ahead = ReadAhead::default();
        }
    }

    pub fn post_option_ack(&self, port: &UdpPort, batch: &mut SendBatch) {
        let SessionState::Sending { transfer, .. } = &self.stage else { return };
        let fill = |out: &mut Vec<u8>| {
            transfer.option_ack(out);
            Ok::<(), Infallible>(())
        };
        let Ok(()) = batch.post(self.path.name, port.source(self.path.local), fill);
    }

    /// Sends a window with as few system calls as possible. Returns the blocks that remain to be posted: a single
    /// block, or the whole window if the path does not support segmentation.
    pub fn send_window(&mut self, port: &UdpPort, blocks: Blocks) -> Result<Option<Blocks>, SendFailure> {
        if blocks.count() == 1 {
            return Ok(Some(blocks));
        }
        if !self.segments {
            self.load(blocks).map_err(SendFailure::Content)?;
            return Ok(Some(blocks));
        }
        match self.send_segments(port, blocks) {
            // The path does not support segmentation (udp(7)): the window is sent again, block by block.
            Err(SendFailure::Port(error)) if matches!(error.raw_os_error(), Some(EINVAL | EIO | EMSGSIZE)) => {
                self.segments = false;
                self.load(blocks).map_err(SendFailure::Content)?;
                Ok(Some(blocks))
            }
            other => other.map(|()| None),
        }
    }

    /// Keeps the octets of blocks in memory, so that all of them are posted or none.
    fn load(&mut self, blocks: Blocks) -> io::Result<()> {
        let SessionState::Sending { transfer, content } = &self.stage else { return Ok(()) };
        let span = transfer.span_of(blocks);
        if self.ahead.part(&span).is_none() {
            self.ahead = ReadAhead::new(span.start, content.part_now(span)?);
        }
        Ok(())
    }

    pub fn post_block(&self, port: &UdpPort, block: u64, batch: &mut SendBatch) -> io::Result<()> {
        let SessionState::Sending { transfer, content } = &self.stage else { return Ok(()) };
        batch.post(self.path.name, port.source(self.path.local), |out| {
            out.extend(data_header(on_wire(block)));
            let span = transfer.span(block);
            match self.ahead.part(&span) {
                Some(octets) => out.extend_from_slice(&octets),
                None => content.read_now(span, out)?,
            }
            Ok(())
        })
    }

    fn send_segments(&self, port: &UdpPort, blocks: Blocks) -> Result<(), SendFailure> {
        let SessionState::Sending { transfer, content } = &self.stage else { return Ok(()) };
        let read = |block| {
            let span = transfer.span(block);
            let octets = self.ahead.part(&span).map_or_else(|| content.part_now(span), Ok)?;
            Ok((data_header(on_wire(block)), octets))
        };
        let window = blocks.iter().map(read).collect::<io::Result<Vec<_>>>().map_err(SendFailure::Content)?;
        let segment = transfer.granted().block_size.saturating_add(DATA_HEADER as u16);
        let at_once = (MAX_SEND_BYTES / usize::from(segment)).clamp(1, MAX_SEGMENTS);
        for part in window.chunks(at_once) {
            let slices = part.iter().flat_map(|(head, body)| [IoSlice::new(head), IoSlice::new(body)]);
            let octets: Vec<IoSlice<'_>> = slices.collect();
            let several = (part.len() > 1).then_some(segment);
            port.send(&octets, several, self.path.local, self.path.peer).map_err(SendFailure::Port)?;
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
