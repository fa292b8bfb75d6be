//! Progress bar on standard error, if it is a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
const BAR_WIDTH: u64 = 24;

/// A progress bar.
#[derive(Debug)]
pub struct ProgressBar {
    total: Option<u64>,
    start: u64,
    done: u64,
    began: Instant,
    shown: Option<Instant>,
    is_terminal: bool,
}

impl ProgressBar {
    /// Returns a progress bar that starts at `done` octets.
    pub fn new(done: u64, total: Option<u64>) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { total, start: done, done, began: Instant::now(), shown: None, is_terminal }
    }

    /// Adds a number of octets, and redraws the bar.
    pub fn add(&mut self, count: u64) {
        self.done += count;
        let due = self.shown.is_none_or(|at| at.elapsed() >= REDRAW_INTERVAL) || Some(self.done) == self.total;
        if self.is_terminal && due {
            self.shown = Some(Instant::now());
            eprint!("\r{}\x1b[K", self.line(self.began.elapsed()));
            let _ = std::io::stderr().flush();
        }
    }

    /// Returns the text of the bar after a time.
    fn line(&self, after: Duration) -> String {
        let rate = (self.done - self.start) as f64 / after.as_secs_f64().max(0.001);
        let Some(total) = self.total else {
            return format!("{}  {}/s", format_size(self.done), format_size(rate as u64));
        };
        let of = |whole: u64| (self.done.min(total) * whole).checked_div(total).unwrap_or(whole);
        let full = of(BAR_WIDTH);
        let bar: String = (0..BAR_WIDTH).map(|at| if at < full { '#' } else { '.' }).collect();
        let percent = of(100);
        let left =
            if rate < 1.0 { String::new() } else { format_duration((total.saturating_sub(self.done)) as f64 / rate) };
        format!(
            "[{bar}] {percent:3}%  {} of {}  {}/s  {left}",
            format_size(self.done),
            format_size(total),
            format_size(rate as u64)
        )
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprintln!();
        }
    }
}

/// Formats a number of octets with a binary unit.
fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.max(1).ilog2() / 10).min(4) as usize;
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / (1u64 << (10 * unit)) as f64, UNITS[unit]),
    }
}

/// Formats a duration as MM:SS or H:MM:SS.
fn format_duration(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds / 3600 {
        0 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_shows_progress_rate_and_remaining_time() {
        let half = ProgressBar { total: Some(4 << 30), done: 2 << 30, ..ProgressBar::new(0, None) };
        assert_eq!(
            half.line(Duration::from_secs(20)),
            "[############............]  50%  2.0 GiB of 4.0 GiB  102.4 MiB/s  00:20"
        );
        let resumed = ProgressBar { start: 1 << 30, ..half };
        assert!(resumed.line(Duration::from_secs(20)).contains("51.2 MiB/s  00:40"));
        assert_eq!(
            ProgressBar { done: 1500, ..ProgressBar::new(0, None) }.line(Duration::from_secs(1)),
            "1.5 KiB  1.5 KiB/s"
        );
        assert!(ProgressBar::new(0, Some(0)).line(Duration::from_secs(1)).contains("100%"));
    }
}
