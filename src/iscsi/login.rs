//! Takes an initiator through the login phase (RFC 7143 6): stages, keys, authentication.
//!
//! The whole login is a pure exchange: requests in, responses out. Who may attach what is asked of
//! the caller once the names are known ([`Progress::Ask`]), before anything is said of authentication.

use super::chap::{Chap, ChapError, ChapTerms, Nonce};
use super::keys::{self, Params};
use super::limits;
use super::pdu::{Answer, Header, Pdu};
use super::text::{self, Answers, TextError};

/// Is what an initiator claims of itself in its first login request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// InitiatorName, in lower case.
    pub initiator: String,
    /// TargetName, in lower case; none in a discovery session.
    pub target: Option<String>,
    /// The initiator's session identifier.
    pub isid: [u8; 6],
    /// Whether it only wants to know the targets (SessionType=Discovery).
    pub discovery: bool,
}

/// Says how the caller answers a [`Claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entrance {
    /// The login may go on, after CHAP where terms are given.
    Admit(Option<ChapTerms>),
    /// The target is elsewhere.
    Redirect {
        /// Where: `host:port`, an IPv6 address in brackets.
        portal: String,
        /// Whether it stays there.
        permanent: bool,
    },
    /// The login fails.
    Refuse(Refusal),
}

/// Status class and detail of a login that failed for what the caller knows (RFC 7143 11.13.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 0x0202: the initiator may not attach this target.
    Forbidden,
    /// 0x0203: there is no such target.
    NotFound,
    /// 0x0204: the target was removed and comes not back.
    Removed,
    /// 0x0301: the target exists and cannot serve now.
    Unavailable,
    /// 0x0302: too many sessions.
    OutOfResources,
}

/// Says why a login ended without a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The caller refused.
    #[error("refused: {0:?}")]
    Refused(Refusal),
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
    /// CHAP is asked for and the initiator offers none, or skips the stage.
    #[error("authentication not offered")]
    NoChap,
    /// A stage, flag or key that the RFC forbids where it stands.
    #[error("protocol: {0}")]
    Protocol(&'static str),
    /// The data segment is no text.
    #[error("text: {0}")]
    Text(#[from] TextError),
    /// InitiatorName or TargetName is missing.
    #[error("missing {0}")]
    Missing(&'static str),
    /// The initiator speaks another version only.
    #[error("version {0} and above only")]
    Version(u8),
    /// A session type that is neither Normal nor Discovery.
    #[error("unknown session type")]
    SessionType,
    /// A connection for a session: we have one connection a session.
    #[error("no session {0} to join")]
    NoSession(u16),
}

impl LoginError {
    /// Status class and detail.
    #[must_use]
    pub fn status(&self) -> [u8; 2] {
        match self {
            Self::Redirected { permanent, .. } => [1, 1 + u8::from(*permanent)],
            Self::Protocol(_) | Self::Text(_) => [2, 0],
            Self::Chap(_) | Self::NoChap => [2, 1],
            Self::Refused(Refusal::Forbidden) => [2, 2],
            Self::Refused(Refusal::NotFound) => [2, 3],
            Self::Refused(Refusal::Removed) => [2, 4],
            Self::Refused(Refusal::Unavailable) => [3, 1],
            Self::Refused(Refusal::OutOfResources) => [3, 2],
            Self::Version(_) => [2, 5],
            Self::Missing(_) => [2, 7],
            Self::SessionType => [2, 9],
            Self::NoSession(_) => [2, 10],
        }
    }
}

/// Is what to do after a login request.
#[derive(Debug)]
pub enum Progress {
    /// Send this response and wait for the next request.
    Say(Header, Vec<u8>),
    /// Ask who may attach, then call [`Login::on_entrance`].
    Ask(Claim),
    /// The login is through: give the session its handle, then call [`Login::finish`].
    Through(Claim),
    /// Nothing: the login was not asked.
    Ignore,
    /// Send this response and end the connection.
    Fail(Header, Vec<u8>, LoginError),
}

const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// Is a login in progress.
#[derive(Debug, Default)]
pub struct Login {
    params: Params,
    claim: Option<Claim>,
    admitted: bool,
    terms: Option<(ChapTerms, Nonce)>,
    chap: Option<Chap>,
    authenticated: bool,
    stage: Option<u8>,
    request: Request,
    gathered: Vec<u8>,
    opening: Vec<(String, String)>,
    seen: Vec<String>,
    answers: Answers,
    group_told: bool,
    rounds: u32,
    stat_sn: u32,
}

/// The fields of the last login request that its response repeats or depends on.
#[derive(Debug, Clone, Copy, Default)]
struct Request {
    flags: u8,
    isid: [u8; 6],
    tsih: u16,
    tag: u32,
    cmd_sn: u32,
    version_min: u8,
}

/// Is what a finished login hands over to the session.
#[derive(Debug)]
pub struct Established {
    /// What was claimed, and now holds.
    pub claim: Claim,
    /// What was agreed.
    pub params: Params,
    /// The number of the first command.
    pub cmd_sn: u32,
    /// The number of the next status.
    pub stat_sn: u32,
}

impl Login {
    /// Takes a login request.
    pub fn on_request(&mut self, pdu: &Pdu<'_>) -> Progress {
        let result = self.request(pdu);
        self.settle(result)
    }

    /// Takes the answer to [`Progress::Ask`]; the nonce serves a CHAP challenge.
    pub fn on_entrance(&mut self, admission: Entrance, nonce: Nonce) -> Progress {
        let result = self.admit(admission, nonce);
        self.settle(result)
    }

    /// Gives the last response, which carries the session's handle, and what the login established.
    #[must_use]
    pub fn finish(mut self, tsih: u16) -> Option<(Header, Vec<u8>, Established)> {
        self.request.tsih = tsih;
        let header = self.response(0x80 | self.request.flags & 0x0f, [0, 0]);
        let text = std::mem::take(&mut self.answers).into_bytes();
        let established =
            Established { claim: self.claim?, params: self.params, cmd_sn: self.request.cmd_sn, stat_sn: self.stat_sn };
        Some((header, text, established))
    }

    fn settle(&mut self, result: Result<Progress, LoginError>) -> Progress {
        result.unwrap_or_else(|error| {
            let mut answers = Answers::default();
            if let LoginError::Redirected { portal, .. } = &error {
                answers.add("TargetAddress", portal);
            }
            let mut header = self.response(self.request.flags & 0x0c, error.status());
            header.0[1] &= 0x7f;
            Progress::Fail(header, answers.into_bytes(), error)
        })
    }

    fn request(&mut self, pdu: &Pdu<'_>) -> Result<Progress, LoginError> {
        let first = self.stage.is_none();
        self.read_header(&pdu.header, first);
        if self.request.version_min > 0 {
            return Err(LoginError::Version(self.request.version_min));
        }
        self.rounds += 1;
        if self.rounds > limits::LOGIN_ROUNDS || self.gathered.len() + pdu.data.len() > limits::TEXT {
            return Err(LoginError::Protocol("the login does not end"));
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
                return Err(LoginError::Protocol("a key came twice"));
            }
            self.seen.push(key.clone());
        }
        if self.claim.is_none() {
            let claim = claim(&pairs, self.request.isid)?;
            self.claim = Some(claim.clone());
            self.opening = pairs;
            return Ok(Progress::Ask(claim));
        }
        self.negotiate(&pairs)
    }

    fn read_header(&mut self, header: &Header, first: bool) {
        let mut isid = [0; 6];
        isid.copy_from_slice(&header.0[8..14]);
        if first {
            // Our numbers start where the initiator expects them.
            self.stat_sn = header.word(28);
        }
        self.request = Request {
            flags: header.flags(),
            isid,
            tsih: header.half(14),
            tag: header.task_tag(),
            cmd_sn: header.word(24),
            version_min: header.0[3],
        };
    }

    /// Checks the stages that a request names: it is where we are, and goes forward (RFC 7143 11.12.3).
    fn check_stage(&mut self) -> Result<(), LoginError> {
        let (current, next) = (self.request.flags >> 2 & 3, self.request.flags & 3);
        let (transit, more) = (self.request.flags & 0x80 != 0, self.request.flags & 0x40 != 0);
        if current > OPERATIONAL || self.stage.is_some_and(|stage| stage != current) {
            return Err(LoginError::Protocol("not the current stage"));
        }
        if transit && (more || next <= current || !matches!(next, OPERATIONAL | FULL_FEATURE)) {
            return Err(LoginError::Protocol("not a stage to go to"));
        }
        self.stage = Some(current);
        Ok(())
    }

    fn admit(&mut self, admission: Entrance, nonce: Nonce) -> Result<Progress, LoginError> {
        match admission {
            Entrance::Refuse(refusal) => return Err(LoginError::Refused(refusal)),
            Entrance::Redirect { portal, permanent } => return Err(LoginError::Redirected { portal, permanent }),
            Entrance::Admit(terms) => self.terms = terms.map(|terms| (terms, nonce)),
        }
        self.admitted = true;
        self.authenticated = self.terms.is_none();
        let opening = std::mem::take(&mut self.opening);
        self.negotiate(&opening)
    }

    fn negotiate(&mut self, pairs: &[(String, String)]) -> Result<Progress, LoginError> {
        if !self.admitted {
            return Err(LoginError::Protocol("the initiator is not admitted yet"));
        }
        if self.stage == Some(OPERATIONAL) && !self.authenticated {
            return Err(LoginError::NoChap);
        }
        self.tell_group();
        let mut security = Vec::new();
        for (key, value) in pairs {
            match key.as_str() {
                "InitiatorName" | "TargetName" | "SessionType" | "InitiatorAlias" => {}
                "AuthMethod" => self.choose_method(value)?,
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

    /// The first response to a normal session names the portal group (RFC 7143 13.9).
    fn tell_group(&mut self) {
        let normal = self.claim.as_ref().is_some_and(|claim| !claim.discovery);
        if normal && !std::mem::replace(&mut self.group_told, true) {
            self.answers.add("TargetPortalGroupTag", "1");
        }
    }

    fn choose_method(&mut self, offered: &str) -> Result<(), LoginError> {
        let ours: &[&str] = if self.terms.is_some() { &["CHAP"] } else { &["None"] };
        let Some(method) = keys::list(offered, ours) else {
            return Err(LoginError::NoChap);
        };
        self.answers.add("AuthMethod", method);
        if method == "CHAP" {
            self.chap = Some(Chap::Chosen);
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
        // The names of the exchange come again where it is repeated; they are no negotiation.
        self.authenticated |= chap == Chap::Proven;
        self.chap = Some(chap);
        Ok(())
    }

    /// Goes to the stage that the initiator asks for, once nothing is left to do in this one.
    fn step(&mut self) -> Result<Progress, LoginError> {
        let wants = self.request.flags & 0x80 != 0;
        if !wants || !self.authenticated {
            let offered_nothing = wants && self.terms.is_some() && self.chap.is_none();
            return if offered_nothing { Err(LoginError::NoChap) } else { Ok(self.say(false)) };
        }
        if self.request.flags & 3 == FULL_FEATURE {
            let claim = self.claim.clone().ok_or(LoginError::Missing("InitiatorName"))?;
            return Ok(Progress::Through(claim));
        }
        self.stage = Some(OPERATIONAL);
        Ok(self.say(true))
    }

    fn say(&mut self, transit: bool) -> Progress {
        let flags = if transit { 0x80 | self.request.flags & 0x0f } else { self.request.flags & 0x0c };
        let header = self.response(flags, [0, 0]);
        Progress::Say(header, std::mem::take(&mut self.answers).into_bytes())
    }

    fn response(&mut self, flags: u8, status: [u8; 2]) -> Header {
        let mut header = Header::answer(Answer::Login, self.request.tag);
        header.0[1] = flags;
        header.0[8..14].copy_from_slice(&self.request.isid);
        header.0[14..16].copy_from_slice(&self.request.tsih.to_be_bytes());
        header.set_word(24, self.stat_sn);
        header.set_word(28, self.request.cmd_sn);
        header.set_word(32, self.request.cmd_sn.wrapping_add(limits::COMMAND_WINDOW - 1));
        header.0[36..38].copy_from_slice(&status);
        self.stat_sn = self.stat_sn.wrapping_add(1);
        header
    }
}

fn claim(pairs: &[(String, String)], isid: [u8; 6]) -> Result<Claim, LoginError> {
    let find = |key: &str| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let discovery = match find("SessionType") {
        None | Some("Normal") => false,
        Some("Discovery") => true,
        Some(_) => return Err(LoginError::SessionType),
    };
    // iSCSI names compare without case (RFC 7143 4.2.7.1: prepared with nameprep).
    let name = |key: &'static str| find(key).filter(|name| !name.is_empty()).map(str::to_lowercase);
    let initiator = name("InitiatorName").ok_or(LoginError::Missing("InitiatorName"))?;
    let target = name("TargetName");
    if target.is_none() && !discovery {
        return Err(LoginError::Missing("TargetName"));
    }
    Ok(Claim { initiator, target, isid, discovery })
}
