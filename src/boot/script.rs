use crate::fleet::{Host, Image, LocalDisk, Mac};

use super::{Site, Verdict};

/// Is what a script needs beside its verdict.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub site: &'a Site,
    pub mac: Mac,
    pub host: Option<&'a Host>,
    /// Is the image that the verdict names, for its portal.
    pub image: Option<&'a Image>,
    /// Says whether the script is `autoexec.ipxe`, which runs before iPXE has opened its card.
    pub autoexec: bool,
    /// Is what the URLs of the machine's config carry, as proof that they come from this script.
    pub ticket: Option<&'a str>,
}

/// Writes the iPXE script that carries out a verdict. It always ends somewhere sensible.
pub fn render(verdict: &Verdict, context: &Context<'_>) -> String {
    match verdict {
        Verdict::SanBoot(_) => sanboot(context),
        Verdict::Ignore(why) | Verdict::LocalDisk(why) => to_disk(context, why.as_str()),
        Verdict::Enrol(_) | Verdict::Configure(_) => to_disk(context, "nothing to boot"),
        Verdict::Chainload(program) => {
            let Context { site, mac, .. } = context;
            format!("#!ipxe\nchain {}/boot/{}/{program} || exit 1\n", site.url(), mac.dashed())
        }
    }
}

/// Writes the script that brings an iPXE here with what it knows of its machine.
pub fn hook(site: &Site) -> String {
    format!(
        "#!ipxe\nchain --replace {}/ipxe?mac=${{netX/mac:hexhyp}}&platform=${{platform}}&buildarch=${{buildarch}} || exit 1\n",
        site.url()
    )
}

fn name(context: &Context<'_>) -> String {
    let name = context.host.map_or("an unknown machine", |host| host.metadata.name.as_str());
    format!("{name} ({})", context.mac)
}

fn sanboot(context: &Context<'_>) -> String {
    let Context { site, mac, image, .. } = context;
    let Some(image) = image else { return to_disk(context, "its image is gone") };
    let uri = match &image.spec.portal {
        Some(portal) => iscsi_uri(&portal.address.to_string(), portal.port, &portal.target_iqn),
        None => iscsi_uri(&site.iscsi.ip().to_string(), site.iscsi.port(), &site.target_iqn(&image.metadata.name)),
    };
    let open = if context.autoexec { "ifopen net0 || exit 1\n" } else { "" };
    // A target that cannot be reached yet is asked for again through a new decision, so that an
    // install that can never begin is given up on as any other is.
    format!(
        "#!ipxe\n{open}echo Booting {image} for {name}\nset initiator-iqn {iqn}:{dashed}\n{config}sanboot {uri} ||\n\
         echo Could not boot {image}: trying again in 10 s\nsleep 10\n\
         chain --replace {url}/ipxe?mac={dashed} || exit 1\n",
        image = image.metadata.name,
        name = name(context),
        iqn = site.iqn,
        dashed = mac.dashed(),
        url = site.url(),
        config = config_url(context),
    )
}

/// Names where the machine's config is, for scripts and installers that are told by iPXE's settings.
fn config_url(context: &Context<'_>) -> String {
    let Some(ticket) = context.ticket else { return String::new() };
    format!("set config-url {}/config/{ticket}\n", context.site.url())
}

/// Writes iPXE's spelling of an iSCSI target (RFC 4173), leaving out what is the default.
fn iscsi_uri(address: &str, port: u16, iqn: &str) -> String {
    let port = if port == 3260 { String::new() } else { port.to_string() };
    format!("iscsi:{address}::{port}::{iqn}")
}

/// Leaves iPXE for the machine's own disk: BIOS by `exit`, UEFI by booting the disk from iPXE,
/// since leaving with `exit` lands in the firmware's set-up menu (boot-facts 16).
fn to_disk(context: &Context<'_>, why: &str) -> String {
    let disk = context.host.and_then(|host| host.spec.local_disk.clone()).unwrap_or_default();
    let LocalDisk { drive, filename } = disk;
    let filename = filename.map(|file| format!(" --filename {file}")).unwrap_or_default();
    format!(
        "#!ipxe\necho Booting the local disk of {}: {why}\niseq ${{platform}} efi && goto efi ||\nexit\n\
         :efi\nsanboot --no-describe --drive {:#x}{filename} || exit 1\n",
        name(context),
        drive.unwrap_or(0x80),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Why;
    use crate::boot::site::tests::site;
    use crate::fleet::{HostSpec, HostStatus, ImageSpec, ImageStatus, Meta, Portal};

    fn script(verdict: Verdict, edit: impl FnOnce(&mut Host, &mut Image), autoexec: bool) -> String {
        let mac = Mac([0xac, 0x1f, 0x6b, 0x8a, 0xa7, 0x9c]);
        let meta = |name: &str| Meta::named(name.parse().unwrap(), None);
        let mut host = Host { metadata: meta("server1"), spec: HostSpec::for_mac(mac), status: HostStatus::default() };
        let spec = ImageSpec {
            iso_file: "a.iso".into(),
            description: String::new(),
            read_only: true,
            boot_configs: Vec::new(),
            portal: None,
        };
        let mut image = Image { metadata: meta("coreos-live"), spec, status: ImageStatus::default() };
        edit(&mut host, &mut image);
        let context =
            Context { site: &site("hold"), mac, host: Some(&host), image: Some(&image), autoexec, ticket: None };
        render(&verdict, &context)
    }

    fn live() -> Verdict {
        Verdict::SanBoot("coreos-live".parse().unwrap())
    }

    #[test]
    fn an_image_is_booted_from_our_target() {
        let text = script(live(), |_, _| {}, false);
        assert!(text.starts_with("#!ipxe\necho Booting coreos-live for server1 (ac:1f:6b:8a:a7:9c)\n"), "{text}");
        assert!(text.contains("set initiator-iqn iqn.2026-11.org.bootlatch:ac-1f-6b-8a-a7-9c\n"));
        assert!(text.contains("sanboot iscsi:10.77.0.2::::iqn.2026-11.org.bootlatch:coreos-live ||"));
        assert!(!text.contains("ifopen"));
    }

    #[test]
    fn autoexec_opens_its_card_first() {
        let text = script(live(), |_, _| {}, true);
        assert!(text.starts_with("#!ipxe\nifopen net0"), "{text}");
    }

    #[test]
    fn an_external_portal_is_named_in_its_stead() {
        let portal = |_: &mut Host, image: &mut Image| {
            image.spec.portal = Some(Portal {
                address: "192.168.10.1".parse().unwrap(),
                port: 3261,
                target_iqn: "iqn.2000-02.com.mikrotik:file4".into(),
            });
        };
        assert!(
            script(live(), portal, false)
                .contains("sanboot iscsi:192.168.10.1::3261::iqn.2000-02.com.mikrotik:file4 ||")
        );
    }

    #[test]
    fn the_disk_is_reached_on_bios_and_on_uefi() {
        let text = script(Verdict::LocalDisk(Why::InstallDone), |_, _| {}, true);
        assert!(text.contains("\nexit\n:efi\nsanboot --no-describe --drive 0x80 || exit 1\n"), "{text}");
        let other = |host: &mut Host, _: &mut Image| {
            host.spec.local_disk =
                Some(LocalDisk { drive: Some(0x81), filename: Some("\\EFI\\debian\\shimx64.efi".into()) });
        };
        let text = script(Verdict::LocalDisk(Why::InstallDone), other, false);
        assert!(text.contains("--drive 0x81 --filename \\EFI\\debian\\shimx64.efi ||"), "{text}");
    }
}
