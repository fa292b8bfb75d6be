//! A line on standard error that says how far something is, where somebody watches.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(200);
const WIDTH: u64 = 24;

/// Is the state of the line.
#[derive(Debug)]
pub struct Progress {
    total: Option<u64>,
    began_with: u64,
    done: u64,
    began: Instant,
    shown: Option<Instant>,
    is_watched: bool,
}

impl Progress {
    /// Begins with what is there already.
    pub fn new(done: u64, total: Option<u64>) -> Self {
        let is_watched = std::io::stderr().is_terminal();
        Self { total, began_with: done, done, began: Instant::now(), shown: None, is_watched }
    }

    /// Adds what came, in bytes.
    pub fn add(&mut self, count: u64) {
        self.done += count;
        let due = self.shown.is_none_or(|at| at.elapsed() >= EVERY) || Some(self.done) == self.total;
        if self.is_watched && due {
            self.shown = Some(Instant::now());
            eprint!("\r{}\x1b[K", self.line(self.began.elapsed()));
            let _ = std::io::stderr().flush();
        }
    }

    fn line(&self, after: Duration) -> String {
        let rate = (self.done - self.began_with) as f64 / after.as_secs_f64().max(0.001);
        let Some(total) = self.total else { return format!("{}  {}/s", size(self.done), size(rate as u64)) };
        let of = |whole: u64| (self.done.min(total) * whole).checked_div(total).unwrap_or(whole);
        let full = of(WIDTH);
        let bar: String = (0..WIDTH).map(|at| if at < full { '#' } else { '.' }).collect();
        let percent = of(100);
        let left = if rate < 1.0 { String::new() } else { clock((total.saturating_sub(self.done)) as f64 / rate) };
        format!("[{bar}] {percent:3}%  {} of {}  {}/s  {left}", size(self.done), size(total), size(rate as u64))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprintln!();
        }
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.max(1).ilog2() / 10).min(4) as usize;
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / (1u64 << (10 * unit)) as f64, UNITS[unit]),
    }
}

fn clock(seconds: f64) -> String {
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
    fn the_line_says_how_far_how_fast_and_how_long() {
        let half = Progress { total: Some(4 << 30), done: 2 << 30, ..Progress::new(0, None) };
        assert_eq!(
            half.line(Duration::from_secs(20)),
            "[############............]  50%  2.0 GiB of 4.0 GiB  102.4 MiB/s  00:20"
        );
        let resumed = Progress { began_with: 1 << 30, ..half };
        assert!(resumed.line(Duration::from_secs(20)).contains("51.2 MiB/s  00:40"));
        assert_eq!(
            Progress { done: 1500, ..Progress::new(0, None) }.line(Duration::from_secs(1)),
            "1.5 KiB  1.5 KiB/s"
        );
        assert!(Progress::new(0, Some(0)).line(Duration::from_secs(1)).contains("100%"));
    }
}
