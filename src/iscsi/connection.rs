//! One iSCSI connection, from its first byte to its last: the login, then the session. Bytes in, steps out.
//!
//! The caller loops: it obeys [`Connection::step`] until that returns [`ConnectionStep::Receive`], then reads from
//! the socket and passes the bytes to [`Connection::on_bytes`].

use std::time::{Duration, Instant};

use crate::iscsi::chap::Nonce;
use crate::iscsi::full_feature::{FullFeatureSession, PendingRead, Rejection, SessionStep};
use crate::iscsi::limits;
use crate::iscsi::login::{Claim, Login, LoginDecision, LoginProgress};
use crate::iscsi::medium::ByteRange;
use crate::iscsi::outcome::{End, TargetEntry};
use crate::iscsi::output::OutputBuffer;
use crate::iscsi::pdu::{InitiatorOpcode, Pdu};
use crate::iscsi::scsi::LogicalUnits;

/// The units and targets that an admitted initiator sees.
#[derive(Debug)]
pub struct InitiatorView {
    /// The units of its target; none in a discovery session.
    pub units: LogicalUnits,
    /// The targets that SendTargets lists for it.
    pub targets: Vec<TargetEntry>,
    /// Numbers of the units whose first read is recorded before any of their data is sent.
    pub record_first: Vec<u8>,
}

/// The identity of a session: a login with the same three values reinstates it (RFC 7143 6.3.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The initiator's name.
    pub initiator: String,
    /// The initiator's session identifier (ISID).
    pub isid: [u8; 6],
    /// The target's name; none for discovery.
    pub target: Option<String>,
}

/// A byte range of a unit that is read into the connection's output.
#[derive(Debug)]
pub struct UnitRead {
    /// The unit's number.
    pub lun: u8,
    /// The bytes to read, all of them inside the unit.
    pub span: ByteRange,
    pending: PendingRead,
}

/// The next action of the caller.
#[derive(Debug)]
pub enum ConnectionStep {
    /// Decide about the claim, then call [`Connection::on_decision`].
    Ask(Claim),
    /// Allocate a session handle, end the session that this one replaces, then call [`Connection::on_attached`].
    Attach(SessionKey),
    /// Record the first read of the unit with this number, durably, then call [`Connection::on_recorded`].
    Record(u8),
    /// Read the range into [`Connection::read_buffer`], then call [`Connection::on_read`].
    Read(UnitRead),
    /// Send [`Connection::pending`], then call [`Connection::sent`].
    Send,
    /// Call [`Connection::on_bytes`] with more bytes from the peer.
    Receive,
    /// Close the connection; all output was sent.
    Close(End),
}

#[derive(Debug)]
enum ConnectionPhase {
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
        view: InitiatorView,
        deadline: Instant,
    },
    /// A login that was admitted and whose view is known.
    Admitted {
        login: Box<Login>,
        view: InitiatorView,
        deadline: Instant,
    },
    Full(Box<FullFeatureSession>),
    Over(End),
}

/// The state of one initiator's connection.
#[derive(Debug)]
pub struct Connection {
    phase: ConnectionPhase,
    out: OutputBuffer,
    /// Units whose first read is not recorded yet.
    unrecorded: Vec<u8>,
    /// Read that waits for the record of its unit.
    held: Option<PendingRead>,
}

impl Connection {
    /// Creates the state of a connection that was just accepted.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let deadline = now + limits::LOGIN_TIMEOUT;
        Self {
            phase: ConnectionPhase::Login { login: Box::default(), deadline },
            out: OutputBuffer::default(),
            unrecorded: Vec::new(),
            held: None,
        }
    }

    /// Accepts bytes from the peer and returns how many were used. The caller passes the rest again, with more after it.
    pub fn on_bytes(&mut self, bytes: &[u8], now: Instant) -> usize {
        let mut used = 0;
        while self.accepts_input() {
            match Pdu::take(&bytes[used..], self.out.digests()) {
                Ok(Some((pdu, taken))) => {
                    used += taken;
                    self.on_pdu(&pdu, now);
                }
                Ok(None) => break,
                Err(malformed) => self.phase = ConnectionPhase::Over(malformed.into()),
            }
        }
        used
    }

    /// Returns the next step.
    pub fn step(&mut self) -> ConnectionStep {
        match &mut self.phase {
            ConnectionPhase::Asking { claim, .. } => {
                if let Some(claim) = claim.take() {
                    return ConnectionStep::Ask(claim);
                }
            }
            ConnectionPhase::Attaching { key, .. } => {
                if let Some(key) = key.take() {
                    return ConnectionStep::Attach(key);
                }
            }
            ConnectionPhase::Full(session) => {
                let next = self.held.take().map_or_else(|| session.next(&mut self.out), SessionStep::Read);
                if let SessionStep::Read(pending) = next {
                    if self.unrecorded.contains(&pending.lun) {
                        self.held = Some(pending);
                        return ConnectionStep::Record(pending.lun);
                    }
                    return self.read(pending);
                }
            }
            ConnectionPhase::Login { .. } | ConnectionPhase::Admitted { .. } | ConnectionPhase::Over(_) => {}
        }
        if !self.out.is_empty() {
            return ConnectionStep::Send;
        }
        match &self.phase {
            ConnectionPhase::Over(end) => ConnectionStep::Close(end.clone()),
            ConnectionPhase::Full(session) if session.end.is_some() => {
                ConnectionStep::Close(session.end.clone().unwrap_or(End::Logout))
            }
            ConnectionPhase::Login { .. }
            | ConnectionPhase::Asking { .. }
            | ConnectionPhase::Attaching { .. }
            | ConnectionPhase::Admitted { .. }
            | ConnectionPhase::Full(_) => ConnectionStep::Receive,
        }
    }

    /// Accepts the answer to [`ConnectionStep::Ask`]: the decision, a nonce that is drawn for CHAP only, and the
    /// initiator's view.
    pub fn on_decision(&mut self, admission: LoginDecision, nonce: impl FnOnce() -> Nonce, view: InitiatorView) {
        self.advance(|phase| match phase {
            ConnectionPhase::Asking { mut login, deadline, .. } => {
                let progress = login.on_decision(admission, nonce);
                (progress, ConnectionPhase::Admitted { login, view, deadline })
            }
            other => (LoginProgress::Ignore, other),
        });
    }

    /// Accepts the answer to [`ConnectionStep::Attach`]: the session handle (TSIH), which is not 0.
    pub fn on_attached(&mut self, tsih: u16, now: Instant) -> Option<&Claim> {
        let phase = std::mem::replace(&mut self.phase, ConnectionPhase::Over(End::Stopped));
        let ConnectionPhase::Attaching { login, view, .. } = phase else {
            self.phase = phase;
            return None;
        };
        let (header, text, established) = login.finish(tsih)?;
        self.out.push(header, &text);
        // The digests cover the PDUs after the login (RFC 7143 13.1).
        self.out.set_digests(established.params.digests);
        self.unrecorded = view.record_first;
        self.phase =
            ConnectionPhase::Full(Box::new(FullFeatureSession::new(established, view.units, view.targets, now)));
        self.session_mut().map(|session| &session.claim)
    }

    /// Accepts the result of [`ConnectionStep::Record`]. Without the record the command fails with a read error, and the
    /// next command of the unit asks for the record again.
    pub fn on_recorded(&mut self, lun: u8, recorded: bool) {
        if recorded {
            self.unrecorded.retain(|number| *number != lun);
            return;
        }
        if let (ConnectionPhase::Full(session), Some(pending)) = (&mut self.phase, self.held.take()) {
            session.on_read(pending, false, &mut self.out);
        }
    }

    /// Returns the buffer that the bytes of a [`UnitRead`] go to.
    pub fn read_buffer(&mut self, read: &UnitRead) -> &mut [u8] {
        let stored = usize::try_from(read.span.length()).unwrap_or(0);
        &mut self.out.segment_mut(read.pending.room)[..stored]
    }

    /// Accepts the result of a [`UnitRead`]: whether its buffer is filled.
    pub fn on_read(&mut self, read: UnitRead, filled: bool) {
        if let ConnectionPhase::Full(session) = &mut self.phase {
            session.on_read(read.pending, filled, &mut self.out);
        }
    }

    /// Returns the output before the data of a [`UnitRead`] if the caller may send that data itself (then it calls
    /// [`Self::on_sendfile_done`]); `None` if the data must be read.
    #[must_use]
    pub fn header_bytes(&self, read: &UnitRead) -> Option<&[u8]> {
        let is_whole = read.span.length() == read.pending.span.length();
        let is_sent = matches!(&self.phase, ConnectionPhase::Full(session) if !session.is_comparing());
        if is_whole && is_sent { self.out.header_bytes(read.pending.room) } else { None }
    }

    /// Records that the caller sent the data of a [`UnitRead`] and the output before it.
    pub fn on_sendfile_done(&mut self, read: UnitRead) {
        self.on_read(read, true);
        self.out.sent(self.out.pending().len());
    }

    /// Returns the pending output.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.out.pending()
    }

    /// Records that `count` bytes of the output were sent.
    pub fn sent(&mut self, count: usize) {
        self.out.sent(count);
    }

    /// Returns the time at which [`Self::on_time`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            ConnectionPhase::Login { deadline, .. }
            | ConnectionPhase::Asking { deadline, .. }
            | ConnectionPhase::Attaching { deadline, .. }
            | ConnectionPhase::Admitted { deadline, .. } => Some(*deadline),
            ConnectionPhase::Full(session) => Some(session.deadline()),
            ConnectionPhase::Over(_) => None,
        }
    }

    /// Handles a passed deadline: ends a login that takes too long, pings a silent initiator.
    pub fn on_time(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.out.release();
        let result = match &mut self.phase {
            ConnectionPhase::Full(session) => session.on_time(now, &mut self.out),
            ConnectionPhase::Login { .. }
            | ConnectionPhase::Asking { .. }
            | ConnectionPhase::Attaching { .. }
            | ConnectionPhase::Admitted { .. } => Err(End::LoginTime),
            // The connection is over already, and has no deadline.
            ConnectionPhase::Over(_) => Ok(()),
        };
        if let Err(end) = result {
            self.phase = ConnectionPhase::Over(end);
        }
    }

    /// Starts the shutdown: requests a logout of the session within `time`; a login ends at once.
    pub fn on_stop(&mut self, time: Duration) {
        match &mut self.phase {
            ConnectionPhase::Full(session) => session.request_logout(time, &mut self.out),
            ConnectionPhase::Login { .. }
            | ConnectionPhase::Asking { .. }
            | ConnectionPhase::Attaching { .. }
            | ConnectionPhase::Admitted { .. }
            | ConnectionPhase::Over(_) => self.phase = ConnectionPhase::Over(End::Stopped),
        }
    }

    /// Returns the opcode of the latest rejected PDU and the reason, once.
    pub fn rejected(&mut self) -> Option<(u8, Rejection)> {
        self.session_mut()?.rejected.take()
    }

    /// Returns the session of the full feature phase.
    fn session_mut(&mut self) -> Option<&mut FullFeatureSession> {
        if let ConnectionPhase::Full(session) = &mut self.phase { Some(session) } else { None }
    }

    /// Returns whether the pending output is the last one: the initiator has logged out.
    #[must_use]
    pub fn is_logged_out(&self) -> bool {
        matches!(&self.phase, ConnectionPhase::Full(session) if session.end == Some(End::Logout))
    }

    /// Returns whether tasks are outstanding: then [`Self::step`] may not return [`ConnectionStep::Receive`] for a while.
    #[must_use]
    pub fn has_tasks(&self) -> bool {
        matches!(&self.phase, ConnectionPhase::Full(session) if session.has_tasks())
    }

    /// Returns whether the connection accepts requests now. The output that it gathers is bounded.
    fn accepts_input(&self) -> bool {
        let open = match &self.phase {
            ConnectionPhase::Login { .. } | ConnectionPhase::Admitted { .. } => true,
            ConnectionPhase::Full(session) => session.end.is_none() && !session.is_comparing(),
            ConnectionPhase::Asking { .. } | ConnectionPhase::Attaching { .. } | ConnectionPhase::Over(_) => false,
        };
        open && self.held.is_none() && self.out.fits(limits::MAX_RECEIVE_SEGMENT)
    }

    fn on_pdu(&mut self, pdu: &Pdu<'_>, now: Instant) {
        if let ConnectionPhase::Full(session) = &mut self.phase {
            if let Err(end) = session.on_pdu(pdu, now, &mut self.out) {
                self.phase = ConnectionPhase::Over(end);
            }
            return;
        }
        if InitiatorOpcode::from(pdu.header.opcode()) != InitiatorOpcode::Login {
            self.phase = ConnectionPhase::Over(End::Protocol("a PDU other than a login request before the login"));
            return;
        }
        self.advance(|mut phase| {
            let progress = match &mut phase {
                ConnectionPhase::Login { login, .. } | ConnectionPhase::Admitted { login, .. } => login.on_request(pdu),
                ConnectionPhase::Asking { .. }
                | ConnectionPhase::Attaching { .. }
                | ConnectionPhase::Full(_)
                | ConnectionPhase::Over(_) => LoginProgress::Ignore,
            };
            (progress, phase)
        });
    }

    /// Advances the login by one step and applies its progress.
    fn advance(&mut self, login: impl FnOnce(ConnectionPhase) -> (LoginProgress, ConnectionPhase)) {
        let (progress, phase) = login(std::mem::replace(&mut self.phase, ConnectionPhase::Over(End::Stopped)));
        self.phase = match (progress, phase) {
            (LoginProgress::Ignore, phase) => phase,
            (LoginProgress::Respond(header, text), phase) => {
                self.out.push(header, &text);
                phase
            }
            (LoginProgress::Fail(header, text, error), _) => {
                self.out.push(header, &text);
                ConnectionPhase::Over(error.into())
            }
            (LoginProgress::Ask(claim), ConnectionPhase::Login { login, deadline }) => {
                ConnectionPhase::Asking { login, claim: Some(claim), deadline }
            }
            (LoginProgress::Complete(claim), ConnectionPhase::Admitted { login, view, deadline }) => {
                let Claim { initiator, isid, target, .. } = claim;
                ConnectionPhase::Attaching { login, key: Some(SessionKey { initiator, isid, target }), view, deadline }
            }
            (LoginProgress::Ask(_) | LoginProgress::Complete(_), _) => {
                ConnectionPhase::Over(End::Protocol("login out of order"))
            }
        };
    }

    /// Returns the step that performs a pending read. Bytes beyond the end of the medium read as zeros.
    fn read(&mut self, pending: PendingRead) -> ConnectionStep {
        let ConnectionPhase::Full(session) = &self.phase else {
            return ConnectionStep::Receive;
        };
        let lun = pending.lun;
        let span = session.units().lun(lun).map_or(pending.span.first(0), |unit| unit.stored(pending.span));
        let stored = usize::try_from(span.length()).unwrap_or(0);
        self.out.segment_mut(pending.room)[stored..].fill(0);
        ConnectionStep::Read(UnitRead { lun, span, pending })
    }
}
