//! Progress bar on standard error, if it is a terminal.

use std::fmt::Write;

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressState, ProgressStyle};

/// Layout of the bar of a transfer of known length.
const BAR: &str = "[{bar:24}] {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {rate}/s  {eta_precise}";
/// Layout without a bar, for a transfer of unknown length.
const COUNTER: &str = "{binary_bytes}  {rate}/s";

/// Returns the progress bar of a transfer that starts at an octet, and of which the total may be unknown.
pub fn transfer(start: u64, total: Option<u64>) -> ProgressBar {
    draw(start, total, ProgressDrawTarget::stderr())
}

fn draw(start: u64, total: Option<u64>, target: ProgressDrawTarget) -> ProgressBar {
    let layout = ProgressStyle::with_template(if total.is_some() { BAR } else { COUNTER });
    let style = layout.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("#.");
    // indicatif's own rate counts the octets before the start when it draws the last line.
    let style = style.with_key("rate", move |state: &ProgressState, out: &mut dyn Write| {
        let octets = state.pos().saturating_sub(start) as f64;
        let rate = octets / state.elapsed().as_secs_f64().max(0.001);
        // A line that cannot be drawn is no reason to end the transfer.
        let _ = write!(out, "{}", BinaryBytes(rate as u64));
    });
    let bar = ProgressBar::with_draw_target(total, target).with_style(style).with_finish(ProgressFinish::Abandon);
    // The estimate of the remaining time must not count the octets before the start.
    bar.set_position(start);
    bar.reset_eta();
    bar
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use indicatif::TermLike;

    use super::*;

    /// A terminal that keeps what is written.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            100
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, line: &str) -> io::Result<()> {
            self.write_str(&format!("{line}\n"))
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().clear();
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the last line of a transfer that was at `done` after 20 seconds.
    fn line(start: u64, done: u64, total: Option<u64>) -> String {
        let screen = Screen::default();
        let bar = draw(start, total, ProgressDrawTarget::term_like(Box::new(screen.clone())));
        let bar = bar.with_elapsed(Duration::from_secs(20));
        bar.inc(done - start);
        drop(bar);
        let text = screen.0.lock().unwrap();
        text.trim_end().to_owned()
    }

    #[test]
    fn the_bar_shows_progress_and_rate() {
        let half = line(0, 2 << 30, Some(4 << 30));
        assert!(half.starts_with("[############............]  50%  2.00 GiB of 4.00 GiB  102.4"), "{half}");
        let resumed = line(1 << 30, 2 << 30, Some(4 << 30));
        assert!(resumed.contains("2.00 GiB of 4.00 GiB  51."), "only the octets since the start count: {resumed}");
        let unknown = line(0, 1 << 20, None);
        assert!(unknown.starts_with("1.00 MiB  51."), "{unknown}");
    }
}
