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
    use proptest::prelude::*;

    use super::encode;

    /// Returns the text that a client stores (RFC 764): CR LF is a line feed, CR NUL a carriage return.
    fn decode(wire: &[u8]) -> Option<Vec<u8>> {
        match wire {
            [] => Some(Vec::new()),
            [b'\r', b'\n', rest @ ..] => Some([b"\n".to_vec(), decode(rest)?].concat()),
            [b'\r', 0, rest @ ..] => Some([b"\r".to_vec(), decode(rest)?].concat()),
            [b'\r', ..] => None,
            [other, rest @ ..] => Some([vec![*other], decode(rest)?].concat()),
        }
    }

    proptest! {
        #[test]
        fn a_client_stores_the_text(text in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(0), any::<u8>()], 0..60,
        )) {
            prop_assert_eq!(decode(&encode(&text)), Some(text));
        }
    }

    #[test]
    fn line_ends_travel_as_two_octets() {
        for (text, wire) in
            [("", ""), ("a\nb", "a\r\nb"), ("a\r\nb", "a\r\0\r\nb"), ("\r", "\r\0"), ("\n\n", "\r\n\r\n")]
        {
            assert_eq!(encode(text.as_bytes()), wire.as_bytes(), "{text:?}");
        }
    }
}
