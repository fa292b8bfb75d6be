//! Encodes a question to DHCPv6 servers, and decodes their answers (RFC 8415, RFC 5970).

use crate::fleet::Mac;

/// Message types (RFC 8415 7.3).
const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REPLY: u8 = 7;
const INFORMATION_REQUEST: u8 = 11;
/// Options (RFC 8415 21, RFC 5970 3).
const CLIENT_IDENTIFIER: u16 = 1;
const ADDRESSES: u16 = 3;
const OPTION_REQUEST: u16 = 6;
const ELAPSED_TIME: u16 = 8;
const BOOT_FILE: u16 = 59;
const CLIENT_ARCHITECTURE: u16 = 61;
/// The architecture of x86-64 UEFI, which most servers have a boot file for.
const X64_UEFI: u16 = 7;
/// Octets before the options: the type, and the transaction.
const HEADER: usize = 4;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAnswer {
    /// The boot file that it names.
    pub boot_file: Option<String>,
}

/// Returns the questions: a SOLICIT, which no request follows, and an INFORMATION-REQUEST for a server that gives no
/// addresses. Neither has the vendor class of firmware, so that another bootlatch does not take them for a machine's.
pub fn questions(mac: Mac, transaction: [u8; 3]) -> [Vec<u8>; 2] {
    let message = |kind: u8, more: &[(u16, &[u8])]| {
        let [a, b, c] = transaction;
        let duid = [&[0, 3, 0, 1][..], &mac.0].concat();
        let own: [(u16, &[u8]); 4] = [
            (CLIENT_IDENTIFIER, &duid),
            (ELAPSED_TIME, &[0, 0]),
            (OPTION_REQUEST, &BOOT_FILE.to_be_bytes()),
            (CLIENT_ARCHITECTURE, &X64_UEFI.to_be_bytes()),
        ];
        let mut bytes = vec![kind, a, b, c];
        for (code, value) in own.iter().chain(more) {
            bytes.extend(code.to_be_bytes());
            bytes.extend(u16::try_from(value.len()).unwrap_or_default().to_be_bytes());
            bytes.extend(*value);
        }
        bytes
    };
    [message(SOLICIT, &[(ADDRESSES, &[0; 12])]), message(INFORMATION_REQUEST, &[])]
}

/// Decodes an answer to a transaction; `None` if it is none.
pub fn answer(bytes: &[u8], transaction: [u8; 3]) -> Option<ServerAnswer> {
    let (head, mut options) = bytes.split_first_chunk::<HEADER>()?;
    if ![ADVERTISE, REPLY].contains(&head[0]) || head[1..] != transaction {
        return None;
    }
    let mut boot_file = None;
    while let Some((head, rest)) = options.split_first_chunk::<4>() {
        let [code, length] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_be_bytes);
        let (value, rest) = rest.split_at_checked(usize::from(length))?;
        if code == BOOT_FILE && !value.is_empty() {
            boot_file = Some(String::from_utf8_lossy(value).into_owned());
        }
        options = rest;
    }
    Some(ServerAnswer { boot_file })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcpv6::message::FirmwareMessage;

    const TRANSACTION: [u8; 3] = [1, 2, 3];

    #[test]
    fn an_answer_to_the_question_is_decoded() {
        let boot = [&[2, 1, 2, 3, 0, 2, 0, 1, 9, 0, 59, 0, 3][..], b"a/b"].concat();
        assert_eq!(answer(&boot, TRANSACTION), Some(ServerAnswer { boot_file: Some("a/b".to_owned()) }));
        assert_eq!(answer(&[7, 1, 2, 3], TRANSACTION), Some(ServerAnswer { boot_file: None }));
        for other in [&[][..], &[2, 1, 2], &[1, 1, 2, 3], &[2, 1, 2, 4], &[2, 1, 2, 3, 0, 59, 0, 9, 1]] {
            assert_eq!(answer(other, TRANSACTION), None, "{other:?}");
        }
    }

    #[test]
    fn the_questions_are_not_those_of_firmware() {
        for question in questions(Mac([2, 0, 0, 0, 0, 1]), TRANSACTION) {
            assert_eq!(question.get(1..4), Some(&TRANSACTION[..]));
            assert!(FirmwareMessage::parse(&question).is_err());
        }
    }
}
