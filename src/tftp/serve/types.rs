//! The values that the server exchanges with its callbacks.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::tftp::options::NegotiatedOptions;
use crate::tftp::packet::PacketError;
use crate::tftp::path::{BadPath, RequestedFile};
use crate::tftp::serve::content::FileContent;
use crate::tftp::transfer::Ending;

/// The settings of the TFTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TftpSettings {
    /// Maximum number of concurrent transfers. A request beyond it takes the place of the oldest transfer that was never
    /// acknowledged; if there is none it is dropped, and its client asks again.
    pub transfers: usize,
    /// Maximum number of concurrent transfers of one source.
    pub transfers_per_source: usize,
    /// Number of transfers that only known sources get.
    pub reserve: usize,
    /// Time after which a silent peer is given up.
    pub patience: Duration,
    /// Time for open transfers to finish after a stop.
    pub drain: Duration,
    /// The largest block size in octets instead of the one that the MTU allows.
    pub block_size: Option<u16>,
    /// Maximum size of a file that is converted to netascii, in octets. The copy is held in memory.
    pub netascii: u64,
}

impl Default for TftpSettings {
    fn default() -> Self {
        TftpSettings {
            transfers: 4096, // a hall of racks after a power cut
            transfers_per_source: 64,
            reserve: 1024,
            patience: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            block_size: None,
            netascii: 1 << 20,
        }
    }
}

/// A read request that waits for its answer.
#[derive(Debug, Clone)]
pub struct TransferRequest {
    /// The client's address and port.
    pub peer: SocketAddr,
    /// The local address that the peer sent to.
    pub local: IpAddr,
    /// Address at which the client reaches HTTP and iSCSI; `None` if the interface has none.
    pub service: Option<IpAddr>,
    /// The requested file.
    pub asked: Arc<RequestedFile>,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub enum FileAnswer {
    /// The content of the file.
    Content(FileContent),
    /// The content of a file, and a step that must succeed once the client has acknowledged for the first time.
    Confirmable(FileContent, FirstAck),
    /// The step after the first acknowledgement succeeded.
    Confirmed,
    /// Octets of the content from a position on, which were read for a transfer.
    Octets(u64, Result<Bytes, Arc<io::Error>>),
    /// Error 1, after which the client may try another name.
    NotFound,
    /// Error 2, with this message.
    Refused(&'static str),
    /// No answer: the client asks again.
    NoAnswer,
}

/// A step between a client's first acknowledgement and the packets after it. The acknowledgement shows that the client
/// receives at its address; a request alone may have a forged source.
#[derive(Clone)]
pub struct FirstAck(pub Arc<dyn Fn(FirstAckDone) + Send + Sync>);

/// The report of the step: success, or the message of a refusal. Dropped, it reports that there is no answer.
pub type FirstAckDone = Box<dyn FnOnce(Result<(), &'static str>) + Send>;

impl std::fmt::Debug for FirstAck {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("FirstAck")
    }
}

/// An event of the server.
#[derive(Debug)]
pub enum TransferReport {
    /// A client requested a file, for the first time or again. The answer is not known yet.
    Requested {
        /// The client's address and port.
        peer: SocketAddr,
        /// The requested file.
        asked: Arc<RequestedFile>,
    },
    /// A client has not acknowledged anything for some seconds. Its transfer goes on.
    Silent {
        /// The client's address and port.
        peer: SocketAddr,
        /// The requested file.
        asked: Arc<RequestedFile>,
        /// Number of octets that the peer acknowledged.
        octets: u64,
        /// Size of the file, in octets.
        size: u64,
    },
    /// A client that was reported as silent goes on.
    Resumed {
        /// The client's address and port.
        peer: SocketAddr,
        /// The requested file.
        asked: Arc<RequestedFile>,
        /// Number of octets that the peer acknowledged.
        octets: u64,
        /// Size of the file, in octets.
        size: u64,
    },
    /// A transfer in small blocks, one at a time, takes long. It goes on.
    Slow {
        /// The client's address and port.
        peer: SocketAddr,
        /// The requested file.
        asked: Arc<RequestedFile>,
        /// Number of octets that the peer acknowledged.
        octets: u64,
        /// Size of the file, in octets.
        size: u64,
    },
    /// The first blocks of a file were sent: the peer has accepted the options, or requested none.
    Started {
        /// The client's address and port.
        peer: SocketAddr,
        /// The requested file.
        asked: Arc<RequestedFile>,
        /// Size of the file, in octets.
        size: u64,
    },
    /// A transfer is over.
    Ended {
        /// The client's address and port.
        peer: SocketAddr,
        /// The requested file.
        asked: Arc<RequestedFile>,
        /// The way in which the transfer ended.
        how: TransferEnd,
        /// Number of octets that the peer acknowledged.
        octets: u64,
        /// Size of the file, in octets.
        size: u64,
        /// The message of the client's ERROR, if it sent one.
        message: Option<Box<str>>,
        /// Duration from the request to the end.
        took: Duration,
        /// Number of packets that were sent again.
        resent: u64,
        /// The options that were agreed on.
        granted: NegotiatedOptions,
    },
    /// A request was refused.
    Refused {
        /// The client's address and port.
        peer: SocketAddr,
        /// The requested file; `None` if its name is invalid.
        asked: Option<Arc<RequestedFile>>,
        /// The reason.
        why: FileRefusal,
    },
    /// A datagram was dropped without an answer, or several by the kernel.
    Dropped {
        /// The sender; `None` for datagrams that the kernel dropped.
        peer: Option<SocketAddr>,
        /// The reason.
        why: DropCause,
    },
}

/// The end of a transfer.
#[derive(Debug)]
pub enum TransferEnd {
    /// By the protocol: complete, probed for its size only, aborted by the peer, or given up in silence.
    Peer(Ending),
    /// The peer requested something else from the same port.
    Replaced,
    /// Another request took its place: the peer has never acknowledged a packet.
    Displaced,
    /// The file could not be read.
    Unreadable(io::Error),
    /// The step after the first acknowledgement failed, with this message.
    Unconfirmed(&'static str),
    /// The server stopped.
    Stopped,
}

impl TransferEnd {
    /// Returns the code of the end, in snake case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Peer(Ending::Complete) => "complete",
            Self::Peer(Ending::Probed) => "probed",
            Self::Peer(Ending::Aborted(_)) => "aborted",
            Self::Peer(Ending::Silent) => "silent",
            Self::Peer(Ending::Forged) => "forged",
            Self::Replaced => "replaced",
            Self::Displaced => "displaced",
            Self::Unreadable(_) => "unreadable",
            Self::Unconfirmed(_) => "unconfirmed",
            Self::Stopped => "stopped",
        }
    }
}

/// The reason a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FileRefusal {
    /// A write request.
    #[error("writing is not supported")]
    Write,
    /// The file name is invalid.
    #[error(transparent)]
    Name(#[from] BadPath),
    /// No file has the name.
    #[error("no such file")]
    NotFound,
    /// The file exceeds [`TftpSettings::netascii`].
    #[error("file too large for netascii: request octet mode")]
    Netascii,
    /// The boot policy refused the request, with this message.
    #[error("{0}")]
    Decided(&'static str),
}

/// The reason a datagram got no answer.
#[derive(Debug, thiserror::Error)]
pub enum DropCause {
    /// The datagram is no valid packet.
    #[error(transparent)]
    Malformed(#[from] PacketError),
    /// The packet belongs to no transfer.
    #[error("packet belongs to no transfer")]
    Stray,
    /// The request was sent to a broadcast or multicast address.
    #[error("sent to a broadcast or multicast address")]
    Multicast,
    /// The limit of concurrent transfers is reached.
    #[error("limit of concurrent transfers reached")]
    Overload,
    /// The limit of concurrent transfers of one source is reached.
    #[error("limit of concurrent transfers of one source reached")]
    SourceLimit,
    /// The content callback did not answer in time.
    #[error("no answer from the boot policy")]
    NoAnswer,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// Number of datagrams that the kernel dropped because the receive buffer was full.
    #[error("receive buffer full: {0} datagrams dropped by the kernel")]
    Overflow(u32),
    /// No route to the peer.
    #[error("no route to the peer")]
    NoRoute(#[source] io::Error),
    /// The kernel refused to send.
    #[error("cannot send to the peer")]
    NotSent(#[source] io::Error),
}
