//! Boot scripts: iPXE scripts, and PXELINUX and GRUB configurations. Pure.

mod grub;
mod ipxe;
mod pxelinux;

pub use ipxe::{SCRIPT_COMMANDS, bootstrap_script};

use crate::fleet::{Chap, Host, Image, KernelFiles, Mac};

use super::{Site, Verdict};

/// The boot loader that reads a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptFormat {
    /// iPXE.
    Ipxe,
    /// iPXE, as `autoexec.ipxe`, which it runs before it has opened its interface.
    Autoexec,
    /// PXELINUX.
    Pxelinux,
    /// GRUB.
    Grub,
}

/// The content of a script besides its verdict.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The configuration.
    pub site: &'a Site,
    /// The machine.
    pub mac: Mac,
    /// The host.
    pub host: Option<&'a Host>,
    /// The image of the verdict.
    pub image: Option<&'a Image>,
    /// Kernel arguments after those in the image's own menu.
    pub arguments: &'a [String],
    /// URL of the host's config, with the token of this install; empty without a config.
    pub config_url: &'a str,
    /// Token for our iSCSI target; empty if it demands none.
    pub token: &'a str,
    /// CHAP secrets; only if the client's address is tied to the machine.
    pub chap: Option<&'a Chap>,
    /// URL of the machine's view of its image over HTTP; empty for the URL with the host's name.
    pub medium_url: &'a str,
    /// Images of a menu, by name and description.
    pub choices: &'a [(String, String)],
}

/// Renders a verdict. Every script ends with a boot, a retry or an exit.
pub fn render(verdict: &Verdict, form: ScriptFormat, context: &Context<'_>) -> String {
    match form {
        ScriptFormat::Ipxe => ipxe::render(verdict, context, false),
        ScriptFormat::Autoexec => ipxe::render(verdict, context, true),
        ScriptFormat::Pxelinux => pxelinux::render(verdict, context),
        ScriptFormat::Grub => grub::render(verdict, context),
    }
}

impl Context<'_> {
    /// Returns the name of the machine for its console.
    fn name(&self) -> String {
        let name = self.host.map_or("an unknown machine", |host| host.metadata.name.as_str());
        format!("{name} ({})", self.mac)
    }

    /// Returns the kernel of a verdict, for loaders that load kernels.
    ///
    /// # Errors
    /// The message for the console why the machine boots its disk; may be empty.
    fn kernel_for(&self, verdict: &Verdict) -> Result<Kernel<'_>, String> {
        match verdict {
            Verdict::SanBoot(image) => {
                self.kernel().ok_or_else(|| format!("No kernel was found in {image}: booting the local disk"))
            }
            Verdict::Wait(image) => Err(format!("{image} cannot be served now: booting the local disk")),
            Verdict::Ignore(_)
            | Verdict::Enrol(_)
            | Verdict::Chainload(_)
            | Verdict::Menu
            | Verdict::Configure(_)
            | Verdict::LocalDisk(_) => Err(String::new()),
        }
    }

    /// Returns the kernel that loaders of kernels boot; `None` if none was found in the image.
    pub fn kernel_line(&self) -> Option<KernelLine> {
        let Kernel { path, initrds, words, .. } = self.kernel()?;
        Some(KernelLine { kernel: path.to_owned(), initrds: initrds.to_vec(), arguments: words.join(" ") })
    }

    /// Returns the image's kernel with all arguments.
    fn kernel(&self) -> Option<Kernel<'_>> {
        let image = self.image?;
        let KernelFiles { kernel, initrds, arguments } = image.status.kernel.as_ref()?;
        let removed = |word: &&str| {
            image.spec.remove_arguments.iter().any(|remove| match remove.strip_suffix('=') {
                Some(_) => word.starts_with(remove.as_str()),
                None => *word == remove,
            })
        };
        let own = arguments.split_whitespace().filter(|word| !removed(word) && !word.starts_with("initrd="));
        let mut words: Vec<String> = own.map(str::to_owned).collect();
        // debian-installer copies the words after `---` to the installed system.
        let stop = words.iter().position(|word| word == "---" || word == "--").unwrap_or(words.len());
        words.splice(stop..stop, self.arguments.iter().cloned());
        Some(Kernel { image: image.metadata.name.as_str(), path: kernel, initrds, words })
    }
}

/// A kernel with its initrds, by their paths in the image, and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelLine {
    /// Path of the kernel.
    pub kernel: String,
    /// Paths of the initrds.
    pub initrds: Vec<String>,
    /// The arguments.
    pub arguments: String,
}

/// A kernel in an image, for loaders that load kernels.
struct Kernel<'a> {
    image: &'a str,
    path: &'a str,
    initrds: &'a [String],
    words: Vec<String>,
}

impl Kernel<'_> {
    /// Returns the path of a file of the image below our root, the same over HTTP and TFTP.
    fn url_path(&self, path: &str) -> String {
        format!("iso/{}/{}", self.image, path.trim_start_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Reason;
    use crate::boot::site::tests::site;
    use crate::fleet::{HostSpec, HostStatus, ImageSpec, ImageStatus, LocalDisk, Meta, Method, Portal};

    fn script(verdict: &Verdict, form: ScriptFormat, edit: impl FnOnce(&mut Host, &mut Image)) -> String {
        let mac = Mac([0xac, 0x1f, 0x6b, 0x8a, 0xa7, 0x9c]);
        let meta = |name: &str| Meta::named(name.parse().unwrap(), None);
        let mut host = Host { metadata: meta("server1"), spec: HostSpec::for_mac(mac), status: HostStatus::default() };
        let kernel = KernelFiles {
            kernel: "/images/vmlinuz".into(),
            initrds: vec!["/images/initrd.img".into()],
            arguments: "quiet rd.live.image initrd=initrd.img".into(),
        };
        let status = ImageStatus { kernel: Some(kernel), ..ImageStatus::default() };
        let mut image = Image { metadata: meta("coreos-live"), spec: ImageSpec::of_file("a.iso"), status };
        edit(&mut host, &mut image);
        let arguments = ["console=ttyS0".to_owned()];
        let choices = [("coreos-live".to_owned(), "Fedora CoreOS".to_owned())];
        let site = site("hold");
        let context = Context {
            site: &site,
            mac,
            host: Some(&host),
            image: Some(&image),
            arguments: &arguments,
            config_url: "http://10.77.0.2/config",
            token: "",
            chap: host.spec.chap.as_ref(),
            medium_url: "",
            choices: &choices,
        };
        render(verdict, form, &context)
    }

    fn live() -> Verdict {
        Verdict::SanBoot("coreos-live".parse().unwrap())
    }

    fn done() -> Verdict {
        Verdict::LocalDisk(Reason::InstallCompleted)
    }

    #[test]
    fn an_image_is_booted_from_our_target() {
        let text = script(&live(), ScriptFormat::Ipxe, |_, _| {});
        assert!(text.starts_with("#!ipxe\necho Booting coreos-live for server1 (ac:1f:6b:8a:a7:9c)\n"), "{text}");
        assert!(text.contains("set initiator-iqn iqn.2026-11.org.bootlatch:ac-1f-6b-8a-a7-9c\n"));
        assert!(text.contains("sanboot iscsi:10.77.0.2::::iqn.2026-11.org.bootlatch:coreos-live ||"));
        assert!(!text.contains("ifopen"));
        assert!(script(&live(), ScriptFormat::Autoexec, |_, _| {}).starts_with("#!ipxe\nifopen net0"));
    }

    #[test]
    fn an_external_portal_is_named_in_its_stead() {
        let text = script(&live(), ScriptFormat::Ipxe, |_, image| {
            let target_iqn = "iqn.2000-02.com.mikrotik:file4".into();
            image.spec.portal =
                Some(Portal { address: "192.168.10.1".parse().unwrap(), port: 3261, target_iqn, chap: None });
        });
        assert!(text.contains("sanboot iscsi:192.168.10.1::3261::iqn.2000-02.com.mikrotik:file4 ||"), "{text}");
    }

    #[test]
    fn the_script_carries_what_the_machine_proves_itself_with() {
        use crate::fleet::{Chap, Secret};
        let chap = |target: Option<(&str, &str)>| {
            script(&live(), ScriptFormat::Ipxe, |host, _| {
                host.spec.chap = Some(Chap {
                    username: "server1".into(),
                    secret: Secret("a-secret-of-server1".into()),
                    target_username: target.map(|(name, _)| name.into()),
                    target_secret: target.map(|(_, secret)| Secret(secret.into())),
                });
            })
        };
        let one_way = chap(None);
        assert!(one_way.contains("\nset username server1\nset password a-secret-of-server1\n"), "{one_way}");
        assert!(!one_way.contains("reverse"), "{one_way}");
        let mutual = chap(Some(("target", "a-secret-of-ours")));
        assert!(mutual.contains("\nset reverse-username target\nset reverse-password a-secret-of-ours\n"), "{mutual}");
        assert!(!script(&live(), ScriptFormat::Ipxe, |_, _| {}).contains("set username"));
    }

    #[test]
    fn every_method_has_its_script() {
        let by = |method, url: Option<&str>| {
            let url = url.map(str::to_owned);
            script(&live(), ScriptFormat::Ipxe, |_, image| (image.spec.method, image.spec.url) = (method, url))
        };
        let kernel = by(Method::Kernel, None);
        assert!(kernel.contains("kernel http://10.77.0.2/iso/coreos-live/images/vmlinuz quiet rd.live.image console=ttyS0 initrd=initrd.img ||"), "{kernel}");
        assert!(
            kernel.contains("\ninitrd http://10.77.0.2/iso/coreos-live/images/initrd.img ||")
                && kernel.contains("\nboot ||"),
            "{kernel}"
        );
        let hook = by(Method::Sanhook, None);
        assert!(
            hook.contains("\nsanhook iscsi:10.77.0.2::::iqn.2026-11.org.bootlatch:coreos-live ||")
                && hook.contains("\nboot ||"),
            "{hook}"
        );
        assert!(
            by(Method::Http, None).contains("\nsanboot http://10.77.0.2/iso/coreos-live?host=ac-1f-6b-8a-a7-9c ||")
        );
        assert!(by(Method::Chain, Some("http://boot.example/x")).contains("\nchain http://boot.example/x ||"));
    }

    #[test]
    fn the_disk_is_reached_on_bios_and_on_uefi() {
        let text = script(&done(), ScriptFormat::Autoexec, |_, _| {});
        assert!(text.contains("\nexit\n:efi\nsanboot --no-describe --drive 0x80 ||\nset error ${errno}\n"), "{text}");
        let text = script(&done(), ScriptFormat::Ipxe, |host, _| {
            host.spec.local_disk =
                Some(LocalDisk { drive: Some(0x81), filename: Some("\\EFI\\debian\\shimx64.efi".into()) });
        });
        assert!(text.contains("--drive 0x81 --filename \\EFI\\debian\\shimx64.efi ||"), "{text}");
    }

    #[test]
    fn a_menu_lists_images_the_disk_and_a_shell() {
        let text = script(&Verdict::Menu, ScriptFormat::Ipxe, |_, _| {});
        for line in ["item image-0 coreos-live", "item disk", "item shell", "choose=coreos-live"] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn a_machine_whose_image_is_broken_reads_so_and_asks_again() {
        let wait = Verdict::Wait("coreos-live".parse().unwrap());
        for form in [ScriptFormat::Ipxe, ScriptFormat::Autoexec] {
            let text = script(&wait, form, |_, _| {});
            assert!(!text.contains("sanboot") && text.contains("cannot be served"), "{text}");
            assert!(
                text.contains("\nsleep 30\nchain --replace http://10.77.0.2/ipxe?mac=ac-1f-6b-8a-a7-9c ||"),
                "{text}"
            );
        }
        for form in [ScriptFormat::Pxelinux, ScriptFormat::Grub] {
            let text = script(&wait, form, |_, _| {});
            assert!(text.contains("coreos-live cannot be served now") && !text.contains("vmlinuz"), "{text}");
        }
    }

    #[test]
    fn pxelinux_and_grub_get_the_same_decision() {
        let text = script(&live(), ScriptFormat::Pxelinux, |_, _| {});
        assert!(text.contains("KERNEL iso/coreos-live/images/vmlinuz\n"), "{text}");
        assert!(
            text.contains("INITRD iso/coreos-live/images/initrd.img\n")
                && text.contains("APPEND quiet rd.live.image console=ttyS0\n"),
            "{text}"
        );
        assert!(script(&done(), ScriptFormat::Pxelinux, |_, _| {}).contains("LOCALBOOT 0"));
        let text = script(&live(), ScriptFormat::Grub, |_, _| {});
        assert!(
            text.contains("linux (http,10.77.0.2:80)/iso/coreos-live/images/vmlinuz quiet rd.live.image console=ttyS0"),
            "{text}"
        );
        let text = script(&done(), ScriptFormat::Grub, |_, _| {});
        assert!(text.contains("set loader=/EFI/BOOT/BOOTX64.EFI\n") && text.contains("chainloader"), "{text}");
        assert!(text.ends_with("exit 1\n") && !text.contains("&&"), "GRUB's script knows no such thing: {text}");
        let text = script(&done(), ScriptFormat::Grub, |host, _| {
            host.spec.local_disk = Some(LocalDisk { drive: None, filename: Some("\\EFI\\debian\\shimx64.efi".into()) });
        });
        assert!(text.contains("set loader=/EFI/debian/shimx64.efi\n"), "{text}");
    }

    #[test]
    fn an_image_without_a_kernel_is_said_to_be_one() {
        for form in [ScriptFormat::Pxelinux, ScriptFormat::Grub] {
            let text = script(&live(), form, |_, image| image.status.kernel = None);
            assert!(text.contains("No kernel was found in coreos-live"), "{text}");
        }
        let by = |method| {
            script(&live(), ScriptFormat::Ipxe, |_, image| (image.spec.method, image.status.kernel) = (method, None))
        };
        let hook = by(Method::Sanhook);
        assert!(
            hook.contains("\nsanboot iscsi:") && !hook.contains("sanhook iscsi:"),
            "its own loader boots it: {hook}"
        );
        assert!(by(Method::Kernel).contains("echo No kernel of the image can be loaded"), "{}", by(Method::Kernel));
    }

    #[test]
    fn arguments_of_this_boot_are_before_those_of_the_installed_system() {
        let text = script(&live(), ScriptFormat::Pxelinux, |_, image| {
            let kernel = KernelFiles { arguments: "vga=788 --- quiet".into(), ..KernelFiles::default() };
            image.status.kernel = Some(kernel);
        });
        assert!(text.contains("APPEND vga=788 console=ttyS0 --- quiet\n"), "{text}");
    }

    #[test]
    fn arguments_are_taken_out_by_word_and_by_name() {
        let text =
            script(&live(), ScriptFormat::Pxelinux, |_, image| image.spec.remove_arguments = vec!["quiet".into()]);
        assert!(text.contains("APPEND rd.live.image console=ttyS0\n"), "{text}");
    }
}
