//! Protobuf messages: a field that was encoded is found, and no bytes give another field.
#![no_main]

use bootlatch::api::objects::protobuf::{field, object};
use libfuzzer_sys::fuzz_target;

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Encodes a field of each wire type from the bytes, and returns the value of each length-delimited field.
fn encode<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Vec<(u64, &'a [u8])> {
    let mut texts = Vec::new();
    while let [kind, number, length, tail @ ..] = rest {
        let (value, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let number = u64::from(*number) << (*kind >> 4);
        let mut eight = [0; 8];
        eight[..value.len().min(8)].copy_from_slice(&value[..value.len().min(8)]);
        let wire_type = [0, 1, 2, 5][usize::from(kind & 3)];
        varint(number << 3 | wire_type, out);
        match wire_type {
            0 => varint(u64::from_le_bytes(eight), out),
            1 => out.extend(eight),
            5 => out.extend(&eight[..4]),
            _ => {
                varint(value.len() as u64, out);
                out.extend(value);
                texts.push((number, value));
            }
        }
    }
    texts
}

fuzz_target!(|data: &[u8]| {
    let Some((how, data)) = data.split_first() else { return };
    // Any bytes: two messages one after the other are one message, in which the last field counts (proto3, "Last one
    // wins").
    let (first, second) = data.split_at(usize::from(*how).min(data.len()));
    for number in [1, 2, 15, 16] {
        if let (Some(before), Some(after)) = (field(first, number), field(second, number)) {
            assert_eq!(field(data, number), Some(after.or(before)));
        }
        if let Some(Some(found)) = field(data, number) {
            assert!(data.as_ptr_range().contains(&found.as_ptr()) || found.is_empty());
        }
    }
    let _ = object(data);
    // What is encoded is decoded, and a cut in the middle of a field is refused.
    let mut message = Vec::new();
    let texts = encode(data, &mut message);
    for (number, _) in &texts {
        let last = texts.iter().rev().find(|(other, _)| other == number).map(|(_, value)| *value);
        assert_eq!(field(&message, *number), Some(last));
    }
    assert_eq!(field(&message, u64::from(u32::MAX)), Some(None), "no such field was encoded");
    if let Some((_, value)) = texts.last().filter(|(_, value)| !value.is_empty() && message.ends_with(value)) {
        assert_eq!(field(&message[..message.len() - 1], 1), None, "cut in {} bytes", value.len());
    }
    let unknown =
        [b"k8s\0\x0a\x02v1\x12", &[message.len() as u8 | 0x80, (message.len() >> 7) as u8 & 0x7f][..], &message]
            .concat();
    if message.len() < 1 << 14 {
        assert_eq!(object(&unknown), Some(&message[..]));
    }
});
