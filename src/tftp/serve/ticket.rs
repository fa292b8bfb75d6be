//! An answer on its way back to the server's thread.

use std::sync::{Arc, mpsc};
use std::thread::ThreadId;

use nix::sys::eventfd::EventFd;

use super::table::Id;
use crate::tftp::serve::types::Answer;

/// Is the right to answer one request, once, from any thread. Dropped, it answers with silence.
#[derive(Debug)]
pub struct Ticket {
    id: Id,
    thread: ThreadId,
    wake: Arc<EventFd>,
    answers: Option<mpsc::Sender<(Id, Answer)>>,
}

impl Ticket {
    /// Makes the ticket of a session of the server whose thread this is.
    pub(super) fn new(id: Id, wake: Arc<EventFd>, answers: mpsc::Sender<(Id, Answer)>) -> Self {
        Ticket { id, thread: std::thread::current().id(), wake, answers: Some(answers) }
    }

    pub fn answer(mut self, answer: Answer) {
        self.send(answer);
    }

    fn send(&mut self, answer: Answer) {
        let Some(answers) = self.answers.take() else { return };
        // A server that has stopped needs no answer. On its own thread it looks by itself.
        if answers.send((self.id, answer)).is_ok() && std::thread::current().id() != self.thread {
            let _ = self.wake.write(1);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.send(Answer::Silence);
    }
}
