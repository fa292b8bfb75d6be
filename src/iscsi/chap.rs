//! CHAP authentication, one-way and mutual (RFC 7143 12.1.3, RFC 1994).

use std::fmt;

use sha2::Digest;

use super::keys;
use super::text;

/// The credentials that a target demands, and those that it proves itself with.
#[derive(Clone, PartialEq, Eq)]
pub struct ChapTerms {
    /// The name of the initiator.
    pub name: String,
    /// The secret of the initiator, 12 bytes or more (RFC 7143 12.1.3).
    pub secret: Vec<u8>,
    /// The target's own name and secret, for mutual authentication.
    pub ours: Option<(String, Vec<u8>)>,
}

impl fmt::Debug for ChapTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChapTerms")
            .field("name", &self.name)
            .field("mutual", &self.ours.is_some())
            .finish_non_exhaustive()
    }
}

/// An unpredictable challenge: an identifier and random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce {
    /// The CHAP identifier.
    pub id: u8,
    /// The challenge.
    pub challenge: [u8; 16],
}

/// The hash functions, by CHAP algorithm number (IANA "PPP Authentication Algorithms").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// MD5, number 5, which every initiator supports.
    Md5,
    /// SHA-256, number 7.
    Sha256,
}

impl Algorithm {
    fn number(self) -> &'static str {
        match self {
            Self::Md5 => "5",
            Self::Sha256 => "7",
        }
    }

    /// Returns the response to a challenge.
    #[must_use]
    pub fn response(self, id: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => hash::<md5::Md5>(id, secret, challenge),
            Self::Sha256 => hash::<sha2::Sha256>(id, secret, challenge),
        }
    }
}

fn hash<D: Digest>(id: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
    D::new().chain_update([id]).chain_update(secret).chain_update(challenge).finalize().to_vec()
}

/// The reason an authentication failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChapError {
    /// The initiator offers no supported algorithm.
    #[error("no common CHAP algorithm")]
    Algorithm,
    /// A key is missing or invalid at this point of the exchange.
    #[error("CHAP keys out of order")]
    Order,
    /// The name or the response is wrong.
    #[error("wrong CHAP name or secret")]
    Secret,
    /// The initiator demands mutual authentication, and no secret is configured for the target.
    #[error("mutual CHAP demanded, but no target secret is configured")]
    NoMutual,
    /// The initiator returned our own challenge (RFC 7143 12.1.3).
    #[error("the initiator returned our own CHAP challenge")]
    Reflected,
}

/// The keys and values of an answer.
pub type ChapAnswer = Vec<(&'static str, String)>;

/// The state of an exchange.
#[derive(Debug, PartialEq, Eq)]
pub enum ChapExchange {
    /// CHAP was chosen; the initiator sends its algorithms next.
    Chosen,
    /// The challenge was sent.
    Challenged(Algorithm),
    /// The initiator is authenticated.
    Proven,
}

impl ChapExchange {
    /// Handles the initiator's CHAP keys and returns the next state with the keys to answer.
    ///
    /// # Errors
    /// The initiator did not prove its claim: the login fails.
    pub fn advance(
        self,
        terms: &ChapTerms,
        nonce: &Nonce,
        pairs: &[(String, String)],
    ) -> Result<(Self, ChapAnswer), ChapError> {
        match self {
            Self::Chosen => challenge(nonce, pairs),
            Self::Challenged(algorithm) => prove(algorithm, terms, nonce, pairs),
            Self::Proven => Ok((Self::Proven, Vec::new())),
        }
    }
}

fn challenge(nonce: &Nonce, pairs: &[(String, String)]) -> Result<(ChapExchange, ChapAnswer), ChapError> {
    let Some(offered) = value_of(pairs, "CHAP_A") else {
        return Ok((ChapExchange::Chosen, Vec::new()));
    };
    let algorithm = match keys::list(offered, &["5", "7"]) {
        Some("5") => Algorithm::Md5,
        Some(_) => Algorithm::Sha256,
        None => return Err(ChapError::Algorithm),
    };
    let answers = vec![
        ("CHAP_A", algorithm.number().to_owned()),
        ("CHAP_I", nonce.id.to_string()),
        ("CHAP_C", text::hex(&nonce.challenge)),
    ];
    Ok((ChapExchange::Challenged(algorithm), answers))
}

fn prove(
    algorithm: Algorithm,
    terms: &ChapTerms,
    nonce: &Nonce,
    pairs: &[(String, String)],
) -> Result<(ChapExchange, ChapAnswer), ChapError> {
    let name = value_of(pairs, "CHAP_N").ok_or(ChapError::Order)?;
    let response = value_of(pairs, "CHAP_R").and_then(text::parse_binary).ok_or(ChapError::Order)?;
    let wanted = algorithm.response(nonce.id, &terms.secret, &nonce.challenge);
    if name != terms.name || !same(&response, &wanted) {
        return Err(ChapError::Secret);
    }
    let (id, theirs) = match (value_of(pairs, "CHAP_I"), value_of(pairs, "CHAP_C")) {
        (None, None) => return Ok((ChapExchange::Proven, Vec::new())),
        (Some(id), Some(challenge)) => (id, challenge),
        _ => return Err(ChapError::Order),
    };
    let id = text::parse_number(id).and_then(|id| u8::try_from(id).ok()).ok_or(ChapError::Order)?;
    let theirs = text::parse_binary(theirs).filter(|bytes| bytes.len() <= 1024).ok_or(ChapError::Order)?;
    if theirs == nonce.challenge {
        return Err(ChapError::Reflected);
    }
    let (our_name, our_secret) = terms.ours.as_ref().ok_or(ChapError::NoMutual)?;
    let response = text::hex(&algorithm.response(id, our_secret, &theirs));
    Ok((ChapExchange::Proven, vec![("CHAP_N", our_name.clone()), ("CHAP_R", response)]))
}

fn value_of<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// Compares in constant time.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |wrong, (a, b)| wrong | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = Nonce { id: 7, challenge: [9; 16] };

    fn terms() -> ChapTerms {
        let ours = Some(("target".to_owned(), b"secret-of-target".to_vec()));
        ChapTerms { name: "host".to_owned(), secret: b"secret-of-host".to_vec(), ours }
    }

    fn pairs(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn md5_is_that_of_rfc_1994() {
        // MD5 of 0x01 "secret" "challenge", computed by coreutils' md5sum.
        let response = Algorithm::Md5.response(1, b"secret", b"challenge");
        assert_eq!(text::hex(&response), "0x46e47770030e2b4e26a0db72a7efec00");
    }

    #[test]
    fn the_right_secret_is_accepted_and_answered() {
        for (offer, algorithm) in [("5", Algorithm::Md5), ("8,7,5", Algorithm::Sha256)] {
            let (state, answers) =
                ChapExchange::Chosen.advance(&terms(), &NONCE, &pairs(&[("CHAP_A", offer)])).unwrap();
            assert_eq!(state, ChapExchange::Challenged(algorithm));
            assert_eq!(answers[1..], [("CHAP_I", "7".into()), ("CHAP_C", text::hex(&[9; 16]))]);
            let response = text::hex(&algorithm.response(7, b"secret-of-host", &[9; 16]));
            let proof = pairs(&[("CHAP_N", "host"), ("CHAP_R", &response), ("CHAP_I", "3"), ("CHAP_C", "0x0102")]);
            let (state, answers) = state.advance(&terms(), &NONCE, &proof).unwrap();
            assert_eq!(state, ChapExchange::Proven);
            let ours = text::hex(&algorithm.response(3, b"secret-of-target", &[1, 2]));
            assert_eq!(answers, [("CHAP_N", "target".into()), ("CHAP_R", ours)]);
        }
    }

    #[test]
    fn a_wrong_secret_is_refused() {
        let right = text::hex(&Algorithm::Md5.response(7, b"secret-of-host", &[9; 16]));
        let wrong = text::hex(&Algorithm::Md5.response(7, b"guess", &[9; 16]));
        let ours = text::hex(&NONCE.challenge);
        let no_mutual = ChapTerms { ours: None, ..terms() };
        for (terms, rows, why) in [
            (terms(), vec![("CHAP_N", "host"), ("CHAP_R", wrong.as_str())], ChapError::Secret),
            (terms(), vec![("CHAP_N", "guest"), ("CHAP_R", &right)], ChapError::Secret),
            (terms(), vec![("CHAP_N", "host")], ChapError::Order),
            (terms(), vec![("CHAP_N", "host"), ("CHAP_R", &right), ("CHAP_I", "1")], ChapError::Order),
            (
                terms(),
                vec![("CHAP_N", "host"), ("CHAP_R", &right), ("CHAP_I", "1"), ("CHAP_C", &ours)],
                ChapError::Reflected,
            ),
            (
                no_mutual,
                vec![("CHAP_N", "host"), ("CHAP_R", &right), ("CHAP_I", "1"), ("CHAP_C", "0x01")],
                ChapError::NoMutual,
            ),
        ] {
            let state = ChapExchange::Challenged(Algorithm::Md5);
            assert_eq!(state.advance(&terms, &NONCE, &pairs(&rows)), Err(why));
        }
        assert_eq!(
            ChapExchange::Chosen.advance(&terms(), &NONCE, &pairs(&[("CHAP_A", "6")])),
            Err(ChapError::Algorithm)
        );
    }

    #[test]
    fn secrets_do_not_reach_the_log() {
        assert!(!format!("{:?}", terms()).contains("secret-of"));
    }
}
