//! The options of a DHCP message.

/// Length of a message's fixed part and the magic number after it, in octets.
pub const FIXED: usize = 240;

/// Returns the value of an option.
pub fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = message.get(FIXED..)?;
    loop {
        match rest {
            [0, tail @ ..] => rest = tail,
            [255, ..] => return None,
            [code, length, tail @ ..] => {
                let value = tail.get(..usize::from(*length))?;
                if *code == wanted {
                    return Some(value);
                }
                rest = &tail[value.len()..];
            }
            _ => return None,
        }
    }
}
