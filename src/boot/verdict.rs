use std::fmt;
use std::sync::Arc;

use crate::fleet::{Host, Image, Name};

use super::ConfigProof;

/// Is what a machine is to be told. Each protocol says it in its own words.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Say nothing, or refuse where the protocol demands an answer.
    Ignore(Reason),
    /// Remember the machine first (it was never seen before), then decide again.
    Enrol(Box<Host>),
    /// Load this program.
    Chainload(Program),
    /// Boot this image over the network.
    SanBoot(Name),
    /// Ask again later: this image is to be booted, or goes beside the one that is, and cannot be given now.
    Wait(Name),
    /// Show whoever stands before the machine a menu.
    Menu,
    /// Take this config.
    Configure(Name),
    /// Boot your own disk.
    LocalDisk(Reason),
}

impl Verdict {
    /// Says why an install is not begun that cannot be gone through with: where the site asks for the token of a
    /// script, a config is to be had with one alone, and who is not known to be the machine is given none.
    pub fn missing_proof(&self, host: Option<&Host>, tied: bool, proof: ConfigProof) -> Option<Reason> {
        let has_config = host.is_some_and(|host| host.spec.boot_config_ref.is_some());
        let is_boot = matches!(self, Self::SanBoot(_));
        (is_boot && has_config && !tied && proof != ConfigProof::Address).then_some(Reason::NothingTies)
    }

    /// Gives the verdict where the image that it may name is as it is: one whose file is gone or broken is waited
    /// for, and so is one that is attached beside it.
    pub fn wait_if_broken<'a>(self, image: impl Fn(&Name) -> Option<&'a Image>) -> Self {
        let Self::SanBoot(name) = &self else { return self };
        let is_broken = |name: &&Name| image(name).is_some_and(|image| image.status.is_broken());
        let beside = image(name).map_or(&[][..], |image| image.spec.attached_companions());
        let awaited = std::iter::once(name).chain(beside).find(is_broken).cloned();
        awaited.map_or(self, Self::Wait)
    }
}

/// Names a boot program, relative to the directory of boot programs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program(pub Arc<str>);

impl fmt::Display for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($variant:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($variant,)* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Says the reason in words, for a person.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.as_str())
            }
        }
    };
}

reasons! {
    /// Says why a verdict is what it is.
    Reason {
        NeverSeenIgnored => "never seen before, and the site's rule is to ignore such machines",
        HeldByOperator => "held until an operator decides",
        NothingAssigned => "no image is assigned",
        InstallDone => "the install is done",
        InstallFailed => "the install failed, and nobody asked for another",
        OffersUsedUp => "the install was offered as often as the site allows",
        NoProgram => "no boot program is known for this architecture",
        OtherImage => "the image is not the one assigned to the machine",
        ImageBroken => "the image cannot be served now: its status says why",
        NoConfig => "no config is assigned",
        NoSuchFile => "there is no such file",
        OtherConfig => "the config is not the one assigned to the machine",
        NoSuchHost => "no host is known by this address",
        RuleUnfit => "the site's rule for machines never seen before cannot be applied",
        AddressContradicted => "the address belongs to another machine",
        AddressElsewhere => "the host's spec.ip is another address than the one that asks",
        SeenElsewhere => "the machine is at another address, by the neighbour table or its lease",
        NothingTies => "nothing ties the address to the machine: give the host its address (spec.ip), or name its network in [trust] routed",
        NoToken => "the request carries no token of a script, and the site asks for one",
        BadSecret => "the CHAP name or secret is wrong, or none was given",
        BadToken => "the token is none that this server gave to the machine, or its time is over",
        StoreUnavailable => "the state could not be written",
    }
}

reasons! {
    /// Says why a packet or a request was dropped before any decision.
    DropReason {
        NotARequest => "not a request of a client",
        NotABoot => "not a boot request",
        Truncated => "shorter than its own fields say",
        BadHeader => "the header makes no sense",
        BadOption => "an option makes no sense",
        NotForUs => "addressed to another server",
        NoAddress => "the client's hardware address is none we can answer",
        Overload => "more at once than the limit allows",
        Stray => "it belongs to no transfer",
        NotSent => "the answer could not be sent",
        NoSubnet => "no subnet is configured for the client's link",
        NoFreeAddress => "no address is free in the client's subnet",
        Unwritten => "its lease could not be written",
        Yielded => "another boot server answers on this interface",
        UnknownName => "no such file",
        WriteRefused => "writing is not offered",
        BadClaim => "the claim contradicts what is known of the sender",
    }
}
