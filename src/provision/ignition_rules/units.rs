//! Units of systemd: their names, their text, and whether enabling them does anything.

use super::super::findings::{Finding, Findings, Place};

/// Suffixes of unit names.
const SUFFIXES: [&str; 12] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "snapshot",
    "slice",
    "scope",
];
/// Longest line that systemd reads, in octets.
const MAX_LINE: usize = 2048;

/// Checks the units of a config.
pub fn check(config: &Place<'_>, found: &mut Findings) {
    for unit in config.matches("systemd.units.*") {
        let name = unit.value.text("name").unwrap_or_default();
        let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        if !SUFFIXES.contains(&suffix) {
            let message = format!("found {name:?}, expected a name with a suffix of units, such as .service");
            found.errors.push(unit.finding_of("name", message));
        }
        if let Some(sections) = sections(&unit, found)
            && unit.value.is("enabled", true)
            && !sections.iter().any(|section| section == "Install")
        {
            let message = format!("{name} is enabled, but has no [Install] section, so that enabling does nothing");
            found.warnings.push(unit.finding_of("contents", message));
        }
        for dropin in unit.items("dropins") {
            sections(&dropin, found);
            let name = dropin.value.text("name").unwrap_or_default();
            if !name.ends_with(".conf") {
                let message = format!("found {name:?}, expected a name with the suffix .conf");
                found.errors.push(dropin.finding_of("name", message));
            }
        }
    }
}

/// Returns the sections of the text of a unit or drop-in; `None` if it has no text, or one that is wrong.
fn sections(unit: &Place<'_>, found: &mut Findings) -> Option<Vec<String>> {
    let text = unit.value.word("contents")?;
    match parse(text) {
        Ok(sections) => Some(sections),
        Err((line, fault)) => {
            found.errors.push(content_finding(unit, line, &fault));
            None
        }
    }
}

fn content_finding(unit: &Place<'_>, line: usize, fault: &str) -> Finding {
    unit.finding_of("contents", format!("line {line} of the unit: {fault}"))
}

/// Returns the names of the sections with an option; what comes before the first section is ignored.
fn parse(text: &str) -> Result<Vec<String>, (usize, String)> {
    let mut sections = Vec::new();
    let mut section: Option<String> = None;
    let mut is_continued = false;
    for (index, line) in text.split('\n').enumerate() {
        let wrong = |fault: String| Err((index + 1, fault));
        if line.len() > MAX_LINE {
            return wrong(format!("{} octets, expected at most {MAX_LINE}", line.len()));
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        let was_continued = std::mem::replace(&mut is_continued, line.ends_with('\\'));
        let trimmed = line.trim_start();
        if was_continued {
            is_continued &= !trimmed.is_empty();
            continue;
        }
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = trimmed.strip_prefix('[') {
            is_continued = false;
            let Some((name, garbage)) = rest.split_once(']') else {
                return wrong("a section without its closing bracket".to_owned());
            };
            if !garbage.trim().is_empty() {
                return wrong(format!("found {:?} after the section [{name}]", garbage.trim()));
            }
            section = Some(name.to_owned());
            continue;
        }
        let Some(section) = &section else {
            is_continued = false;
            continue;
        };
        if !trimmed.contains('=') {
            return wrong(format!("found {trimmed:?}, expected NAME=VALUE"));
        }
        if !sections.contains(section) {
            sections.push(section.clone());
        }
    }
    Ok(sections)
}
