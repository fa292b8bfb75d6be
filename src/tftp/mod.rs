//! The TFTP server. Codec, transfers and file names are pure; `serve` has the sockets and the adapter to the gate.

pub mod netascii;
pub mod options;
pub mod packet;
pub mod path;
pub mod serve;
pub mod transfer;
