//! Recording date and time of directory records (ECMA-119 9.1.5).

/// A recording date and time: years since 1900, month, day, hour, minute, second,
/// and the offset from UTC in 15-minute steps.
pub type RecordTimestamp = [u8; 7];
