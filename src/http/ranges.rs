//! The Range header (RFC 9110, section 14). Pure.

/// The bytes that a Range header selects of a whole of known length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedRange {
    /// All bytes: there is no range, an unknown one, or several.
    Whole,
    /// A part of the bytes.
    Part {
        /// Offset of the first byte.
        start: u64,
        /// Number of bytes, at least one.
        count: u64,
    },
    /// No byte: the range begins after the end.
    Unsatisfiable,
}

/// Parses a Range header. A value that is no single range of bytes is ignored (section 14.2), but for one with letters
/// in place of numbers: the client that asks for it wants a part, and has no use for all of an image.
pub fn requested(header: Option<&str>, length: u64) -> RequestedRange {
    let Some(set) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return RequestedRange::Whole;
    };
    if header.is_some_and(is_malformed) {
        return RequestedRange::Unsatisfiable;
    }
    let Some((first, last)) = set.trim().split_once('-').filter(|_| !set.contains(',')) else {
        return RequestedRange::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        // A suffix range: the last bytes.
        return match position(last) {
            Some(0) => RequestedRange::Unsatisfiable,
            Some(_) if length == 0 => RequestedRange::Unsatisfiable,
            Some(count) => part(length - count.min(length), count.min(length)),
            None => RequestedRange::Whole,
        };
    }
    let Some(first) = position(first) else { return RequestedRange::Whole };
    let last = match last {
        "" => u64::MAX,
        last => match position(last) {
            Some(last) if last >= first => last,
            _ => return RequestedRange::Whole,
        },
    };
    match first < length {
        true => part(first, last.min(length - 1) - first + 1),
        false => RequestedRange::Unsatisfiable,
    }
}

/// Returns whether a Range header asks for bytes by something else than numbers, as an iPXE does whose build cannot
/// print 64-bit numbers (`bytes=u-u`).
pub fn is_malformed(header: &str) -> bool {
    let range = header.trim().strip_prefix("bytes=").and_then(|set| set.split_once('-'));
    range.is_some_and(|(first, last)| [first, last].iter().any(|part| part.contains(|one: char| one.is_alphabetic())))
}

/// Returns a part of the whole.
fn part(start: u64, count: u64) -> RequestedRange {
    RequestedRange::Part { start, count }
}

/// Parses a position of any number of digits (section 14.1.1). One too large for 64 bits is past every end.
fn position(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parsed_by_the_rfc() {
        let rows = [
            (None, RequestedRange::Whole),
            (Some("bytes=0-0"), part(0, 1)),
            (Some("bytes=0-499"), part(0, 500)),
            (Some("bytes=500-"), part(500, 500)),
            (Some("bytes=-500"), part(500, 500)),
            (Some("bytes=-5000"), part(0, 1000)),
            (Some("bytes=999-2000"), part(999, 1)),
            (Some("bytes=1000-"), RequestedRange::Unsatisfiable),
            (Some("bytes=-0"), RequestedRange::Unsatisfiable),
            (Some("bytes=u-u"), RequestedRange::Unsatisfiable),
            (Some("bytes=5-4"), RequestedRange::Whole),
            (Some("bytes=0-1,5-6"), RequestedRange::Whole),
            (Some("bytes=18446744073709551615-18446744073709551615"), RequestedRange::Unsatisfiable),
            (Some("bytes=0-99999999999999999999"), part(0, 1000)),
            (Some("bytes=-99999999999999999999"), part(0, 1000)),
            (Some("bytes=99999999999999999999-"), RequestedRange::Unsatisfiable),
            (Some("bytes=99999999999999999998-99999999999999999999"), RequestedRange::Unsatisfiable),
            (Some("bytes=+1-5"), RequestedRange::Whole),
            (Some("lines=0-1"), RequestedRange::Whole),
        ];
        for (header, expected) in rows {
            assert_eq!(requested(header, 1000), expected, "{header:?}");
        }
        assert_eq!(requested(Some("bytes=-5"), 0), RequestedRange::Unsatisfiable);
        assert_eq!(requested(Some("bytes=0-"), 0), RequestedRange::Unsatisfiable);
    }
}
