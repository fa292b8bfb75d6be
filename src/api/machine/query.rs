//! The query of a machine's request.

use crate::boot::{BootProtocol, Firmware, SCRIPT_COMMANDS};
use crate::fleet::{Architecture, HardwareDetails};

/// The query parameters that machines send; unknown ones are ignored.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// `mac`: hardware address, as sent.
    pub mac: Option<String>,
    /// `platform`: iPXE's `${platform}`.
    pub platform: Option<String>,
    /// `buildarch`: iPXE's `${buildarch}`.
    pub architecture: Option<String>,
    /// `uuid`: iPXE's `${uuid}`, as SMBIOS tools show it.
    pub uuid: Option<String>,
    /// `file`: file of a config.
    pub file: Option<String>,
    /// `host`: MAC address or name of the host whose view of an image is requested.
    pub host: Option<String>,
    /// `token`: token of the machine's script.
    pub token: Option<String>,
    /// `choose`: image that was selected in a menu.
    pub choose: Option<String>,
    /// `failed`: the command of the script that failed.
    pub failed: Option<String>,
    /// `errno`: iPXE's `${errno}` after it.
    pub errno: Option<String>,
    /// `memsize`: iPXE's `${memsize}`, in MiB.
    pub memory: Option<String>,
    /// `manufacturer`, `product`, `serial`, `asset`: iPXE's settings from SMBIOS.
    pub vendor: [Option<String>; 4],
}

impl Query {
    /// Parses a query string.
    pub fn parse(query: Option<&str>) -> Self {
        let mut found = Self::default();
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let field = match key.as_ref() {
                "mac" => &mut found.mac,
                "platform" => &mut found.platform,
                "buildarch" => &mut found.architecture,
                "uuid" => &mut found.uuid,
                "file" => &mut found.file,
                "host" => &mut found.host,
                "token" => &mut found.token,
                "choose" => &mut found.choose,
                "failed" => &mut found.failed,
                "errno" => &mut found.errno,
                "memsize" => &mut found.memory,
                "manufacturer" => &mut found.vendor[0],
                "product" => &mut found.vendor[1],
                "serial" => &mut found.vendor[2],
                "asset" => &mut found.vendor[3],
                _ => continue,
            };
            *field = Some(value.into_owned());
        }
        found
    }

    /// Returns the command of our script that failed, and iPXE's error number; `None` if the script reports nothing, or
    /// something that no script of ours reports.
    pub fn failure(&self) -> Option<(&'static str, u32)> {
        let failed = self.failed.as_deref()?;
        let command = SCRIPT_COMMANDS.iter().find(|command| **command == failed)?;
        let errno = self.errno.as_deref()?;
        let number = match errno.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => errno.parse(),
        };
        number.ok().filter(|errno| *errno != 0).map(|errno| (*command, errno))
    }

    /// Returns the hardware that iPXE's settings describe.
    pub fn hardware(&self) -> HardwareDetails {
        HardwareDetails::reported(self.memory.as_deref(), self.vendor.each_ref().map(Option::as_deref))
    }

    /// Returns the firmware that `platform` and `buildarch` name, by the codes of DHCP option 93 (RFC 4578).
    pub fn firmware(&self) -> Option<Firmware> {
        let code = match (self.platform.as_deref()?, self.architecture.as_deref().unwrap_or_default()) {
            ("pcbios", _) => 0,
            ("efi", "i386") => 6,
            ("efi", "x86_64") => 7,
            ("efi", "arm32") => 10,
            ("efi", "arm64") => 11,
            ("efi", "riscv64") => 27,
            _ => return None,
        };
        Some(Firmware { architecture: Architecture(code), loading: BootProtocol::Pxe })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_that_our_scripts_report() {
        let rows = [
            ("failed=sanboot&errno=0x2d0c613b", Some(("sanboot", 0x2d0c_613b))),
            ("failed=kernel&errno=755785019", Some(("kernel", 755_785_019))),
            ("failed=sanboot&errno=", None),
            ("failed=sanboot&errno=0", None),
            ("failed=anything&errno=0x2d0c613b", None),
            ("errno=0x2d0c613b", None),
        ];
        for (query, expected) in rows {
            assert_eq!(Query::parse(Some(query)).failure(), expected, "{query}");
        }
    }

    #[test]
    fn ipxes_settings_name_the_firmware() {
        let rows = [
            ("platform=pcbios&buildarch=x86_64", Some(0)),
            ("platform=efi&buildarch=x86_64", Some(7)),
            ("platform=efi&buildarch=arm64", Some(11)),
            ("platform=efi", None),
            ("buildarch=x86_64", None),
            ("", None),
        ];
        for (query, expected) in rows {
            let firmware = Query::parse(Some(query)).firmware();
            assert_eq!(firmware.map(|firmware| firmware.architecture.0), expected, "{query}");
        }
    }

    #[test]
    fn parameters_are_decoded_and_unknown_ones_ignored() {
        let query = Query::parse(Some("token=a%2Bb&x=y&host=default/vm&choose=a&choose=b"));
        let expected = Query {
            token: Some("a+b".into()),
            host: Some("default/vm".into()),
            choose: Some("b".into()),
            ..Query::default()
        };
        assert_eq!(query, expected);
        assert_eq!(Query::parse(None), Query::default());
    }
}
