mod connected;
mod limits;

use super::*;

/// An image: its menus and the other files.
struct Layout<'a> {
    menus: &'a [(&'a str, &'a str)],
    files: &'a [&'a str],
}

impl Layout<'_> {
    /// Returns the texts as an inspection finds them.
    fn texts(&self) -> Vec<MenuText<'_>> {
        self.menus
            .iter()
            .map(|(path, text)| MenuText { path, dialect: detect_dialect(path, text.as_bytes()), raw: text.as_bytes() })
            .collect()
    }

    fn entries(&self) -> Vec<(String, MenuEntry)> {
        let is_file = |path: &str| Some(self.files.contains(&path));
        let readings = read_menus(&self.texts(), &is_file);
        let paths = self.menus.iter().map(|(path, _)| (*path).to_owned());
        paths
            .zip(readings)
            .flat_map(|(path, menu)| menu.entries.into_iter().map(move |entry| (path.clone(), entry)))
            .collect()
    }

    /// Returns what is not understood in the menus.
    fn gaps(&self) -> Vec<MenuGap> {
        let readings = read_menus(&self.texts(), &|path| Some(self.files.contains(&path)));
        readings.into_iter().flat_map(|menu| menu.gaps).collect()
    }

    fn unread(&self) -> UnreadFiles {
        UnreadFiles::of(self.gaps().iter())
    }

    /// Checks the entries: title, kernel, arguments, initrds, and a mark: `*` for the default, `!` for an obstacle.
    fn check(&self, expected: &[(&str, &str, &str, &str, &str)]) {
        let found = self.entries();
        let rows: Vec<_> = found
            .iter()
            .map(|(_, entry)| {
                let mark = [(entry.is_default, "*"), (entry.obstacle.is_some(), "!")];
                let mark: String = mark.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
                (entry.title.clone(), entry.kernel.clone(), entry.arguments.clone(), entry.initrds.join(","), mark)
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(title, kernel, arguments, initrds, mark)| {
                let text = |text: &&str| (*text).to_owned();
                (text(title), text(kernel), text(arguments), text(initrds), text(mark))
            })
            .collect();
        assert_eq!(rows, expected);
    }

    /// Returns the menus as a host with an argument of its own sees them.
    fn edited(&self) -> Vec<String> {
        let edit = MenuEdit { append: vec!["site=1".into()], remove: Vec::new(), timeout: Some(1) };
        let menus = edit_menus(&self.texts(), &self.unread(), &edit).unwrap().into_iter();
        menus.map(|(text, _)| String::from_utf8(text).unwrap()).collect()
    }
}

#[test]
fn fedora_and_rhel_10() {
    let menu = "set default=\"1\"\nfunction load_video {\n  insmod all_video\n}\nload_video\nset timeout=60\n\
        search --no-floppy --set=root -l 'RHEL-10-0-BaseOS-x86_64'\n\
        menuentry 'Install RHEL 10.0' --class red --class gnu-linux {\n\tlinux /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=RHEL quiet\n\tinitrd /images/pxeboot/initrd.img\n}\n\
        menuentry 'Test this media & install RHEL 10.0' --class red {\n\tlinux /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=RHEL rd.live.check quiet\n\tinitrd /images/pxeboot/initrd.img\n}\n\
        submenu 'Troubleshooting -->' {\n\tmenuentry 'Rescue a RHEL system' {\n\t\tlinux /images/pxeboot/vmlinuz inst.rescue quiet\n\t\tinitrd /images/pxeboot/initrd.img\n\t}\n}\n";
    let layout = Layout {
        menus: &[("/EFI/BOOT/grub.cfg", menu)],
        files: &["/images/pxeboot/vmlinuz", "/images/pxeboot/initrd.img"],
    };
    let (kernel, initrd) = ("/images/pxeboot/vmlinuz", "/images/pxeboot/initrd.img");
    layout.check(&[
        ("Install RHEL 10.0", kernel, "inst.stage2=hd:LABEL=RHEL quiet", initrd, ""),
        ("Test this media & install RHEL 10.0", kernel, "inst.stage2=hd:LABEL=RHEL rd.live.check quiet", initrd, "*"),
        ("Rescue a RHEL system", kernel, "inst.rescue quiet", initrd, ""),
    ]);
    assert!(layout.edited()[0].ends_with("set timeout_style=menu\nset timeout=1\n"), "{:?}", layout.edited());
}

#[test]
fn rhel_8_and_9() {
    let isolinux = "default vesamenu.c32\ntimeout 600\ndisplay boot.msg\nlabel linux\n  menu label ^Install RHEL 9.4\n  kernel vmlinuz\n  append initrd=initrd.img inst.stage2=hd:LABEL=RHEL quiet\n\
        label check\n  menu label Test this ^media & install RHEL 9.4\n  menu default\n  kernel vmlinuz\n  append initrd=initrd.img inst.stage2=hd:LABEL=RHEL rd.live.check quiet\n\
        menu separator\nmenu begin ^Troubleshooting\nlabel rescue\n  menu label ^Rescue a RHEL system\n  kernel vmlinuz\n  append initrd=initrd.img inst.rescue quiet\n\
        label local\n  menu label Boot from ^local drive\n  localboot 0xffff\nmenu end\n";
    let layout = Layout {
        menus: &[("/isolinux/isolinux.cfg", isolinux)],
        files: &["/isolinux/vmlinuz", "/isolinux/initrd.img", "/images/pxeboot/vmlinuz"],
    };
    let (kernel, initrd) = ("/isolinux/vmlinuz", "/isolinux/initrd.img");
    layout.check(&[
        ("Install RHEL 9.4", kernel, "inst.stage2=hd:LABEL=RHEL quiet", initrd, ""),
        ("Test this media & install RHEL 9.4", kernel, "inst.stage2=hd:LABEL=RHEL rd.live.check quiet", initrd, "*"),
        ("Rescue a RHEL system", kernel, "inst.rescue quiet", initrd, ""),
    ]);
    assert!(layout.edited()[0].contains("  menu default\n  kernel vmlinuz\n"), "a default that boots a kernel stays");
}

#[test]
fn debian() {
    let install = "label install\n\tmenu label ^Install\n\tkernel /install.amd/vmlinuz\n\tappend vga=788 initrd=/install.amd/initrd.gz --- quiet \n";
    let layout = Layout {
        menus: &[
            (
                "/isolinux/isolinux.cfg",
                "# D-I config version 2.0\npath \ninclude menu.cfg\ndefault vesamenu.c32\nprompt 0\ntimeout 0\n",
            ),
            (
                "/isolinux/menu.cfg",
                "menu hshift 4\ninclude stdmenu.cfg\ninclude gtk.cfg\ninclude txt.cfg\nmenu begin advanced\n    label mainmenu\n        menu label ^Back..\n        menu exit\nmenu end\n",
            ),
            (
                "/isolinux/gtk.cfg",
                "label installgui\n\tmenu label ^Graphical install\n\tmenu default\n\tkernel /install.amd/vmlinuz\n\tappend vga=788 initrd=/install.amd/gtk/initrd.gz --- quiet \n",
            ),
            ("/isolinux/txt.cfg", install),
            (
                "/boot/grub/grub.cfg",
                "if [ x$feature_default_font_path = xy ] ; then\n   font=unicode\nelse\n   font=$prefix/font.pf2\nfi\nset menu_color_normal=cyan/blue\nsource $prefix/theme\nmenuentry --hotkey=i 'Install' {\n    set background_color=black\n    linux    /install.amd/vmlinuz vga=788 --- quiet \n    initrd   /install.amd/initrd.gz\n}\nsubmenu --hotkey=a 'Advanced options ...' {\n    menuentry --hotkey=r '... Rescue mode' {\n        linux    /install.amd/vmlinuz vga=788 rescue/enable=true --- quiet \n        initrd   /install.amd/initrd.gz\n    }\n}\n",
            ),
        ],
        files: &["/install.amd/vmlinuz", "/install.amd/initrd.gz", "/install.amd/gtk/initrd.gz"],
    };
    let (kernel, initrd) = ("/install.amd/vmlinuz", "/install.amd/initrd.gz");
    layout.check(&[
        ("Graphical install", kernel, "vga=788 --- quiet", "/install.amd/gtk/initrd.gz", "*"),
        ("Install", kernel, "vga=788 --- quiet", initrd, ""),
        ("Install", kernel, "vga=788 --- quiet", initrd, "*"),
        ("... Rescue mode", kernel, "vga=788 rescue/enable=true --- quiet", initrd, ""),
    ]);
    let edited = layout.edited();
    assert!(edited[0].ends_with("timeout 10\n") && edited[3].contains("initrd.gz site=1 --- quiet"), "{edited:?}");
}

#[test]
fn ubuntu_server_and_desktop() {
    let grub = "set timeout=30\n\nloadfont unicode\n\nmenuentry \"Try or Install Ubuntu Server\" {\n\tset gfxpayload=keep\n\tlinux\t/casper/vmlinuz  ---\n\tinitrd\t/casper/initrd\n}\n\
        menuentry \"Ubuntu Server with the HWE kernel\" {\n\tset gfxpayload=keep\n\tlinux\t/casper/hwe-vmlinuz  ---\n\tinitrd\t/casper/hwe-initrd\n}\ngrub_platform\nif [ \"$grub_platform\" = \"efi\" ]; then\n\
        menuentry 'Boot from next volume' {\n\texit 1\n}\nmenuentry 'UEFI Firmware Settings' {\n\tfwsetup\n}\nelse\nmenuentry 'Test memory' {\n\tlinux16 /boot/memtest86+x64.bin\n}\nfi\n";
    let loopback = "menuentry \"Try or Install Ubuntu Server\" {\n\tset gfxpayload=keep\n\tlinux\t/casper/vmlinuz  iso-scan/filename=${iso_path} ---\n\tinitrd\t/casper/initrd\n}\n";
    let layout = Layout {
        menus: &[("/boot/grub/grub.cfg", grub), ("/boot/grub/loopback.cfg", loopback)],
        files: &["/casper/vmlinuz", "/casper/initrd", "/casper/hwe-vmlinuz", "/casper/hwe-initrd"],
    };
    layout.check(&[
        ("Try or Install Ubuntu Server", "/casper/vmlinuz", "---", "/casper/initrd", "*"),
        ("Ubuntu Server with the HWE kernel", "/casper/hwe-vmlinuz", "---", "/casper/hwe-initrd", ""),
        ("Try or Install Ubuntu Server", "/casper/vmlinuz", "iso-scan/filename= ---", "/casper/initrd", "*"),
    ]);
    let desktop = Layout {
        menus: &[(
            "/boot/grub/grub.cfg",
            "menuentry \"Try or Install Ubuntu\" {\n\tset gfxpayload=keep\n\tlinux\t/casper/vmlinuz layerfs-path=minimal.standard.live.squashfs --- quiet splash\n\tinitrd\t/casper/initrd\n}\n",
        )],
        files: &["/casper/vmlinuz", "/casper/initrd"],
    };
    desktop.check(&[(
        "Try or Install Ubuntu",
        "/casper/vmlinuz",
        "layerfs-path=minimal.standard.live.squashfs --- quiet splash",
        "/casper/initrd",
        "*",
    )]);
}

#[test]
fn suse_15() {
    let isolinux = "default harddisk\n\n# hard disk\nlabel harddisk\n  localboot -2\n\n# install\nlabel linux\n  kernel linux\n  append initrd=initrd splash=silent showopts\n\n# upgrade\nlabel upgrade\n  kernel linux\n  append initrd=initrd splash=silent upgrade=1 showopts\n\n\
        # rescue\nlabel rescue\n  kernel linux\n  append initrd=initrd splash=silent rescue=1 showopts\n\n# mem test\nlabel memtest\n  kernel memtest\n\nui           gfxboot bootlogo message\nimplicit     1\nprompt       1\ntimeout      600\n";
    let grub = "insmod gfxterm\ndefault=1\ntimeout=60\nmenuentry 'Boot from Hard Disk' --class opensuse --class gnu-linux {\n  exit\n}\nmenuentry 'Installation' --class opensuse {\n  set gfxpayload=keep\n  echo 'Loading kernel ...'\n  linux /boot/x86_64/loader/linux splash=silent\n  echo 'Loading initial ramdisk ...'\n  initrd /boot/x86_64/loader/initrd\n}\n";
    let layout = Layout {
        menus: &[("/boot/x86_64/loader/isolinux.cfg", isolinux), ("/EFI/BOOT/grub.cfg", grub)],
        files: &["/boot/x86_64/loader/linux", "/boot/x86_64/loader/initrd"],
    };
    let (kernel, initrd) = ("/boot/x86_64/loader/linux", "/boot/x86_64/loader/initrd");
    layout.check(&[
        ("linux", kernel, "splash=silent showopts", initrd, ""),
        ("upgrade", kernel, "splash=silent upgrade=1 showopts", initrd, ""),
        ("rescue", kernel, "splash=silent rescue=1 showopts", initrd, ""),
        ("Installation", kernel, "splash=silent", initrd, "*"),
    ]);
    let edited = layout.edited();
    assert!(edited[0].starts_with("default linux\n") && edited[0].contains("timeout 10\n"), "{}", edited[0]);
    assert!(!edited[1].contains("set default"), "{}", edited[1]);
}

#[test]
fn suse_16() {
    let disk = "menuentry \"Boot from Hard Disk\" --class opensuse {\n  if search --no-floppy --file /efi/boot/fallback.efi --set ; then\n    for os in opensuse sles leap; do\n      if [ -f /efi/$os/grub.efi ] ; then\n        chainloader /efi/$os/grub.efi\n        boot\n      fi\n    done\n  fi\n  exit\n}\n";
    let install = "menuentry \"Install SLES 16.0\" --class os --unrestricted {\n    set gfxpayload=keep\n    echo Loading kernel...\n    linux ($root)/boot/x86_64/loader/linux ${extra_cmdline} ${isoboot}\n    echo Loading initrd...\n    initrd ($root)/boot/x86_64/loader/initrd\n}\n";
    let head = "search --file --set=root /boot/0xebe87947\nset default=0\nif [ -n \"$extra_cmdline\" ]; then\n  submenu \"Bootable snapshot $snapshot_num\" {\n    menuentry \"If OK, run snapper rollback and reboot.\" { true; }\n  }\nfi\n\
        if [ -n \"${iso_path}\" ]; then\n    isoboot=\"iso-scan/filename=${iso_path}\"\nfi\nset timeout=10\nset font=($root)/boot/x86_64/loader/grub2/fonts/unicode.pf2\nif [ -f ${font} ];then\n    loadfont ${font}\nfi\n";
    let tail = "if [ -f \"/.snapshots/grub-snapshot.cfg\" ]; then\n    source \"/.snapshots/grub-snapshot.cfg\"\nfi\nif [ \"${grub_platform}\" = \"efi\" ]; then\n    hiddenentry \"Text mode\" --hotkey \"t\" {\n        set textmode=true\n        terminal_output console\n    }\nfi\n";
    let files = &["/boot/x86_64/loader/linux", "/boot/x86_64/loader/initrd"];
    let (kernel, initrd) = ("/boot/x86_64/loader/linux", "/boot/x86_64/loader/initrd");
    let menu = [head, install, disk, tail].concat();
    let layout = Layout { menus: &[("/boot/grub2/grub.cfg", &menu)], files };
    layout.check(&[("Install SLES 16.0", kernel, "", initrd, "*")]);
    assert!(layout.edited()[0].ends_with("set timeout=1\n"), "{}", layout.edited()[0]);
    let menu = [head, disk, install, tail].concat();
    let layout = Layout { menus: &[("/boot/grub2/grub.cfg", &menu)], files };
    layout.check(&[("Install SLES 16.0", kernel, "", initrd, "")]);
    assert!(layout.edited()[0].ends_with("set timeout=1\nset default='Install SLES 16.0'\n"), "{}", layout.edited()[0]);
}

#[test]
fn arch() {
    let grub = "if [ -z \"${ARCHISO_UUID}\" ]; then\n    if [ -z \"${ARCHISO_HINT}\" ]; then\n        regexp --set=1:ARCHISO_HINT '^\\(([^)]+)\\)' \"${cmdpath}\"\n    fi\n    search --no-floppy --set=root --file '/boot/x.uuid' --hint \"${ARCHISO_HINT}\"\n    probe --set ARCHISO_UUID --fs-uuid \"${root}\"\nfi\n\
        if [ \"${grub_platform}\" == 'efi' ]; then\n    archiso_platform='UEFI'\nelse\n    archiso_platform=\"${grub_cpu}\"\nfi\ndefault=archlinux\ntimeout=15\n\
        menuentry \"Arch Linux (x86_64, ${archiso_platform})\" --class arch --id 'archlinux' {\n    set gfxpayload=keep\n    linux /arch/boot/x86_64/vmlinuz-linux archisobasedir=arch archisodevice=UUID=${ARCHISO_UUID}\n    initrd /arch/boot/x86_64/initramfs-linux.img\n}\n\
        if [ \"${grub_platform}\" == 'efi' -a -f '/boot/memtest86+/memtest.efi' ]; then\n    menuentry 'Run Memtest86+ (RAM test)' {\n        linux /boot/memtest86+/memtest.efi\n    }\nfi\n";
    let layout = Layout {
        menus: &[
            (
                "/boot/syslinux/syslinux.cfg",
                "DEFAULT select\n\nLABEL select\nCOM32 boot/syslinux/whichsys.c32\nAPPEND -pxe- pxe -sys- sys -iso- sys\n\nLABEL sys\nCONFIG boot/syslinux/archiso_sys.cfg\n",
            ),
            (
                "/boot/syslinux/archiso_sys.cfg",
                "INCLUDE boot/syslinux/archiso_head.cfg\n\nDEFAULT arch64\nTIMEOUT 150\n\nINCLUDE boot/syslinux/archiso_sys-linux.cfg\n",
            ),
            (
                "/boot/syslinux/archiso_sys-linux.cfg",
                "LABEL arch64\nTEXT HELP\nBoot the Arch Linux install medium on BIOS.\nENDTEXT\nMENU LABEL Arch Linux install medium (x86_64, BIOS)\nLINUX /arch/boot/x86_64/vmlinuz-linux\nINITRD /arch/boot/x86_64/initramfs-linux.img\nAPPEND archisobasedir=arch archisosearchuuid=2026\n",
            ),
            ("/boot/grub/grub.cfg", grub),
            (
                "/loader/entries/01-archiso.conf",
                "title    Arch Linux (x86_64, UEFI)\nlinux    /arch/boot/x86_64/vmlinuz-linux\ninitrd   /arch/boot/x86_64/initramfs-linux.img\noptions  archisobasedir=arch archisosearchuuid=2026\n",
            ),
        ],
        files: &["/arch/boot/x86_64/vmlinuz-linux", "/arch/boot/x86_64/initramfs-linux.img"],
    };
    let (kernel, initrd) = ("/arch/boot/x86_64/vmlinuz-linux", "/arch/boot/x86_64/initramfs-linux.img");
    layout.check(&[
        ("Arch Linux install medium (x86_64, BIOS)", kernel, "archisobasedir=arch archisosearchuuid=2026", initrd, "*"),
        (
            "Arch Linux (x86_64, $archiso_platform)",
            kernel,
            "archisobasedir=arch archisodevice=UUID=$ARCHISO_UUID",
            initrd,
            "*!",
        ),
        ("Arch Linux (x86_64, UEFI)", kernel, "archisobasedir=arch archisosearchuuid=2026", initrd, ""),
    ]);
}

#[test]
fn names_of_arch_like_menus_are_relative_to_their_directory() {
    let layout = Layout {
        menus: &[
            (
                "/isolinux/isolinux.cfg",
                "PATH /sysresccd/boot/syslinux/\nDEFAULT loadconfig\n\nLABEL loadconfig\n  CONFIG /sysresccd/boot/syslinux/sysresccd.cfg\n  APPEND /sysresccd/\n",
            ),
            (
                "/sysresccd/boot/syslinux/sysresccd.cfg",
                "DEFAULT sysresccd\nLABEL sysresccd\nMENU LABEL Boot SystemRescue using ^default options\nLINUX boot/x86_64/vmlinuz\nINITRD boot/intel_ucode.img,boot/amd_ucode.img,boot/x86_64/sysresccd.img\nAPPEND archisobasedir=sysresccd archisolabel=RESCUE1200 iomem=relaxed\n",
            ),
            (
                "/boot/grub/grubsrcd.cfg",
                "set default=0\nset fallback=1\nif loadfont /boot/grub/font.pf2 ; then\n\tset gfxmode=auto\nfi\nsearch --no-floppy --set=root --file /sysresccd/x86_64/airootfs.sfs\nmenuentry \"Boot SystemRescue using default options\" {\n\tset gfxpayload=keep\n\tlinux\t/sysresccd/boot/x86_64/vmlinuz archisobasedir=sysresccd archisolabel=RESCUE1200 iomem=relaxed\n\tinitrd\t/sysresccd/boot/intel_ucode.img /sysresccd/boot/amd_ucode.img /sysresccd/boot/x86_64/sysresccd.img\n}\nmenuentry \"Boot a Linux operating system installed on the disk (findroot)\" {\n\tlinux\t/sysresccd/boot/x86_64/vmlinuz findroot\n\tinitrd\t/sysresccd/boot/x86_64/sysresccd.img\n}\n",
            ),
        ],
        files: &[
            "/sysresccd/boot/x86_64/vmlinuz",
            "/sysresccd/boot/intel_ucode.img",
            "/sysresccd/boot/amd_ucode.img",
            "/sysresccd/boot/x86_64/sysresccd.img",
        ],
    };
    let (kernel, initrd) = ("/sysresccd/boot/x86_64/vmlinuz", "/sysresccd/boot/x86_64/sysresccd.img");
    let all = format!("/sysresccd/boot/intel_ucode.img,/sysresccd/boot/amd_ucode.img,{initrd}");
    let arguments = "archisobasedir=sysresccd archisolabel=RESCUE1200 iomem=relaxed";
    layout.check(&[
        ("Boot SystemRescue using default options", kernel, arguments, &all, "*"),
        ("Boot SystemRescue using default options", kernel, arguments, &all, "*"),
        ("Boot a Linux operating system installed on the disk (findroot)", kernel, "findroot", initrd, ""),
    ]);
}

#[test]
fn alpine_and_its_xen() {
    let layout = Layout {
        menus: &[
            (
                "/boot/syslinux/syslinux.cfg",
                "TIMEOUT 10\nPROMPT 1\nDEFAULT lts\n\nLABEL lts\nMENU LABEL Linux lts\nKERNEL /boot/vmlinuz-lts\nINITRD /boot/initramfs-lts\nFDTDIR /boot/dtbs-lts\nAPPEND modules=loop,squashfs,sd-mod,usb-storage quiet \n",
            ),
            (
                "/boot/grub/grub.cfg",
                "set timeout=1\n\nmenuentry \"Linux lts\" {\nlinux\t/boot/vmlinuz-lts modules=loop,squashfs,sd-mod,usb-storage quiet \ninitrd\t/boot/initramfs-lts\n}\nmenuentry \"Xen/Linux lts\" {\nmultiboot2\t/boot/xen.gz ${xen_params}\nmodule2\t/boot/vmlinuz-lts modules=loop quiet\nmodule2\t/boot/initramfs-lts\n}\n",
            ),
        ],
        files: &["/boot/vmlinuz-lts", "/boot/initramfs-lts"],
    };
    let arguments = "modules=loop,squashfs,sd-mod,usb-storage quiet";
    layout.check(&[
        ("Linux lts", "/boot/vmlinuz-lts", arguments, "/boot/initramfs-lts", "*"),
        ("Linux lts", "/boot/vmlinuz-lts", arguments, "/boot/initramfs-lts", "*"),
        ("Xen/Linux lts", "/boot/vmlinuz-lts", "modules=loop quiet", "/boot/initramfs-lts", "!"),
    ]);
    assert!(
        layout.edited()[1].contains("module2\t/boot/vmlinuz-lts modules=loop quiet site=1\n"),
        "{}",
        layout.edited()[1]
    );
}

#[test]
fn nixos() {
    let layout = Layout {
        menus: &[
            (
                "/isolinux/isolinux.cfg",
                "SERIAL 0 115200\nTIMEOUT 100\nUI vesamenu.c32\nMENU TITLE NixOS\nDEFAULT boot\n\nLABEL boot\nMENU LABEL NixOS 25.05 Installer\nLINUX /boot/bzImage\nAPPEND init=/nix/store/x-nixos/init root=LABEL=nixos-minimal loglevel=4\nINITRD /boot/initrd\n\nLABEL memtest\nMENU LABEL Memtest86+\nLINUX /boot/memtest.bin\n",
            ),
            (
                "/EFI/BOOT/grub.cfg",
                "if [ \"$textmode\" == \"false\" ]; then\n  terminal_output gfxterm\nfi\nset timeout=10\nhiddenentry 'Text mode' --hotkey 't' {\n  set textmode=true\n}\nif [ \"${iso_path}\" ] ; then\n  set isoboot=\"findiso=${iso_path}\"\nfi\nmenuentry 'NixOS 25.05 Installer ' --class installer {\n  # Fallback to UEFI console for boot, efifb sometimes has difficulties.\n  terminal_output console\n  linux /boot/bzImage ${isoboot} init=/nix/store/x-nixos/init root=LABEL=nixos-minimal loglevel=4\n  initrd /boot/initrd\n}\nsubmenu \"HiDPI, Quirks and Accessibility\" --class hidpi {\n  menuentry 'NixOS 25.05 Installer (copytoram)' {\n    linux /boot/bzImage ${isoboot} init=/nix/store/x-nixos/init copytoram\n    initrd /boot/initrd\n  }\n}\n",
            ),
        ],
        files: &["/boot/bzImage", "/boot/initrd"],
    };
    let arguments = "init=/nix/store/x-nixos/init root=LABEL=nixos-minimal loglevel=4";
    layout.check(&[
        ("NixOS 25.05 Installer", "/boot/bzImage", arguments, "/boot/initrd", "*"),
        ("NixOS 25.05 Installer ", "/boot/bzImage", arguments, "/boot/initrd", "*"),
        (
            "NixOS 25.05 Installer (copytoram)",
            "/boot/bzImage",
            "init=/nix/store/x-nixos/init copytoram",
            "/boot/initrd",
            "",
        ),
    ]);
}

#[test]
fn proxmox() {
    let menu = "insmod gfxterm\nif [ $grub_platform == pc ]; then\n  set vga=vga=791\nfi\nmenuentry 'Install Proxmox VE (Graphical)' --class debian {\n    echo 'Loading Proxmox VE Installer ...'\n    linux $prefix/../linux26 ro ramdisk_size=16777216 rw quiet splash=silent\n    echo 'Loading initial ramdisk ...'\n    initrd $prefix/../initrd.img\n}\n\
        submenu 'Advanced Options' {\n    menuentry 'Install Proxmox VE (Graphical, Debug Mode)' {\n        linux /boot/linux26 ro proxdebug\n        initrd /boot/initrd.img\n    }\n    menuentry 'Install Proxmox VE (Automated)' {\n        linux /boot/linux26 ro proxmox-start-auto-installer\n        initrd /boot/initrd.img\n    }\n    menuentry 'Rescue Boot' {\n        search --label --set=root rpool\n        linux /ROOT/pve-1@/boot/pve/vmlinuz ro root=ZFS=rpool/ROOT/pve-1\n        initrd /ROOT/pve-1@/boot/pve/initrd.img\n    }\n    menuentry 'Test memory (Memtest86+)' {\n        linux16 /boot/memtest86+x64.bin\n    }\n}\n";
    let layout = Layout { menus: &[("/boot/grub/grub.cfg", menu)], files: &["/boot/linux26", "/boot/initrd.img"] };
    layout.check(&[
        (
            "Install Proxmox VE (Graphical)",
            "/boot/linux26",
            "ro ramdisk_size=16777216 rw quiet splash=silent",
            "/boot/initrd.img",
            "*",
        ),
        ("Install Proxmox VE (Graphical, Debug Mode)", "/boot/linux26", "ro proxdebug", "/boot/initrd.img", ""),
        ("Install Proxmox VE (Automated)", "/boot/linux26", "ro proxmox-start-auto-installer", "/boot/initrd.img", ""),
        (
            "Rescue Boot",
            "/ROOT/pve-1@/boot/pve/vmlinuz",
            "ro root=ZFS=rpool/ROOT/pve-1",
            "/ROOT/pve-1@/boot/pve/initrd.img",
            "!",
        ),
    ]);
}

#[test]
fn xcp_ng() {
    let layout = Layout {
        menus: &[
            (
                "/boot/isolinux/isolinux.cfg",
                "DEFAULT install\nPROMPT 1\nTIMEOUT 50\nLABEL install\n    KERNEL mboot.c32\n    APPEND /boot/xen.gz dom0_mem=max:8192M com1=115200,8n1 console=com1,vga --- /boot/vmlinuz console=hvc0 console=tty0 --- /install.img\n",
            ),
            (
                "/EFI/xenserver/grub.cfg",
                "set timeout=5\nmenuentry \"install\" {\n    search --set --file /EFI/xenserver\n    multiboot2 /boot/xen.gz dom0_mem=max:8192M console=com1,vga\n    module2 /boot/vmlinuz console=hvc0 console=tty0\n    module2 /install.img\n}\n",
            ),
        ],
        files: &["/boot/vmlinuz", "/install.img", "/boot/xen.gz"],
    };
    layout.check(&[
        ("install", "/boot/vmlinuz", "console=hvc0 console=tty0", "/install.img", "*!"),
        ("install", "/boot/vmlinuz", "console=hvc0 console=tty0", "/install.img", "*!"),
    ]);
    let edited = layout.edited();
    assert!(
        edited[0].contains(
            "com1=115200,8n1 console=com1,vga --- /boot/vmlinuz console=hvc0 console=tty0 site=1 --- /install.img\n"
        ),
        "{}",
        edited[0]
    );
    assert!(
        edited[1].contains(
            "console=com1,vga\n    module2 /boot/vmlinuz console=hvc0 console=tty0 site=1\n    module2 /install.img\n"
        ),
        "{}",
        edited[1]
    );
}

#[test]
fn clonezilla() {
    let menu = "set default=\"0\"\nset timeout=30\nset linux_cmd=linux\nset initrd_cmd=initrd\nif [ \"${grub_platform}\" = \"efi\" -a -n \"$shim_lock\" ]; then\n  set linux_cmd=linuxefi\n  set initrd_cmd=initrdefi\nfi\n\
        menuentry --hotkey=s \"Clonezilla live (VGA 800x600)\" --id live-default {\n  search --set -f /live/vmlinuz\n  $linux_cmd /live/vmlinuz boot=live union=overlay ocs_live_run=\"ocs-live-general\" ocs_live_extra_param=\"\" ip= splash\n  $initrd_cmd /live/initrd.img\n}\n";
    let layout = Layout { menus: &[("/boot/grub/grub.cfg", menu)], files: &["/live/vmlinuz", "/live/initrd.img"] };
    layout.check(&[(
        "Clonezilla live (VGA 800x600)",
        "/live/vmlinuz",
        "boot=live union=overlay ocs_live_run=ocs-live-general ocs_live_extra_param= ip= splash",
        "/live/initrd.img",
        "*",
    )]);
    assert!(layout.edited()[0].contains("ip= splash site=1\n  $initrd_cmd"), "{}", layout.edited()[0]);
}

#[test]
fn memtest_has_no_kernel_line() {
    let layout = Layout {
        menus: &[("/boot/grub/grub.cfg", "menuentry 'Memtest86+' {\n  linux /boot/memtest86+.bin\n}\n")],
        files: &["/boot/memtest86+.bin"],
    };
    layout.check(&[]);
    assert_eq!(edit_menus(&layout.texts(), &UnreadFiles::default(), &MenuEdit::default()).unwrap()[0].1, 0);
}

#[test]
fn variables_of_a_part_without_entries_are_read() {
    let layout = Layout {
        menus: &[
            ("/boot/grub/kargs.cfg", "set kargs=\"quiet ip=dhcp\"\n"),
            (
                "/boot/grub/grub.cfg",
                "source /boot/grub/kargs.cfg\nmenuentry Install {\n linux /vmlinuz $kargs\n initrd /initrd\n}\n",
            ),
        ],
        files: &["/vmlinuz", "/initrd"],
    };
    layout.check(&[("Install", "/vmlinuz", "quiet ip=dhcp", "/initrd", "*")]);
}

#[test]
fn text_that_many_entries_share_takes_little_memory() {
    let long = "x".repeat(100_000);
    let grub = format!("menuentry {long} {{\n{}}}\n", "linux /k\n".repeat(10_000));
    let initrds = format!("linux /k\n{}", "initrd /i\n".repeat(10_000));
    let syslinux = format!("append {long}\n{}", "label a\nlinux /k\n".repeat(10_000));
    let commas = format!("append initrd={}\n{}", ",".repeat(100_000), "label a\nlinux /k\n".repeat(10_000));
    let variables = format!("set a={}\n{}", "x".repeat(4000), "linux /k $a\n".repeat(10_000));
    for (dialect, text, least) in [
        (Dialect::Grub, grub, 9),
        (Dialect::Grub, initrds, 0),
        (Dialect::Grub, variables, 1),
        (Dialect::Syslinux, syslinux, 9),
        (Dialect::Syslinux, commas, 0),
    ] {
        let entries = entries(dialect, text.as_bytes());
        assert!((least..=10_000).contains(&entries.len()), "{} entries", entries.len());
        assert!(entries.iter().map(MenuEntry::size).sum::<usize>() <= MAX_ENTRIES_SIZE);
    }
}
