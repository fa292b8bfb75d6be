//! Serves ISO images as read-only SCSI CD-ROMs and disks over iSCSI (RFC 7143, SPC-4, SBC-3, MMC-6).
//!
//! The way of a read: bytes -> [`pdu`] frames -> [`session::Connection`] -> `Step::Read` ->
//! [`serve`] reads the medium -> `Connection::on_read` -> Data-In. Everything but [`serve`] is pure:
//! it knows no socket, no file, no clock and no random source.
//!
//! 1. A read carries a [`medium::Span`], which cannot leave its medium.
//! 2. Nothing is written: every command that would is refused with DATA PROTECT sense.
//! 3. Who may attach what is asked once a login, of `serve::Door::authorize`.

pub mod chap;
pub mod connection;
pub mod digest;
pub mod full_feature;
pub mod keys;
pub mod limits;
pub mod login;
pub mod medium;
pub mod output;
pub mod pdu;
pub mod scsi;
pub mod sense;
pub mod serve;
pub mod text;

mod cdb;
mod mmc;
mod mode;
mod opcodes;
mod spc;
mod tasks;

#[cfg(test)]
mod tests;
