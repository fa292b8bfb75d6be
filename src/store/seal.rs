//! Encryption at rest (AES-256-GCM), if `store.encryption_key_file` is set.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// Prefix of encrypted text. The JSON of an object cannot begin with it.
const MARK: &str = "sealed:";

/// Encryption with one key (AES-256-GCM).
pub struct Seal {
    key: LessSafeKey,
    random: SystemRandom,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Seal")
    }
}

impl Seal {
    /// Returns the encryption with a key of 256 bits.
    pub fn new(key: &[u8; 32]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        Some(Self { key, random: SystemRandom::new() })
    }

    /// Encrypts a text. `place` is authenticated: the result cannot be moved to another row.
    pub fn close(&self, place: &str, text: &str) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut bytes = text.as_bytes().to_vec();
        let tag = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(tag, Aad::from(place), &mut bytes).ok()?;
        let whole = [nonce.as_slice(), &bytes].concat();
        Some(format!("{MARK}{}", STANDARD.encode(whole)))
    }

    /// Decrypts a text that was encrypted for the same place with the same key.
    pub fn open(&self, place: &str, text: &str) -> Option<String> {
        let mut whole = STANDARD.decode(text.strip_prefix(MARK)?).ok()?;
        let (nonce, bytes) = whole.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.key.open_in_place(nonce, Aad::from(place), bytes).ok()?;
        String::from_utf8(plain.to_vec()).ok()
    }
}

/// Returns whether a text is encrypted.
pub fn is_sealed(text: &str) -> bool {
    text.starts_with(MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_only_in_its_place_and_with_its_key() {
        let seal = Seal::new(&[1; 32]).unwrap();
        let closed = seal.close("BareMetalHost default/a", "{\"secret\":1}").unwrap();
        assert!(is_sealed(&closed) && !closed.contains("secret"));
        assert_eq!(seal.open("BareMetalHost default/a", &closed).as_deref(), Some("{\"secret\":1}"));
        assert_eq!(seal.open("BareMetalHost default/b", &closed), None);
        assert_eq!(Seal::new(&[2; 32]).unwrap().open("BareMetalHost default/a", &closed), None);
        assert_ne!(seal.close("a", "b"), seal.close("a", "b"));
    }
}
