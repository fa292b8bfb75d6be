//! The bytes of a SCSI command, as the other modules of the target share them.

/// A command descriptor block; a shorter one is padded with zeros (SPC-4 4.3).
pub type Cdb = [u8; 16];
