//! Which bytes of a whole a request wants (RFC 9110 14).

/// Is what a Range header comes to, for a whole of known length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Everything: no range, one that is not understood, or several at once.
    Whole,
    /// These bytes: from, and how many (at least one).
    Part(u64, u64),
    /// Nothing that is there.
    Unsatisfiable,
}

/// Reads a Range header. What is no range of bytes is ignored, as the RFC has it (14.2).
pub fn wanted(header: Option<&str>, length: u64) -> Wanted {
    let Some(set) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else { return Wanted::Whole };
    let Some((first, last)) = set.trim().split_once('-').filter(|_| !set.contains(',')) else { return Wanted::Whole };
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        // The last so many bytes.
        return match position(last) {
            Some(0) => Wanted::Unsatisfiable,
            Some(_) if length == 0 => Wanted::Unsatisfiable,
            Some(count) => Wanted::Part(length - count.min(length), count.min(length)),
            None => Wanted::Whole,
        };
    }
    let Some(first) = position(first) else { return Wanted::Whole };
    let last = match last {
        "" => u64::MAX,
        last => match position(last) {
            Some(last) if last >= first => last,
            _ => return Wanted::Whole,
        },
    };
    match first < length {
        true => Wanted::Part(first, last.min(length - 1) - first + 1),
        false => Wanted::Unsatisfiable,
    }
}

/// Reads a position, of as many digits as it may have (14.1.1): one that is too large for us lies behind every end.
fn position(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_has_them() {
        let rows = [
            (None, Wanted::Whole),
            (Some("bytes=0-0"), Wanted::Part(0, 1)),
            (Some("bytes=0-499"), Wanted::Part(0, 500)),
            (Some("bytes=500-"), Wanted::Part(500, 500)),
            (Some("bytes=-500"), Wanted::Part(500, 500)),
            (Some("bytes=-5000"), Wanted::Part(0, 1000)),
            (Some("bytes=999-2000"), Wanted::Part(999, 1)),
            (Some("bytes=1000-"), Wanted::Unsatisfiable),
            (Some("bytes=-0"), Wanted::Unsatisfiable),
            (Some("bytes=u-u"), Wanted::Whole),
            (Some("bytes=5-4"), Wanted::Whole),
            (Some("bytes=0-1,5-6"), Wanted::Whole),
            (Some("bytes=18446744073709551615-18446744073709551615"), Wanted::Unsatisfiable),
            (Some("bytes=0-99999999999999999999"), Wanted::Part(0, 1000)),
            (Some("bytes=-99999999999999999999"), Wanted::Part(0, 1000)),
            (Some("bytes=99999999999999999999-"), Wanted::Unsatisfiable),
            (Some("bytes=99999999999999999998-99999999999999999999"), Wanted::Unsatisfiable),
            (Some("bytes=+1-5"), Wanted::Whole),
            (Some("lines=0-1"), Wanted::Whole),
        ];
        for (header, expected) in rows {
            assert_eq!(wanted(header, 1000), expected, "{header:?}");
        }
        assert_eq!(wanted(Some("bytes=-5"), 0), Wanted::Unsatisfiable);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }
}
