//! The cryptography of RMCP+ sessions (IPMI 2.0, sections 13.28 to 13.32). Pure: the initialization vectors are arguments.

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use ring::hmac;
use subtle::ConstantTimeEq;

use crate::fleet::CipherSuite;

use super::packet::{Header, PacketError, PayloadType, RMCP};

/// Length of a block of AES, in octets.
const BLOCK: usize = 16;
/// The last octet of a packet before its integrity code ("next header").
const NEXT_HEADER: u8 = 0x07;
/// Length of the constants that keys are derived from, in octets.
const CONSTANT_LENGTH: usize = 20;

/// The algorithms of a cipher suite.
pub(super) trait Algorithms {
    /// Returns the numbers of the authentication, integrity and confidentiality algorithms (tables 13-17 to 13-19).
    fn numbers(self) -> [u8; 3];
    /// Returns the hash of all HMACs of the suite.
    fn hash(self) -> hmac::Algorithm;
    /// Returns the length of an integrity code, in octets.
    fn code_length(self) -> usize;
}

impl Algorithms for CipherSuite {
    fn numbers(self) -> [u8; 3] {
        match self {
            Self::Three => [1, 1, 1],
            Self::Seventeen => [3, 4, 1],
        }
    }

    fn hash(self) -> hmac::Algorithm {
        match self {
            Self::Three => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Seventeen => hmac::HMAC_SHA256,
        }
    }

    fn code_length(self) -> usize {
        match self {
            Self::Three => 12,
            Self::Seventeen => 16,
        }
    }
}

/// Returns the HMAC of the concatenation of these parts.
pub(super) fn sign(key: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}

/// Returns whether a code is the begin of a tag of the length that is expected.
pub(super) fn is_code(code: &[u8], tag: &hmac::Tag, length: usize) -> bool {
    tag.as_ref().get(..length).is_some_and(|expected| bool::from(expected.ct_eq(code)))
}

/// The keys of a session.
#[derive(Clone)]
pub struct SessionKeys {
    suite: CipherSuite,
    integrity: hmac::Key,
    cipher: Aes128,
}

impl std::fmt::Debug for SessionKeys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SessionKeys").field("suite", &self.suite).finish_non_exhaustive()
    }
}

impl SessionKeys {
    /// Derives the keys from the session integrity key (section 13.32).
    pub(super) fn derive(suite: CipherSuite, integrity_key: &hmac::Key) -> Self {
        let first = sign(integrity_key, &[&[1; CONSTANT_LENGTH]]);
        let second = sign(integrity_key, &[&[2; CONSTANT_LENGTH]]);
        let key = second.as_ref().first_chunk::<BLOCK>().expect("a tag has 20 octets or more");
        let integrity = hmac::Key::new(suite.hash(), first.as_ref());
        Self { suite, integrity, cipher: Aes128::new(&(*key).into()) }
    }

    /// Returns a packet with an encrypted and signed payload; `None` if the payload is too long.
    pub fn seal(
        &self,
        payload: PayloadType,
        session: u32,
        sequence: u32,
        body: &[u8],
        vector: [u8; BLOCK],
    ) -> Option<Vec<u8>> {
        let encrypted = self.encrypt(body, vector);
        let mut packet = Vec::new();
        Header { is_secured: true, payload, session, sequence }.write(encrypted.len(), &mut packet)?;
        packet.extend(encrypted);
        // What is signed has a multiple of 4 octets, with the length of the padding and the next header.
        let padding = (packet.len() - RMCP.len() + 2).next_multiple_of(4) - (packet.len() - RMCP.len() + 2);
        packet.extend(std::iter::repeat_n(0xff, padding));
        packet.extend([u8::try_from(padding).ok()?, NEXT_HEADER]);
        let tag = sign(&self.integrity, &[&packet[RMCP.len()..]]);
        packet.extend(&tag.as_ref()[..self.suite.code_length()]);
        Some(packet)
    }

    /// Returns the type, the sequence number and the payload of a packet of a session.
    ///
    /// # Errors
    /// It belongs to another session, or is not encrypted and signed with the keys.
    pub fn open(&self, packet: &[u8], session: u32) -> Result<(PayloadType, u32, Vec<u8>), PacketError> {
        let (header, body, _) = Header::read(packet)?;
        if header.session != session {
            return Err(PacketError::Session);
        }
        let signed = packet.len().checked_sub(self.suite.code_length()).ok_or(PacketError::Length)?;
        let (signed, code) = packet.split_at(signed);
        let tag = sign(&self.integrity, &[signed.get(RMCP.len()..).ok_or(PacketError::Length)?]);
        if !header.is_secured || !is_code(code, &tag, self.suite.code_length()) {
            return Err(PacketError::Integrity);
        }
        Ok((header.payload, header.sequence, self.decrypt(body).ok_or(PacketError::Integrity)?))
    }

    /// Returns the vector and the encrypted octets with their padding (section 13.29): 1, 2, 3 and so on, and their number.
    fn encrypt(&self, body: &[u8], vector: [u8; BLOCK]) -> Vec<u8> {
        let mut plain = body.to_vec();
        let padding = (body.len() + 1).next_multiple_of(BLOCK) - (body.len() + 1);
        plain.extend((1_u8..).take(padding));
        plain.push(u8::try_from(padding).expect("less than a block"));
        let mut encrypted = vector.to_vec();
        let mut last = vector;
        for block in plain.as_chunks::<BLOCK>().0 {
            for (octet, plain) in last.iter_mut().zip(block) {
                *octet ^= plain;
            }
            let mut array = last.into();
            self.cipher.encrypt_block(&mut array);
            last = array.into();
            encrypted.extend(last);
        }
        encrypted
    }

    /// Returns the octets that were encrypted.
    fn decrypt(&self, encrypted: &[u8]) -> Option<Vec<u8>> {
        let (vector, body) = encrypted.split_first_chunk::<BLOCK>()?;
        let (blocks, []) = body.as_chunks::<BLOCK>() else { return None };
        let (mut plain, mut last) = (Vec::with_capacity(body.len()), *vector);
        for block in blocks {
            let mut array = (*block).into();
            self.cipher.decrypt_block(&mut array);
            plain.extend(<[u8; BLOCK]>::from(array).iter().zip(last).map(|(octet, before)| octet ^ before));
            last = *block;
        }
        let padding = usize::from(plain.pop()?);
        // Some BMCs fill the padding with other octets: its length alone counts.
        let length = plain.len().checked_sub(padding)?;
        (padding < BLOCK).then(|| plain.truncate(length)).map(|()| plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(suite: CipherSuite) -> SessionKeys {
        SessionKeys::derive(suite, &hmac::Key::new(suite.hash(), b"a session integrity key"))
    }

    #[test]
    fn a_payload_of_any_length_is_opened_as_it_was_sealed() {
        for suite in CipherSuite::ALL {
            for length in 0..70 {
                let body: Vec<u8> = (0..length).collect();
                let packet = keys(suite).seal(PayloadType::Message, 7, 9, &body, [length; 16]).unwrap();
                assert_eq!((packet.len() - 4 - suite.code_length()) % 4, 0, "{suite} {length}");
                assert_eq!(keys(suite).open(&packet, 7), Ok((PayloadType::Message, 9, body)), "{suite} {length}");
            }
        }
    }

    #[test]
    fn a_packet_that_was_changed_is_refused() {
        for suite in CipherSuite::ALL {
            let packet = keys(suite).seal(PayloadType::Message, 7, 9, b"message", [1; 16]).unwrap();
            for at in 0..packet.len() * 8 {
                let mut changed = packet.clone();
                changed[at / 8] ^= 1 << (at % 8);
                assert!(keys(suite).open(&changed, 7).is_err(), "{suite}, bit {at}");
            }
            for length in 0..packet.len() {
                assert!(keys(suite).open(&packet[..length], 7).is_err(), "{suite}, {length} octets");
            }
            assert_eq!(keys(suite).open(&packet, 8), Err(PacketError::Session));
        }
        let packet = keys(CipherSuite::Three).seal(PayloadType::Message, 7, 9, b"message", [1; 16]).unwrap();
        assert!(keys(CipherSuite::Seventeen).open(&packet, 7).is_err());
    }

    #[test]
    fn a_plain_packet_in_a_session_is_refused() {
        let mut packet = Vec::new();
        let header = Header { is_secured: false, payload: PayloadType::Message, session: 7, sequence: 1 };
        header.write(3, &mut packet).unwrap();
        packet.extend(b"abc");
        assert!(matches!(keys(CipherSuite::Three).open(&packet, 7), Err(PacketError::Integrity)));
    }

    #[test]
    fn the_block_cipher_is_the_standards() {
        // FIPS 197, appendix B, as the only block of a payload with 15 octets and no padding would be.
        let cipher =
            Aes128::new(&hex::decode("2b7e151628aed2a6abf7158809cf4f3c").unwrap().as_slice().try_into().unwrap());
        let mut block = hex::decode("3243f6a8885a308d313198a2e0370734").unwrap().as_slice().try_into().unwrap();
        cipher.encrypt_block(&mut block);
        assert_eq!(hex::encode(block), "3925841d02dc09fbdc118597196a0b32");
    }
}
