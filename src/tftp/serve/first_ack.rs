//! The step between a client's first acknowledgement and the packets after it.

use std::time::Instant;

use super::table::SessionId;
use super::{
    ANSWER_TIMEOUT, FileAnswer, FirstAck, Responder, TftpServer, TransferEnd, TransferReport, TransferRequest,
};
use crate::tftp::transfer::TransferStep;

impl<C: Fn(TransferRequest, Responder), R: Fn(TransferReport)> TftpServer<C, R> {
    /// Starts the step after a client's first acknowledgement, if one is due. Returns whether the transfer waits for it.
    pub(super) fn confirm(&mut self, id: SessionId, step: TransferStep, now: Instant) -> bool {
        let until = now + ANSWER_TIMEOUT;
        let Some(FirstAck(run)) = self.sessions.session(id).and_then(|session| session.hold(step, until)) else {
            return false;
        };
        self.sessions.arm(id, until);
        let responder = Responder::new(id, self.wake.clone(), self.answered.clone());
        run(Box::new(move |outcome| {
            responder.answer(match outcome {
                Ok(()) => FileAnswer::Confirmed,
                Err(why) => FileAnswer::Refused(why),
            });
        }));
        self.take_answers(now);
        true
    }

    /// Continues or ends a transfer by the outcome of the step after the first acknowledgement.
    pub(super) fn on_confirmation(&mut self, id: SessionId, step: TransferStep, answer: FileAnswer, now: Instant) {
        match answer {
            FileAnswer::Confirmed => self.take_step(id, step, now),
            FileAnswer::Refused(why) => self.end(id, TransferEnd::Unconfirmed(why), now),
            FileAnswer::Content(_)
            | FileAnswer::Confirmable(..)
            | FileAnswer::NotFound
            | FileAnswer::Octets(..)
            | FileAnswer::NoAnswer => self.end(id, TransferEnd::Unconfirmed("no answer from the boot policy"), now),
        }
    }
}
