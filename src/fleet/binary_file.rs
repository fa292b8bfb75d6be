//! Files of a config that need not be text.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Secret;
use super::embedded_text::unpacked_text;

/// The octets of a file. In JSON they are base64 (RFC 4648, section 4), as in the `binaryData` of a ConfigMap.
#[derive(Clone, PartialEq, Eq)]
pub struct BinaryFile(pub Bytes);

impl BinaryFile {
    /// Returns the octets of base64. Line ends do not count.
    ///
    /// # Errors
    /// The text is not base64.
    pub fn decode(text: &str) -> Result<Self, base64::DecodeError> {
        let plain: String = text.chars().filter(|sign| !matches!(sign, '\r' | '\n')).collect();
        Ok(Self(STANDARD.decode(plain)?.into()))
    }

    /// Returns the file that clients see in place of a confidential one: it is [`Secret::REDACTED`] in JSON.
    pub fn redacted() -> Self {
        Self::decode(Secret::REDACTED).unwrap_or_else(|_| Self(Bytes::new()))
    }

    /// Returns whether the file stands for an unchanged confidential one.
    pub fn is_redacted(&self) -> bool {
        *self == Self::redacted()
    }

    /// Returns the text in the file, decompressed if it is compressed by gzip. Octets that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        unpacked_text(&self.0)
    }
}

impl fmt::Debug for BinaryFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "BinaryFile({} octets)", self.0.len())
    }
}

impl Serialize for BinaryFile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for BinaryFile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // The text may be a secret: the error does not repeat it.
        Self::decode(&String::deserialize(from)?).map_err(|_| de::Error::custom("expected base64 (RFC 4648)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_base64_in_json() {
        let file: BinaryFile = serde_json::from_str("\"H4sI\\nAP8=\"").unwrap();
        assert_eq!(file.0[..], [0x1f, 0x8b, 0x08, 0x00, 0xff]);
        assert_eq!(serde_json::to_string(&file).unwrap(), "\"H4sIAP8=\"");
        let error = serde_json::from_str::<BinaryFile>("\"geheim!\"").unwrap_err().to_string();
        assert!(error.contains("base64") && !error.contains("geheim"), "{error}");
    }

    #[test]
    fn a_redacted_file_reads_as_a_redacted_text() {
        assert_eq!(serde_json::to_value(BinaryFile::redacted()).unwrap(), Secret::REDACTED);
        assert!(BinaryFile::redacted().is_redacted() && !BinaryFile(Bytes::new()).is_redacted());
    }
}
