//! The clock of the store and of the API.

use jiff::Timestamp;

/// Returns the current time in milliseconds, the resolution of the API and of the store.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}
