use std::fmt::Write as _;

use crate::fleet::{Chap, Image, LocalDisk, Method, Name};

use super::super::{Site, Verdict};
use super::Context;

/// Is how long a menu waits before it leaves for the disk, in milliseconds.
const MENU_WAIT: u32 = 30_000;

/// Is how long a machine whose image cannot be given waits before it asks again, in seconds.
const WAIT: u32 = 30;

/// Writes the iPXE script that carries out a verdict.
pub fn render(verdict: &Verdict, context: &Context<'_>, autoexec: bool) -> String {
    let open = if autoexec { "ifopen net0 || exit 1\n" } else { "" };
    match verdict {
        Verdict::SanBoot(_) => match context.image {
            Some(image) => format!("#!ipxe\n{open}{}", boot(context, image)),
            None => to_disk(context, "its image is gone"),
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

/// Writes the script that brings an iPXE here with what it knows of its machine.
pub fn bootstrap_script(site: &Site) -> String {
    format!(
        "#!ipxe\nchain --replace {}/ipxe?mac=${{netX/mac:hexhyp}}&platform=${{platform}}&buildarch=${{buildarch}} || exit 1\n",
        site.url()
    )
}

fn boot(context: &Context<'_>, image: &Image) -> String {
    let Context { site, mac, .. } = context;
    let (name, dashed, url) = (&image.metadata.name, mac.dashed(), site.url());
    let target = target(context, image);
    let attempt = match image.spec.method {
        Method::Sanboot => format!("sanboot {target} ||\n"),
        Method::Http if image.spec.is_at_url() => {
            format!("sanboot {} ||\n", image.spec.url.as_deref().unwrap_or_default())
        }
        Method::Http if context.medium_url.is_empty() => format!("sanboot {url}/iso/{name}?host={dashed} ||\n"),
        Method::Http => format!("sanboot {} ||\n", context.medium_url),
        Method::Chain => format!("chain {} ||\n", image.spec.url.as_deref().unwrap_or_default()),
        Method::Kernel => kernel(context),
        Method::Sanhook => format!("sanhook {target} || goto again\n{}", kernel(context)),
    };
    // What cannot be booted yet is asked for again through a new decision, so that an install that
    // can never begin is given up on as any other is.
    format!(
        "echo Booting {name} for {machine}\nset initiator-iqn {iqn}:{dashed}{token}\n{chap}{config}{attempt}:again\n\
         echo Could not boot {name}: trying again in 10 s\nsleep 10\nchain --replace {url}/ipxe?mac={dashed} || exit 1\n",
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

/// Says why the machine waits, and asks again: the decision may be another by then.
fn wait(context: &Context<'_>, image: &Name) -> String {
    let (machine, url, dashed) = (context.name(), context.site.url(), context.mac.dashed());
    format!(
        "echo {image} cannot be served to {machine} now: its file is missing or broken on the server\n\
         echo Asking again in {WAIT} s\nsleep {WAIT}\nchain --replace {url}/ipxe?mac={dashed} || exit 1\n"
    )
}

/// Tells iPXE what to prove itself with, and what the target is to prove itself with.
fn chap(chap: &Chap) -> String {
    let mut lines = format!("set username {}\nset password {}\n", chap.username, chap.secret.0);
    if let (Some(name), Some(secret)) = (&chap.target_username, &chap.target_secret) {
        let _ = write!(lines, "set reverse-username {name}\nset reverse-password {}\n", secret.0);
    }
    lines
}

/// Loads the image's kernel and initrds over HTTP, with the host's arguments.
fn kernel(context: &Context<'_>) -> String {
    let Some(kernel) = context.kernel() else { return "echo No kernel was found in the image\n".to_owned() };
    let url = context.site.url();
    let mut words = kernel.words.join(" ");
    let mut initrds = String::new();
    for path in kernel.initrds {
        // UEFI's loader hands files over by name: the kernel must be told which of them are its initrds.
        let _ = write!(words, " initrd={}", path.rsplit('/').next().unwrap_or(path));
        let _ = writeln!(initrds, "initrd {url}/{} || goto again", kernel.place(path));
    }
    format!("kernel {url}/{} {words} || goto again\n{initrds}boot ||\n", kernel.place(kernel.path))
}

fn target(context: &Context<'_>, image: &Image) -> String {
    let site = context.site;
    match &image.spec.portal {
        Some(portal) => iscsi_uri(&portal.address.to_string(), portal.port, &portal.target_iqn),
        None => iscsi_uri(&site.iscsi.ip().to_string(), site.iscsi.port(), &site.target_iqn(&image.metadata.name)),
    }
}

/// Writes iPXE's spelling of an iSCSI target (RFC 4173), leaving out what is the default.
fn iscsi_uri(address: &str, port: u16, iqn: &str) -> String {
    let port = if port == 3260 { String::new() } else { port.to_string() };
    format!("iscsi:{address}::{port}::{iqn}")
}

/// Shows the images, the disk and a shell; left alone, it goes to the disk.
fn menu(context: &Context<'_>) -> String {
    let mut items = String::new();
    let mut targets = String::new();
    for (index, (name, description)) in context.choices.iter().enumerate() {
        let dash = if description.is_empty() { "" } else { " - " };
        let _ = writeln!(items, "item image-{index} {name}{dash}{description}");
        let (url, mac) = (context.site.url(), context.mac.dashed());
        let _ = writeln!(targets, ":image-{index}\nchain --replace {url}/ipxe?mac={mac}&choose={name} || goto start");
    }
    format!(
        ":start\nmenu bootlatch: {name}\nitem --gap -- Install or run\n{items}item --gap -- Or else\n\
         item disk Local disk\nitem shell iPXE shell\n\
         choose --default disk --timeout {MENU_WAIT} picked && goto ${{picked}} || goto disk\n{targets}\
         :shell\nshell\ngoto start\n:disk\n{disk}",
        name = context.name(),
        disk = leave(context),
    )
}

/// Leaves iPXE for the machine's own disk.
fn to_disk(context: &Context<'_>, why: &str) -> String {
    format!("#!ipxe\necho Booting the local disk of {}: {why}\n{}", context.name(), leave(context))
}

/// BIOS leaves by `exit`, UEFI by booting the disk from iPXE, since leaving with `exit` lands in the
/// firmware's set-up menu (boot-facts 16).
fn leave(context: &Context<'_>) -> String {
    let LocalDisk { drive, filename } = context.host.and_then(|host| host.spec.local_disk.clone()).unwrap_or_default();
    let filename = filename.map(|file| format!(" --filename {file}")).unwrap_or_default();
    let drive = drive.unwrap_or(0x80);
    format!(
        "iseq ${{platform}} efi && goto efi ||\nexit\n:efi\nsanboot --no-describe --drive {drive:#x}{filename} || exit 1\n"
    )
}
