use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use crate::fleet::enrolment::EnrolmentRules;
use crate::fleet::lifecycle::InstallPolicy;
use crate::fleet::{Architecture, Chap, HostMatch, Mac, Name};

use super::{Facts, Program};

/// Holds what a decision needs to know of the site. Built once from the configuration.
#[derive(Debug, Clone)]
pub struct Site {
    pub unknown_hosts: EnrolmentRules,
    pub install: InstallPolicy,
    pub programs: Programs,
    /// Gives some machines another program than their architecture's; the first that means a machine decides.
    pub overrides: Vec<ProgramOverride>,
    /// Is the namespace that a machine never seen before is put in.
    pub namespace: Name,
    /// Is the address that machines reach us at.
    pub address: IpAddr,
    /// Holds that address, and those that the machines of our other networks reach us at.
    pub ours: Vec<IpAddr>,
    /// Holds the networks that we are on, and those that we give addresses in.
    pub nets: Vec<Ipv4Net>,
    pub http: SocketAddr,
    pub iscsi: SocketAddr,
    /// Is the beginning of every target's name, as in `iqn.2026-11.org.bootlatch`.
    pub iqn: String,
    pub config_access: ConfigAccess,
    /// Is what initiators prove themselves with whose host names nothing else.
    pub chap: Option<Chap>,
}

/// Gives some machines another program than their architecture's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramOverride {
    pub who: HostMatch,
    pub program: Program,
    /// Gives it to a ROM that is an iPXE too, which would otherwise get our script.
    pub also_for_ipxe: bool,
}

/// Says what a machine shows before it is given a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigAccess {
    pub require: ConfigProof,
    /// Is how long a token is good for.
    pub token_ttl: std::time::Duration,
    /// Lists the networks behind routers whose machines are believed which they are: the site vouches for them.
    pub trusted_subnets: Vec<IpNet>,
}

/// Names what proves that a config goes to its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigProof {
    /// The address that the machine asks from; a token where the address tells nothing.
    Address,
    /// The token of the machine's script, wherever it comes from.
    Token,
    /// The token, from the machine's address.
    Both,
}

impl ConfigProof {
    /// Gives what proves that a machine is the one that says it is installed: either does. An installed system may
    /// speak from another card than it booted from, and a token lasts for its window only.
    pub fn of_done(has_good_token: bool) -> Self {
        if has_good_token { Self::Token } else { Self::Address }
    }
}

impl Site {
    /// Gives the beginning of our URLs, without the port where it is HTTP's own.
    pub fn url(&self) -> String {
        match self.http.port() {
            80 => format!("http://{}", bracketed(self.http.ip())),
            port => format!("http://{}:{port}", bracketed(self.http.ip())),
        }
    }

    /// Fills our addresses into kernel arguments: `{server}`, `{url}`, `{image}` (where the image's files are) and
    /// `{mac}`, with dashes. Other braces stay.
    pub fn fill(&self, arguments: &mut [String], image: &Name, mac: Mac) {
        for argument in arguments.iter_mut().filter(|argument| argument.contains('{')) {
            let url = self.url();
            *argument = argument
                .replace("{server}", &self.address.to_string())
                .replace("{image}", &format!("{url}/iso/{image}"))
                .replace("{url}", &url)
                .replace("{mac}", &mac.dashed());
        }
    }

    /// Gives the same site as the machines of another of our networks see it.
    pub fn reached_at(&self, address: IpAddr) -> Self {
        let at = |socket: SocketAddr| SocketAddr::new(address, socket.port());
        Self { address, http: at(self.http), iscsi: at(self.iscsi), ..self.clone() }
    }

    /// Finds the program that a machine is given.
    pub fn program(&self, facts: &Facts) -> Option<&Program> {
        let usual = || facts.firmware.and_then(|firmware| self.programs.find(firmware.architecture));
        self.meant(facts).map(|other| &other.program).or_else(usual)
    }

    /// Finds the program that a machine's iPXE is to load instead of our script.
    pub fn program_for_ipxe(&self, facts: &Facts) -> Option<&Program> {
        self.meant(facts).filter(|other| other.also_for_ipxe).map(|other| &other.program)
    }

    /// Says why an address is no machine's on a network of ours; nothing where it may be one's.
    pub fn rejection_reason(&self, address: IpAddr) -> Option<String> {
        let IpAddr::V4(address) = address else { return None };
        // A network of two addresses, or of one, has no others (RFC 3021).
        let mut nets = self.nets.iter().filter(|net| net.prefix_len() < 31);
        nets.find_map(|net| match address {
            address if address == net.network() => Some(format!("{address} is the network {net} itself")),
            address if address == net.broadcast() => Some(format!("{address} is everybody's on {net} (broadcast)")),
            _ => None,
        })
    }

    /// Says whether a boot program is one that some machine is given.
    pub fn gives(&self, program: &str) -> bool {
        let others = self.overrides.iter().map(|other| &other.program);
        self.programs.0.values().chain(others).any(|given| &*given.0 == program)
    }

    fn meant(&self, facts: &Facts) -> Option<&ProgramOverride> {
        self.overrides.iter().find(|other| other.who.matches(facts.mac, facts.uuid))
    }

    /// Names the target that an image is served under.
    pub fn target_iqn(&self, image: &Name) -> String {
        format!("{}:{image}", self.iqn)
    }
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Maps an architecture to the boot program that it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs(pub BTreeMap<Architecture, Program>);

impl Programs {
    pub fn find(&self, architecture: Architecture) -> Option<&Program> {
        self.0.get(&architecture).or_else(|| self.0.get(&architecture.over_tftp()))
    }
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fleet::lifecycle::Completion;

    /// Makes a site with the given rule for machines never seen before, for tests all over the crate.
    pub fn site(rule: &str) -> Site {
        let programs = [(0, "undionly.kpxe"), (7, "snponly.efi"), (11, "ipxe-arm64.efi")];
        let programs = programs.map(|(code, name)| (Architecture(code), Program(name.into())));
        let address = IpAddr::from([10, 77, 0, 2]);
        Site {
            unknown_hosts: EnrolmentRules { first: Vec::new(), otherwise: rule.parse().unwrap() },
            install: InstallPolicy {
                completion: Completion::BootComplete,
                timeout: Duration::from_secs(3600),
                max_boots: 10,
            },
            programs: Programs(programs.into()),
            overrides: Vec::new(),
            namespace: "default".parse().unwrap(),
            address,
            ours: vec![address],
            nets: vec!["10.77.0.0/24".parse().unwrap()],
            http: SocketAddr::new(address, 80),
            iscsi: SocketAddr::new(address, 3260),
            iqn: "iqn.2026-11.org.bootlatch".into(),
            config_access: ConfigAccess {
                require: ConfigProof::Address,
                token_ttl: Duration::from_secs(3600),
                trusted_subnets: Vec::new(),
            },
            chap: None,
        }
    }

    #[test]
    fn kernel_arguments_name_the_address_that_their_machine_reached() {
        let mut arguments =
            ["a={server}", "{image}/rootfs.img", "{url}/x?{mac}", "{other}", "quiet"].map(str::to_owned);
        let site = site("hold").reached_at([10, 78, 0, 2].into());
        site.fill(&mut arguments, &"live".parse().unwrap(), Mac([0x52, 0x54, 0, 0, 0, 1]));
        let expected = ["a=10.78.0.2", "http://10.78.0.2/iso/live/rootfs.img", "http://10.78.0.2/x?52-54-00-00-00-01"];
        assert_eq!(arguments[..3], expected);
        assert_eq!(arguments[3..], ["{other}", "quiet"]);
    }

    #[test]
    fn a_networks_own_addresses_are_no_machines() {
        let mut site = site("hold");
        site.nets.push("10.78.0.0/31".parse().unwrap());
        for (address, fits) in
            [("10.77.0.0", false), ("10.77.0.255", false), ("10.77.0.1", true), ("10.78.0.0", true), ("fd00::", true)]
        {
            assert_eq!(site.rejection_reason(address.parse().unwrap()).is_none(), fits, "{address}");
        }
    }

    #[test]
    fn http_boot_falls_back_to_its_machines_program() {
        let programs = site("hold").programs;
        assert_eq!(programs.find(Architecture(16)), Some(&Program("snponly.efi".into())));
        assert_eq!(programs.find(Architecture(9)), Some(&Program("snponly.efi".into())));
        assert_eq!(programs.find(Architecture(33)), None);
    }
}
