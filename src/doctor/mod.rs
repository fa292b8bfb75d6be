//! The doctor: what is wrong with an appliance and its wire. Pure: `appliance/doctor` looks, the checks here judge.

pub mod certificate;
pub mod checks;
pub mod firewall;

use serde::Serialize;

/// The result of a look at the appliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    kind: &'static str,
    api_version: &'static str,
    /// Whether a server runs over the configured state directory; `null` if that is not known.
    pub is_running: Option<bool>,
    /// What is wrong, the most severe first.
    pub findings: Vec<Finding>,
    /// What was not looked at, and why.
    pub not_checked: Vec<NotChecked>,
    /// Codes of the checks that were made.
    pub checked: Vec<&'static str>,
}

/// A thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Code of the finding, in snake case.
    pub code: &'static str,
    /// The severity.
    pub severity: Severity,
    /// The thing: a listener, a file, an interface, a key of the configuration.
    pub subject: String,
    /// What was seen, and what follows from it.
    pub seen: String,
    /// What to do.
    pub remedy: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Machines do not boot because of it, or the server does not start.
    Error,
    /// Some machines may not boot because of it, or will not later.
    Warning,
}

/// A look that was not possible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotChecked {
    /// Code of the check.
    pub check: &'static str,
    /// Why it was not made.
    pub reason: String,
}

/// What was observed, or why it was not looked at.
pub type Looked<T> = Result<T, String>;

impl Finding {
    /// Creates a finding that keeps machines from booting.
    pub fn error(code: &'static str, subject: impl Into<String>, seen: impl Into<String>, remedy: &str) -> Self {
        let (subject, seen, remedy) = (subject.into(), seen.into(), remedy.to_owned());
        Self { code, severity: Severity::Error, subject, seen, remedy }
    }

    /// Creates a finding that may keep some machines from booting.
    pub fn warning(code: &'static str, subject: impl Into<String>, seen: impl Into<String>, remedy: &str) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, subject, seen, remedy) }
    }
}

impl Report {
    /// Creates a report without checks.
    pub fn new(is_running: Option<bool>) -> Self {
        let (findings, not_checked, checked) = Default::default();
        Self { kind: "DoctorReport", api_version: "v1", is_running, findings, not_checked, checked }
    }

    /// Adds the findings of a check, or why it was not made.
    pub fn add<T>(&mut self, check: &'static str, observed: &Looked<T>, judge: impl FnOnce(&T) -> Vec<Finding>) {
        match observed {
            Ok(observed) => {
                self.checked.push(check);
                self.findings.extend(judge(observed));
            }
            Err(reason) => self.not_checked.push(NotChecked { check, reason: reason.clone() }),
        }
    }

    /// Sorts the findings: errors first, each in the order of the checks.
    pub fn sort(&mut self) {
        self.findings.sort_by_key(|finding| finding.severity);
    }

    /// Returns the severity of the worst finding.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_its_worst_finding_first() {
        let mut report = Report::new(Some(true));
        assert_eq!(report.worst(), None);
        report.add("ports", &Ok(1), |_| vec![Finding::warning("a", "x", "seen", "do")]);
        report.add("disk", &Err::<(), _>("no root".to_owned()), |()| vec![Finding::error("b", "x", "seen", "do")]);
        assert_eq!((report.worst(), report.checked.as_slice()), (Some(Severity::Warning), &["ports"][..]));
        assert_eq!(report.not_checked, [NotChecked { check: "disk", reason: "no root".to_owned() }]);
        report.add("firmware", &Ok(2), |_| vec![Finding::error("c", "x", "seen", "do")]);
        report.sort();
        assert_eq!(report.worst(), Some(Severity::Error));
        assert_eq!(report.findings.iter().map(|one| one.code).collect::<Vec<_>>(), ["c", "a"]);
    }
}
