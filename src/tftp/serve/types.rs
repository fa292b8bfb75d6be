//! What the server and the rest of the appliance say to each other.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::tftp::packet::Malformed;
use crate::tftp::path::{Asked, BadPath};
use crate::tftp::serve::content::Content;
use crate::tftp::transfer::Ending;

/// Says what of the server the site may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Transfers at once; a request beyond them is dropped, and its client asks again.
    pub transfers: usize,
    /// How long a silent peer is waited for.
    pub patience: Duration,
    /// How long transfers under way may go on after the server was told to stop.
    pub drain: Duration,
    /// The largest block size in octets in place of what the MTU allows.
    pub block_size: Option<u16>,
    /// The largest file that is converted to netascii, in octets: the copy is held in memory.
    pub netascii: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            transfers: 4096, // a hall of racks after a power cut
            patience: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            block_size: None,
            netascii: 1 << 20,
        }
    }
}

/// Is a read request that waits for its answer.
#[derive(Debug, Clone)]
pub struct Request {
    pub peer: SocketAddr,
    /// The address of ours that the peer sent to.
    pub local: IpAddr,
    /// Which of the listeners heard it, by its place in the list given to [`serve`].
    pub listener: usize,
    pub asked: Arc<Asked>,
}

/// Says what a request gets.
#[derive(Debug, Clone)]
pub enum Answer {
    Content(Content),
    /// Error 1: the client may try another name.
    NotFound,
    /// Error 2, with these words.
    Refused(&'static str),
    /// Nothing at all.
    Silence,
}

/// Is what the server tells of its work.
#[derive(Debug)]
pub enum Report {
    /// The first blocks of a file leave: the peer has accepted the options, or asked for none.
    Started { peer: SocketAddr, asked: Arc<Asked>, size: u64 },
    /// A transfer is over. `octets` is what the peer acknowledged, `resent` counts packets.
    Ended { peer: SocketAddr, asked: Arc<Asked>, how: Ended, octets: u64, took: Duration, resent: u64 },
    /// A client was told no. What it asked for is known, unless its name is none.
    Refused { peer: SocketAddr, asked: Option<Arc<Asked>>, why: Refusal },
    /// A datagram got no answer, or several that the kernel had no room for.
    Dropped { peer: Option<SocketAddr>, why: Dropped },
}

/// Says how a transfer came to its end.
#[derive(Debug)]
pub enum Ended {
    /// By the protocol: complete, probed for its size only, aborted by the peer, or given up in silence.
    Peer(Ending),
    /// The peer asked for something else from the same port.
    Replaced,
    /// The file could not be read.
    Unreadable(io::Error),
    /// The server stopped.
    Stopped,
}

/// Why a client was told no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    #[error("writing is not offered")]
    Write,
    #[error(transparent)]
    Name(#[from] BadPath),
    #[error("there is no such file")]
    NotFound,
    #[error("too large to be sent as netascii")]
    Netascii,
    #[error("{0}")]
    Decided(&'static str),
}

/// Why a datagram got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Dropped {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("it belongs to no transfer")]
    Stray,
    #[error("sent to a broadcast or multicast address")]
    ToMany,
    #[error("as many transfers as the site allows are under way")]
    Overload,
    #[error("whoever decides kept silent")]
    Silence,
    #[error("the server is stopping")]
    Stopping,
    #[error("the kernel had no room for {0} datagrams")]
    Overflow(u32),
    #[error("finding a way to the peer")]
    NoWay(#[source] io::Error),
    #[error("sending to the peer")]
    NotSent(#[source] io::Error),
}
