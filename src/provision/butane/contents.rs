//! Contents that are written in place or come from local files: data URLs.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value};

use super::Compiler;

impl Compiler<'_> {
    /// Adds the source of a resource whose contents are in the config or in a local file.
    pub(super) fn add_contents(&mut self, source: &Map<String, Value>, made: &mut Map<String, Value>, path: &str) {
        let text_of = |key: &str| source.get(key).and_then(Value::as_str);
        let given =
            ["source", "inline", "local"].iter().filter(|key| source.get(**key).is_some_and(|value| !value.is_null()));
        if given.count() > 1 {
            return self.error(path, "expected one of source, inline and local");
        }
        let content = match (text_of("inline"), text_of("local")) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(file)) => match self.local_file(file, &format!("{path}.local")) {
                Some(content) => content,
                None => return,
            },
            (None, None) => return,
        };
        let is_compressed = text_of("compression").is_some_and(|word| !word.is_empty());
        let (url, compression) = data_url(&content, is_compressed);
        made.insert("source".to_owned(), url.into());
        if let Some(compression) = compression {
            made.insert("compression".to_owned(), compression.into());
        }
    }
}

/// Returns the shortest data URL of a content, and the compression that goes with it; `None` if the content is
/// compressed already.
pub(super) fn data_url(content: &[u8], is_compressed: bool) -> (String, Option<&'static str>) {
    let escaped = format!(",{}", escape(content));
    let encoded = format!(";base64,{}", STANDARD.encode(content));
    let plain = if encoded.len() < escaped.len() { encoded } else { escaped };
    if is_compressed {
        return (format!("data:{plain}"), None);
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    // A vector takes all octets.
    let _ = gzip.write_all(content);
    let packed = format!(";base64,{}", STANDARD.encode(gzip.finish().unwrap_or_default()));
    match packed.len() + "gzip".len() < plain.len() {
        true => (format!("data:{packed}"), Some("gzip")),
        false => (format!("data:{plain}"), Some("")),
    }
}

/// Returns octets with all escaped but those that RFC 2396 calls unreserved.
fn escape(content: &[u8]) -> String {
    let mut made = String::with_capacity(content.len());
    for octet in content {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')' => {
                made.push(char::from(*octet));
            }
            octet => made.push_str(&format!("%{octet:02X}")),
        }
    }
    made
}
