//! An iSCSI target that serves ISO images as read-only SCSI CD-ROMs and disks (RFC 7143, SPC-4, SBC-3, MMC-6).
//!
//! The path of a read: bytes -> [`pdu`] -> [`connection::Connection`] -> `ConnectionStep::Read` -> [`serve`] reads the
//! medium -> `Connection::on_read` -> Data-In. Only [`serve`] has sockets, files, a clock and a random source.
//!
//! 1. A read carries a [`medium::ByteRange`], which cannot leave its medium.
//! 2. Units are read-only: every command that writes fails with DATA PROTECT.
//! 3. `serve::ConnectionHandler::authorize` decides about each login.
//! 4. A unit whose first read is recorded sends no data before the record is durable ([`connection`]).

pub mod chap;
pub mod connection;
pub mod digest;
pub mod full_feature;
pub mod keys;
pub mod limits;
pub mod login;
pub mod medium;
pub mod outcome;
pub mod output;
pub mod pdu;
pub mod scsi;
pub mod sense;
pub mod serve;
pub mod text;

mod cdb;
mod command;
mod mmc;
mod mode_sense;
mod opcodes;
mod spc;
mod tasks;

#[cfg(test)]
mod tests;
