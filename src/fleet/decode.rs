use serde::{Deserialize, Deserializer};
use serde_path_to_error::{Path, Track};

/// The reason a value does not deserialize.
#[derive(Debug)]
pub struct DecodeError {
    /// The field that is wrong.
    pub path: Path,
    /// The parser's message.
    pub message: String,
}

/// Deserializes a value; an error has the path of the field. The format is behind a dynamic type: the code of a type
/// is compiled once for all formats, which keeps the binary small.
///
/// # Errors
/// The value does not have the type.
pub fn deserialize_with_path<'de, T: Deserialize<'de>>(source: impl Deserializer<'de>) -> Result<T, DecodeError> {
    let mut track = Track::new();
    let mut erased =
        <dyn erased_serde::Deserializer<'_>>::erase(serde_path_to_error::Deserializer::new(source, &mut track));
    let read = erased_serde::deserialize(&mut erased);
    read.map_err(|error| DecodeError { path: track.path(), message: error.to_string() })
}
