//! The text format of a netascii transfer (RFC 764).

/// Encodes text: a line feed becomes CR LF, a carriage return CR NUL.
pub fn encode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 16);
    for &byte in text {
        match byte {
            b'\n' => out.extend(b"\r\n"),
            b'\r' => out.extend(b"\r\0"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn line_ends_travel_as_two_octets() {
        for (text, wire) in
            [("", ""), ("a\nb", "a\r\nb"), ("a\r\nb", "a\r\0\r\nb"), ("\r", "\r\0"), ("\n\n", "\r\n\r\n")]
        {
            assert_eq!(encode(text.as_bytes()), wire.as_bytes(), "{text:?}");
        }
    }
}
