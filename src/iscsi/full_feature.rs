//! The full feature phase of a session (RFC 7143 4.2.2, 11): commands, their answers, and everything beside.

use std::time::{Duration, Instant};

use crate::iscsi::connection::{End, TargetEntry};
use crate::iscsi::keys::Params;
use crate::iscsi::limits;
use crate::iscsi::login::Claim;
use crate::iscsi::medium::Span;
use crate::iscsi::output::{Output, Room};
use crate::iscsi::pdu::{Answer, Asked, Header, NO_TAG, Pdu};
use crate::iscsi::scsi::{self, Outcome, Units};
use crate::iscsi::sense::Sense;
use crate::iscsi::tasks::{Comparison, Task, Tasks, Transfer, Work};
use crate::iscsi::text::{self, Answers};

/// Says why a PDU was rejected (RFC 7143 11.17.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Rejection {
    /// The data digest was wrong.
    DataDigest = 0x02,
    /// A SNACK; error recovery level 0 has none.
    Snack = 0x03,
    /// The PDU does not belong where it came.
    Protocol = 0x04,
    /// An opcode that we have not.
    NotSupported = 0x05,
    /// More immediate commands than we take.
    TooManyImmediate = 0x06,
    /// The task tag is in use.
    TaskInProgress = 0x07,
    /// A field makes no sense.
    InvalidField = 0x09,
}

/// Is a piece of a medium that a session needs: where it is, and a place in the output for it.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The unit's number.
    pub lun: u8,
    /// The bytes, of which a last block's tail may lie behind the medium's end.
    pub span: Span,
    /// Where the data goes.
    pub room: Room,
    /// Whether status goes with it.
    last: bool,
}

/// Is what a session wants next.
#[derive(Debug)]
pub enum Next {
    /// Fill this room.
    Read(Reading),
    /// Nothing, or room in the output first.
    Rest,
}

/// Is a session in its full feature phase.
#[derive(Debug)]
pub struct Session {
    /// What the login established.
    pub claim: Claim,
    params: Params,
    units: Units,
    targets: Vec<TargetEntry>,
    tasks: Tasks,
    exp_cmd_sn: u32,
    stat_sn: u32,
    text_in: Vec<u8>,
    text_out: Vec<u8>,
    heard: Instant,
    /// The initiator sends NOP-Outs, so that it surely understands a ping (iPXE ends the session on one).
    pings: bool,
    pinged: Option<Instant>,
    /// The latest rejected PDU: its opcode and why.
    pub rejected: Option<(u8, Rejection)>,
    /// Why the session ends once its output is sent.
    pub end: Option<End>,
}

impl Session {
    /// Begins the phase with what the login agreed on.
    #[must_use]
    pub fn new(
        established: crate::iscsi::login::Established,
        units: Units,
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

    /// Gives the unit of this number.
    #[must_use]
    pub fn units(&self) -> &Units {
        &self.units
    }

    /// Takes a request.
    ///
    /// # Errors
    /// When the session cannot go on.
    pub fn on_pdu(&mut self, pdu: &Pdu<'_>, now: Instant, out: &mut Output) -> Result<(), End> {
        self.heard = now;
        self.pinged = None;
        if !pdu.intact {
            self.reject(pdu, Rejection::DataDigest, out);
            return Ok(());
        }
        let asked = Asked::from(pdu.header.opcode());
        match asked {
            Asked::DataOut | Asked::Snack | Asked::Login | Asked::Unknown(_) => {}
            // A command beside the window, or one that came already, is ignored (RFC 7143 4.2.2.1).
            _ if !self.in_order(&pdu.header)? => return Ok(()),
            _ => {}
        }
        if self.claim.discovery && !matches!(asked, Asked::Text | Asked::Logout | Asked::Nop) {
            self.reject(pdu, Rejection::Protocol, out);
            return Ok(());
        }
        match asked {
            Asked::Command => self.on_command(pdu, out),
            Asked::Nop => self.on_nop(pdu, out),
            Asked::TaskManagement => self.on_task_management(&pdu.header, out),
            Asked::Text => self.on_text(pdu, out),
            Asked::Logout => self.on_logout(&pdu.header, out),
            Asked::Snack => self.reject(pdu, Rejection::Snack, out),
            Asked::DataOut => self.on_data_out(pdu, out),
            Asked::Unknown(_) => self.reject(pdu, Rejection::NotSupported, out),
            Asked::Login => return Err(End::Protocol("a login within a session")),
        }
        Ok(())
    }

    /// Works on the outstanding tasks until a medium must be read, the output is full, or nothing is left.
    pub fn next(&mut self, out: &mut Output) -> Next {
        loop {
            if !out.fits(limits::RECEIVE_SEGMENT) {
                return Next::Rest;
            }
            match &self.tasks.current {
                Some(Work::Transfer(transfer)) => return self.data_in(*transfer, out),
                Some(Work::Comparison(_)) => {
                    if let Some(next) = self.compare(out) {
                        return next;
                    }
                }
                None => match self.tasks.pop() {
                    Some(task) => self.start(task, out),
                    None => return Next::Rest,
                },
            }
        }
    }

    /// Takes word of a reading: whether its room holds the data now.
    pub fn on_read(&mut self, reading: Reading, read: bool, out: &mut Output) {
        match self.tasks.current.take() {
            Some(Work::Transfer(mut transfer)) if read => {
                out.finish(reading.room);
                transfer.advance(reading.span.length());
                if reading.last {
                    self.stat_sn = self.stat_sn.wrapping_add(1);
                } else {
                    self.tasks.current = Some(Work::Transfer(transfer));
                }
            }
            Some(Work::Comparison(mut comparison)) if read => {
                comparison.compare(out.room(reading.room));
                out.undo(reading.room);
                self.tasks.current = Some(Work::Comparison(comparison));
            }
            Some(Work::Transfer(Transfer { task, sent, data_sn, .. })) => {
                out.undo(reading.room);
                self.respond(&task, Err(Sense::READ_ERROR), sent, data_sn, out);
            }
            Some(Work::Comparison(comparison)) => {
                out.undo(reading.room);
                let Comparison { task, compared, r2t_sn, .. } = *comparison;
                self.respond(&task, Err(Sense::READ_ERROR), compared, r2t_sn, out);
            }
            None => out.undo(reading.room),
        }
    }

    /// Says whether tasks are outstanding.
    #[must_use]
    pub fn works(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Says whether a piece of data waits to be compared: no other may come before.
    #[must_use]
    pub fn is_comparing(&self) -> bool {
        matches!(&self.tasks.current, Some(Work::Comparison(comparison)) if comparison.piece.is_some())
    }

    /// Says when [`Self::on_time`] wants to be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match self.pinged {
            Some(at) => at + limits::PING_ANSWER,
            None => self.heard + limits::IDLE_PING,
        }
    }

    /// Pings an initiator that was silent, and gives up on one that does not answer.
    ///
    /// # Errors
    /// When the ping stayed unanswered.
    pub fn on_time(&mut self, now: Instant, out: &mut Output) -> Result<(), End> {
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
        let mut header = Header::answer(Answer::Nop, NO_TAG);
        header.set_word(20, 1);
        header.set_word(24, self.stat_sn);
        self.set_window(&mut header);
        out.push(header, &[]);
        self.pinged = Some(now);
        Ok(())
    }

    /// Asks the initiator to log out (RFC 7143 11.9.1, event 1) within `time`.
    pub fn ask_for_logout(&mut self, time: Duration, out: &mut Output) {
        let mut header = Header::answer(Answer::Async, NO_TAG);
        header.0[36] = 1;
        let seconds = u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
        header.0[42..44].copy_from_slice(&seconds.to_be_bytes());
        self.set_status_number(&mut header);
        self.set_window(&mut header);
        out.push(header, &[]);
    }

    /// Whether a request comes in its order; counts it.
    fn in_order(&mut self, header: &Header) -> Result<bool, End> {
        if header.immediate() {
            return Ok(true);
        }
        let ahead = header.word(24).wrapping_sub(self.exp_cmd_sn);
        if ahead == 0 && self.free() > 0 {
            self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
            return Ok(true);
        }
        if ahead < self.free() {
            // One connection brings commands in order (RFC 7143 4.2.2.1): what is missing never comes.
            return Err(End::Protocol("a command is missing"));
        }
        Ok(false)
    }

    /// Free places of the command window.
    fn free(&self) -> u32 {
        limits::COMMAND_WINDOW.saturating_sub(self.tasks.numbered())
    }

    fn on_command(&mut self, pdu: &Pdu<'_>, out: &mut Output) {
        let task = Task::of(&pdu.header);
        if task.tag == NO_TAG {
            return self.reject(pdu, Rejection::InvalidField, out);
        }
        if self.tasks.holds(task.tag) {
            return self.reject(pdu, Rejection::TaskInProgress, out);
        }
        if task.immediate && self.tasks.immediate() >= limits::IMMEDIATE_COMMANDS {
            return self.reject(pdu, Rejection::TooManyImmediate, out);
        }
        self.tasks.push(task);
    }

    fn start(&mut self, task: Task, out: &mut Output) {
        match self.units.execute(task.lun, &task.cdb) {
            Outcome::Good => self.respond(&task, Ok(()), 0, 0, out),
            Outcome::Check(sense) => self.respond(&task, Err(sense), 0, 0, out),
            Outcome::Data(data) => self.send(&task, &data, out),
            Outcome::Compare(lun, span) => {
                self.tasks.current = Some(Work::Comparison(Box::new(Comparison::new(task, lun, span))));
            }
            Outcome::Read(lun, span) => {
                let transfer = Transfer::new(task, lun, span);
                if transfer.left.length() == 0 {
                    return self.respond(&task, Ok(()), span.length(), 0, out);
                }
                self.tasks.current = Some(Work::Transfer(transfer));
            }
        }
    }

    /// Sends parameter data in as many Data-In as it takes; status goes with the last.
    fn send(&mut self, task: &Task, data: &[u8], out: &mut Output) {
        let available = u64::try_from(data.len()).unwrap_or(0);
        let taken = usize::try_from(task.takes()).unwrap_or(usize::MAX).min(data.len());
        if taken == 0 {
            return self.respond(task, Ok(()), available, 0, out);
        }
        let segment = self.params.send_segment.min(limits::SEND_SEGMENT);
        let mut pieces = data[..taken].chunks(segment).enumerate().peekable();
        while let Some((number, piece)) = pieces.next() {
            let last = pieces.peek().is_none();
            let mut header = Header::answer(Answer::DataIn, task.tag);
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

    /// Makes room for the next Data-In of a transfer.
    fn data_in(&mut self, transfer: Transfer, out: &mut Output) -> Next {
        let (length, ends_burst) = transfer.next(self.params.send_segment, self.params.max_burst);
        if !out.fits(length) {
            return Next::Rest;
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
        Next::Read(Reading { lun: transfer.lun, span, room, last })
    }

    /// Goes on with a comparison: reads what the waiting piece is compared with, asks for more, or
    /// answers. Nothing where the task is done.
    fn compare(&mut self, out: &mut Output) -> Option<Next> {
        let Some(Work::Comparison(comparison)) = &mut self.tasks.current else {
            return None;
        };
        if let Some(piece) = &comparison.piece {
            // The room behind the output holds what the medium has, and is given back before anything is sent.
            let room = out.reserve(Header::answer(Answer::DataIn, comparison.task.tag), piece.len());
            let span = comparison.left.first(u64::try_from(piece.len()).unwrap_or(0));
            return Some(Next::Read(Reading { lun: comparison.lun, span, room, last: false }));
        }
        if comparison.left.length() == 0 {
            let result = if comparison.differs { Err(Sense::MISCOMPARE) } else { Ok(()) };
            let (task, available, r2t_sn) = (comparison.task, comparison.available, comparison.r2t_sn);
            self.tasks.current = None;
            self.respond(&task, result, available, r2t_sn, out);
            return None;
        }
        if let Some(mut header) = comparison.ask(self.params.max_burst) {
            header.set_word(24, self.stat_sn);
            self.set_window(&mut header);
            out.push(header, &[]);
        }
        Some(Next::Rest)
    }

    fn on_data_out(&mut self, pdu: &Pdu<'_>, out: &mut Output) {
        let taken = match &mut self.tasks.current {
            Some(Work::Comparison(comparison)) => comparison.take(&pdu.header, pdu.data),
            Some(Work::Transfer(_)) | None => false,
        };
        if !taken {
            self.reject(pdu, Rejection::Protocol, out);
        }
    }

    /// Sends a SCSI Response (RFC 7143 11.4).
    fn respond(&mut self, task: &Task, result: Result<(), Sense>, available: u64, data_sn: u32, out: &mut Output) {
        let mut header = Header::answer(Answer::Response, task.tag);
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

    fn on_nop(&mut self, pdu: &Pdu<'_>, out: &mut Output) {
        self.pings = true;
        if pdu.header.task_tag() == NO_TAG {
            return;
        }
        let mut header = Header::answer(Answer::Nop, pdu.header.task_tag());
        header.0[8..16].copy_from_slice(&pdu.header.lun());
        header.set_word(20, NO_TAG);
        self.set_status_number(&mut header);
        self.set_window(&mut header);
        let echoed = pdu.data.len().min(self.params.send_segment);
        out.push(header, &pdu.data[..echoed]);
    }

    /// Task management (RFC 7143 11.5, 11.6): what is aborted gets no answer of its own.
    fn on_task_management(&mut self, request: &Header, out: &mut Output) {
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
        let mut header = Header::answer(Answer::TaskManagement, request.task_tag());
        header.0[2] = response;
        self.set_status_number(&mut header);
        self.set_window(&mut header);
        out.push(header, &[]);
        if request.flags() & 0x7f == 7 {
            // TARGET COLD RESET ends the session; other initiators' sessions are not this one's to end.
            self.end = Some(End::ColdReset);
        }
    }

    fn on_text(&mut self, pdu: &Pdu<'_>, out: &mut Output) {
        if self.text_in.len() + pdu.data.len() > limits::TEXT {
            self.text_in = Vec::new();
            return self.reject(pdu, Rejection::InvalidField, out);
        }
        let continues = pdu.header.word(20) != NO_TAG && pdu.data.is_empty() && !self.text_out.is_empty();
        if continues {
            return self.say_text(&pdu.header, false, out);
        }
        self.text_in.extend_from_slice(pdu.data);
        if pdu.header.flags() & 0x40 != 0 {
            self.text_out = Vec::new();
            return self.say_text(&pdu.header, true, out);
        }
        let text_in = std::mem::take(&mut self.text_in);
        let Ok(pairs) = text::parse(&text_in) else {
            return self.reject(pdu, Rejection::Protocol, out);
        };
        let mut answers = Answers::default();
        for (key, value) in pairs {
            self.answer(key, value, &mut answers);
        }
        self.text_out = answers.into_bytes();
        self.say_text(&pdu.header, false, out);
    }

    fn answer(&mut self, key: &str, value: &str, answers: &mut Answers) {
        match key {
            "SendTargets" => self.send_targets(value, answers),
            // The one key that may be declared anew in this phase (RFC 7143 13.12).
            "MaxRecvDataSegmentLength" => {
                if let Some(answer) = self.params.negotiate(key, value) {
                    answers.add(key, &answer);
                }
            }
            _ => answers.add(key, "NotUnderstood"),
        }
    }

    /// SendTargets: all in a discovery session, one by name, or this session's own (RFC 7143 appendix C).
    fn send_targets(&self, which: &str, answers: &mut Answers) {
        let which = which.to_lowercase();
        let own = self.claim.target.as_deref();
        if let Some(own) = own.filter(|own| which.is_empty() && self.targets.iter().all(|target| target.name != *own)) {
            // The addresses are those that the initiator has.
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

    /// Sends as much of the waiting text as a segment takes; the initiator asks for the rest.
    fn say_text(&mut self, request: &Header, wants_more: bool, out: &mut Output) {
        let length = self.text_out.len().min(self.params.send_segment);
        let rest = self.text_out.split_off(length);
        let piece = std::mem::replace(&mut self.text_out, rest);
        let more = !self.text_out.is_empty();
        let mut header = Header::answer(Answer::Text, request.task_tag());
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

    /// Logout (RFC 7143 11.14, 11.15): with one connection a session, both reasons end it.
    fn on_logout(&mut self, request: &Header, out: &mut Output) {
        let reason = request.flags() & 0x7f;
        let mut header = Header::answer(Answer::Logout, request.task_tag());
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

    fn reject(&mut self, pdu: &Pdu<'_>, why: Rejection, out: &mut Output) {
        self.rejected = Some((pdu.header.opcode(), why));
        let mut header = Header::answer(Answer::Reject, NO_TAG);
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
