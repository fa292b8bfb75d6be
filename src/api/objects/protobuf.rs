//! Minimal reader of protobuf's wire format, for the one message that kubectl sends in protobuf only. Pure.

/// Prefix of `application/vnd.kubernetes.protobuf` bodies; a `runtime.Unknown` follows.
const MAGIC: &[u8] = b"k8s\0";
/// Field number of the object in `runtime.Unknown`.
const RAW: u64 = 2;

/// Returns the object's own message from a request body.
pub fn object(body: &[u8]) -> Option<&[u8]> {
    field(body.strip_prefix(MAGIC)?, RAW)?
}

/// Returns a length-delimited field (a text or a message); the last one of its number counts. Returns `Some(None)` if
/// the field is absent, and `None` if the bytes are not a message.
pub fn field(mut message: &[u8], number: u64) -> Option<Option<&[u8]>> {
    let mut found = None;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let length = match tag & 7 {
            0 => varint(&mut message).map(|_| 0)?,
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = message.split_at_checked(length)?;
        if tag == number << 3 | 2 {
            found = Some(value);
        }
        message = rest;
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f).checked_shl(7 * place)?;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_among_others_and_broken_bytes_are_refused() {
        // 1: varint 300; 2: "ab"; 3: fixed32; 4: fixed64; 2: "c".
        let message = b"\x08\xac\x02\x12\x02ab\x1d\0\0\0\0\x21\0\0\0\0\0\0\0\0\x12\x01c";
        assert_eq!(field(message, 2), Some(Some(&b"c"[..])));
        assert_eq!((field(message, 1), field(message, 9), field(b"", 2)), (Some(None), Some(None), Some(None)));
        for cut in [1, 2, 4, 5, 8, 15] {
            assert_eq!(field(&message[..cut], 2), None, "{cut}");
        }
        assert_eq!(field(&[0xff; 32], 2), None);
        assert_eq!(object(b"k8s\0\x12\x01x"), Some(&b"x"[..]));
        assert_eq!((object(b"x"), object(b"k8s\0")), (None, None));
    }
}
