//! The `key=value` text of logins and text requests (RFC 7143 6.1).

/// Maximum length of a key, in characters (RFC 7143 6.1).
const MAX_KEY_LENGTH: usize = 63;
/// Maximum length of a value outside CHAP, in bytes (RFC 7143 6.1).
const MAX_VALUE_BYTES: usize = 8192;

/// The reason a text is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A piece has no `=`.
    #[error("text without an equals sign: expected key=value")]
    NoSeparator,
    /// A key is empty.
    #[error("empty key: expected key=value")]
    EmptyKey,
    /// A key is longer than the maximum.
    #[error("a key has more than {MAX_KEY_LENGTH} characters")]
    LongKey,
    /// A key is not UTF-8.
    #[error("a key is not UTF-8")]
    KeyEncoding,
    /// A value is not UTF-8.
    #[error("a value is not UTF-8")]
    ValueEncoding,
    /// A value is longer than the maximum.
    #[error("a value has more than {MAX_VALUE_BYTES} bytes")]
    LongValue,
}

/// Returns the keys and values of a text, in order.
///
/// # Errors
/// A piece is no `key=value`.
pub fn parse(bytes: &[u8]) -> Result<Vec<(&str, &str)>, TextError> {
    bytes.split(|byte| *byte == 0).filter(|piece| !piece.is_empty()).map(parse_pair).collect()
}

fn parse_pair(piece: &[u8]) -> Result<(&str, &str), TextError> {
    let mut parts = piece.splitn(2, |byte| *byte == b'=');
    let (Some(key), Some(value)) = (parts.next(), parts.next()) else { return Err(TextError::NoSeparator) };
    if key.is_empty() {
        return Err(TextError::EmptyKey);
    }
    if key.len() > MAX_KEY_LENGTH {
        return Err(TextError::LongKey);
    }
    let key = std::str::from_utf8(key).map_err(|_| TextError::KeyEncoding)?;
    let value = std::str::from_utf8(value).map_err(|_| TextError::ValueEncoding)?;
    if value.len() > MAX_VALUE_BYTES {
        return Err(TextError::LongValue);
    }
    Ok((key, value))
}

/// The keys and values of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyAnswers(Vec<u8>);

impl KeyAnswers {
    /// Appends a key and its value.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(b'=');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
    }

    /// Returns the text as a data segment.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Parses a number: decimal, or hexadecimal after `0x` (RFC 7143 6.1).
#[must_use]
pub fn parse_number(value: &str) -> Option<u32> {
    let (digits, radix) = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (value, 10),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// Parses a binary value: hexadecimal after `0x`, or base64 after `0b` (RFC 7143 6.1).
#[must_use]
pub fn parse_binary(value: &str) -> Option<Vec<u8>> {
    if let Some(hex) = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        return from_hex(hex);
    }
    from_base64(value.strip_prefix("0b").or_else(|| value.strip_prefix("0B"))?)
}

/// Returns a binary value in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
    let mut digits = digits?;
    if digits.is_empty() {
        return None;
    }
    if digits.len() % 2 == 1 {
        digits.insert(0, 0);
    }
    digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect()
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if digits.is_empty() || digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut held, mut bits) = (0u32, 0u32);
    for digit in digits.bytes() {
        let six = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(six)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn answers_survive_the_wire(pairs in proptest::collection::vec(("[A-Za-z0-9_.-]{1,63}", "[^\0]{0,40}"), 0..6)) {
            let mut answers = KeyAnswers::default();
            for (key, value) in &pairs {
                answers.add(key, value);
            }
            let bytes = answers.into_bytes();
            let read: Vec<(String, String)> =
                parse(&bytes).unwrap().into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn binary_values_survive_the_wire(bytes in proptest::collection::vec(any::<u8>(), 1..80), number: u32) {
            use base64::Engine as _;

            let base64 = base64::engine::general_purpose::STANDARD.encode(&bytes);
            prop_assert_eq!(parse_binary(&format!("0b{base64}")), Some(bytes.clone()));
            prop_assert_eq!(parse_binary(&hex(&bytes)), Some(bytes));
            prop_assert_eq!(parse_number(&number.to_string()), Some(number));
            prop_assert_eq!(parse_number(&format!("{number:#x}")), Some(number));
        }
    }

    #[test]
    fn text_is_split_into_keys_and_values() {
        type Case<'a> = (&'a [u8], Result<Vec<(&'a str, &'a str)>, TextError>);
        let (long_key, long_value) = ([b'k'; MAX_KEY_LENGTH + 1], "v".repeat(MAX_VALUE_BYTES + 1));
        let long_key = [&long_key[..], b"=v"].concat();
        let long_value = format!("k={long_value}");
        let rows: [Case<'_>; 10] = [
            (b"", Ok(vec![])),
            (b"A=b\0", Ok(vec![("A", "b")])),
            (b"A=b\0C=d=e\0\0\0", Ok(vec![("A", "b"), ("C", "d=e")])),
            (b"A=\0", Ok(vec![("A", "")])),
            (b"A\0", Err(TextError::NoSeparator)),
            (b"=b\0", Err(TextError::EmptyKey)),
            (b"\xff=b\0", Err(TextError::KeyEncoding)),
            (b"A=\xff\0", Err(TextError::ValueEncoding)),
            (&long_key, Err(TextError::LongKey)),
            (long_value.as_bytes(), Err(TextError::LongValue)),
        ];
        for (bytes, wanted) in rows {
            assert_eq!(parse(bytes), wanted);
        }
    }

    #[test]
    fn numbers_and_binary_values_are_read_in_every_form() {
        for (text, wanted) in
            [("8192", Some(8192)), ("0x2000", Some(8192)), ("", None), ("-1", None), ("+1", None), ("4294967296", None)]
        {
            assert_eq!(parse_number(text), wanted, "{text}");
        }
        for (text, wanted) in [
            ("0x0102fF", Some(vec![1, 2, 255])),
            ("0x102", Some(vec![1, 2])),
            ("0bAQL/", Some(vec![1, 2, 255])),
            ("0bAQI=", Some(vec![1, 2])),
            ("0bA", None),
            ("0x", None),
            ("12", None),
            ("0xg1", None),
        ] {
            assert_eq!(parse_binary(text), wanted, "{text}");
        }
        assert_eq!(hex(&[1, 0xab]), "0x01ab");
    }
}
