//! The login of an RMCP+ session: Open Session and RAKP 1 to 4 (IPMI 2.0, sections 13.17 to 13.24). Pure: session IDs and
//! random numbers are arguments.

use ring::hmac;

use crate::fleet::{CipherSuite, PrivilegeLevel};

use super::cipher::{Algorithms, SessionKeys, is_code, sign};

/// Maximum length of a user name, in octets (section 22.28).
pub const MAX_USERNAME: usize = 16;
/// Maximum length of a password, in octets (section 22.30).
pub const MAX_PASSWORD: usize = 20;
/// The bit of the role in RAKP 1 for a look-up by the name alone: users of one name and several levels do not exist.
const BY_NAME: u8 = 0x10;
/// The status of a wrong integrity code, as RAKP 3 reports it.
const INVALID_CODE: u8 = 0x0f;

/// The reason that a login failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The BMC and this client derive different keys from the password.
    #[error("the password is wrong")]
    WrongPassword,
    /// The BMC has no such user, or none that may log in over the network.
    #[error("no such user, or one who may not log in over the network")]
    NoSuchUser,
    /// The user may not have the privilege level.
    #[error("the user may not have this privilege level")]
    Privilege,
    /// All sessions are in use.
    #[error("all of its sessions are in use")]
    NoResources,
    /// The BMC does not support the cipher suite.
    #[error("the cipher suite is not supported")]
    CipherSuite,
    /// The BMC answered with other algorithms than those that were asked for.
    #[error("it answered with other algorithms than those of the cipher suite")]
    OtherAlgorithms,
    /// Another status (table 13-15).
    #[error("RMCP+ status {0:#04x}")]
    Status(u8),
    /// Not the reply to this login; another one may follow.
    #[error("not the reply to this login")]
    Unrelated,
}

impl LoginError {
    /// Returns the error of a status; `Ok` for 0.
    fn check(status: u8) -> Result<(), Self> {
        Err(match status {
            0x00 => return Ok(()),
            0x01 | 0x0b => Self::NoResources,
            0x04 | 0x05 | 0x10 | 0x11 => Self::CipherSuite,
            0x09 | 0x0a => Self::Privilege,
            0x0c | 0x0d => Self::NoSuchUser,
            INVALID_CODE => Self::WrongPassword,
            other => Self::Status(other),
        })
    }
}

/// Returns the number of a privilege level.
pub fn privilege_number(level: PrivilegeLevel) -> u8 {
    match level {
        PrivilegeLevel::User => 2,
        PrivilegeLevel::Operator => 3,
        PrivilegeLevel::Administrator => 4,
    }
}

/// A login: who logs in, and what the console chose for the session.
#[derive(Clone)]
pub struct Login {
    /// The cipher suite.
    pub suite: CipherSuite,
    /// The privilege level.
    pub privilege: PrivilegeLevel,
    /// The user name; at most `MAX_USERNAME` octets.
    pub username: String,
    /// The password; at most `MAX_PASSWORD` octets.
    pub password: Vec<u8>,
    /// The console's ID of the session; not 0.
    pub session: u32,
    /// The console's random number.
    pub random: [u8; 16],
}

impl std::fmt::Debug for Login {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { suite, privilege, username, .. } = self;
        out.debug_struct("Login")
            .field("suite", suite)
            .field("privilege", privilege)
            .field("username", username)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// Returns the payload of the Open Session Request.
    pub fn open_request(&self, tag: u8) -> Vec<u8> {
        let mut payload = vec![tag, privilege_number(self.privilege), 0, 0];
        payload.extend(self.session.to_le_bytes());
        for (kind, algorithm) in (0_u8..).zip(self.suite.numbers()) {
            payload.extend([kind, 0, 0, 8, algorithm, 0, 0, 0]);
        }
        payload
    }

    /// Reads the payload of the Open Session Response. Returns the BMC's ID of the session.
    ///
    /// # Errors
    /// The BMC refuses; or `Unrelated`.
    pub fn read_open_response(&self, tag: u8, payload: &[u8]) -> Result<u32, LoginError> {
        let [reply_tag, status, ..] = payload else { return Err(LoginError::Unrelated) };
        if *reply_tag != tag || (payload.len() >= 8 && payload[4..8] != self.session.to_le_bytes()) {
            return Err(LoginError::Unrelated);
        }
        LoginError::check(*status)?;
        let (Some(session), Some(algorithms)) = (payload.get(8..12), payload.get(12..36)) else {
            return Err(LoginError::Unrelated);
        };
        let numbers = [algorithms[4] & 0x3f, algorithms[12] & 0x3f, algorithms[20] & 0x3f];
        if numbers != self.suite.numbers() {
            return Err(LoginError::OtherAlgorithms);
        }
        Ok(u32::from_le_bytes([session[0], session[1], session[2], session[3]]))
    }

    /// Returns the payload of RAKP 1.
    pub fn rakp1(&self, tag: u8, bmc_session: u32) -> Vec<u8> {
        let mut payload = vec![tag, 0, 0, 0];
        payload.extend(bmc_session.to_le_bytes());
        payload.extend(self.random);
        payload.extend([self.role(), 0, 0, self.name_length()]);
        payload.extend(self.username.as_bytes());
        payload
    }

    /// Reads the payload of RAKP 2, which proves that the BMC knows the password.
    ///
    /// # Errors
    /// The BMC refuses, or does not know the password; or `Unrelated`.
    pub fn read_rakp2(&self, tag: u8, bmc_session: u32, payload: &[u8]) -> Result<ProvenBmc, LoginError> {
        let [reply_tag, status, ..] = payload else { return Err(LoginError::Unrelated) };
        if *reply_tag != tag || (payload.len() >= 8 && payload[4..8] != self.session.to_le_bytes()) {
            return Err(LoginError::Unrelated);
        }
        LoginError::check(*status)?;
        let code_length = self.suite.hash().digest_algorithm().output_len();
        let (Some(random), Some(guid), Some(code)) = (payload.get(8..24), payload.get(24..40), payload.get(40..))
        else {
            return Err(LoginError::Unrelated);
        };
        let user_key = hmac::Key::new(self.suite.hash(), &self.password);
        let (console, bmc) = (self.session.to_le_bytes(), bmc_session.to_le_bytes());
        let name = [&[self.role(), self.name_length()], self.username.as_bytes()].concat();
        let tag = sign(&user_key, &[&console, &bmc, &self.random, random, guid, &name]);
        if !is_code(code, &tag, code_length) {
            return Err(LoginError::WrongPassword);
        }
        let proof = sign(&user_key, &[random, &console, &name]);
        // Without a BMC key (K_G), the user's key takes its place.
        let integrity_key = sign(&user_key, &[&self.random, random, &name]);
        let integrity_key = hmac::Key::new(self.suite.hash(), integrity_key.as_ref());
        let confirmation = sign(&integrity_key, &[&self.random, &bmc, guid]);
        let Self { suite, session, .. } = *self;
        Ok(ProvenBmc { suite, session, bmc_session, proof, integrity_key, confirmation })
    }

    fn role(&self) -> u8 {
        BY_NAME | privilege_number(self.privilege)
    }

    fn name_length(&self) -> u8 {
        u8::try_from(self.username.len()).unwrap_or(u8::MAX)
    }
}

/// Returns the payload of a RAKP 3 that ends a login whose RAKP 2 has a wrong code, so that the BMC frees its session.
pub fn rakp3_failure(tag: u8, bmc_session: u32) -> Vec<u8> {
    let mut payload = vec![tag, INVALID_CODE, 0, 0];
    payload.extend(bmc_session.to_le_bytes());
    payload
}

/// A login with a BMC that proved that it knows the password.
#[derive(Debug, Clone)]
pub struct ProvenBmc {
    suite: CipherSuite,
    session: u32,
    bmc_session: u32,
    proof: hmac::Tag,
    integrity_key: hmac::Key,
    confirmation: hmac::Tag,
}

impl ProvenBmc {
    /// Returns the payload of RAKP 3, which proves that the console knows the password.
    pub fn rakp3(&self, tag: u8) -> Vec<u8> {
        let mut payload = vec![tag, 0, 0, 0];
        payload.extend(self.bmc_session.to_le_bytes());
        payload.extend(self.proof.as_ref());
        payload
    }

    /// Reads the payload of RAKP 4. Returns the keys of the session.
    ///
    /// # Errors
    /// The BMC refuses, or derived other keys; or `Unrelated`.
    pub fn read_rakp4(&self, tag: u8, payload: &[u8]) -> Result<SessionKeys, LoginError> {
        let [reply_tag, status, ..] = payload else { return Err(LoginError::Unrelated) };
        if *reply_tag != tag || (payload.len() >= 8 && payload[4..8] != self.session.to_le_bytes()) {
            return Err(LoginError::Unrelated);
        }
        LoginError::check(*status)?;
        let suite = self.suite;
        let code = payload.get(8..).ok_or(LoginError::Unrelated)?;
        match is_code(code, &self.confirmation, suite.code_length()) {
            true => Ok(SessionKeys::derive(suite, &self.integrity_key)),
            // It proved before that it knows the password.
            false => Err(LoginError::OtherAlgorithms),
        }
    }
}
