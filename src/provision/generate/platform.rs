//! Platforms of Ignition requests, and the Ignition versions that their releases support.

use std::str::FromStr;

use super::body::display_value;

/// The platform whose machines read an Ignition config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// OKD.
    Okd,
    /// Red Hat OpenShift Container Platform.
    OpenShift,
    /// Fedora CoreOS without a cluster.
    Fcos,
}

/// First minor release of version 4 for each Ignition specification, from Butane's `openshift` variant.
const CLUSTER_SPECIFICATIONS: [(u32, &str); 4] = [(8, "3.2.0"), (14, "3.4.0"), (19, "3.5.0"), (22, "3.6.0")];
/// Newest supported minor release of version 4.
const LAST_MINOR: u32 = 22;
/// First Fedora release for each Ignition specification of Fedora CoreOS. Ignition 2.11, 2.15 and 2.20 introduced
/// them, and newer versions still read them.
const FEDORA_SPECIFICATIONS: [(u32, &str); 3] = [(35, "3.3.0"), (38, "3.4.0"), (41, "3.5.0")];
/// Newest supported Fedora release.
const LAST_FEDORA: u32 = 44;
/// Streams of Fedora CoreOS.
const STREAMS: [&str; 3] = ["stable", "testing", "next"];

impl Platform {
    /// All platforms.
    pub const ALL: [Self; 3] = [Self::Okd, Self::OpenShift, Self::Fcos];

    /// Returns the name in a request, where case does not matter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Okd => "okd",
            Self::OpenShift => "openshift",
            Self::Fcos => "fcos",
        }
    }

    /// Returns whether the machines get the rest of their config from a cluster.
    pub fn is_cluster(self) -> bool {
        match self {
            Self::Okd | Self::OpenShift => true,
            Self::Fcos => false,
        }
    }

    /// Returns the roles of its machines.
    pub fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Okd | Self::OpenShift => &["bootstrap", "master", "worker"],
            Self::Fcos => &["master", "worker", "node"],
        }
    }

    /// Returns the Ignition specification for a version of the platform.
    ///
    /// # Errors
    /// Returns a message with the supported versions.
    pub fn ignition_specification(self, version: &str) -> Result<&'static str, String> {
        let (found, known) = match self {
            Self::Okd | Self::OpenShift => {
                let known = format!("4.{} to 4.{LAST_MINOR}, for example \"4.19\"", CLUSTER_SPECIFICATIONS[0].0);
                (minor(version).and_then(|minor| specification(&CLUSTER_SPECIFICATIONS, LAST_MINOR, minor)), known)
            }
            Self::Fcos if STREAMS.contains(&version) => {
                (specification(&FEDORA_SPECIFICATIONS, LAST_FEDORA, LAST_FEDORA), String::new())
            }
            Self::Fcos => {
                let known = format!("{} to {LAST_FEDORA}, or {}", FEDORA_SPECIFICATIONS[0].0, STREAMS.join(", "));
                (
                    leading_number(version)
                        .and_then(|(release, _)| specification(&FEDORA_SPECIFICATIONS, LAST_FEDORA, release)),
                    known,
                )
            }
        };
        found.ok_or_else(|| {
            format!("unsupported version {} of {}: expected {known}", display_value(version), self.as_str())
        })
    }
}

/// Returns the specification of a release.
fn specification(table: &[(u32, &'static str)], last: u32, wanted: u32) -> Option<&'static str> {
    let known = table.iter().rev().find(|(first, _)| *first <= wanted);
    known.filter(|_| wanted <= last).map(|(_, specification)| *specification)
}

/// Parses the minor release of `4.19`, `4.19.3` or `4.19.0-okd-scos.5`.
fn minor(version: &str) -> Option<u32> {
    leading_number(version.strip_prefix("4.")?).map(|(minor, _)| minor)
}

/// Splits a version into its first number and the rest, which must be well-formed.
fn leading_number(version: &str) -> Option<(u32, &str)> {
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
            format!("unknown platform {}: expected one of {known}", display_value(text))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_its_specification() {
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
            assert_eq!(
                platform.ignition_specification(version).as_deref(),
                Ok(specification),
                "{platform:?} {version}"
            );
        }
    }

    #[test]
    fn an_unsupported_version_is_refused_with_the_supported_ones() {
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
            let wrong = Platform::Okd.ignition_specification(version).unwrap_err();
            assert!(wrong.contains("4.8 to 4.22"), "{version}: {wrong}");
        }
        for version in ["34", "45", "38.", "Stable", "rawhide", "042", "4.19"] {
            assert!(
                Platform::Fcos.ignition_specification(version).unwrap_err().contains("35 to 44, or stable"),
                "{version}"
            );
        }
        assert!("talos".parse::<Platform>().unwrap_err().contains("okd, openshift, fcos"));
    }
}
