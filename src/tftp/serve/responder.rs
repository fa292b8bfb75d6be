//! The handles by which other threads answer a request, and stop the server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::ThreadId;

use nix::sys::eventfd::EventFd;

use super::table::SessionId;
use crate::tftp::serve::types::FileAnswer;

/// The right to answer one request, once. Dropped, it reports that there is no answer.
#[derive(Debug)]
pub struct Responder {
    id: SessionId,
    thread: ThreadId,
    wake: Arc<EventFd>,
    answers: Option<mpsc::Sender<(SessionId, FileAnswer)>>,
}

impl Responder {
    /// Creates the responder of a session. Call it on the server's thread.
    pub(super) fn new(id: SessionId, wake: Arc<EventFd>, answers: mpsc::Sender<(SessionId, FileAnswer)>) -> Self {
        Responder { id, thread: std::thread::current().id(), wake, answers: Some(answers) }
    }

    /// Answers the request.
    pub fn answer(mut self, answer: FileAnswer) {
        self.send(answer);
    }

    fn send(&mut self, answer: FileAnswer) {
        let Some(answers) = self.answers.take() else { return };
        // A stopped server needs no answer. The server's own thread checks for answers itself.
        if answers.send((self.id, answer)).is_ok() && std::thread::current().id() != self.thread {
            let _ = self.wake.write(1);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.send(FileAnswer::NoAnswer);
    }
}

/// Stops the thread when it is dropped, together with the future of `serve`.
pub struct StopOnDrop {
    /// Whether the thread must stop.
    pub asked: Arc<AtomicBool>,
    /// The event that wakes the thread.
    pub wake: Arc<EventFd>,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.asked.store(true, Ordering::Release);
        let _ = self.wake.write(1);
    }
}
