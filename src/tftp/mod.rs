//! The TFTP server: the codec, the transfer and the names asked for are pure; `serve` is the rim.

pub mod netascii;
pub mod options;
pub mod packet;
pub mod path;
pub mod serve;
pub mod transfer;
