//! One client's session: what it asked, what it is sent, and the line that it is sent over.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::content::Content;
use super::listen::{Arrival, Listener, path_mtu, send_connected};
use super::table::Id;
use super::{Ended, Refusal, Report, Settings};
use crate::tftp::netascii;
use crate::tftp::options::{Asked as Options, Bounds, Granted};
use crate::tftp::packet::{DATA_HEADER, Mode, data_header};
use crate::tftp::path::Asked;
use crate::tftp::transfer::{Blocks, Step, Transfer, on_wire};

/// How many datagrams one system call sends at most (the kernel's UDP_MAX_SEGMENTS was 64 up to 6.8).
const SEGMENTS: u64 = 64;
/// How many octets one system call sends at most.
const SENT_AT_ONCE: u64 = 65_000;

/// Is all that is known of a client while it is served.
#[derive(Debug)]
pub struct Session {
    pub peer: SocketAddr,
    pub listener: usize,
    pub line: Line,
    pub mode: Mode,
    pub stage: Stage,
    local: IpAddr,
    asked: Arc<Asked>,
    options: Options,
    since: Instant,
    /// Whether the kernel cuts a window into datagrams for us; it cannot for blocks beyond the MTU.
    segments: bool,
    started: bool,
}

/// Says how far a session has come.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all sessions are sending: a box would cost each of them")]
pub enum Stage {
    /// The answer is not known yet.
    Asking,
    Sending {
        transfer: Transfer,
        content: Content,
    },
}

/// Is where a session's packets come from and go to.
#[derive(Debug)]
pub enum Line {
    /// A port of its own.
    Own(UdpSocket),
    /// The listening port.
    Shared,
}

/// Why a step's packets did not leave.
#[derive(Debug)]
pub enum Unsent {
    Content(io::Error),
    Line(io::Error),
}

impl Line {
    pub fn open(listener: &Listener, arrival: &Arrival, single_port: bool) -> io::Result<Self> {
        if single_port {
            return Ok(Line::Shared);
        }
        listener.connect(arrival.local, arrival.peer).map(Line::Own)
    }

    pub fn watch(&self, epoll: &Epoll, id: Id) -> io::Result<()> {
        match self {
            Line::Own(socket) => Ok(epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, id.to_word()))?),
            Line::Shared => Ok(()),
        }
    }

    pub fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Own(socket) => socket.recv(into),
            Line::Shared => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Session {
    pub fn new(
        listener: usize,
        arrival: &Arrival,
        line: Line,
        asked: Arc<Asked>,
        options: Options,
        mode: Mode,
        now: Instant,
    ) -> Self {
        Session {
            peer: arrival.peer,
            listener,
            line,
            mode,
            stage: Stage::Asking,
            local: arrival.local,
            asked,
            options,
            since: now,
            segments: true,
            started: false,
        }
    }

    /// Says whether a request asks for what this session is about.
    pub fn is_for(&self, asked: &Asked, options: Options, mode: Mode) -> bool {
        (&*self.asked, self.options, self.mode) == (asked, options, mode)
    }

    /// Reads back where the request came from.
    pub fn arrival(&self) -> Arrival {
        Arrival { peer: self.peer, local: self.local, to_many: false, octets: 0, overflowed: 0 }
    }

    pub fn begin(
        &mut self,
        content: Content,
        listeners: &[Listener],
        settings: &Settings,
        now: Instant,
    ) -> io::Result<Step> {
        let mtu = match &self.line {
            Line::Own(socket) => path_mtu(socket)?,
            Line::Shared => match listeners.get(self.listener) {
                Some(listener) => path_mtu(&listener.connect(self.local, self.peer)?)?,
                None => return Err(io::ErrorKind::NotConnected.into()),
            },
        };
        let mut bounds = Bounds::of_mtu(mtu, self.peer.is_ipv6());
        self.segments = settings.block_size.is_none_or(|size| size <= bounds.block_size);
        bounds.block_size = settings.block_size.unwrap_or(bounds.block_size);
        let granted = Granted::new(self.options, bounds);
        let (transfer, step) = Transfer::new(granted, content.size(), settings.patience, now);
        self.stage = Stage::Sending { transfer, content };
        Ok(step)
    }

    /// Reports the start, the first time that it is called.
    pub fn start(&mut self) -> Option<Report> {
        let Stage::Sending { content, .. } = &self.stage else { return None };
        if std::mem::replace(&mut self.started, true) {
            return None;
        }
        Some(Report::Started { peer: self.peer, asked: self.asked.clone(), size: content.size() })
    }

    pub fn ended(self, how: Ended, now: Instant) -> Option<Report> {
        let Stage::Sending { transfer, content } = self.stage else { return None };
        let complete = matches!(how, Ended::Peer(crate::tftp::transfer::Ending::Complete));
        Some(Report::Ended {
            peer: self.peer,
            asked: self.asked,
            how,
            octets: if complete { content.size() } else { transfer.acknowledged() },
            took: now.saturating_duration_since(self.since),
            resent: transfer.resent_blocks(),
        })
    }

    pub fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Asking => None,
            Stage::Sending { transfer, .. } => Some(transfer.deadline()),
        }
    }

    pub fn send_option_ack(&self, listeners: &[Listener], out: &mut Vec<u8>) -> Result<(), Unsent> {
        let Stage::Sending { transfer, .. } = &self.stage else { return Ok(()) };
        out.clear();
        transfer.option_ack(out);
        self.send(listeners, &[IoSlice::new(out)], None).map_err(Unsent::Line)
    }

    /// Sends blocks, as many as possible with each system call.
    pub fn send_blocks(&mut self, listeners: &[Listener], blocks: Blocks, out: &mut Vec<u8>) -> Result<(), Unsent> {
        let Stage::Sending { transfer, content } = &self.stage else { return Ok(()) };
        let size = transfer.granted().block_size;
        let segment = size.saturating_add(DATA_HEADER as u16);
        let at_once = (SENT_AT_ONCE / u64::from(segment)).clamp(1, SEGMENTS);
        out.clear();
        let mut held = 0;
        for (block, left) in blocks.iter().zip((0..blocks.count()).rev()) {
            out.extend(data_header(on_wire(block)));
            content.read(transfer.span(block), out).map_err(Unsent::Content)?;
            held += 1;
            if left == 0 || held == at_once || !self.segments {
                let several = (held > 1).then_some(segment);
                self.send(listeners, &[IoSlice::new(out)], several).map_err(Unsent::Line)?;
                out.clear();
                held = 0;
            }
        }
        Ok(())
    }

    pub fn send(&self, listeners: &[Listener], octets: &[IoSlice<'_>], segment: Option<u16>) -> io::Result<()> {
        match &self.line {
            Line::Own(socket) => send_connected(socket, octets, segment),
            Line::Shared => match listeners.get(self.listener) {
                Some(listener) => listener.send(octets, segment, self.local, self.peer),
                None => Ok(()),
            },
        }
    }
}

/// Converts a file for a netascii transfer.
pub fn netascii(content: &Content, largest: u64) -> Result<Content, Refusal> {
    if content.size() > largest {
        return Err(Refusal::Netascii);
    }
    let mut text = Vec::new();
    content.read(0..content.size(), &mut text).map_err(|_| Refusal::NotFound)?;
    Ok(Content::Shared(netascii::encode(&text).into()))
}

/// What a session holds in memory beside its socket and the file that it shares with others.
const _: () = assert!(size_of::<Session>() < 1024);
