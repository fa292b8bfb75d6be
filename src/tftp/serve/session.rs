//! One client's session: what it asked, and what it is sent.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use nix::libc::{EINVAL, EIO, EMSGSIZE};

use super::content::Content;
use super::port::Port;
use crate::tftp::netascii;
use crate::tftp::options::{Asked as Options, Bounds, Granted};
use crate::tftp::packet::{DATA_HEADER, Mode, data_header};
use crate::tftp::path::Asked;
use crate::tftp::serve::mmsg::{Name, Outbox};
use crate::tftp::serve::types::{Ended, Refusal, Report, Settings};
use crate::tftp::transfer::{Blocks, Ending, Step, Transfer, on_wire};

/// How many datagrams one system call sends at most (the kernel's UDP_MAX_SEGMENTS was 64 up to 6.8).
const SEGMENTS: usize = 64;
/// How many octets one system call sends at most.
const SENT_AT_ONCE: usize = 65_000;

/// Is all that is known of a client while it is served.
#[derive(Debug)]
pub struct Session {
    pub way: Way,
    pub request: Asking,
    pub stage: Stage,
    since: Instant,
    /// Whether the kernel cuts a window into datagrams for us; it cannot for blocks beyond the MTU.
    segments: bool,
    started: bool,
}

/// Says where a session's packets come from and go to.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub peer: SocketAddr,
    pub name: Name,
    /// The address of ours that the peer sent to.
    pub local: IpAddr,
    /// Which of the server's listeners and ports.
    pub listener: usize,
    pub port: usize,
    /// The MTU of the way to the peer, in octets.
    pub mtu: u32,
}

/// Is what a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    pub asked: Arc<Asked>,
    pub options: Options,
    pub mode: Mode,
}

/// Says how far a session has come.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all sessions are sending: a box would cost each of them")]
pub enum Stage {
    /// The answer is not known yet.
    Waiting,
    Sending {
        transfer: Transfer,
        content: Content,
    },
}

/// Why a step's packets did not leave.
#[derive(Debug)]
pub enum Unsent {
    Content(io::Error),
    Port(io::Error),
}

impl Session {
    pub fn new(way: Way, request: Asking, now: Instant) -> Self {
        Session { way, request, stage: Stage::Waiting, since: now, segments: true, started: false }
    }

    /// Begins the transfer.
    pub fn begin(&mut self, content: Content, settings: &Settings, now: Instant) -> Step {
        let mut bounds = Bounds::of_mtu(self.way.mtu, self.way.peer.is_ipv6());
        self.segments = settings.block_size.is_none_or(|size| size <= bounds.block_size);
        bounds.block_size = settings.block_size.unwrap_or(bounds.block_size);
        let granted = Granted::new(self.request.options, bounds);
        let (transfer, step) = Transfer::new(granted, content.size(), settings.patience, now);
        self.stage = Stage::Sending { transfer, content };
        step
    }

    /// Reports the start, the first time that it is called.
    pub fn start(&mut self) -> Option<Report> {
        let Stage::Sending { content, .. } = &self.stage else { return None };
        if std::mem::replace(&mut self.started, true) {
            return None;
        }
        Some(Report::Started { peer: self.way.peer, asked: self.request.asked.clone(), size: content.size() })
    }

    /// Reports the end, if there was a beginning.
    pub fn end(self, how: Ended, now: Instant) -> Option<Report> {
        let Stage::Sending { transfer, content } = self.stage else { return None };
        let complete = matches!(how, Ended::Peer(Ending::Complete));
        Some(Report::Ended {
            peer: self.way.peer,
            asked: self.request.asked,
            how,
            octets: if complete { content.size() } else { transfer.acknowledged() },
            took: now.saturating_duration_since(self.since),
            resent: transfer.resent_blocks(),
        })
    }

    pub fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Waiting => None,
            Stage::Sending { transfer, .. } => Some(transfer.deadline()),
        }
    }

    pub fn post_option_ack(&self, port: &Port, outbox: &mut Outbox) {
        let Stage::Sending { transfer, .. } = &self.stage else { return };
        let fill = |out: &mut Vec<u8>| {
            transfer.option_ack(out);
            Ok::<(), Infallible>(())
        };
        let Ok(()) = outbox.post(self.way.name, port.source(self.way.local), fill);
    }

    /// Sends a window at once, with as few system calls as possible. What is left to be posted is returned:
    /// a single block, or the whole window where the way cannot take it at once.
    pub fn send_window(&mut self, port: &Port, blocks: Blocks) -> Result<Option<Blocks>, Unsent> {
        if !self.segments || blocks.count() == 1 {
            return Ok(Some(blocks));
        }
        match self.send_segments(port, blocks) {
            // The way there cannot cut for us (udp(7)): the window is sent again, block by block.
            Err(Unsent::Port(error)) if matches!(error.raw_os_error(), Some(EINVAL | EIO | EMSGSIZE)) => {
                self.segments = false;
                Ok(Some(blocks))
            }
            other => other.map(|()| None),
        }
    }

    pub fn post_block(&self, port: &Port, block: u64, outbox: &mut Outbox) -> io::Result<()> {
        let Stage::Sending { transfer, content } = &self.stage else { return Ok(()) };
        outbox.post(self.way.name, port.source(self.way.local), |out| {
            out.extend(data_header(on_wire(block)));
            content.read(transfer.span(block), out)
        })
    }

    fn send_segments(&self, port: &Port, blocks: Blocks) -> Result<(), Unsent> {
        let Stage::Sending { transfer, content } = &self.stage else { return Ok(()) };
        let read = |block| Ok((data_header(on_wire(block)), content.part(transfer.span(block))?));
        let window = blocks.iter().map(read).collect::<io::Result<Vec<_>>>().map_err(Unsent::Content)?;
        let segment = transfer.granted().block_size.saturating_add(DATA_HEADER as u16);
        let at_once = (SENT_AT_ONCE / usize::from(segment)).clamp(1, SEGMENTS);
        for part in window.chunks(at_once) {
            let slices = part.iter().flat_map(|(head, body)| [IoSlice::new(head), IoSlice::new(body)]);
            let octets: Vec<IoSlice<'_>> = slices.collect();
            let several = (part.len() > 1).then_some(segment);
            port.send(&octets, several, self.way.local, self.way.peer).map_err(Unsent::Port)?;
        }
        Ok(())
    }
}

/// Converts a file for a netascii transfer.
pub fn netascii(content: &Content, largest: u64) -> Result<Content, Refusal> {
    if content.size() > largest {
        return Err(Refusal::Netascii);
    }
    let text = content.part(0..content.size()).map_err(|_| Refusal::NotFound)?;
    Ok(Content::Shared(netascii::encode(&text).into()))
}

/// What a session holds in memory beside the file that it shares with others.
const _: () = assert!(size_of::<Session>() < 1024);
