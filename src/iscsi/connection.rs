//! One connection, from its first byte to its last: the login, then the session. Bytes in, steps out.
//!
//! The caller loops: [`Connection::step`] until it says [`Step::Receive`], then reads from the peer and
//! hands the bytes to [`Connection::on_bytes`].

use std::time::{Duration, Instant};

use crate::iscsi::chap::Nonce;
use crate::iscsi::full_feature::{Next, Reading, Rejection, Session};
use crate::iscsi::limits;
use crate::iscsi::login::{Claim, Entrance, Login, LoginError, Progress};
use crate::iscsi::medium::Span;
use crate::iscsi::output::Output;
use crate::iscsi::pdu::{Asked, Malformed, Pdu};
use crate::iscsi::scsi::Units;

/// Is a target as SendTargets shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetEntry {
    /// The target's iSCSI name.
    pub name: String,
    /// `address:port` of each portal, an IPv6 address in brackets.
    pub portals: Vec<String>,
}

/// Is what an admitted initiator sees.
#[derive(Debug)]
pub struct View {
    /// The units of its target; none in a discovery session.
    pub units: Units,
    /// The targets that SendTargets shows it.
    pub targets: Vec<TargetEntry>,
}

/// Is what makes a session the same as another one: a login with the same three reinstates it (RFC 7143 6.3.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The initiator's name.
    pub initiator: String,
    /// The initiator's session identifier.
    pub isid: [u8; 6],
    /// The target's name; none for discovery.
    pub target: Option<String>,
}

/// Says why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The initiator logged out.
    #[error("logout")]
    Logout,
    /// The login failed.
    #[error("login failed: {0}")]
    Login(#[from] LoginError),
    /// The login took too long.
    #[error("login timed out")]
    LoginTime,
    /// The bytes are no PDU stream.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The initiator broke the protocol.
    #[error("protocol: {0}")]
    Protocol(&'static str),
    /// A ping stayed unanswered.
    #[error("no answer to a ping")]
    Silent,
    /// The initiator asked for a target cold reset.
    #[error("target cold reset")]
    ColdReset,
    /// A new login reinstated the session.
    #[error("replaced by a new login")]
    Replaced,
    /// The target stops.
    #[error("stopped")]
    Stopped,
}

/// Is a piece of a medium to read into the connection's output.
#[derive(Debug)]
pub struct Read {
    /// The unit's number.
    pub lun: u8,
    /// The bytes to read; they are inside the unit.
    pub span: Span,
    reading: Reading,
}

/// Is what a connection wants of its caller.
#[derive(Debug)]
pub enum Step {
    /// Decide who may attach, then call [`Connection::on_entrance`].
    Ask(Claim),
    /// Find the session a handle, end the one it replaces, then call [`Connection::on_attached`].
    Attach(SessionKey),
    /// Read the span into [`Connection::room`], then call [`Connection::on_read`].
    Read(Read),
    /// Send [`Connection::pending`], and call [`Connection::sent`].
    Send,
    /// Call [`Connection::on_bytes`] with more of what the peer sent.
    Receive,
    /// Close the connection; everything was sent.
    Close(End),
}

#[derive(Debug)]
enum Phase {
    Login {
        login: Box<Login>,
        deadline: Instant,
    },
    Asking {
        login: Box<Login>,
        claim: Option<Claim>,
        deadline: Instant,
    },
    Attaching {
        login: Box<Login>,
        key: Option<SessionKey>,
        view: View,
        deadline: Instant,
    },
    /// A login in which the view is known already.
    Admitted {
        login: Box<Login>,
        view: View,
        deadline: Instant,
    },
    Full(Box<Session>),
    Over(End),
}

/// Is a connection of an initiator.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    out: Output,
}

impl Connection {
    /// Begins with a connection just accepted.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let deadline = now + limits::LOGIN_TIME;
        Self { phase: Phase::Login { login: Box::default(), deadline }, out: Output::default() }
    }

    /// Takes bytes of the peer; gives how many were used: the rest must come again, with more behind it.
    pub fn on_bytes(&mut self, bytes: &[u8], now: Instant) -> usize {
        let mut used = 0;
        while self.listens() {
            match Pdu::take(&bytes[used..], self.out.digests()) {
                Ok(Some((pdu, taken))) => {
                    used += taken;
                    self.on_pdu(&pdu, now);
                }
                Ok(None) => break,
                Err(malformed) => self.phase = Phase::Over(malformed.into()),
            }
        }
        used
    }

    /// Gives what to do next.
    pub fn step(&mut self) -> Step {
        match &mut self.phase {
            Phase::Asking { claim, .. } => {
                if let Some(claim) = claim.take() {
                    return Step::Ask(claim);
                }
            }
            Phase::Attaching { key, .. } => {
                if let Some(key) = key.take() {
                    return Step::Attach(key);
                }
            }
            Phase::Full(session) => {
                if let Next::Read(reading) = session.next(&mut self.out) {
                    return self.read(reading);
                }
            }
            Phase::Login { .. } | Phase::Admitted { .. } | Phase::Over(_) => {}
        }
        if !self.out.is_empty() {
            return Step::Send;
        }
        match &self.phase {
            Phase::Over(end) => Step::Close(end.clone()),
            Phase::Full(session) if session.end.is_some() => Step::Close(session.end.clone().unwrap_or(End::Logout)),
            _ => Step::Receive,
        }
    }

    /// Takes the answer to [`Step::Ask`]: the admission, a nonce for CHAP, and what the initiator will see.
    pub fn on_entrance(&mut self, admission: Entrance, nonce: Nonce, view: View) {
        self.advance(|phase| match phase {
            Phase::Asking { mut login, deadline, .. } => {
                let progress = login.on_entrance(admission, nonce);
                (progress, Phase::Admitted { login, view, deadline })
            }
            other => (Progress::Ignore, other),
        });
    }

    /// Takes the answer to [`Step::Attach`]: the session's handle, not 0.
    pub fn on_attached(&mut self, tsih: u16, now: Instant) -> Option<&Claim> {
        let phase = std::mem::replace(&mut self.phase, Phase::Over(End::Stopped));
        let Phase::Attaching { login, view, .. } = phase else {
            self.phase = phase;
            return None;
        };
        let (header, text, established) = login.finish(tsih)?;
        self.out.push(header, &text);
        // The digests cover what comes after the login (RFC 7143 13.1).
        self.out.set_digests(established.params.digests);
        self.phase = Phase::Full(Box::new(Session::new(established, view.units, view.targets, now)));
        match &self.phase {
            Phase::Full(session) => Some(&session.claim),
            _ => None,
        }
    }

    /// Gives the room that a [`Read`]'s bytes go to.
    pub fn room(&mut self, read: &Read) -> &mut [u8] {
        let stored = usize::try_from(read.span.length()).unwrap_or(0);
        &mut self.out.room(read.reading.room)[..stored]
    }

    /// Takes word of a [`Read`]: whether its room is filled.
    pub fn on_read(&mut self, read: Read, filled: bool) {
        if let Phase::Full(session) = &mut self.phase {
            session.on_read(read.reading, filled, &mut self.out);
        }
    }

    /// Gives what is to be sent before a [`Read`]'s bytes, where the caller may send those itself; then call
    /// [`Self::on_lent`]. Nothing where they must be read.
    #[must_use]
    pub fn before(&self, read: &Read) -> Option<&[u8]> {
        let is_whole = read.span.length() == read.reading.span.length();
        let is_sent = matches!(&self.phase, Phase::Full(session) if !session.is_comparing());
        if is_whole && is_sent { self.out.before(read.reading.room) } else { None }
    }

    /// Takes word of a [`Read`] whose bytes were sent, and what stood before them.
    pub fn on_lent(&mut self, read: Read) {
        self.on_read(read, true);
        self.out.sent(self.out.pending().len());
    }

    /// Gives what is to be sent.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.out.pending()
    }

    /// Takes word of bytes that were sent.
    pub fn sent(&mut self, count: usize) {
        self.out.sent(count);
    }

    /// Says when [`Self::on_time`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Login { deadline, .. }
            | Phase::Asking { deadline, .. }
            | Phase::Attaching { deadline, .. }
            | Phase::Admitted { deadline, .. } => Some(*deadline),
            Phase::Full(session) => Some(session.deadline()),
            Phase::Over(_) => None,
        }
    }

    /// Does what the time asks for: ends a login that takes too long, pings a silent initiator.
    pub fn on_time(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.out.release();
        let result = match &mut self.phase {
            Phase::Full(session) => session.on_time(now, &mut self.out),
            _ => Err(End::LoginTime),
        };
        if let Err(end) = result {
            self.phase = Phase::Over(end);
        }
    }

    /// Begins to stop: asks the initiator of a session to log out within `time`; a login ends at once.
    pub fn on_stop(&mut self, time: Duration) {
        match &mut self.phase {
            Phase::Full(session) => session.ask_for_logout(time, &mut self.out),
            _ => self.phase = Phase::Over(End::Stopped),
        }
    }

    /// Gives the latest PDU that was rejected, once: its opcode and why.
    pub fn rejected(&mut self) -> Option<(u8, Rejection)> {
        match &mut self.phase {
            Phase::Full(session) => session.rejected.take(),
            _ => None,
        }
    }

    /// Says whether tasks are outstanding: then [`Self::step`] does not say [`Step::Receive`] for a while.
    #[must_use]
    pub fn works(&self) -> bool {
        matches!(&self.phase, Phase::Full(session) if session.works())
    }

    /// Whether the connection takes requests now: what it has to send is bounded.
    fn listens(&self) -> bool {
        let open = match &self.phase {
            Phase::Login { .. } | Phase::Admitted { .. } => true,
            Phase::Full(session) => session.end.is_none() && !session.is_comparing(),
            Phase::Asking { .. } | Phase::Attaching { .. } | Phase::Over(_) => false,
        };
        open && self.out.fits(limits::RECEIVE_SEGMENT)
    }

    fn on_pdu(&mut self, pdu: &Pdu<'_>, now: Instant) {
        if let Phase::Full(session) = &mut self.phase {
            if let Err(end) = session.on_pdu(pdu, now, &mut self.out) {
                self.phase = Phase::Over(end);
            }
            return;
        }
        if Asked::from(pdu.header.opcode()) != Asked::Login {
            self.phase = Phase::Over(End::Protocol("something else before the login"));
            return;
        }
        self.advance(|mut phase| {
            let progress = match &mut phase {
                Phase::Login { login, .. } | Phase::Admitted { login, .. } => login.on_request(pdu),
                _ => Progress::Ignore,
            };
            (progress, phase)
        });
    }

    /// Moves the login on by what it says.
    fn advance(&mut self, login: impl FnOnce(Phase) -> (Progress, Phase)) {
        let (progress, phase) = login(std::mem::replace(&mut self.phase, Phase::Over(End::Stopped)));
        self.phase = match (progress, phase) {
            (Progress::Ignore, phase) => phase,
            (Progress::Say(header, text), phase) => {
                self.out.push(header, &text);
                phase
            }
            (Progress::Fail(header, text, error), _) => {
                self.out.push(header, &text);
                Phase::Over(error.into())
            }
            (Progress::Ask(claim), Phase::Login { login, deadline }) => {
                Phase::Asking { login, claim: Some(claim), deadline }
            }
            (Progress::Through(claim), Phase::Admitted { login, view, deadline }) => {
                let Claim { initiator, isid, target, .. } = claim;
                Phase::Attaching { login, key: Some(SessionKey { initiator, isid, target }), view, deadline }
            }
            (Progress::Ask(_) | Progress::Through(_), _) => Phase::Over(End::Protocol("login out of order")),
        };
    }

    /// Makes a [`Read`] of a reading: what the medium does not hold of it reads as zeros.
    fn read(&mut self, reading: Reading) -> Step {
        let Phase::Full(session) = &self.phase else {
            return Step::Receive;
        };
        let lun = reading.lun;
        let span = session.units().lun(lun).map_or(reading.span.first(0), |unit| unit.stored(reading.span));
        let stored = usize::try_from(span.length()).unwrap_or(0);
        self.out.room(reading.room)[stored..].fill(0);
        Step::Read(Read { lun, span, reading })
    }
}
