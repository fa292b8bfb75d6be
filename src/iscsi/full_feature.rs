//! The full feature phase of a session (RFC 7143 4.2.2, 11): commands, responses, task management, text and logout.

use std::time::{Duration, Instant};

use crate::iscsi::keys::Params;
use crate::iscsi::limits;
use crate::iscsi::login::Claim;
use crate::iscsi::medium::ByteRange;
use crate::iscsi::outcome::{End, TargetEntry};
use crate::iscsi::output::{OutputBuffer, ReservedSegment};
use crate::iscsi::pdu::{Header, InitiatorOpcode, NO_TAG, Pdu, TargetOpcode};
use crate::iscsi::scsi::{self, CommandOutcome, LogicalUnits};
use crate::iscsi::sense::Sense;
use crate::iscsi::tasks::{ActiveTask, Comparison, DataInTransfer, ScsiTask, Tasks};
use crate::iscsi::text::{self, KeyAnswers};

/// The reason a PDU is rejected (RFC 7143 11.17.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Rejection {
    /// The data digest is wrong.
    DataDigest = 0x02,
    /// A SNACK, which error recovery level 0 does not have.
    Snack = 0x03,
    /// The PDU is not allowed at this point.
    Protocol = 0x04,
    /// An unsupported opcode.
    NotSupported = 0x05,
    /// More immediate commands than the limit.
    TooManyImmediate = 0x06,
    /// The task tag is in use.
    TaskInProgress = 0x07,
    /// A field is invalid.
    InvalidField = 0x09,
}

/// A byte range that a session needs, and the output segment for it.
#[derive(Debug, Clone, Copy)]
pub struct PendingRead {
    /// The number of the unit.
    pub lun: u8,
    /// The bytes. The tail of a last block may lie beyond the end of the medium.
    pub span: ByteRange,
    /// The output segment for the data.
    pub room: ReservedSegment,
    /// Whether the status is sent with the data.
    last: bool,
}

/// The next need of a session.
#[derive(Debug)]
pub enum SessionStep {
    /// Fill this segment.
    Read(PendingRead),
    /// Nothing, until more requests come or the output is sent.
    Rest,
}

/// A session in its full feature phase.
#[derive(Debug)]
pub struct FullFeatureSession {
    /// The claim that the login proved.
    pub claim: Claim,
    params: Params,
    units: LogicalUnits,
    targets: Vec<TargetEntry>,
    tasks: Tasks,
    exp_cmd_sn: u32,
    stat_sn: u32,
    text_in: Vec<u8>,
    text_out: Vec<u8>,
    heard: Instant,
    /// Whether the initiator sends NOP-Outs, so that it understands a ping (iPXE ends the session on one).
    pings: bool,
    pinged: Option<Instant>,
    /// The opcode of the latest rejected PDU, and the reason.
    pub rejected: Option<(u8, Rejection)>,
    /// The reason the session ends once its output is sent.
    pub end: Option<End>,
}

impl FullFeatureSession {
    /// Starts the phase with the result of the login.
    #[must_use]
    pub fn new(
        established: crate::iscsi::login::Established,
        units: LogicalUnits,
        targets: Vec<TargetEntry>,
        now: Instant,
    ) -> Self {
        Self {
            claim: established.claim,
            params: established.params,
            units,
            targets,
            tasks: Tasks::default(),
            exp_cmd_sn: established.cmd_sn,
            stat_sn: established.stat_sn,
            text_in: Vec::new(),
            text_out: Vec::new(),
            heard: now,
            pings: false,
            pinged: None,
            rejected: None,
            end: None,
        }
    }

    /// Returns the units of the session.
    #[must_use]
    pub fn units(&self) -> &LogicalUnits {
        &self.units
    }

    /// Handles a request.
    ///
    /// # Errors
    /// The session must end.
    pub fn on_pdu(&mut self, pdu: &Pdu<'_>, now: Instant, out: &mut OutputBuffer) -> Result<(), End> {
        self.heard = now;
        self.pinged = None;
        if !pdu.intact {
            self.reject(pdu, Rejection::DataDigest, out);
            return Ok(());
        }
        let asked = InitiatorOpcode::from(pdu.header.opcode());
        let is_numbered = match asked {
            InitiatorOpcode::DataOut
            | InitiatorOpcode::Snack
            | InitiatorOpcode::Login
            | InitiatorOpcode::Unknown(_) => false,
            InitiatorOpcode::Nop
            | InitiatorOpcode::Command
            | InitiatorOpcode::TaskManagement
            | InitiatorOpcode::Text
            | InitiatorOpcode::Logout => true,
        };
        // A command outside the window, or a repeated one, is ignored (RFC 7143 4.2.2.1).
        if is_numbered && !self.accept_in_order(&pdu.header)? {
            return Ok(());
        }
        if self.claim.discovery
            && !matches!(asked, InitiatorOpcode::Text | InitiatorOpcode::Logout | InitiatorOpcode::Nop)
        {
            self.reject(pdu, Rejection::Protocol, out);
            return Ok(());
        }
        match asked {
            InitiatorOpcode::Command => self.on_command(pdu, out),
            InitiatorOpcode::Nop => self.on_nop(pdu, out),
            InitiatorOpcode::TaskManagement => self.on_task_management(&pdu.header, out),
            InitiatorOpcode::Text => self.on_text(pdu, out),
            InitiatorOpcode::Logout => self.on_logout(&pdu.header, out),
            InitiatorOpcode::Snack => self.reject(pdu, Rejection::Snack, out),
            InitiatorOpcode::DataOut => self.on_data_out(pdu, out),
            InitiatorOpcode::Unknown(_) => self.reject(pdu, Rejection::NotSupported, out),
            InitiatorOpcode::Login => return Err(End::Protocol("a login within a session")),
        }
        Ok(())
    }

    /// Advances the outstanding tasks until a medium must be read, the output is full, or no task is left.
    pub fn next(&mut self, out: &mut OutputBuffer) -> SessionStep {
        loop {
            if !out.fits(limits::MAX_RECEIVE_SEGMENT) {
                return SessionStep::Rest;
            }
            match &self.tasks.current {
                Some(ActiveTask::Transfer(transfer)) => return self.data_in(*transfer, out),
                Some(ActiveTask::Comparison(_)) => {
                    if let Some(next) = self.compare(out) {
                        return next;
                    }
                }
                None => match self.tasks.pop() {
                    Some(task) => self.start(task, out),
                    None => return SessionStep::Rest,
                },
            }
        }
    }

    /// Accepts the result of a read: whether its segment holds the data.
    pub fn on_read(&mut self, reading: PendingRead, read: bool, out: &mut OutputBuffer) {
        match self.tasks.current.take() {
            Some(ActiveTask::Transfer(mut transfer)) if read => {
                out.finish(reading.room);
                transfer.advance(reading.span.length());
                if reading.last {
                    self.stat_sn = self.stat_sn.wrapping_add(1);
                } else {
                    self.tasks.current = Some(ActiveTask::Transfer(transfer));
                }
            }
            Some(ActiveTask::Comparison(mut comparison)) if read => {
                comparison.compare(out.segment_mut(reading.room));
                out.undo(reading.room);
                self.tasks.current = Some(ActiveTask::Comparison(comparison));
            }
            Some(ActiveTask::Transfer(DataInTransfer { task, sent, data_sn, .. })) => {
                out.undo(reading.room);
                self.respond(&task, Err(Sense::READ_ERROR), sent, data_sn, out);
            }
            Some(ActiveTask::Comparison(comparison)) => {
                out.undo(reading.room);
                let Comparison { task, compared, r2t_sn, .. } = *comparison;
                self.respond(&task, Err(Sense::READ_ERROR), compared, r2t_sn, out);
            }
            None => out.undo(reading.room),
        }
    }

    /// Returns whether tasks are outstanding.
    #[must_use]
    pub fn has_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Returns whether received data waits for its comparison. No other data is accepted before that.
    #[must_use]
    pub fn is_comparing(&self) -> bool {
        matches!(&self.tasks.current, Some(ActiveTask::Comparison(comparison)) if comparison.piece.is_some())
    }

    /// Returns the latest time of the next call of [`Self::on_time`].
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match self.pinged {
            Some(at) => at + limits::PING_TIMEOUT,
            None => self.heard + limits::PING_INTERVAL,
        }
    }

    /// Pings a silent initiator, and gives up on one that does not answer.
    ///
    /// # Errors
    /// The ping was not answered.
    pub fn on_time(&mut self, now: Instant, out: &mut OutputBuffer) -> Result<(), End> {
        if now < self.deadline() {
            return Ok(());
        }
        if self.pinged.is_some() {
            return Err(End::Silent);
        }
        if !self.pings {
            self.heard = now;
            return Ok(());
        }
        let mut header = Header::answer(TargetOpcode::Nop, NO_TAG);
        header.set_word(20, 1);
        header.set_word(24, self.stat_sn);
        self.set_window(&mut header);
        out.push(header, &[]);
        self.pinged = Some(now);
        Ok(())
    }

    /// Requests a logout (RFC 7143 11.9.1, event 1) within `time`.
    pub fn request_logout(&mut self, time: Duration, out: &mut OutputBuffer) {
        let mut header = Header::answer(TargetOpcode::Async, NO_TAG);
        header.0[36] = 1;
        let seconds = u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
        header.0[42..44].copy_from_slice(&seconds.to_be_bytes());
        self.set_status_number(&mut header);
        self.set_window(&mut header);
        out.push(header, &[]);
    }

    /// Returns whether a request is in order, and counts it.
    fn accept_in_order(&mut self, header: &Header) -> Result<bool, End> {
        if header.immediate() {
            return Ok(true);
        }
        let ahead = header.word(24).wrapping_sub(self.exp_cmd_sn);
        if ahead == 0 && self.free() > 0 {
            self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
            return Ok(true);
        }
        if ahead < self.free() {
            // One connection delivers commands in order (RFC 7143 4.2.2.1), so a missing one never comes.
            return Err(End::Protocol("a command is missing"));
        }
        Ok(false)
    }

    /// Returns the number of free places of the command window.
    fn free(&self) -> u32 {
        limits::MAX_COMMANDS.saturating_sub(self.tasks.numbered())
    }

    fn on_command(&mut self, pdu: &Pdu<'_>, out: &mut OutputBuffer) {
        let task = ScsiTask::new(&pdu.header);
        if task.tag == NO_TAG {
            return self.reject(pdu, Rejection::InvalidField, out);
        }
        if self.tasks.holds(task.tag) {
            return self.reject(pdu, Rejection::TaskInProgress, out);
        }
        if task.immediate && self.tasks.immediate() >= limits::MAX_IMMEDIATE_COMMANDS {
            return self.reject(pdu, Rejection::TooManyImmediate, out);
        }
        self.tasks.push(task);
    }

    fn start(&mut self, task: ScsiTask, out: &mut OutputBuffer) {
        match self.units.execute(task.lun, &task.cdb) {
            CommandOutcome::Good => self.respond(&task, Ok(()), 0, 0, out),
            CommandOutcome::Check(sense) => self.respond(&task, Err(sense), 0, 0, out),
            CommandOutcome::Data(data) => self.send(&task, &data, out),
            CommandOutcome::Compare(lun, span) => {
                self.tasks.current = Some(ActiveTask::Comparison(Box::new(Comparison::new(task, lun, span))));
            }
            CommandOutcome::Read(lun, span) => {
                let transfer = DataInTransfer::new(task, lun, span);
                if transfer.left.length() == 0 {
                    return self.respond(&task, Ok(()), span.length(), 0, out);
                }
                self.tasks.current = Some(ActiveTask::Transfer(transfer));
            }
        }
    }

    /// Sends parameter data in as many Data-In PDUs as needed; the status goes with the last.
    fn send(&mut self, task: &ScsiTask, data: &[u8], out: &mut OutputBuffer) {
        let available = u64::try_from(data.len()).unwrap_or(0);
        let taken = usize::try_from(task.takes()).unwrap_or(usize::MAX).min(data.len());
        if taken == 0 {
            return self.respond(task, Ok(()), available, 0, out);
        }
        let segment = self.params.send_segment.min(limits::MAX_SEND_SEGMENT);
        let mut pieces = data[..taken].chunks(segment).enumerate().peekable();
        while let Some((number, piece)) = pieces.next() {
            let last = pieces.peek().is_none();
            let mut header = Header::answer(TargetOpcode::DataIn, task.tag);
            header.0[1] = if last { 0x80 } else { 0 };
            header.set_word(20, NO_TAG);
            header.set_word(36, u32::try_from(number).unwrap_or(0));
            header.set_word(40, u32::try_from(number * segment).unwrap_or(0));
            if last {
                header.0[1] |= 0x01;
                task.set_residual(&mut header, available);
                self.set_status_number(&mut header);
            }
            self.set_window(&mut header);
            out.push(header, piece);
        }
    }

    /// Reserves the output segment of a transfer's next Data-In.
    fn data_in(&mut self, transfer: DataInTransfer, out: &mut OutputBuffer) -> SessionStep {
        let (length, ends_burst) = transfer.next(self.params.send_segment, self.params.max_burst);
        if !out.fits(length) {
            return SessionStep::Rest;
        }
        let span = transfer.left.first(u64::try_from(length).unwrap_or(0));
        let last = span.length() == transfer.left.length();
        let mut header = transfer.header(ends_burst);
        if last {
            // Phase collapse: GOOD status needs no PDU of its own (RFC 7143 11.7.3).
            header.0[1] |= 0x01;
            transfer.task.set_residual(&mut header, transfer.available);
            header.set_word(24, self.stat_sn);
        }
        self.set_window(&mut header);
        let room = out.reserve(header, length);
        SessionStep::Read(PendingRead { lun: transfer.lun, span, room, last })
    }

    /// Advances a comparison: reads the bytes that a received piece is compared with, requests more data, or sends the
    /// status. Returns `None` once the task is done.
    fn compare(&mut self, out: &mut OutputBuffer) -> Option<SessionStep> {
        let Some(ActiveTask::Comparison(comparison)) = &mut self.tasks.current else {
            return None;
        };
        if let Some(piece) = &comparison.piece {
            // The segment receives the bytes of the medium, and is discarded before anything is sent.
            let room = out.reserve(Header::answer(TargetOpcode::DataIn, comparison.task.tag), piece.len());
            let span = comparison.left.first(u64::try_from(piece.len()).unwrap_or(0));
            return Some(SessionStep::Read(PendingRead { lun: comparison.lun, span, room, last: false }));
        }
        if comparison.left.length() == 0 {
            let result = if comparison.differs { Err(Sense::MISCOMPARE) } else { Ok(()) };
            let (task, available, r2t_sn) = (comparison.task, comparison.available, comparison.r2t_sn);
            self.tasks.current = None;
            self.respond(&task, result, available, r2t_sn, out);
            return None;
        }
        if let Some(mut header) = comparison.next_r2t(self.params.max_burst) {
            header.set_word(24, self.stat_sn);
            self.set_window(&mut header);
            out.push(header, &[]);
        }
        Some(SessionStep::Rest)
    }

    fn on_data_out(&mut self, pdu: &Pdu<'_>, out: &mut OutputBuffer) {
        let taken = match &mut self.tasks.current {
            Some(ActiveTask::Comparison(comparison)) => comparison.accept_data(&pdu.header, pdu.data),
            Some(ActiveTask::Transfer(_)) | None => false,
        };
        if !taken {
            self.reject(pdu, Rejection::Protocol, out);
        }
    }

    /// Sends a SCSI Response (RFC 7143 11.4).
    fn respond(
        &mut self,
        task: &ScsiTask,
        result: Result<(), Sense>,
        available: u64,
        data_sn: u32,
        out: &mut OutputBuffer,
    ) {
        let mut header = Header::answer(TargetOpcode::Response, task.tag);
        task.set_residual(&mut header, available);
        self.set_status_number(&mut header);
        self.set_window(&mut header);
        header.set_word(36, data_sn);
        match result {
            Ok(()) => out.push(header, &[]),
            Err(sense) => {
                header.0[3] = 0x02;
                let mut data = vec![0, 18];
                data.extend(sense.fixed());
                out.push(header, &data);
            }
        }
    }

    fn on_nop(&mut self, pdu: &Pdu<'_>, out: &mut OutputBuffer) {
        self.pings = true;
        if pdu.header.task_tag() == NO_TAG {
            return;
        }
        let mut header = Header::answer(TargetOpcode::Nop, pdu.header.task_tag());
        header.0[8..16].copy_from_slice(&pdu.header.lun());
        header.set_word(20, NO_TAG);
        self.set_status_number(&mut header);
        self.set_window(&mut header);
        let echoed = pdu.data.len().min(self.params.send_segment);
        out.push(header, &pdu.data[..echoed]);
    }

    /// Handles task management (RFC 7143 11.5, 11.6). An aborted task gets no response of its own.
    fn on_task_management(&mut self, request: &Header, out: &mut OutputBuffer) {
        let lun = request.lun();
        let unit = scsi::number_of(lun).filter(|number| self.units.lun(*number).is_some());
        let referred = request.word(20);
        let response: u8 = match (request.flags() & 0x7f, unit) {
            (1 | 2 | 4 | 5, None) => 2,
            (1, Some(_)) => u8::from(!self.tasks.abort(|task| task.tag == referred && task.lun == lun)),
            (2 | 4, Some(_)) => {
                self.tasks.abort(|task| task.lun == lun);
                0
            }
            (5, Some(number)) => {
                self.tasks.abort(|task| task.lun == lun);
                self.units.reset(Some(number));
                0
            }
            (6 | 7, _) => {
                self.tasks.abort(|_| true);
                self.units.reset(None);
                0
            }
            (8, _) => 4,
            _ => 5,
        };
        let mut header = Header::answer(TargetOpcode::TaskManagement, request.task_tag());
        header.0[2] = response;
        self.set_status_number(&mut header);
        self.set_window(&mut header);
        out.push(header, &[]);
        if request.flags() & 0x7f == 7 {
            // TARGET COLD RESET ends this session only; other initiators' sessions continue.
            self.end = Some(End::ColdReset);
        }
    }

    fn on_text(&mut self, pdu: &Pdu<'_>, out: &mut OutputBuffer) {
        if self.text_in.len() + pdu.data.len() > limits::MAX_TEXT_BYTES {
            self.text_in = Vec::new();
            return self.reject(pdu, Rejection::InvalidField, out);
        }
        let continues = pdu.header.word(20) != NO_TAG && pdu.data.is_empty() && !self.text_out.is_empty();
        if continues {
            return self.send_text(&pdu.header, false, out);
        }
        self.text_in.extend_from_slice(pdu.data);
        if pdu.header.flags() & 0x40 != 0 {
            self.text_out = Vec::new();
            return self.send_text(&pdu.header, true, out);
        }
        let text_in = std::mem::take(&mut self.text_in);
        let Ok(pairs) = text::parse(&text_in) else {
            return self.reject(pdu, Rejection::Protocol, out);
        };
        let mut answers = KeyAnswers::default();
        for (key, value) in pairs {
            self.answer(key, value, &mut answers);
        }
        self.text_out = answers.into_bytes();
        self.send_text(&pdu.header, false, out);
    }

    fn answer(&mut self, key: &str, value: &str, answers: &mut KeyAnswers) {
        match key {
            "SendTargets" => self.send_targets(value, answers),
            // The only key that may be declared again in this phase (RFC 7143 13.12).
            "MaxRecvDataSegmentLength" => {
                if let Some(answer) = self.params.negotiate(key, value) {
                    answers.add(key, &answer);
                }
            }
            _ => answers.add(key, "NotUnderstood"),
        }
    }

    /// Answers SendTargets: all targets in a discovery session, one by name, or the session's own (RFC 7143 appendix
    /// C).
    fn send_targets(&self, which: &str, answers: &mut KeyAnswers) {
        let which = which.to_lowercase();
        let own = self.claim.target.as_deref();
        if let Some(own) = own.filter(|own| which.is_empty() && self.targets.iter().all(|target| target.name != *own)) {
            // Without an address, which the initiator already has.
            answers.add("TargetName", own);
        }
        for target in &self.targets {
            let shown = match which.as_str() {
                "all" => self.claim.discovery,
                "" => own == Some(target.name.as_str()),
                name => name == target.name,
            };
            if shown {
                answers.add("TargetName", &target.name);
                for portal in &target.portals {
                    answers.add("TargetAddress", &format!("{portal},1"));
                }
            }
        }
    }

    /// Sends as much of the pending text as one segment holds; the initiator asks for the rest.
    fn send_text(&mut self, request: &Header, wants_more: bool, out: &mut OutputBuffer) {
        let length = self.text_out.len().min(self.params.send_segment);
        let rest = self.text_out.split_off(length);
        let piece = std::mem::replace(&mut self.text_out, rest);
        let more = !self.text_out.is_empty();
        let mut header = Header::answer(TargetOpcode::Text, request.task_tag());
        header.0[1] = match (more, wants_more) {
            (true, _) => 0x40,
            (false, true) => 0,
            (false, false) => 0x80,
        };
        header.0[8..16].copy_from_slice(&request.lun());
        header.set_word(20, if more || wants_more { 1 } else { NO_TAG });
        self.set_status_number(&mut header);
        self.set_window(&mut header);
        out.push(header, &piece);
    }

    /// Handles a logout (RFC 7143 11.14, 11.15). With one connection a session, both reasons end the session.
    fn on_logout(&mut self, request: &Header, out: &mut OutputBuffer) {
        let reason = request.flags() & 0x7f;
        let mut header = Header::answer(TargetOpcode::Logout, request.task_tag());
        header.0[2] = match reason {
            0 | 1 => 0,
            _ => 2,
        };
        self.set_status_number(&mut header);
        self.set_window(&mut header);
        out.push(header, &[]);
        if reason <= 1 {
            self.tasks.abort(|_| true);
            self.end = Some(End::Logout);
        }
    }

    fn reject(&mut self, pdu: &Pdu<'_>, why: Rejection, out: &mut OutputBuffer) {
        self.rejected = Some((pdu.header.opcode(), why));
        let mut header = Header::answer(TargetOpcode::Reject, NO_TAG);
        header.0[2] = why as u8;
        self.set_status_number(&mut header);
        self.set_window(&mut header);
        out.push(header, &pdu.header.0);
    }

    fn set_status_number(&mut self, header: &mut Header) {
        header.set_word(24, self.stat_sn);
        self.stat_sn = self.stat_sn.wrapping_add(1);
    }

    fn set_window(&self, header: &mut Header) {
        header.set_word(28, self.exp_cmd_sn);
        let last = self.exp_cmd_sn.wrapping_add(self.free()).wrapping_sub(1);
        header.set_word(32, last);
    }
}
