use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use crate::fleet::enrolment::EnrolmentRules;
use crate::fleet::lifecycle::InstallPolicy;
use crate::fleet::{Architecture, Chap, HostMatch, Mac, Name};

use super::{Facts, Program};

/// The configuration that decisions depend on, built once at the start.
#[derive(Debug, Clone)]
pub struct Site {
    /// The rules for unknown machines.
    pub unknown_hosts: EnrolmentRules,
    /// The conditions that end installs.
    pub install: InstallPolicy,
    /// Whether the certificate of a BMC that no authority vouches for is pinned at the BMC's first use.
    pub pins_bmc_certificates: bool,
    /// The boot programs by architecture.
    pub programs: Programs,
    /// Boot programs of some machines; the first that matches is used.
    pub overrides: Vec<ProgramOverride>,
    /// Namespace of hosts that unknown machines become.
    pub namespace: Name,
    /// Our address, for machines of the first network.
    pub address: IpAddr,
    /// All our addresses, one for the machines of each network.
    pub ours: Vec<IpAddr>,
    /// Addresses of our interfaces, with the address that machines are told instead.
    pub advertised: Vec<(IpAddr, IpAddr)>,
    /// Networks of our interfaces, and subnets in which we assign addresses.
    pub nets: Vec<Ipv4Net>,
    /// Address and port of HTTP.
    pub http: SocketAddr,
    /// Address and port of the API's own listener, if that has TLS and machines reach it; unspecified on every address.
    pub https: Option<SocketAddr>,
    /// Address and port of iSCSI.
    pub iscsi: SocketAddr,
    /// Address and port of the syslog receiver; `None` if it is off.
    pub syslog: Option<SocketAddr>,
    /// Prefix of every target's name, as in `iqn.2026-11.org.bootlatch`.
    pub iqn: String,
    /// The proof that a config requires.
    pub config_access: ConfigAccess,
    /// CHAP secrets of initiators whose host has none.
    pub chap: Option<Chap>,
}

/// A boot program for some machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramOverride {
    /// The machines.
    pub who: HostMatch,
    /// The program.
    pub program: Program,
    /// Whether an iPXE is sent the program too, in place of its boot script.
    pub also_for_ipxe: bool,
}

/// The proof that a machine presents for its config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigAccess {
    /// The proof.
    pub require: ConfigProof,
    /// Validity of a token after its boot script was served.
    pub token_ttl: std::time::Duration,
    /// Networks behind routers whose machines are trusted to state their own MAC address.
    pub trusted_subnets: Vec<IpNet>,
}

/// The proof that a request for a config comes from its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigProof {
    /// The machine's address; a token if there is no evidence about the address.
    Address,
    /// The token of the machine's boot script, from any address.
    Token,
    /// The token, from the machine's address.
    Both,
}

impl ConfigProof {
    /// Returns the proof for the report of a completed install: a valid token or the address. An installed system may
    /// send from another interface than it booted from, and its token may have expired.
    pub fn of_done(has_good_token: bool) -> Self {
        if has_good_token { Self::Token } else { Self::Address }
    }
}

impl Site {
    /// Returns the prefix of our URLs, without the port if it is 80.
    pub fn url(&self) -> String {
        match self.http.port() {
            80 => format!("http://{}", bracketed(self.http.ip())),
            port => format!("http://{}:{port}", bracketed(self.http.ip())),
        }
    }

    /// Returns the prefixes of our URLs: over HTTP, then over HTTPS if we have that.
    pub fn urls(&self) -> Vec<String> {
        let https = self.https.map(|at| {
            let ip = if at.ip().is_unspecified() { self.address } else { at.ip() };
            format!("https://{}:{}", bracketed(ip), at.port())
        });
        std::iter::once(self.url()).chain(https).collect()
    }

    /// Returns the prefixes of our URLs of media.
    pub fn media_urls(&self) -> Vec<String> {
        self.urls().into_iter().map(|base| format!("{base}/media/")).collect()
    }

    /// Replaces the placeholders in kernel arguments: `{server}`, `{url}`, `{image}` (URL of the image's files) and `{mac}`
    /// (with dashes). Other braces stay.
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

    /// Returns the site as machines see it that reached us at another address, or at the one that stands for it.
    pub fn reached_at(&self, address: IpAddr) -> Self {
        let advertised = self.advertised.iter().find(|(own, _)| *own == address);
        let address = advertised.map_or(address, |(_, advertised)| *advertised);
        let at = |socket: SocketAddr| SocketAddr::new(address, socket.port());
        let syslog = self.syslog.map(at);
        Self { address, http: at(self.http), iscsi: at(self.iscsi), syslog, ..self.clone() }
    }

    /// Returns the boot program of a machine.
    pub fn program(&self, facts: &Facts) -> Option<&Program> {
        let usual = || facts.firmware.and_then(|firmware| self.programs.find(firmware.architecture));
        self.find_override(facts).map(|other| &other.program).or_else(usual)
    }

    /// Returns the program that a machine's iPXE loads in place of its boot script.
    pub fn program_for_ipxe(&self, facts: &Facts) -> Option<&Program> {
        self.find_override(facts).filter(|other| other.also_for_ipxe).map(|other| &other.program)
    }

    /// Returns why an address cannot be a machine's on one of our networks.
    pub fn rejection_reason(&self, address: IpAddr) -> Option<String> {
        let IpAddr::V4(address) = address else { return None };
        // Networks of one or two addresses have no network and broadcast address (RFC 3021).
        let mut nets = self.nets.iter().filter(|net| net.prefix_len() < 31);
        nets.find_map(|net| match address {
            address if address == net.network() => Some(format!("{address} is the network address of {net}")),
            address if address == net.broadcast() => Some(format!("{address} is the broadcast address of {net}")),
            _ => None,
        })
    }

    /// Returns whether the configuration has a boot program for some machine.
    pub fn has_program(&self, program: &str) -> bool {
        let others = self.overrides.iter().map(|other| &other.program);
        self.programs.0.values().chain(others).any(|given| &*given.0 == program)
    }

    fn find_override(&self, facts: &Facts) -> Option<&ProgramOverride> {
        self.overrides.iter().find(|other| other.who.matches(facts.mac, facts.uuid))
    }

    /// Returns the name of the target that serves an image.
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

/// The boot programs by architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs(pub BTreeMap<Architecture, Program>);

impl Programs {
    /// Returns the boot program of an architecture; for HTTP Boot without one, that of the PXE architecture; for U-Boot
    /// without one, that of UEFI.
    pub fn find(&self, architecture: Architecture) -> Option<&Program> {
        let tftp = architecture.over_tftp();
        [architecture, tftp, tftp.over_tftp()].iter().find_map(|architecture| self.0.get(architecture))
    }
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fleet::lifecycle::Completion;

    /// Returns a site with a rule for unknown machines, for tests of the whole crate.
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
                power_on: false,
            },
            pins_bmc_certificates: true,
            https: None,
            programs: Programs(programs.into()),
            overrides: Vec::new(),
            namespace: "default".parse().unwrap(),
            address,
            ours: vec![address],
            advertised: Vec::new(),
            nets: vec!["10.77.0.0/24".parse().unwrap()],
            http: SocketAddr::new(address, 80),
            iscsi: SocketAddr::new(address, 3260),
            syslog: None,
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
    fn kernel_arguments_have_the_address_that_the_machine_reached() {
        let mut arguments =
            ["a={server}", "{image}/rootfs.img", "{url}/x?{mac}", "{other}", "quiet"].map(str::to_owned);
        let site = site("hold").reached_at([10, 78, 0, 2].into());
        site.fill(&mut arguments, &"live".parse().unwrap(), Mac([0x52, 0x54, 0, 0, 0, 1]));
        let expected = ["a=10.78.0.2", "http://10.78.0.2/iso/live/rootfs.img", "http://10.78.0.2/x?52-54-00-00-00-01"];
        assert_eq!(arguments[..3], expected);
        assert_eq!(arguments[3..], ["{other}", "quiet"]);
    }

    #[test]
    fn machines_are_told_the_address_that_is_advertised() {
        let (own, outer) = (IpAddr::from([172, 17, 0, 2]), IpAddr::from([192, 168, 1, 5]));
        let site = Site { advertised: vec![(own, outer)], syslog: Some((own, 514).into()), ..site("hold") };
        for reached in [own, outer] {
            let seen = site.reached_at(reached);
            let ports = (seen.http, seen.iscsi, seen.syslog);
            assert_eq!(ports, ((outer, 80).into(), (outer, 3260).into(), Some((outer, 514).into())));
            assert_eq!((seen.address, seen.url()), (outer, "http://192.168.1.5".to_owned()));
        }
        assert_eq!(site.reached_at([10, 0, 0, 9].into()).url(), "http://10.0.0.9");
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 443));
        for (https, expected) in [(everywhere, "https://10.0.0.9:443"), ((own, 8443).into(), "https://172.17.0.2:8443")]
        {
            let site = Site { https: Some(https), ..site.clone() }.reached_at([10, 0, 0, 9].into());
            assert_eq!(site.urls(), ["http://10.0.0.9", expected]);
            assert_eq!(site.media_urls(), ["http://10.0.0.9/media/".to_owned(), format!("{expected}/media/")]);
        }
    }

    #[test]
    fn network_and_broadcast_addresses_are_rejected() {
        let mut site = site("hold");
        site.nets.push("10.78.0.0/31".parse().unwrap());
        for (address, fits) in
            [("10.77.0.0", false), ("10.77.0.255", false), ("10.77.0.1", true), ("10.78.0.0", true), ("fd00::", true)]
        {
            assert_eq!(site.rejection_reason(address.parse().unwrap()).is_none(), fits, "{address}");
        }
    }

    #[test]
    fn http_boot_falls_back_to_the_pxe_program() {
        let programs = site("hold").programs;
        assert_eq!(programs.find(Architecture(16)), Some(&Program("snponly.efi".into())));
        assert_eq!(programs.find(Architecture(9)), Some(&Program("snponly.efi".into())));
        assert_eq!(programs.find(Architecture(33)), None);
    }
}
