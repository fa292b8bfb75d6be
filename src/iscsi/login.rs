//! The login phase (RFC 7143 6): stages, keys and authentication.
//!
//! The login is a pure exchange: requests in, responses out. The caller decides about the claim once the names are
//! known ([`LoginProgress::Ask`]), before any authentication.

use super::chap::{ChapError, ChapExchange, ChapTerms, Nonce};
use super::keys::{self, Params};
use super::limits;
use super::pdu::{Header, Pdu, TargetOpcode};
use super::text::{self, KeyAnswers, TextError};
use crate::fleet::rules::MAX_ISCSI_NAME_LENGTH;
use crate::fleet::text::is_printable;

/// The claim of an initiator in its first login request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// InitiatorName, in lower case.
    pub initiator: String,
    /// TargetName, in lower case; none in a discovery session.
    pub target: Option<String>,
    /// The initiator's session identifier (ISID).
    pub isid: [u8; 6],
    /// Whether the session only lists the targets (SessionType=Discovery).
    pub discovery: bool,
}

/// The caller's decision about a [`Claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginDecision {
    /// The login continues, after CHAP if terms are given.
    Admit(Option<ChapTerms>),
    /// The target is elsewhere.
    Redirect {
        /// The portal: `host:port`, an IPv6 address in brackets.
        portal: String,
        /// Whether it stays there.
        permanent: bool,
    },
    /// The login fails.
    Refuse(LoginRefusal),
}

/// Status class and detail of a login that the caller refuses (RFC 7143 11.13.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginRefusal {
    /// 0x0202: the initiator may not attach this target.
    #[error("the initiator may not attach this target")]
    Forbidden,
    /// 0x0203: no such target.
    #[error("no such target")]
    NotFound,
    /// 0x0301: the target exists and cannot be served now.
    #[error("the target cannot be served now")]
    Unavailable,
    /// 0x0302: too many sessions.
    #[error("too many sessions")]
    OutOfResources,
}

/// The reason a login ended without a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The caller refused.
    #[error("refused: {0}")]
    Refused(LoginRefusal),
    /// The initiator was sent to another portal.
    #[error("redirected to {portal}")]
    Redirected {
        /// The portal's `host:port`.
        portal: String,
        /// Whether for good.
        permanent: bool,
    },
    /// Authentication failed.
    #[error("authentication: {0}")]
    Chap(#[from] ChapError),
    /// CHAP is required, and the initiator does not offer it or skips the stage.
    #[error("authentication not offered")]
    NoChap,
    /// A stage, flag or key that the RFC forbids at this point.
    #[error("protocol: {0}")]
    Protocol(&'static str),
    /// The data segment is no valid text.
    #[error("text: {0}")]
    Text(#[from] TextError),
    /// InitiatorName or TargetName is missing.
    #[error("missing {0}")]
    Missing(&'static str),
    /// The initiator supports other protocol versions only.
    #[error("unsupported protocol version: the initiator needs {0} or higher")]
    Version(u8),
    /// A session type that is neither Normal nor Discovery.
    #[error("unknown session type")]
    SessionType,
    /// A second connection for a session, which is not supported.
    #[error("no session with TSIH {0}")]
    NoSession(u16),
}

impl LoginError {
    /// Returns the status class and detail.
    #[must_use]
    pub fn status(&self) -> [u8; 2] {
        match self {
            Self::Redirected { permanent, .. } => [1, 1 + u8::from(*permanent)],
            Self::Protocol(_) | Self::Text(_) => [2, 0],
            Self::Chap(_) | Self::NoChap => [2, 1],
            Self::Refused(LoginRefusal::Forbidden) => [2, 2],
            Self::Refused(LoginRefusal::NotFound) => [2, 3],
            Self::Refused(LoginRefusal::Unavailable) => [3, 1],
            Self::Refused(LoginRefusal::OutOfResources) => [3, 2],
            Self::Version(_) => [2, 5],
            Self::Missing(_) => [2, 7],
            Self::SessionType => [2, 9],
            Self::NoSession(_) => [2, 10],
        }
    }
}

/// The next action after a login request.
#[derive(Debug)]
pub enum LoginProgress {
    /// Send this response and wait for the next request.
    Respond(Header, Vec<u8>),
    /// Decide about the claim, then call [`Login::on_decision`].
    Ask(Claim),
    /// The login is complete: allocate a session handle, then call [`Login::finish`].
    Complete(Claim),
    /// Nothing: the call was unexpected.
    Ignore,
    /// Send this response and end the connection.
    Fail(Header, Vec<u8>, LoginError),
}

const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// A login in progress.
#[derive(Debug, Default)]
pub struct Login {
    params: Params,
    claim: Option<Claim>,
    admitted: bool,
    terms: Option<(ChapTerms, Nonce)>,
    chap: Option<ChapExchange>,
    authenticated: bool,
    stage: Option<u8>,
    request: LoginRequest,
    gathered: Vec<u8>,
    opening: Vec<(String, String)>,
    seen: Vec<String>,
    answers: KeyAnswers,
    portal_group_sent: bool,
    rounds: u32,
    stat_sn: u32,
}

/// The fields of the last login request that its response repeats or depends on.
#[derive(Debug, Clone, Copy, Default)]
struct LoginRequest {
    flags: u8,
    isid: [u8; 6],
    tsih: u16,
    tag: u32,
    cmd_sn: u32,
    version_min: u8,
}

/// The result of a finished login.
#[derive(Debug)]
pub struct Established {
    /// The claim, now proved.
    pub claim: Claim,
    /// The negotiated values.
    pub params: Params,
    /// The number of the first command (CmdSN).
    pub cmd_sn: u32,
    /// The number of the next status (StatSN).
    pub stat_sn: u32,
}

impl Login {
    /// Handles a login request.
    pub fn on_request(&mut self, pdu: &Pdu<'_>) -> LoginProgress {
        let result = self.request(pdu);
        self.settle(result)
    }

    /// Accepts the answer to [`LoginProgress::Ask`]; the nonce is drawn only for a CHAP challenge.
    pub fn on_decision(&mut self, admission: LoginDecision, nonce: impl FnOnce() -> Nonce) -> LoginProgress {
        let result = self.admit(admission, nonce);
        self.settle(result)
    }

    /// Returns the last response, with the session handle, and the result of the login.
    #[must_use]
    pub fn finish(mut self, tsih: u16) -> Option<(Header, Vec<u8>, Established)> {
        self.request.tsih = tsih;
        let header = self.response(0x80 | self.request.flags & 0x0f, [0, 0]);
        let text = std::mem::take(&mut self.answers).into_bytes();
        let established =
            Established { claim: self.claim?, params: self.params, cmd_sn: self.request.cmd_sn, stat_sn: self.stat_sn };
        Some((header, text, established))
    }

    fn settle(&mut self, result: Result<LoginProgress, LoginError>) -> LoginProgress {
        result.unwrap_or_else(|error| {
            let mut answers = KeyAnswers::default();
            if let LoginError::Redirected { portal, .. } = &error {
                answers.add("TargetAddress", portal);
            }
            let mut header = self.response(self.request.flags & 0x0c, error.status());
            header.0[1] &= 0x7f;
            LoginProgress::Fail(header, answers.into_bytes(), error)
        })
    }

    fn request(&mut self, pdu: &Pdu<'_>) -> Result<LoginProgress, LoginError> {
        let first = self.stage.is_none();
        self.read_header(&pdu.header, first);
        if self.request.version_min > 0 {
            return Err(LoginError::Version(self.request.version_min));
        }
        self.rounds += 1;
        if self.rounds > limits::MAX_LOGIN_REQUESTS || self.gathered.len() + pdu.data.len() > limits::MAX_TEXT_BYTES {
            return Err(LoginError::Protocol("too many login requests or too much text"));
        }
        self.check_stage()?;
        if first && self.request.tsih != 0 {
            return Err(LoginError::NoSession(self.request.tsih));
        }
        self.gathered.extend_from_slice(pdu.data);
        if self.request.flags & 0x40 != 0 {
            return Ok(self.say(false));
        }
        let gathered = std::mem::take(&mut self.gathered);
        let pairs: Vec<(String, String)> =
            text::parse(&gathered)?.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        for (key, _) in &pairs {
            // A key is negotiated once a login (RFC 7143 6.3).
            if self.seen.contains(key) {
                return Err(LoginError::Protocol("a key was sent twice"));
            }
            self.seen.push(key.clone());
        }
        if self.claim.is_none() {
            let claim = claim(&pairs, self.request.isid)?;
            self.claim = Some(claim.clone());
            self.opening = pairs;
            return Ok(LoginProgress::Ask(claim));
        }
        self.negotiate(&pairs)
    }

    fn read_header(&mut self, header: &Header, first: bool) {
        let mut isid = [0; 6];
        isid.copy_from_slice(&header.0[8..14]);
        if first {
            // The status numbers start at the value that the initiator expects.
            self.stat_sn = header.word(28);
        }
        self.request = LoginRequest {
            flags: header.flags(),
            isid,
            tsih: header.half(14),
            tag: header.task_tag(),
            cmd_sn: header.word(24),
            version_min: header.0[3],
        };
    }

    /// Checks the stages of a request: the current one must match, and the next one must follow (RFC 7143 11.12.3).
    fn check_stage(&mut self) -> Result<(), LoginError> {
        let (current, next) = (self.request.flags >> 2 & 3, self.request.flags & 3);
        let (transit, more) = (self.request.flags & 0x80 != 0, self.request.flags & 0x40 != 0);
        if current > OPERATIONAL || self.stage.is_some_and(|stage| stage != current) {
            return Err(LoginError::Protocol("not the current stage"));
        }
        if transit && (more || next <= current || !matches!(next, OPERATIONAL | FULL_FEATURE)) {
            return Err(LoginError::Protocol("an invalid next stage"));
        }
        self.stage = Some(current);
        Ok(())
    }

    fn admit(&mut self, admission: LoginDecision, nonce: impl FnOnce() -> Nonce) -> Result<LoginProgress, LoginError> {
        match admission {
            LoginDecision::Refuse(refusal) => return Err(LoginError::Refused(refusal)),
            LoginDecision::Redirect { portal, permanent } => return Err(LoginError::Redirected { portal, permanent }),
            LoginDecision::Admit(terms) => self.terms = terms.map(|terms| (terms, nonce())),
        }
        self.admitted = true;
        self.authenticated = self.terms.is_none();
        let opening = std::mem::take(&mut self.opening);
        self.negotiate(&opening)
    }

    fn negotiate(&mut self, pairs: &[(String, String)]) -> Result<LoginProgress, LoginError> {
        if !self.admitted {
            return Err(LoginError::Protocol("a negotiation before the login was decided"));
        }
        if self.stage == Some(OPERATIONAL) && !self.authenticated {
            return Err(LoginError::NoChap);
        }
        self.add_portal_group();
        let mut security = Vec::new();
        for (key, value) in pairs {
            match key.as_str() {
                "InitiatorName" | "TargetName" | "SessionType" | "InitiatorAlias" => {}
                "AuthMethod" => self.choose_auth_method(value)?,
                "CHAP_A" | "CHAP_N" | "CHAP_R" | "CHAP_I" | "CHAP_C" => security.push((key.clone(), value.clone())),
                _ => {
                    if let Some(answer) = self.params.negotiate(key, value) {
                        self.answers.add(key, &answer);
                    }
                }
            }
        }
        self.authenticate(&security)?;
        if self.stage == Some(OPERATIONAL)
            && let Some(ours) = self.params.declare_ours()
        {
            self.answers.add("MaxRecvDataSegmentLength", &ours);
        }
        self.step()
    }

    /// Adds the portal group to the first response of a normal session (RFC 7143 13.9).
    fn add_portal_group(&mut self) {
        let normal = self.claim.as_ref().is_some_and(|claim| !claim.discovery);
        if normal && !std::mem::replace(&mut self.portal_group_sent, true) {
            self.answers.add("TargetPortalGroupTag", "1");
        }
    }

    fn choose_auth_method(&mut self, offered: &str) -> Result<(), LoginError> {
        let ours: &[&str] = if self.terms.is_some() { &["CHAP"] } else { &["None"] };
        let Some(method) = keys::list(offered, ours) else {
            return Err(LoginError::NoChap);
        };
        self.answers.add("AuthMethod", method);
        if method == "CHAP" {
            self.chap = Some(ChapExchange::Chosen);
        }
        Ok(())
    }

    fn authenticate(&mut self, pairs: &[(String, String)]) -> Result<(), LoginError> {
        let (Some(chap), Some((terms, nonce))) = (self.chap.take(), &self.terms) else {
            return if pairs.is_empty() { Ok(()) } else { Err(ChapError::Order.into()) };
        };
        let (chap, answers) = chap.advance(terms, nonce, pairs)?;
        for (key, value) in answers {
            self.answers.add(key, &value);
        }
        // The keys of the exchange may be repeated; they are no negotiation.
        self.authenticated |= chap == ChapExchange::Proven;
        self.chap = Some(chap);
        Ok(())
    }

    /// Moves to the requested stage, once the current one is complete.
    fn step(&mut self) -> Result<LoginProgress, LoginError> {
        let wants = self.request.flags & 0x80 != 0;
        if !wants || !self.authenticated {
            let offered_nothing = wants && self.terms.is_some() && self.chap.is_none();
            return if offered_nothing { Err(LoginError::NoChap) } else { Ok(self.say(false)) };
        }
        if self.request.flags & 3 == FULL_FEATURE {
            let claim = self.claim.clone().ok_or(LoginError::Missing("InitiatorName"))?;
            return Ok(LoginProgress::Complete(claim));
        }
        self.stage = Some(OPERATIONAL);
        Ok(self.say(true))
    }

    fn say(&mut self, transit: bool) -> LoginProgress {
        let flags = if transit { 0x80 | self.request.flags & 0x0f } else { self.request.flags & 0x0c };
        let header = self.response(flags, [0, 0]);
        LoginProgress::Respond(header, std::mem::take(&mut self.answers).into_bytes())
    }

    fn response(&mut self, flags: u8, status: [u8; 2]) -> Header {
        let mut header = Header::answer(TargetOpcode::Login, self.request.tag);
        header.0[1] = flags;
        header.0[8..14].copy_from_slice(&self.request.isid);
        header.0[14..16].copy_from_slice(&self.request.tsih.to_be_bytes());
        header.set_word(24, self.stat_sn);
        header.set_word(28, self.request.cmd_sn);
        header.set_word(32, self.request.cmd_sn.wrapping_add(limits::MAX_COMMANDS - 1));
        header.0[36..38].copy_from_slice(&status);
        self.stat_sn = self.stat_sn.wrapping_add(1);
        header
    }
}

/// Returns whether a text may be an iSCSI name (RFC 7143, section 4.2.7.1): at most 223 octets, without white space or
/// control characters. The letters and the prefix are not checked: initiators in use have others than the RFC allows.
fn is_iscsi_name(name: &str) -> bool {
    name.len() <= MAX_ISCSI_NAME_LENGTH && is_printable(name) && !name.contains(char::is_whitespace)
}

fn claim(pairs: &[(String, String)], isid: [u8; 6]) -> Result<Claim, LoginError> {
    let find = |key: &str| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let discovery = match find("SessionType") {
        None | Some("Normal") => false,
        Some("Discovery") => true,
        Some(_) => return Err(LoginError::SessionType),
    };
    // iSCSI names compare without case (RFC 7143 4.2.7.1: nameprep).
    let name = |key: &'static str| find(key).filter(|name| !name.is_empty()).map(str::to_lowercase);
    let initiator = name("InitiatorName").ok_or(LoginError::Missing("InitiatorName"))?;
    let target = name("TargetName");
    if !is_iscsi_name(&initiator) || target.as_deref().is_some_and(|name| !is_iscsi_name(name)) {
        return Err(LoginError::Protocol("a name that is too long, or has white space or invisible characters"));
    }
    if target.is_none() && !discovery {
        return Err(LoginError::Missing("TargetName"));
    }
    Ok(Claim { initiator, target, isid, discovery })
}
