//! A multipart body in pieces: the same parts as in one piece, whatever the pieces are.
#![no_main]

use bootlatch::http::multipart::{FormError, FormEvent, FormParser};
use libfuzzer_sys::fuzz_target;

/// The octet that stands for a long text, so that short inputs reach the limits.
const LONG: u8 = 0xff;
const LONG_LENGTH: usize = 4090;
/// Number of octets that do.
const LONGS: usize = 4;

/// The parts of a body with their contents, whether it ended, and what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
struct Form {
    parts: Vec<(String, bool, Vec<u8>)>,
    is_whole: bool,
    wrong: Option<FormError>,
}

fn read<'a>(content_type: &str, pieces: impl Iterator<Item = &'a [u8]>) -> Option<Form> {
    let mut parser = FormParser::new(content_type)?;
    let mut form = Form { parts: Vec::new(), is_whole: false, wrong: None };
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.next_event() {
                Ok(None) => break,
                Ok(Some(FormEvent::Part { name, is_file })) => form.parts.push((name, is_file, Vec::new())),
                Ok(Some(FormEvent::Data(data))) => {
                    form.parts.last_mut().expect("a part comes before its content").2.extend_from_slice(&data);
                }
                Ok(Some(FormEvent::End)) => form.is_whole = true,
                Err(wrong) => form.wrong = Some(wrong),
            }
            if form.is_whole || form.wrong.is_some() {
                return Some(form);
            }
        }
    }
    Some(form)
}

fuzz_target!(|data: &[u8]| {
    let [kind, cut_high, cut_low, step, rest @ ..] = data else { return };
    let (content_type, body) = match kind {
        0..0x80 => ("multipart/form-data; boundary=a", rest),
        0x80..0xc0 => {
            ("Multipart/Form-Data; charset=utf-8; boundary=\"-----------------------------9051914041\"", rest)
        }
        0xc0.. => {
            let (content_type, body) = rest.split_at(rest.iter().position(|octet| *octet == b'\n').unwrap_or(0));
            let Ok(content_type) = std::str::from_utf8(content_type) else { return };
            (content_type, body)
        }
    };
    let (mut long, mut longs) = (Vec::new(), 0..if kind & 1 == 1 { LONGS } else { 0 });
    for octet in body {
        match *octet {
            LONG if longs.next().is_some() => long.resize(long.len() + LONG_LENGTH, b'x'),
            other => long.push(other),
        }
    }
    let body = &long[..];
    let Some(whole) = read(content_type, [body].into_iter()) else { return };
    let (first, second) = body.split_at(usize::from(u16::from_be_bytes([*cut_high, *cut_low])).min(body.len()));
    assert_eq!(read(content_type, [first, second].into_iter()).as_ref(), Some(&whole), "cut at {}", first.len());
    // A head is searched again at each piece, so that many pieces of a long one take long.
    let step = usize::from(*step) + if body.len() > LONG_LENGTH { 64 } else { 1 };
    assert_eq!(read(content_type, body.chunks(step)).as_ref(), Some(&whole), "{step}");
    let contents: usize =
        whole.parts.iter().map(|(name, _, content)| name.len().min(content.len()) + content.len()).sum();
    assert!(contents <= 3 * body.len());
});
