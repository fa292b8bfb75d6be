//! The interface between the transport and the handler of requests.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;

use crate::http::connection_limits::ConnectionRefusal;
use crate::http::limits::Stop;
use crate::http::peer::{Peer, Serves};
use crate::http::reply::{RepeatedContent, Reply};

/// The answers to requests. One handler serves all listeners; the calls are dispatched statically.
pub trait Handler: Send + Sync + 'static {
    /// The state that one connection keeps between requests.
    type Recent: Default + Send + Sync + 'static;
    /// The bytes that a request names, and its client where the answer depends on it: two requests with the same key have the
    /// same answer.
    type RepeatedKey: Send + Sync;

    /// Answers any request.
    fn answer(
        &self,
        peer: Peer,
        recent: &Self::Recent,
        serves: Serves,
        request: Request<Incoming>,
        stop: &Stop,
    ) -> impl Future<Output = Reply> + Send;

    /// Returns whether the fast path may answer a GET of a request target (path and query, as sent).
    fn is_fast(target: &str) -> bool;

    /// Answers a GET or HEAD without a body for the fast path; `None` if the request is not a machine's.
    fn answer_machine(
        &self,
        peer: Peer,
        recent: &Self::Recent,
        request: &Request<()>,
    ) -> impl Future<Output = Option<Reply>> + Send;

    /// Returns the key of the bytes that a request names, if requests for them may be repeated on its connection.
    /// Requests of different clients behind one proxy have different keys where their answers may differ.
    fn repeated_key(&self, peer: Peer, request: &Request<()>) -> Option<Self::RepeatedKey>;

    /// Returns the part that a Range header selects of the bytes that this connection requested last, or all of them;
    /// `None` if they must be looked up by `answer_machine`, or if the reply to a range is not a part. `now` spares the
    /// handler reading the clock.
    fn recall(
        &self,
        recent: &Self::Recent,
        key: &Self::RepeatedKey,
        range: Option<&str>,
        now: Instant,
    ) -> Option<RepeatedContent>;

    /// Returns whether an address belongs to a known machine or to a proxy, for which connections are reserved.
    fn is_known(&self, address: IpAddr) -> bool;

    /// Counts a connection that was closed because a limit is reached.
    fn record_refused(&self, from: IpAddr, refusal: ConnectionRefusal);

    /// Records the duration of a request: until the response was written, or until its start if its body is streamed.
    fn record_duration(&self, duration: Duration);
}
