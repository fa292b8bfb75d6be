//! Texts that are encoded in a config: files of Ignition's data URLs (RFC 2397) and of cloud-init's `write_files`.

use std::io::Read;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// Maximum length of a decoded text, in octets. The rest of a compressed file is left out.
const MAX_DECODED_BYTES: u64 = 4 * 1024 * 1024;
/// Maximum depth of values that are looked at.
const MAX_DEPTH: usize = 64;

/// Base64 with or without padding, as the readers of configs take it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Returns the texts that a parsed config contains in an encoding. Bytes that are not UTF-8 are replaced.
pub fn embedded_texts(config: &Value) -> Vec<String> {
    let mut texts = Vec::new();
    collect(config, MAX_DEPTH, &mut texts);
    texts
}

fn collect(value: &Value, depth: usize, texts: &mut Vec<String>) {
    if depth == 0 {
        return;
    }
    match value {
        Value::Object(fields) => {
            let is_packed = fields.get("compression").and_then(Value::as_str) == Some("gzip");
            for (key, field) in fields {
                match field.as_str() {
                    Some(url) if key == "source" && url.starts_with("data:") => {
                        texts.extend(data_url(url).map(|bytes| text(bytes, is_packed)));
                    }
                    Some(content) if key == "content" => {
                        let encoding = fields.get("encoding").and_then(Value::as_str).unwrap_or_default();
                        texts.extend(encoded(content, encoding));
                    }
                    _ => collect(field, depth - 1, texts),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, depth - 1, texts)),
        // Specification 2.x has the URL of some files in a list of strings.
        Value::String(url) if url.starts_with("data:") => texts.extend(data_url(url).map(|bytes| text(bytes, false))),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns the bytes of a data URL; `None` for one that is not valid.
fn data_url(url: &str) -> Option<Vec<u8>> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let data: Vec<u8> = percent_encoding::percent_decode_str(data).collect();
    match head.ends_with(";base64") {
        true => BASE64.decode(without_spaces(&data)).ok(),
        false => Some(data),
    }
}

/// Returns the content of a file of `write_files`, if it has an encoding (cloud-init's `extract_contents`).
fn encoded(content: &str, encoding: &str) -> Option<String> {
    let encoding = encoding.trim().to_ascii_lowercase();
    let is_base64 = encoding.contains("b64") || encoding.contains("base64");
    let is_packed = encoding.starts_with("gz");
    let bytes = match (is_base64, is_packed) {
        (false, false) => return None,
        (true, _) => BASE64.decode(without_spaces(content.as_bytes())).ok()?,
        (false, true) => content.as_bytes().to_vec(),
    };
    Some(text(bytes, is_packed))
}

fn without_spaces(data: &[u8]) -> Vec<u8> {
    data.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect()
}

/// Returns octets as text, decompressed if they are compressed by gzip.
pub fn unpacked_text(bytes: &[u8]) -> String {
    text(bytes.to_vec(), bytes.starts_with(&[0x1f, 0x8b]))
}

/// Returns bytes as text, decompressed if they are packed.
fn text(bytes: Vec<u8>, is_packed: bool) -> String {
    let mut plain = Vec::new();
    let bytes = match is_packed {
        // What was read before an error is text too.
        true => {
            let _ = flate2::read::MultiGzDecoder::new(&*bytes).take(MAX_DECODED_BYTES).read_to_end(&mut plain);
            plain
        }
        false => bytes,
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `echo -n 'curl boot-complete' | gzip -n | base64 -w0`
    const PACKED: &str = "H4sIAAAAAAAAA0suLcpRSMrPL9FNzs8tyEktSQUA60s5NBIAAAA=";

    #[test]
    fn encoded_files_are_found_in_every_encoding() {
        let file = |source: &str| json!({"storage": {"files": [{"contents": {"source": source}}]}});
        let rows = [
            (file("data:,hello%20there"), "hello there"),
            (file("data:text/plain;charset=utf-8;base64,aGVsbG8="), "hello"),
            (file("data:;base64,aGVsbG8"), "hello"),
            (
                json!({"contents": {"compression": "gzip", "source": format!("data:;base64,{PACKED}")}}),
                "curl boot-complete",
            ),
            (json!({"write_files": [{"path": "/a", "content": "aGVs\n bG8=", "encoding": "b64"}]}), "hello"),
            (json!({"write_files": [{"content": PACKED, "encoding": "gz+base64"}]}), "curl boot-complete"),
            (json!({"ignition": {"config": {"merge": [{"source": "data:,{}"}]}}}), "{}"),
        ];
        for (config, expected) in rows {
            assert_eq!(embedded_texts(&config), [expected], "{config}");
        }
    }

    #[test]
    fn plain_texts_and_broken_encodings_are_left_out() {
        for config in [
            json!({"contents": {"source": "http://192.0.2.1/x"}}),
            json!({"contents": {"source": "data:;base64,%%%"}}),
            json!({"contents": {"source": "data:nothing"}}),
            json!({"write_files": [{"path": "/a", "content": "plain"}]}),
            json!(["x", 1, null, true]),
        ] {
            assert_eq!(embedded_texts(&config), Vec::<String>::new(), "{config}");
        }
        let broken = json!({"contents": {"compression": "gzip", "source": "data:,plain"}});
        assert_eq!(embedded_texts(&broken), [""]);
    }
}
