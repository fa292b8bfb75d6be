//! Sense data: the reason a command failed (SPC-4 4.5).

/// A sense key with its additional sense code and qualifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sense {
    key: u8,
    code: u8,
    qualifier: u8,
    /// Offset of the invalid CDB byte, if there is one (SPC-4 4.5.2.4.2).
    field: Option<u16>,
}

const fn sense(key: u8, code: u8, qualifier: u8) -> Sense {
    Sense { key, code, qualifier, field: None }
}

impl Sense {
    /// NO SENSE.
    pub const NONE: Self = sense(0, 0, 0);
    /// NOT READY, medium not present: it was ejected.
    pub const NO_MEDIUM: Self = sense(2, 0x3a, 0);
    /// MEDIUM ERROR, unrecovered read error.
    pub const READ_ERROR: Self = sense(3, 0x11, 0);
    /// ILLEGAL REQUEST, invalid command operation code.
    pub const OPCODE: Self = sense(5, 0x20, 0);
    /// ILLEGAL REQUEST, logical block address out of range.
    pub const OUT_OF_RANGE: Self = sense(5, 0x21, 0);
    /// ILLEGAL REQUEST, logical unit not supported.
    pub const NO_UNIT: Self = sense(5, 0x25, 0);
    /// ILLEGAL REQUEST, saving parameters not supported.
    pub const NO_SAVING: Self = sense(5, 0x39, 0);
    /// ILLEGAL REQUEST, medium removal prevented.
    pub const REMOVAL_PREVENTED: Self = sense(5, 0x53, 2);
    /// DATA PROTECT, write protected.
    pub const WRITE_PROTECTED: Self = sense(7, 0x27, 0);
    /// MISCOMPARE during verify operation.
    pub const MISCOMPARE: Self = sense(0xe, 0x1d, 0);

    /// Returns ILLEGAL REQUEST, invalid field in CDB: the byte at `at`.
    #[must_use]
    pub const fn field(at: u16) -> Self {
        Self { field: Some(at), ..sense(5, 0x24, 0) }
    }

    /// Returns fixed format sense data: 18 bytes (SPC-4 4.5.3).
    #[must_use]
    pub fn fixed(self) -> [u8; 18] {
        let mut data = [0; 18];
        data[0] = 0x70;
        data[2] = self.key;
        data[7] = 10;
        data[12] = self.code;
        data[13] = self.qualifier;
        if let Some(at) = self.field {
            // SKSV and C/D: the pointer is into the CDB.
            data[15] = 0xc0;
            data[16..18].copy_from_slice(&at.to_be_bytes());
        }
        data
    }

    /// Returns descriptor format sense data: 8 bytes, no descriptors (SPC-4 4.5.2).
    #[must_use]
    pub fn descriptor(self) -> [u8; 8] {
        [0x72, self.key, self.code, self.qualifier, 0, 0, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sense_data_is_written_in_both_formats() {
        let fixed = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xc0, 0, 2];
        assert_eq!(Sense::field(2).fixed(), fixed);
        assert_eq!(Sense::WRITE_PROTECTED.descriptor(), [0x72, 7, 0x27, 0, 0, 0, 0, 0]);
    }
}
