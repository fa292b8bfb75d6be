use super::*;

const DEBIAN: &str = "default install\nlabel install\n\tmenu label ^Install\n\tkernel /install.amd/vmlinuz\n\
    \tappend vga=788 initrd=/install.amd/initrd.gz --- quiet\nlabel memtest\n\tkernel /memtest86+.bin\n\tappend none\n";

fn read<'a>(files: &[(&'a str, &'a str)]) -> SyslinuxConfigs<'a> {
    let files: Vec<_> = files.iter().map(|(path, text)| ConfigFile { path, text, is_menu: true }).collect();
    SyslinuxConfigs::read(&files, &mut FileLookup::new(&|_| Some(false)))
}

fn edit_menu(path: &str, text: &str, edit: &MenuEdit) -> (String, usize) {
    let configs = read(&[(path, text)]);
    (configs.edit(0, edit, &mut EditRoom::new()), configs.kernel_lines(0))
}

fn entries(text: &str) -> Vec<MenuEntry> {
    read(&[("/isolinux/isolinux.cfg", text)]).entries(0, &mut EntryRoom::default())
}

fn adding(arguments: &[&str]) -> MenuEdit {
    MenuEdit { append: arguments.iter().map(|text| text.to_string()).collect(), ..MenuEdit::default() }
}

#[test]
fn arguments_go_before_those_of_the_installed_system() {
    let (text, lines) = edit_menu("/isolinux/txt.cfg", DEBIAN, &adding(&["auto=true", "url=http://h/p;x"]));
    assert_eq!(lines, 1);
    let line = "\tappend vga=788 initrd=/install.amd/initrd.gz auto=true url=http://h/p;x --- quiet\n";
    assert_eq!(text, DEBIAN.replace("\tappend vga=788 initrd=/install.amd/initrd.gz --- quiet\n", line));
    assert_eq!(edit_menu("/isolinux/txt.cfg", &text, &adding(&["auto=true"])).0, text, "a second edit changes nothing");
}

#[test]
fn a_part_of_a_menu_is_known_by_its_place() {
    let rows = [
        ("/boot/syslinux/archiso_sys.cfg", "INCLUDE x.cfg\nTIMEOUT 150\n", true),
        ("/isolinux/gfxboot.cfg", "[base]\nbackground=0xffffff\n", false),
        ("/etc/app.cfg", "timeout 5\n", false),
        ("/x.cfg", "label a\nkernel /k\n", true),
        ("/isolinux/isolinux.cfg", "prompt 0\n", true),
        ("/isolinux/grub.cfg", "default 0\nmenuentry a { linux /k }\n", false),
    ];
    for (path, text, expected) in rows {
        assert_eq!(matches(path, text), expected, "{path}");
    }
}

#[test]
fn an_entry_has_its_kernel_and_initrds() {
    let found = entries(DEBIAN);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].title, "Install");
    assert_eq!(found[0].kernel, "/install.amd/vmlinuz");
    assert_eq!(found[0].initrds, ["/install.amd/initrd.gz"]);
    assert_eq!(found[0].arguments, "vga=788 --- quiet");
}

#[test]
fn a_label_without_append_gets_one() {
    let rows = [
        ("label a\n  linux /k", "label a\n  linux /k\n  append x\n"),
        ("append ro\nlabel a\n linux /k\n", "append ro x\nlabel a\n linux /k\n"),
        ("append ro\nlabel a\n linux /k\n append -\n", "append ro\nlabel a\n linux /k\n append x\n"),
        ("label a\r\nkernel /k\r\nappend b\r\n", "label a\r\nkernel /k\r\nappend b x\r\n"),
        (
            "label a\ntext help\nappend not this\nendtext\nkernel /k\nAPPEND b\n",
            "label a\ntext help\nappend not this\nendtext\nkernel /k\nAPPEND b x\n",
        ),
        ("label a\nlinux /k\nappend b=\u{c3}\u{a0}\n", "label a\nlinux /k\nappend b=\u{c3}\u{a0} x\n"),
        ("label m\nkernel vesamenu.c32\nappend menu.cfg\n", "label m\nkernel vesamenu.c32\nappend menu.cfg\n"),
    ];
    for (before, after) in rows {
        assert_eq!(edit_menu("/x.cfg", before, &adding(&["x"])).0, after);
    }
}

#[test]
fn a_kernel_outside_of_a_label_gets_the_arguments() {
    let text = "ontimeout /k speakup.synth=soft --- quiet\ndefault vesamenu.c32 x\n";
    let (new, lines) = edit_menu("/x.cfg", text, &adding(&["x"]));
    assert_eq!((new.as_str(), lines), ("ontimeout /k speakup.synth=soft x --- quiet\ndefault vesamenu.c32 x\n", 1));
    let edit = MenuEdit { timeout: Some(1), ..adding(&["x"]) };
    assert!(edit_menu("/x.cfg", text, &edit).0.starts_with("# ontimeout /k"));
}

#[test]
fn the_timeout_is_set() {
    let edit = MenuEdit { timeout: Some(3), ..MenuEdit::default() };
    assert_eq!(edit_menu("/isolinux/isolinux.cfg", "prompt 0\ntimeout 0\n", &edit).0, "prompt 0\ntimeout 30\n");
    assert_eq!(edit_menu("/isolinux/isolinux.cfg", "prompt 0\n", &edit).0, "timeout 30\nprompt 0\n");
    assert_eq!(edit_menu("/isolinux/txt.cfg", DEBIAN, &edit).0, DEBIAN);
}

#[test]
fn the_kernel_of_xen_gets_the_arguments() {
    let xen = "label install\n  KERNEL mboot.c32\n  APPEND /boot/xen.gz dom0_mem=max:8192M --- /boot/vmlinuz console=hvc0@ --- /install.img\n";
    let before = xen.replace('@', "");
    let (text, lines) = edit_menu("/boot/isolinux/isolinux.cfg", &before, &adding(&["a=1", "install"]));
    assert_eq!((text.as_str(), lines), (xen.replace('@', " a=1 install").as_str(), 1));
    assert_eq!(edit_menu("/x.cfg", &text, &adding(&["install"])).0, text, "a second edit changes nothing");
    let found = entries(&before);
    assert_eq!((found[0].kernel.as_str(), found[0].arguments.as_str()), ("/boot/vmlinuz", "console=hvc0"));
    assert_eq!(found[0].initrds, ["/install.img"]);
    assert_eq!(found[0].obstacle, Some(Obstacle::Hypervisor("/boot/xen.gz".into())));
    let esxi = "label install\nKERNEL mboot.c32\nAPPEND -c boot.cfg\n";
    assert_eq!(edit_menu("/isolinux.cfg", esxi, &adding(&["a"])), (esxi.to_owned(), 0), "another kernel of mboot.c32");
}

#[test]
fn arguments_may_be_on_the_line_of_the_kernel() {
    let text = "label a\nlinux /boot/bzImage init=/nix quiet\nappend b\n";
    let found = entries(text);
    assert_eq!((found[0].kernel.as_str(), found[0].arguments.as_str()), ("/boot/bzImage", "init=/nix quiet b"));
    let edit = MenuEdit { remove: vec!["quiet".into()], ..adding(&["x"]) };
    assert_eq!(edit_menu("/x.cfg", text, &edit).0, "label a\nlinux /boot/bzImage init=/nix\nappend b x\n");
}

const SUSE: &str = "default harddisk\n\n# hard disk\nlabel harddisk\n  localboot -2\n\nlabel upgrade\n  kernel linux\n  append initrd=initrd upgrade=1\n\n\
    label linux\n  kernel linux\n  append initrd=initrd splash=silent\n\nui gfxboot bootlogo message\nimplicit 1\ntimeout 600\n";

#[test]
fn a_view_boots_a_kernel_by_itself() {
    let edit = MenuEdit { timeout: Some(1), ..adding(&["x"]) };
    let edited = |text: &str| edit_menu("/boot/x86_64/loader/isolinux.cfg", text, &edit).0;
    assert!(edited(SUSE).starts_with("default linux\n") && edited(SUSE).contains("timeout 10\n"), "{}", edited(SUSE));
    assert!(edit_menu("/isolinux.cfg", SUSE, &adding(&["x"])).0.starts_with("default harddisk\n"));
    let cobbler = "default vesamenu.c32\nlabel local\n  menu default\n  localboot 0xffff\nlabel install\n  kernel /k\n  append a\n";
    let after = "default vesamenu.c32\nlabel local\n# menu default\n  localboot 0xffff\nlabel install\n  menu default\n  kernel /k\n  append a x\n";
    assert_eq!(edited(cobbler), format!("timeout 10\n{after}"));
    let first = "ui menu.c32\nlabel disk\ncom32 chain.c32\nappend hd0\nlabel install\nkernel /k\nappend a\n";
    assert!(edited(first).contains("label install\n  menu default\n"), "{}", edited(first));
    let later = "default install\nontimeout local\nlabel local\nlocalboot 0\nlabel install\nkernel /k\nappend a\n";
    assert!(edited(later).contains("default install\n# ontimeout local\n"), "{}", edited(later));
    let rescue = "default install\nlabel install\nkernel /k\nappend a\nlabel local\nlocalboot 0\n";
    assert!(edited(rescue).contains("default install\n"), "a default that boots a kernel stays");
}

#[test]
fn a_default_in_another_file_is_found() {
    let files = [
        ("/isolinux/isolinux.cfg", "include menu.cfg\ndefault local\ntimeout 600\n"),
        ("/isolinux/menu.cfg", "label local\nlocalboot 0\nmenu include install.cfg Install\n"),
        ("/isolinux/install.cfg", "label install\nkernel vmlinuz\nappend a\n"),
    ];
    let configs = read(&files);
    let edit = MenuEdit { timeout: Some(1), ..MenuEdit::default() };
    assert_eq!(configs.edit(0, &edit, &mut EditRoom::new()), "include menu.cfg\ndefault install\ntimeout 10\n");
    assert_eq!(configs.edit(1, &edit, &mut EditRoom::new()), files[1].1);
    let named = [
        ("/isolinux/isolinux.cfg", "include txt.cfg\ndefault second\n"),
        ("/isolinux/txt.cfg", "label first\nkernel /k\nlabel second\nkernel /l\n"),
    ];
    let found = read(&named).entries(1, &mut EntryRoom::default());
    assert_eq!(found.iter().map(|entry| entry.is_default).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn names_are_relative_to_the_menu_or_to_its_reader() {
    let files = [
        (
            "/isolinux/isolinux.cfg",
            "default loadconfig\nlabel loadconfig\n  config /arch/boot/syslinux/archiso.cfg\n  append /arch/\n",
        ),
        ("/arch/boot/syslinux/archiso.cfg", "include boot/syslinux/archiso_sys.cfg\n"),
        ("/arch/boot/syslinux/archiso_sys.cfg", "label arch\nlinux boot/x86_64/vmlinuz\n"),
    ];
    let configs = read(&files);
    let candidates = |config: usize, name: &str| configs.candidates(config, name).collect::<Vec<_>>();
    assert!(candidates(2, "boot/x86_64/vmlinuz").contains(&"/arch/boot/x86_64/vmlinuz".to_owned()));
    assert_eq!(candidates(0, "vmlinuz"), ["/isolinux/vmlinuz", "/vmlinuz"]);
    assert_eq!(candidates(0, "/vmlinuz"), ["/vmlinuz"]);
    assert!(candidates(0, "../k").iter().all(|path| path == "/k"));
}
