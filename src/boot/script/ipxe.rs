use std::fmt::Write as _;

use crate::fleet::text::printable;
use crate::fleet::{Chap, Image, LocalDisk, Method, Name};

use super::super::{Site, Verdict};
use super::Context;

/// Time that a menu waits before it boots the local disk, in milliseconds.
const MENU_TIMEOUT: u32 = 30_000;

/// Time that a machine waits for its image before it asks again, in seconds.
const RETRY_INTERVAL: u32 = 30;

/// The commands whose failure our scripts report: `disk` is a boot of the local disk.
pub const SCRIPT_COMMANDS: [&str; 7] = ["sanboot", "sanhook", "chain", "kernel", "initrd", "boot", "disk"];

/// iPXE's settings that describe the machine. One that a build does not know expands to nothing.
const HARDWARE: &str = "memsize=${memsize}&manufacturer=${manufacturer:uristring}&product=${product:uristring}\
                        &serial=${serial:uristring}&asset=${asset:uristring}";

/// Renders a verdict as an iPXE script.
pub fn render(verdict: &Verdict, context: &Context<'_>, autoexec: bool) -> String {
    let open = if autoexec { "ifopen net0 || exit 1\n" } else { "" };
    match verdict {
        Verdict::SanBoot(_) => match context.image {
            Some(image) => format!("#!ipxe\n{open}{}", boot(context, image)),
            None => to_disk(context, "the image does not exist"),
        },
        Verdict::Wait(image) => format!("#!ipxe\n{open}{}", wait(context, image)),
        Verdict::Menu => format!("#!ipxe\n{open}{}", menu(context)),
        Verdict::Ignore(why) | Verdict::LocalDisk(why) => to_disk(context, why.sentence()),
        Verdict::Enrol(_) | Verdict::Configure(_) => to_disk(context, "nothing to boot"),
        Verdict::Chainload(program) => {
            format!("#!ipxe\n{open}chain {}/boot/{}/{program} || exit 1\n", context.site.url(), context.mac.dashed())
        }
    }
}

/// Renders the script that makes an iPXE request its own script with the settings of its machine.
pub fn bootstrap_script(site: &Site) -> String {
    format!(
        "#!ipxe\nchain --replace {}/ipxe?mac=${{netX/mac:hexhyp}}&platform=${{platform}}&buildarch=${{buildarch}}&uuid=${{uuid}}&{HARDWARE} || exit 1\n",
        site.url()
    )
}

fn boot(context: &Context<'_>, image: &Image) -> String {
    let Context { site, mac, .. } = context;
    let (name, dashed, url) = (&image.metadata.name, mac.dashed(), site.url());
    let target = target(context, image);
    let attempt = match image.spec.method {
        Method::Sanboot => format!("set step sanboot\nsanboot {target} ||\n"),
        Method::Http if image.spec.is_at_url() => {
            format!("set step sanboot\nsanboot {} ||\n", image.spec.url.as_deref().unwrap_or_default())
        }
        Method::Http if context.medium_url.is_empty() => {
            format!("set step sanboot\nsanboot {url}/iso/{name}?host={dashed} ||\n")
        }
        Method::Http => format!("set step sanboot\nsanboot {} ||\n", context.medium_url),
        Method::Chain => format!("set step chain\nchain {} ||\n", image.spec.url.as_deref().unwrap_or_default()),
        Method::Kernel => kernel(context),
        Method::Sanhook if context.kernel().is_none() => {
            format!(
                "echo No kernel of {name} can be loaded: starting the ISO's own boot loader\n\
                 set step sanboot\nsanboot {target} ||\n"
            )
        }
        Method::Sanhook => format!("set step sanhook\nsanhook {target} || goto again\n{}", kernel(context)),
    };
    // The retry asks for a new decision, so that an install that never begins fails like any other.
    format!(
        "echo Booting {name} for {machine}\nimgfetch --timeout 3000 {url}/ipxe/failed?mac={dashed}&{HARDWARE} ||\nimgfree failed ||\n\
         set initiator-iqn {iqn}:{dashed}{token}\n{chap}{config}{attempt}:again\n\
         set error ${{errno}}\necho Could not boot {name}: trying again in 10 s\nsleep 10\n\
         chain --replace {url}/ipxe?mac={dashed}&failed=${{step}}&errno=${{error}} || exit 1\n",
        machine = context.name(),
        iqn = site.iqn,
        token = match context.token {
            "" => String::new(),
            token => format!(":{token}"),
        },
        chap = context.chap.map(chap).unwrap_or_default(),
        config = match context.config_url {
            "" => String::new(),
            url => format!("set config-url {url}\n"),
        },
    )
}

/// Renders a wait for the image; the next request gets a new decision.
fn wait(context: &Context<'_>, image: &Name) -> String {
    let (machine, url, dashed) = (context.name(), context.site.url(), context.mac.dashed());
    format!(
        "echo {image} cannot be served to {machine} now: its file is missing or broken on the server\n\
         echo Asking again in {RETRY_INTERVAL} s\nsleep {RETRY_INTERVAL}\nchain --replace {url}/ipxe?mac={dashed} || exit 1\n"
    )
}

/// Renders the CHAP settings of the initiator and of the target.
fn chap(chap: &Chap) -> String {
    let mut lines = format!("set username {}\nset password {}\n", chap.username, chap.secret.0);
    if let (Some(name), Some(secret)) = (&chap.target_username, &chap.target_secret) {
        let _ = write!(lines, "set reverse-username {name}\nset reverse-password {}\n", secret.0);
    }
    lines
}

/// Renders the load of the image's kernel and initrds over HTTP.
fn kernel(context: &Context<'_>) -> String {
    let Some(kernel) = context.kernel() else {
        return "echo No kernel of the image can be loaded: see the warnings of the ISO\n".to_owned();
    };
    let url = context.site.url();
    let mut words = kernel.words.join(" ");
    let mut initrds = String::new();
    for path in kernel.initrds {
        // The UEFI loader passes files by name: the command line must list the initrds.
        let _ = write!(words, " initrd={}", path.rsplit('/').next().unwrap_or(path));
        let _ = writeln!(initrds, "set step initrd\ninitrd {url}/{} || goto again", kernel.url_path(path));
    }
    let path = kernel.url_path(kernel.path);
    format!("set step kernel\nkernel {url}/{path} {words} || goto again\n{initrds}set step boot\nboot ||\n")
}

fn target(context: &Context<'_>, image: &Image) -> String {
    let site = context.site;
    match &image.spec.portal {
        Some(portal) => iscsi_uri(&portal.address.to_string(), portal.port, &portal.target_iqn),
        None => iscsi_uri(&site.iscsi.ip().to_string(), site.iscsi.port(), &site.target_iqn(&image.metadata.name)),
    }
}

/// Returns the URI of an iSCSI target (RFC 4173), without the default port.
fn iscsi_uri(address: &str, port: u16, iqn: &str) -> String {
    let port = if port == 3260 { String::new() } else { port.to_string() };
    format!("iscsi:{address}::{port}::{iqn}")
}

/// Renders a menu of the images, the local disk and a shell. After a timeout it boots the local disk.
fn menu(context: &Context<'_>) -> String {
    let mut items = String::new();
    let mut targets = String::new();
    for (index, (name, description)) in context.choices.iter().enumerate() {
        let dash = if description.is_empty() { "" } else { " - " };
        let _ = writeln!(items, "item image-{index} {name}{dash}{}", printable(description));
        let (url, mac) = (context.site.url(), context.mac.dashed());
        let _ = writeln!(targets, ":image-{index}\nchain --replace {url}/ipxe?mac={mac}&choose={name} || goto start");
    }
    format!(
        ":start\nmenu bootlatch: {name}\nitem --gap -- Install or run\n{items}item --gap -- Or else\n\
         item disk Local disk\nitem shell iPXE shell\n\
         choose --default disk --timeout {MENU_TIMEOUT} picked && goto ${{picked}} || goto disk\n{targets}\
         :shell\nshell\ngoto start\n:disk\n{disk}",
        name = context.name(),
        disk = exit_to_disk(context),
    )
}

/// Renders a boot from the local disk.
fn to_disk(context: &Context<'_>, why: &str) -> String {
    format!("#!ipxe\necho Booting the local disk of {}: {why}\n{}", context.name(), exit_to_disk(context))
}

/// Renders the end of iPXE: `exit` under BIOS, a boot of the disk from iPXE under UEFI, where `exit` opens the
/// firmware's set-up menu (boot-facts 16).
fn exit_to_disk(context: &Context<'_>) -> String {
    let LocalDisk { drive, filename } = context.host.and_then(|host| host.spec.local_disk.clone()).unwrap_or_default();
    let filename = filename.map(|file| format!(" --filename {file}")).unwrap_or_default();
    let drive = drive.unwrap_or(0x80);
    format!(
        "iseq ${{platform}} efi && goto efi ||\nexit\n:efi\nsanboot --no-describe --drive {drive:#x}{filename} ||\n\
         set error ${{errno}}\nifopen net0 ||\nimgfetch --timeout 5000 {}/ipxe/failed?mac={}&failed=disk&errno=${{error}} ||\nexit 1\n",
        context.site.url(),
        context.mac.dashed(),
    )
}
