use std::str::FromStr;

use super::body::said;

/// Is what reads the Ignition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    Okd,
    OpenShift,
    Fcos,
}

/// Pairs the first minor of version 4 with the Ignition specification that it and those after it take, as Butane's
/// table of its `openshift` variant has them; the last minor that is known ends the list.
const OF_CLUSTERS: [(u32, &str); 4] = [(8, "3.2.0"), (14, "3.4.0"), (19, "3.5.0"), (22, "3.6.0")];
const LAST_MINOR: u32 = 22;
/// Pairs the first Fedora release with what Fedora CoreOS of it takes: Ignition 2.11, 2.15 and 2.20 brought these, and
/// newer ones read them as well.
const OF_FEDORA: [(u32, &str); 3] = [(35, "3.3.0"), (38, "3.4.0"), (41, "3.5.0")];
const LAST_FEDORA: u32 = 44;
const STREAMS: [&str; 3] = ["stable", "testing", "next"];

impl Platform {
    /// Lists all of them.
    pub const ALL: [Self; 3] = [Self::Okd, Self::OpenShift, Self::Fcos];

    /// Gives the name by which a body asks for it; case does not count.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Okd => "okd",
            Self::OpenShift => "openshift",
            Self::Fcos => "fcos",
        }
    }

    /// Says whether its machines are told by their cluster what they are.
    pub fn is_cluster(self) -> bool {
        match self {
            Self::Okd | Self::OpenShift => true,
            Self::Fcos => false,
        }
    }

    /// Lists what its machines can be.
    pub fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Okd | Self::OpenShift => &["bootstrap", "master", "worker"],
            Self::Fcos => &["master", "worker", "node"],
        }
    }

    /// Finds the version of the Ignition specification that a version of the platform takes.
    ///
    /// # Errors
    /// Which versions are known.
    pub fn ignition(self, version: &str) -> Result<&'static str, String> {
        let (found, known) = match self {
            Self::Okd | Self::OpenShift => {
                let known = format!("4.{} to 4.{LAST_MINOR}, as in \"4.19\"", OF_CLUSTERS[0].0);
                (minor(version).and_then(|minor| of(&OF_CLUSTERS, LAST_MINOR, minor)), known)
            }
            Self::Fcos if STREAMS.contains(&version) => (of(&OF_FEDORA, LAST_FEDORA, LAST_FEDORA), String::new()),
            Self::Fcos => {
                let known = format!("{} to {LAST_FEDORA}, or {}", OF_FEDORA[0].0, STREAMS.join(", "));
                (leading(version).and_then(|(release, _)| of(&OF_FEDORA, LAST_FEDORA, release)), known)
            }
        };
        found.ok_or_else(|| format!("{} is no version of {} that is known: {known}", said(version), self.as_str()))
    }
}

fn of(table: &[(u32, &'static str)], last: u32, wanted: u32) -> Option<&'static str> {
    let known = table.iter().rev().find(|(first, _)| *first <= wanted);
    known.filter(|_| wanted <= last).map(|(_, specification)| *specification)
}

/// Reads `4.19`, `4.19.3`, `4.19.0-okd-scos.5`.
fn minor(version: &str) -> Option<u32> {
    leading(version.strip_prefix("4.")?).map(|(minor, _)| minor)
}

/// Reads the number that a version begins with; what follows it is of the release within it.
fn leading(version: &str) -> Option<(u32, &str)> {
    let end = version.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(version.len());
    let (number, rest) = version.split_at(end);
    let is_rest = rest.is_empty()
        || rest.strip_prefix('.').is_some_and(|rest| {
            rest.split(['.', '-']).all(|part| !part.is_empty() && part.chars().all(|sign| sign.is_ascii_alphanumeric()))
        });
    let is_number = (1..=3).contains(&number.len()) && !(number.len() > 1 && number.starts_with('0'));
    (is_rest && is_number).then(|| number.parse().ok()).flatten().map(|number| (number, rest))
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        if lower == "ocp" {
            return Ok(Self::OpenShift);
        }
        Self::ALL.into_iter().find(|platform| platform.as_str() == lower).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("{} is no platform that is known: {known}", said(text))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_takes_its_specification() {
        let rows = [
            ("OKD", "4.8", "3.2.0"),
            ("okd", "4.13.0-0.okd-2023-10-28-065448", "3.2.0"),
            ("okd", "4.14", "3.4.0"),
            ("okd", "4.19", "3.5.0"),
            ("okd", "4.19.0-okd-scos.5", "3.5.0"),
            ("ocp", "4.21.7", "3.5.0"),
            ("OpenShift", "4.22.0-rc.1", "3.6.0"),
            ("fcos", "36", "3.3.0"),
            ("fcos", "40.20240906.3.0", "3.4.0"),
            ("fcos", "42", "3.5.0"),
            ("fcos", "stable", "3.5.0"),
        ];
        for (platform, version, specification) in rows {
            let platform: Platform = platform.parse().unwrap();
            assert_eq!(platform.ignition(version).as_deref(), Ok(specification), "{platform:?} {version}");
        }
    }

    #[test]
    fn what_is_not_known_is_said_with_what_is() {
        for version in [
            "",
            "4",
            "4.",
            "4.7",
            "4.23",
            "4.019",
            "4.19.",
            "4.19-",
            "4.19.0/..",
            "5.0",
            "v4.19",
            "stable",
            "4.19 ",
            "4.-19",
            "4.9999",
        ] {
            let wrong = Platform::Okd.ignition(version).unwrap_err();
            assert!(wrong.contains("4.8 to 4.22"), "{version}: {wrong}");
        }
        for version in ["34", "45", "38.", "Stable", "rawhide", "042", "4.19"] {
            assert!(Platform::Fcos.ignition(version).unwrap_err().contains("35 to 44, or stable"), "{version}");
        }
        assert!("talos".parse::<Platform>().unwrap_err().contains("okd, openshift, fcos"));
    }
}
