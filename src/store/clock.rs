//! The clock of the store and of the API: wall-clock time whose steps are taken over when the stored times have followed.
//!
//! A computer without a battery-backed clock starts with a time of long ago, and NTP sets it minutes later. The times
//! that a lease, a token or an install depends on were stored before. So a step is first held back: `now` goes on by the
//! time since boot, which no step changes. `Store::follow_clock_step` moves the stored times and takes the step over.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};

/// Difference between the wall clock and the time since boot that is a step. NTP slews smaller ones: at most half a
/// second, at 0.5 ms a second.
const MIN_STEP: Duration = Duration::from_secs(2);

/// The two clocks when the process first asked, in milliseconds.
struct Start {
    wall: i64,
    since_boot: i64,
}

static START: OnceLock<Start> = OnceLock::new();
/// The steps and slews since the start that were taken over, in milliseconds.
static FOLLOWED: AtomicI64 = AtomicI64::new(0);

/// Returns the time since boot, which no step of the wall clock changes; it goes on while the computer sleeps.
fn since_boot() -> Duration {
    // Every kernel that this program runs on has this clock.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// Returns the current time in milliseconds, the resolution of the API and of the store. A step of the wall clock shows
/// when the stored times have followed it.
pub fn now() -> Timestamp {
    let (wall, expected) = read();
    at(if is_step(SignedDuration::from_millis(wall - expected)) { expected } else { wall })
}

/// Returns the current time on the scale of the process's start, which no step changes. Add `followed_steps` to a later
/// time on it for its time of day.
pub fn steady_now() -> Timestamp {
    let (_, expected) = read();
    at(expected - FOLLOWED.load(Ordering::Relaxed))
}

/// Returns the sum of the steps that were taken over since the start of the process.
pub fn followed_steps() -> SignedDuration {
    SignedDuration::from_millis(FOLLOWED.load(Ordering::Relaxed))
}

/// Returns the step that the wall clock made and that was not taken over yet. Call it every second: it takes a slew over.
pub fn pending_step() -> Option<SignedDuration> {
    let (wall, expected) = read();
    let difference = SignedDuration::from_millis(wall - expected);
    if is_step(difference) {
        return Some(difference);
    }
    follow(difference);
    None
}

/// Takes a step over: `now` shows it from here on.
pub(super) fn follow(step: SignedDuration) {
    FOLLOWED.fetch_add(i64::try_from(step.as_millis()).unwrap_or_default(), Ordering::Relaxed);
}

/// Reads the wall clock, and the time that it would show without steps that were not taken over, in milliseconds.
fn read() -> (i64, i64) {
    let wall = Timestamp::now().as_millisecond();
    let since_boot = i64::try_from(since_boot().as_millis()).unwrap_or(i64::MAX);
    let start = START.get_or_init(|| Start { wall, since_boot });
    (wall, start.wall + (since_boot - start.since_boot) + FOLLOWED.load(Ordering::Relaxed))
}

/// Returns whether a difference of the clocks is a step.
pub(super) fn is_step(difference: SignedDuration) -> bool {
    difference.unsigned_abs() >= MIN_STEP
}

fn at(millisecond: i64) -> Timestamp {
    Timestamp::from_millisecond(millisecond).unwrap_or(Timestamp::MAX)
}
