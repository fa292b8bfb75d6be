//! The difference of two texts, line by line, in the unified format.

/// Number of unchanged lines around a change.
const CONTEXT: usize = 3;
/// Maximum product of the lines that differ, above which a text is shown as replaced: 16 million cells.
const MAX_CELLS: usize = 1 << 24;

/// A line of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Removed(&'a str),
    Added(&'a str),
}

/// Returns the difference of two texts in the unified format; empty for equal texts.
pub fn unified_diff(old_name: &str, new_name: &str, old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let lines = compare(&old.lines().collect::<Vec<_>>(), &new.lines().collect::<Vec<_>>());
    let mut text = format!("--- {old_name}\n+++ {new_name}\n");
    for hunk in hunks(&lines) {
        let before = &lines[..hunk.start];
        let (old_start, new_start) = (count_old(before), count_new(before));
        let part = &lines[hunk];
        let range = |start: usize, count: usize| format!("{},{count}", if count == 0 { start } else { start + 1 });
        text.push_str(&format!(
            "@@ -{} +{} @@\n",
            range(old_start, count_old(part)),
            range(new_start, count_new(part))
        ));
        for line in part {
            let (sign, line) = match line {
                Line::Same(line) => (' ', line),
                Line::Removed(line) => ('-', line),
                Line::Added(line) => ('+', line),
            };
            text.push_str(&format!("{sign}{line}\n"));
        }
    }
    text
}

fn count_old(lines: &[Line<'_>]) -> usize {
    lines.iter().filter(|line| !matches!(line, Line::Added(_))).count()
}

fn count_new(lines: &[Line<'_>]) -> usize {
    lines.iter().filter(|line| !matches!(line, Line::Removed(_))).count()
}

/// Returns the ranges of lines that are shown: each change with its context.
fn hunks(lines: &[Line<'_>]) -> Vec<std::ops::Range<usize>> {
    let mut hunks: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Same(_))) {
        let (start, end) = (at.saturating_sub(CONTEXT), (at + 1 + CONTEXT).min(lines.len()));
        match hunks.last_mut().filter(|last| last.end >= start) {
            Some(last) => last.end = end,
            None => hunks.push(start..end),
        }
    }
    hunks
}

/// Compares lines by their longest common subsequence.
fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let head = old.iter().zip(new).take_while(|(one, two)| one == two).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(one, two)| one == two).count();
    let (old_part, new_part) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut lines: Vec<_> = old[..head].iter().map(|line| Line::Same(line)).collect();
    match old_part.len().saturating_mul(new_part.len()) <= MAX_CELLS {
        true => lines.extend(compare_middle(old_part, new_part)),
        false => {
            lines.extend(old_part.iter().map(|line| Line::Removed(line)));
            lines.extend(new_part.iter().map(|line| Line::Added(line)));
        }
    }
    lines.extend(old[old.len() - tail..].iter().map(|line| Line::Same(line)));
    lines
}

fn compare_middle<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    // common[i][j]: length of the longest common subsequence of old[i..] and new[j..].
    let width = new.len() + 1;
    let mut common = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = match old[i] == new[j] {
                true => common[(i + 1) * width + j + 1] + 1,
                false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            lines.push(Line::Removed(old[i]));
            i += 1;
        } else {
            lines.push(Line::Added(new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_its_context() {
        let old: String = (1..=12).map(|number| format!("line {number}\n")).collect();
        let new = old.replace("line 6\n", "line six\n");
        let expected =
            "--- a\n+++ b\n@@ -3,7 +3,7 @@\n line 3\n line 4\n line 5\n-line 6\n+line six\n line 7\n line 8\n line 9\n";
        assert_eq!(unified_diff("a", "b", &old, &new), expected);
        assert_eq!(unified_diff("a", "b", &old, &old), "");
    }

    #[test]
    fn a_text_from_nothing_is_added() {
        assert_eq!(unified_diff("a", "b", "", "x\ny\n"), "--- a\n+++ b\n@@ -0,0 +1,2 @@\n+x\n+y\n");
        assert_eq!(unified_diff("a", "b", "x\n", ""), "--- a\n+++ b\n@@ -1,1 +0,0 @@\n-x\n");
    }

    #[test]
    fn changes_apart_are_hunks_of_their_own() {
        let old: String = (1..=30).map(|number| format!("{number}\n")).collect();
        let new = old.replacen("2\n", "two\n", 1).replace("29\n", "");
        let text = unified_diff("a", "b", &old, &new);
        assert_eq!(text.matches("@@ -").count(), 2, "{text}");
        assert!(text.contains("@@ -26,5 +26,4 @@\n 26\n 27\n 28\n-29\n 30\n"), "{text}");
    }
}
