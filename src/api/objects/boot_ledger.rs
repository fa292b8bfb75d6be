//! The ledger of a boot as the API shows it: its stages with their times, and what of the time can be saved.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use crate::boot::diagnosis::Uptime;
use crate::boot::diagnosis::ledger::{Ledger, LedgerLine, Traffic};
use crate::event::{BootOutcome, LedgerStage};
use crate::fleet::text::printable;
use crate::gate::stalls::TraceClock;

/// Where the time of a boot went.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootLedger {
    /// Begin of the boot: its power-on, or the first request that its firmware sent.
    begin: Timestamp,
    /// End of the boot; the present time while it goes on.
    end: Timestamp,
    /// The way in which the boot ended; null while it goes on.
    outcome: Option<BootOutcome>,
    /// Duration of the boot: the sum of its stages.
    milliseconds: u64,
    /// The stages, in order and without gaps.
    stages: Vec<StageTime>,
    /// What of the time can be saved.
    advice: Vec<String>,
    /// What the machine is to do next, while the boot goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<DueStep>,
    /// Octets that the machine received, by the way they came.
    traffic: Traffic,
}

/// The time of a stage of a boot.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StageTime {
    /// The stage.
    stage: LedgerStage,
    /// Its begin.
    start: Timestamp,
    /// Its duration.
    milliseconds: u64,
    /// What was seen in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// The next step of a boot that goes on.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DueStep {
    /// The stage that is on.
    stage: LedgerStage,
    /// What the machine is to do, after "it".
    text: &'static str,
    /// Time by which a machine that boots as it should has done that; absent if it may take any time.
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<Timestamp>,
}

impl BootLedger {
    /// Returns a ledger with the times of the wall clock.
    pub fn new(clock: TraceClock, ledger: Ledger) -> Self {
        let begin = clock.time_of(ledger.begin);
        // All times count from the same one, so that the stages have no gaps.
        let time = |at: Uptime| {
            let since = SignedDuration::try_from(at.saturating_sub(ledger.begin)).unwrap_or(SignedDuration::ZERO);
            begin.checked_add(since).unwrap_or(begin)
        };
        let stage = |(line, milliseconds): (&LedgerLine, u64)| StageTime {
            stage: line.stage,
            start: time(line.start),
            milliseconds,
            note: line.note.as_deref().map(|note| printable(note).into_owned()),
        };
        let lengths = ledger.line_milliseconds();
        let stages: Vec<_> = ledger.lines.iter().zip(lengths.iter().copied()).map(stage).collect();
        Self {
            begin,
            end: time(ledger.end),
            outcome: ledger.outcome,
            milliseconds: lengths.iter().sum(),
            stages,
            advice: ledger.advice.iter().map(|advice| printable(advice).into_owned()).collect(),
            next: ledger.next.map(|next| DueStep { stage: next.stage, text: next.text, due: next.due.map(time) }),
            traffic: ledger.traffic,
        }
    }
}
