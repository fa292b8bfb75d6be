//! The operational keys of RFC 7143 13, each with its own result function.

use super::digest::Digests;
use super::limits;
use super::text;

/// The values that a session agreed on. Before any negotiation they are the RFC's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// HeaderDigest and DataDigest.
    pub digests: Digests,
    /// The longest data segment that the initiator accepts, in bytes (its MaxRecvDataSegmentLength).
    pub send_segment: usize,
    /// MaxBurstLength, in bytes.
    pub max_burst: u32,
    /// Whether our MaxRecvDataSegmentLength was declared already.
    declared: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self { digests: Digests::default(), send_segment: 8192, max_burst: 262_144, declared: false }
    }
}

const REJECT: &str = "Reject";
const LENGTHS: std::ops::RangeInclusive<u32> = 512..=0x00ff_ffff;

impl Params {
    /// Handles one key that the initiator offers or declares. Returns the value to answer; `None` for a declaration,
    /// which has no answer.
    pub fn negotiate(&mut self, key: &str, value: &str) -> Option<String> {
        let answer = match key {
            "HeaderDigest" => list(value, &["CRC32C", "None"]).map(|choice| {
                self.digests.header = choice == "CRC32C";
                choice.to_owned()
            }),
            "DataDigest" => list(value, &["CRC32C", "None"]).map(|choice| {
                self.digests.data = choice == "CRC32C";
                choice.to_owned()
            }),
            "MaxRecvDataSegmentLength" => return self.declare(value),
            "MaxConnections" => least(value, 1..=65_535, 1),
            "MaxOutstandingR2T" => least(value, 1..=65_535, 1),
            "ErrorRecoveryLevel" => least(value, 0..=2, 0),
            "DefaultTime2Retain" => least(value, 0..=3600, 0),
            // The larger value wins. Ours is 0, so the initiator's is the result (13.15).
            "DefaultTime2Wait" => number_in(value, 0..=3600).map(|theirs| theirs.to_string()),
            "MaxBurstLength" => self.max_burst(value),
            // Without effect, because immediate and unsolicited data are off (13.14).
            "FirstBurstLength" => number_in(value, LENGTHS).map(|theirs| theirs.to_string()),
            // OR with our Yes (13.10, 13.18, 13.19).
            "InitialR2T" | "DataPDUInOrder" | "DataSequenceInOrder" => boolean(value).map(|_| "Yes".to_owned()),
            // AND with our No (13.11): units are read-only, so no data comes unsolicited.
            "ImmediateData" => boolean(value).map(|_| "No".to_owned()),
            "TaskReporting" => list(value, &["RFC3720"]).map(str::to_owned),
            // The smaller value wins (RFC 7144 7.1.1); level 1 is RFC 7143.
            "iSCSIProtocolLevel" => least(value, 0..=31, 1),
            // Obsolete keys must be rejected, and not be answered NotUnderstood (13.25).
            "IFMarker" | "OFMarker" | "IFMarkInt" | "OFMarkInt" => None,
            // Declarations of a target have no meaning from an initiator.
            "TargetAlias" | "TargetAddress" | "TargetPortalGroupTag" => None,
            _ => Some("NotUnderstood".to_owned()),
        };
        Some(answer.unwrap_or_else(|| REJECT.to_owned()))
    }

    /// Returns our own MaxRecvDataSegmentLength, once.
    pub fn declare_ours(&mut self) -> Option<String> {
        let first = !std::mem::replace(&mut self.declared, true);
        first.then(|| limits::MAX_RECEIVE_SEGMENT.to_string())
    }

    fn declare(&mut self, value: &str) -> Option<String> {
        let Some(theirs) = number_in(value, LENGTHS) else {
            return Some(REJECT.to_owned());
        };
        self.send_segment = usize::try_from(theirs).unwrap_or(limits::MAX_SEND_SEGMENT);
        None
    }

    fn max_burst(&mut self, value: &str) -> Option<String> {
        self.max_burst = number_in(value, LENGTHS)?;
        Some(self.max_burst.to_string())
    }
}

/// Returns the first value of the initiator's list that we support (RFC 7143 6.2.1).
#[must_use]
pub fn list<'a>(value: &'a str, ours: &[&str]) -> Option<&'a str> {
    value.split(',').find(|offered| ours.contains(offered))
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

fn number_in(value: &str, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
    text::parse_number(value).filter(|number| range.contains(number))
}

fn least(value: &str, range: std::ops::RangeInclusive<u32>, ours: u32) -> Option<String> {
    number_in(value, range).map(|theirs| theirs.min(ours).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_result_function() {
        for (key, offered, answer) in [
            ("HeaderDigest", "None,CRC32C", Some("None")),
            ("HeaderDigest", "CRC32C,None", Some("CRC32C")),
            ("DataDigest", "CRC32C", Some("CRC32C")),
            ("DataDigest", "SHA1", Some("Reject")),
            ("MaxConnections", "8", Some("1")),
            ("MaxConnections", "0", Some("Reject")),
            ("InitialR2T", "No", Some("Yes")),
            ("InitialR2T", "Maybe", Some("Reject")),
            ("ImmediateData", "Yes", Some("No")),
            ("ImmediateData", "No", Some("No")),
            ("MaxRecvDataSegmentLength", "65536", None),
            ("MaxRecvDataSegmentLength", "511", Some("Reject")),
            ("MaxBurstLength", "16776192", Some("16776192")),
            ("MaxBurstLength", "16777216", Some("Reject")),
            ("FirstBurstLength", "262144", Some("262144")),
            ("FirstBurstLength", "4096", Some("4096")),
            ("DefaultTime2Wait", "2", Some("2")),
            ("DefaultTime2Retain", "20", Some("0")),
            ("MaxOutstandingR2T", "16", Some("1")),
            ("DataPDUInOrder", "No", Some("Yes")),
            ("DataSequenceInOrder", "Yes", Some("Yes")),
            ("ErrorRecoveryLevel", "2", Some("0")),
            ("ErrorRecoveryLevel", "3", Some("Reject")),
            ("IFMarker", "No", Some("Reject")),
            ("OFMarkInt", "2048~4096", Some("Reject")),
            ("TaskReporting", "FastAbort,RFC3720", Some("RFC3720")),
            ("iSCSIProtocolLevel", "2", Some("1")),
            ("X-com.example.speed", "high", Some("NotUnderstood")),
        ] {
            assert_eq!(Params::default().negotiate(key, offered).as_deref(), answer, "{key}={offered}");
        }
    }

    #[test]
    fn negotiated_values_are_kept() {
        let mut params = Params::default();
        for (key, value) in
            [("HeaderDigest", "CRC32C"), ("MaxRecvDataSegmentLength", "262144"), ("MaxBurstLength", "65536")]
        {
            params.negotiate(key, value);
        }
        assert!(params.digests.header && !params.digests.data);
        assert_eq!((params.send_segment, params.max_burst), (262_144, 65_536));
        assert_eq!(params.declare_ours().as_deref(), Some("8192"));
        assert_eq!(params.declare_ours(), None);
    }
}
