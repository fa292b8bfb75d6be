//! Syslog: a stream is split alike whatever its parts are, and every line is short and has a text.
#![no_main]

use bootlatch::syslog::{Deframer, Frame, MAX_LINE_BYTES, UnknownFraming, parse};
use libfuzzer_sys::fuzz_target;

fn frames(stream: &[u8], step: usize) -> Result<Vec<Frame>, UnknownFraming> {
    let (mut deframer, mut frames) = (Deframer::default(), Vec::new());
    for part in stream.chunks(step) {
        deframer.push(part, |frame| frames.push(frame))?;
    }
    frames.extend(deframer.finish());
    Ok(frames)
}

fuzz_target!(|data: &[u8]| {
    let whole = frames(data, data.len().max(1));
    assert_eq!(whole, frames(data, 1), "in one part and octet by octet");
    let lines = whole.unwrap_or_default().into_iter().map(|frame| frame.line);
    for line in lines.chain([data.to_vec()]) {
        assert!(line.len() <= MAX_LINE_BYTES || line == data);
        let Some(parsed) = parse(&line) else { continue };
        assert!(!parsed.message.is_empty() && parsed.stage.is_none_or(|stage| !stage.is_empty()));
    }
});
