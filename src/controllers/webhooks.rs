//! Delivers queued notifications to webhooks: each webhook on its own, in order, and again until the receiver takes it or
//! the notification is too old. Nothing waits for a delivery.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::event::{Notification, NotificationLoss, WebhookCounters};
use crate::fleet::NotificationKind;
use crate::fleet::text::printable;
use crate::gate::Gate;
use crate::http_client::tls::TlsOptions;
use crate::http_client::{Server, ServerConnection, full};
use crate::store::{Store, StoreError, now};
use crate::webhooks::cloud_event::{self, MEDIA_TYPE};
use crate::webhooks::retry::{Backoff, MAX_AGE, Reception};
use crate::webhooks::signature::SigningKeys;

/// Time for a connection, and again for its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the answer to a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Number of notifications that are read at a time.
const BATCH: u32 = 64;
/// Interval in which it is recorded how far a webhook has come. A crash repeats at most what was sent in between.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);
/// Pause after the queue could not be read.
const READ_PAUSE: Duration = Duration::from_secs(5);

/// A receiver of notifications.
#[derive(Debug)]
pub struct WebhookTarget {
    /// The server.
    pub server: Server,
    /// Path and query of the URL. They may contain a secret, and are not logged.
    pub target: String,
    /// The verification of the server.
    pub tls: TlsOptions,
    /// The secrets that requests are signed with.
    pub keys: SigningKeys,
    /// The kinds of notifications that it is told.
    pub kinds: Vec<NotificationKind>,
    /// The counters, with its name.
    pub counters: Arc<WebhookCounters>,
}

/// Result of an attempt.
enum Attempt {
    Taken,
    Rejected(String),
    Failed { error: String, retry_after: Option<Duration> },
}

/// Delivers to a webhook until stopped. The source of the notifications is the URL of this server.
pub async fn serve(webhook: WebhookTarget, gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) {
    let (store, source) = (gate.store.clone(), gate.site().url());
    let mut newest = store.outbox_lines();
    let name = webhook.counters.name.clone();
    let begun = {
        let (store, name) = (store.clone(), name.clone());
        tokio::task::spawn_blocking(move || store.outbox_position(&name)).await
    };
    let position = match begun {
        Ok(Ok(position)) => position,
        Ok(Err(error)) => return tracing::error!(webhook = name, %error, "webhook stopped: its position is unknown"),
        Err(error) => return tracing::error!(webhook = name, %error, "webhook stopped: its position is unknown"),
    };
    webhook.counters.position.store(position, Ordering::Relaxed);
    let mut delivery = QueuedDelivery {
        webhook,
        store,
        gate,
        source,
        position,
        recorded: position,
        recorded_at: Instant::now(),
        is_failing: false,
    };
    loop {
        newest.mark_unchanged();
        let is_idle = tokio::select! {
            is_idle = delivery.deliver_batch() => is_idle,
            _ = stopped.wait_for(|stop| *stop) => return delivery.record(),
        };
        if is_idle {
            let is_recorded = delivery.recorded == delivery.position;
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RECORD_INTERVAL), if !is_recorded => delivery.record(),
                _ = stopped.wait_for(|stop| *stop) => return delivery.record(),
            }
        }
    }
}

/// The deliveries to a webhook.
struct QueuedDelivery {
    webhook: WebhookTarget,
    store: Arc<Store>,
    gate: Arc<Gate>,
    /// The URL of this server, as it was when it last had an address.
    source: String,
    /// The last line that is done with.
    position: i64,
    /// The last line that the store was told of.
    recorded: i64,
    recorded_at: Instant,
    /// Whether the last attempt failed.
    is_failing: bool,
}

impl QueuedDelivery {
    /// Delivers the next notifications. Returns whether there was none.
    async fn deliver_batch(&mut self) -> bool {
        let (store, after) = (self.store.clone(), self.position);
        let read: Result<Result<_, StoreError>, _> =
            tokio::task::spawn_blocking(move || store.outbox(after, BATCH)).await;
        let Ok(Ok(batch)) = read else {
            tracing::warn!(webhook = self.name(), "notifications not read: trying again");
            tokio::time::sleep(READ_PAUSE).await;
            return false;
        };
        let is_idle = batch.is_empty();
        for (line, notification) in batch {
            // Lines have no gaps: those that are missing were the oldest of a full queue.
            let missing = u64::try_from(line - self.position - 1).unwrap_or_default();
            if missing > 0 {
                self.webhook.counters.count_lost(NotificationLoss::QueueFull, missing);
                tracing::warn!(webhook = self.name(), count = missing, "notifications dropped: the queue was full");
            }
            if let Some(notification) = notification.filter(|found| self.webhook.kinds.contains(&found.kind())) {
                self.deliver(&notification).await;
            }
            self.position = line;
            self.webhook.counters.position.store(line, Ordering::Relaxed);
            if self.recorded_at.elapsed() >= RECORD_INTERVAL {
                self.record();
            }
        }
        is_idle
    }

    /// Takes over the URL of this server, unless it has no address.
    fn follow_address(&mut self) {
        let site = self.gate.site();
        if !site.address.is_unspecified() {
            self.source = site.url();
        }
    }

    /// Sends a notification until the receiver takes it, or it is given up.
    async fn deliver(&mut self, notification: &Notification) {
        let (counters, id) = (self.webhook.counters.clone(), notification.id.to_string());
        self.follow_address();
        let body = match cloud_event::encode(notification, &self.source) {
            Ok(body) => body,
            Err(error) => {
                counters.count_lost(NotificationLoss::Rejected, 1);
                return tracing::error!(webhook = self.name(), id, %error, "notification not serializable");
            }
        };
        let mut backoff = Backoff::default();
        loop {
            let (error, retry_after) = match self.webhook.send(&id, &body).await {
                Attempt::Taken => {
                    counters.delivered.fetch_add(1, Ordering::Relaxed);
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!(webhook = self.name(), "webhook recovered");
                    }
                    return;
                }
                Attempt::Rejected(error) => {
                    counters.failed.fetch_add(1, Ordering::Relaxed);
                    counters.count_lost(NotificationLoss::Rejected, 1);
                    return tracing::warn!(webhook = self.name(), id, error, "notification rejected");
                }
                Attempt::Failed { error, retry_after } => (error, retry_after),
            };
            counters.failed.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut self.is_failing, true) {
                tracing::warn!(webhook = self.name(), error, "webhook failed: trying again");
            }
            if now().duration_since(notification.time).unsigned_abs() > MAX_AGE {
                counters.count_lost(NotificationLoss::Expired, 1);
                return tracing::warn!(webhook = self.name(), id, error, "notification given up");
            }
            // A long pause may follow.
            self.record();
            let random = uuid::Uuid::new_v4().as_fields().0;
            tokio::time::sleep(backoff.next(retry_after, random)).await;
        }
    }

    /// Records how far the webhook has come. What is not recorded is sent again after a restart.
    fn record(&mut self) {
        if self.recorded != self.position && self.store.mark_outbox_read(self.name(), self.position).is_ok() {
            self.recorded = self.position;
        }
        self.recorded_at = Instant::now();
    }

    fn name(&self) -> &str {
        &self.webhook.counters.name
    }
}

impl WebhookTarget {
    /// Sends a notification once.
    async fn send(&self, id: &str, body: &str) -> Attempt {
        let failed = |error: String| Attempt::Failed { error: printable(&error).into_owned(), retry_after: None };
        let timestamp = Timestamp::now().as_second();
        let request = Request::post(&self.target)
            .header(HOST, self.server.host_header())
            .header(USER_AGENT, concat!("bootlatch/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.keys.sign(id, timestamp, body))
            .body(full(body.to_owned()));
        let request = match request {
            Ok(request) => request,
            Err(error) => return failed(error.to_string()),
        };
        let mut connection = match ServerConnection::open(&self.server, &self.tls, CONNECT_TIMEOUT).await {
            Ok(connection) => connection,
            Err(error) => return failed(error.to_string()),
        };
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, connection.send(request)).await;
        connection.close();
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return failed(error.to_string()),
            Err(_) => return failed(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
        };
        let error = format!("the receiver answered {}", response.status());
        match Reception::of(response.status().as_u16()) {
            Reception::Taken => Attempt::Taken,
            Reception::Rejected => Attempt::Rejected(error),
            Reception::Later => {
                let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                Attempt::Failed { error, retry_after: seconds.map(Duration::from_secs) }
            }
        }
    }
}
