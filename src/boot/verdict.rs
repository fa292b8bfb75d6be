use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fleet::{Host, Name};

/// The answer to a machine. Each protocol says it in its own messages.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// No answer, or a refusal if the protocol demands an answer.
    Ignore(Reason),
    /// A new host: record it first, then decide again.
    Enrol(Box<Host>),
    /// The boot program to load.
    Chainload(Program),
    /// The image to boot over the network.
    SanBoot(Name),
    /// The image to wait for: the assigned image, or a companion of it, cannot be served now. The machine asks again.
    Wait(Name),
    /// A menu of images on the machine's console.
    Menu,
    /// The config of the machine.
    Configure(Name),
    /// A boot from the machine's own disk.
    LocalDisk(Reason),
}

/// The path of a boot program, relative to the directory of boot programs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program(pub Arc<str>);

impl fmt::Display for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $code:literal => $sentence:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $(#[doc = concat!("`", $code, "`: ", $sentence, ".")] $variant,)* }

        impl $name {
            /// All variants, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the stable code for metrics, logs and the API, in snake case.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// Returns one sentence for people, without the full stop.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.sentence())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.code())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let code = String::deserialize(from)?;
                let found = Self::ALL.iter().find(|reason| reason.code() == code).copied();
                found.ok_or_else(|| serde::de::Error::custom(format!("unknown reason code {code:?}")))
            }
        }
    };
}

reasons! {
    /// The reason for a verdict or a refusal.
    Reason {
        UnknownHostIgnored = "unknown_host_ignored" => "the machine is unknown, and the rules ignore it",
        Held = "held" => "the host is held until an operator decides",
        NotAssigned = "not_assigned" => "no image is assigned to the host",
        InstallCompleted = "install_completed" => "the install is completed",
        InstallFailed = "install_failed" => "the install failed: request another one to try again",
        MaxBootsReached = "max_boots_reached" => "the install used all boots that install.max_boots allows",
        NoBootProgram = "no_boot_program" => "no boot program is configured for this architecture",
        OtherImageAssigned = "other_image_assigned" => "the image is not the one that is assigned to the host",
        ImageUnavailable = "image_unavailable" => "the image cannot be served now: see its status",
        NoConfig = "no_config" => "no config is assigned to the host",
        FileNotFound = "file_not_found" => "the file does not exist",
        OtherConfigAssigned = "other_config_assigned" => "the config is not the one that is assigned to the host",
        UnknownHost = "unknown_host" => "no host is known by this address",
        EnrolmentLimit = "enrolment_limit" => "too many machines were seen and never declared: declare the machine, or raise limits.unknown_hosts",
        DiskNearlyFull = "disk_nearly_full" => "the disk of the state is nearly full, and unknown machines are not recorded",
        RuleNotApplicable = "rule_not_applicable" => "the rule for unknown machines cannot be applied: see the log",
        AddressOfOtherMachine = "address_of_other_machine" => "the address belongs to another machine",
        NotSpecIp = "not_spec_ip" => "the request does not come from the host's spec.ip",
        SeenAtOtherAddress = "seen_at_other_address" => "the neighbour table or a lease has the machine at another address",
        AddressUnverified = "address_unverified" => "no evidence ties the address to the machine: set spec.ip of the host, or list its network in config_access.trusted_subnets",
        ConfigWindowClosed = "config_window_closed" => "the config is given only within config_access.token_ttl of the machine's boot script",
        TokenMissing = "token_missing" => "the request carries no token, and config_access.require demands one",
        ChapFailed = "chap_failed" => "the CHAP name or secret is missing or wrong",
        ChapThrottled = "chap_throttled" => "too many logins of this source or name failed by CHAP: try again later",
        TokenInvalid = "token_invalid" => "the token is invalid or has expired",
        BrowserRequest = "browser_request" => "a web browser sent the request: machines' routes are for boot programs and installers",
        StoreUnavailable = "store_unavailable" => "the state could not be written",
        ConfigNotRendered = "config_not_rendered" => "the config cannot be rendered from its template: see the condition ConfigRendered of the host",
        InternalError = "internal_error" => "the server failed to handle the request: see the log",
    }
}

reasons! {
    /// The reason to drop a packet or a request before any decision.
    DropReason {
        NotARequest = "not_a_request" => "the packet is not a client's request",
        NotABootRequest = "not_a_boot_request" => "the request is not a boot request",
        Truncated = "truncated" => "the packet is shorter than its fields state",
        BadHeader = "bad_header" => "the header is invalid",
        BadOption = "bad_option" => "an option or parameter is invalid",
        OtherServer = "other_server" => "the packet is addressed to another server",
        NoHardwareAddress = "no_hardware_address" => "the packet has no usable hardware address",
        Overload = "overload" => "too many requests at once",
        NoTransfer = "no_transfer" => "the packet belongs to no transfer",
        SendFailed = "send_failed" => "the reply could not be sent",
        NoSubnet = "no_subnet" => "no subnet is configured for the client's link",
        NoFreeAddress = "no_free_address" => "no address is free in the client's subnet",
        LeaseNotWritten = "lease_not_written" => "the lease could not be written",
        StoodDown = "stood_down" => "another DHCP server answers on this interface",
        FileNotFound = "file_not_found" => "the file does not exist",
        WriteRefused = "write_refused" => "the server is read-only",
        SourceLimit = "source_limit" => "the source has as many connections, transfers or addresses as it may have",
        RateLimit = "rate_limit" => "the source asks more often than it may",
        HeadMemory = "head_memory" => "the heads of the requests in progress use all memory that they may",
        ForgedAck = "forged_ack" => "the packet acknowledges what was never sent, or comes to the port of another transfer",
        ContradictedClaim = "contradicted_claim" => "the claim contradicts what is known of the sender",
        UnknownRelay = "unknown_relay" => "the message comes through a relay that is not believed: list it in dhcp.relays",
        NotOnLink = "not_on_link" => "the address is not in a network that the message came from",
        UntiedSource = "untied_source" => "no evidence ties the source's address to a host",
        NoInstall = "no_install" => "the host has no install that the line may belong to",
        LineTooLong = "line_too_long" => "the rest of the line or report was left out: it is longer than it may be",
        LineLimit = "line_limit" => "the host has as many lines of this boot's installer as it may have",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_snake_case_and_names_its_variant_alone() {
        fn check<T: fmt::Debug + Copy>(all: &[T], code: impl Fn(T) -> &'static str) {
            let mut codes: Vec<_> = all.iter().map(|reason| code(*reason)).collect();
            for (reason, code) in all.iter().zip(&codes) {
                let joined: String = code.split('_').collect();
                assert_eq!(joined, format!("{reason:?}").to_lowercase(), "{code}");
            }
            codes.sort_unstable();
            codes.dedup();
            assert_eq!(codes.len(), all.len());
        }
        check(Reason::ALL, Reason::code);
        check(DropReason::ALL, DropReason::code);
    }

    #[test]
    fn a_reason_is_its_code_in_json() {
        for reason in Reason::ALL {
            let json = serde_json::to_string(reason).unwrap();
            assert_eq!(json, format!("{:?}", reason.code()));
            assert_eq!(serde_json::from_str::<Reason>(&json).unwrap(), *reason);
        }
        assert!(serde_json::from_str::<Reason>("\"no image is assigned\"").is_err());
    }
}
