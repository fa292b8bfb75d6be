//! Menus of several files: the default entry, shared arguments, and files that are not read.

use super::*;

const LOCAL: &str = "menuentry 'Boot from local disk' {\n  exit\n}\n";
const INSTALL: &str = "menuentry 'Install' {\n  linux /vmlinuz quiet\n  initrd /initrd\n}\n";
const FILES: &[&str] = &["/vmlinuz", "/initrd"];

/// Returns the lines that a view adds to the end of a script.
fn added<'a>(before: &str, after: &'a str) -> &'a str {
    let kernels = before.replace("linux /vmlinuz quiet", "linux /vmlinuz quiet site=1");
    after.strip_prefix(kernels.as_str()).unwrap_or_else(|| panic!("{after}"))
}

/// Checks the assignments of `default` that a view adds to the scripts of an image.
fn check_defaults(menus: &[(&str, &str)], expected: &[Option<&str>]) {
    let edited = Layout { menus, files: FILES }.edited();
    let defaults: Vec<_> = menus
        .iter()
        .zip(&edited)
        .map(|((_, before), after)| {
            added(before, after).split_once("set default=").map(|(_, value)| value.trim_end().to_owned())
        })
        .collect();
    assert_eq!(defaults.iter().map(Option::as_deref).collect::<Vec<_>>(), expected, "{menus:?}");
}

#[test]
fn a_grub_menu_of_several_scripts_never_boots_the_disk() {
    let local_first = format!("set default=0\nset timeout=60\n{LOCAL}{INSTALL}");
    let install_first = format!("{INSTALL}{LOCAL}");
    let entries = format!("{LOCAL}{INSTALL}");
    let stub = |reads: &str| format!("search --file --set=root /.disk/info\nset prefix=($root)/boot/grub\n{reads}\n");
    let (main, menu) = ("/boot/grub/grub.cfg", "/boot/grub/menu.cfg");
    let (efi, install) = ("/EFI/BOOT/grub.cfg", Some("Install"));
    // The firmware decides whether the first script or the second one is the root: both must be safe.
    check_defaults(&[(efi, &stub("configfile $prefix/grub.cfg")), (main, &local_first)], &[None, install]);
    check_defaults(&[(efi, &stub("source $prefix/grub.cfg")), (main, &local_first)], &[install, install]);
    check_defaults(&[(main, "set default=1\nsource /boot/grub/menu.cfg\n"), (menu, &install_first)], &[install; 2]);
    check_defaults(&[(main, "set default=0\nsource /boot/grub/menu.cfg\n"), (menu, &install_first)], &[None; 2]);
    let exported = "set default=1\nexport default\nconfigfile /boot/grub/menu.cfg\n";
    check_defaults(&[(main, exported), (menu, &install_first)], &[None, install]);
    let chain = "menuentry 'More' { configfile /boot/grub/menu.cfg }\n";
    check_defaults(&[(main, chain), (menu, &entries)], &[None, install]);
}

#[test]
fn a_grub_default_that_is_not_determined_never_boots_the_disk() {
    let path = "/boot/grub/grub.cfg";
    let submenu = format!("submenu 'More' {{\n{LOCAL}}}\n");
    let numbered = format!("{}{}", LOCAL.replace("Boot", "1. Boot"), INSTALL.replace("Install", "2. Install"));
    let second = INSTALL.replace("Install", "Second");
    let maybe = "if [ $grub_platform = efi ]; then menuentry X { linux /vmlinuz }; else menuentry X { exit }; fi\n";
    let rows = [
        (format!("set default=9\n{LOCAL}{INSTALL}"), Some("Install")),
        (format!("set default=saved\n{LOCAL}{INSTALL}"), Some("Install")),
        (format!("if [ -f /x ]; then set default=1; fi\n{INSTALL}{LOCAL}"), Some("Install")),
        (format!("if [ -f /x ]; then\n{LOCAL}fi\n{INSTALL}"), Some("Install")),
        (format!("load_env\n{INSTALL}{LOCAL}"), Some("Install")),
        (format!("set default=0\n{submenu}{INSTALL}"), Some("Install")),
        (format!("set default='More>Boot from local disk'\n{INSTALL}{submenu}"), Some("Install")),
        (format!("set default='1>0'\n{INSTALL}{submenu}"), Some("Install")),
        (format!("set default=0\n{INSTALL}{submenu}"), None),
        (format!("{LOCAL}submenu 'A > B' {{\n{INSTALL}}}\n"), Some("'A >> B>Install'")),
        (format!("submenu 'More' {{\n{INSTALL}{LOCAL}}}\n"), None),
        (format!("submenu 'More' {{\n{LOCAL}{INSTALL}}}\n"), Some("'More>Install'")),
        // GRUB reads digits at the beginning as a number, and boots the first entry where there is none of that number.
        (format!("set default='2. Install'\n{numbered}{LOCAL}"), Some("1")),
        (format!("set default='0x1'\n{LOCAL}{INSTALL}"), Some("Install")),
        (format!("set default=01\n{INSTALL}{LOCAL}"), Some("Install")),
        (format!("{LOCAL}{numbered}"), Some("2")),
        (format!("if [ -f /x ]; then\n{LOCAL}fi\n{numbered}{INSTALL}"), Some("Install")),
        (format!("{LOCAL}submenu '3 > 2' {{\n{LOCAL}{INSTALL}}}\n"), Some("'1>Install'")),
        (format!("menuentry Install {{ exit }}\n{INSTALL}"), Some("1")),
        (format!("menuentry \"$grub_cpu\" {{ exit }}\n{INSTALL}"), Some("1")),
        (format!("if [ -f /x ]; then\nmenuentry Install {{ exit }}\nfi\n{INSTALL}{second}"), Some("Second")),
        // A name is that of the first entry with it, which may be another one at another boot.
        (format!("set default=X\n{maybe}{INSTALL}"), Some("Install")),
        (format!("set default=Install\nmenuentry \"$grub_cpu\" {{ exit }}\n{INSTALL}"), Some("1")),
        (format!("set default=Install\nif [ -f /x ]; then\n{LOCAL}fi\n{INSTALL}"), None),
        // A submenu may set its own default.
        (format!("set default=0\nsubmenu M {{ set default=1\n{INSTALL}{LOCAL}}}\n{second}"), Some("Second")),
        (
            format!("set default=0\nsubmenu M {{ if [ -f /x ]; then set default=1; fi\n{INSTALL}{LOCAL}}}\n{second}"),
            Some("Second"),
        ),
        (format!("set default='0>1'\nsubmenu M {{ set default=0\n{INSTALL}{LOCAL}}}\n{second}"), None),
    ];
    for (menu, expected) in rows {
        let layout = [(path, menu.as_str())];
        let edited = Layout { menus: &layout, files: FILES }.edited();
        let default = edited[0].rsplit_once("set default=").filter(|_| edited[0].contains("timeout=1\nset default="));
        assert_eq!(default.map(|(_, value)| value.trim_end()), expected, "{menu}");
    }
}

#[test]
fn a_script_of_efi_is_edited_only_where_it_decides() {
    let menu = format!("{INSTALL}{LOCAL}");
    for stub in ["source ($root)/boot/grub/grub.cfg\n", "configfile ($root)/boot/grub/grub.cfg\n"] {
        let layout = [("/EFI/BOOT/grub.cfg", stub), ("/boot/grub/grub.cfg", &*menu)];
        assert_eq!(Layout { menus: &layout, files: FILES }.edited()[0], stub, "its partition may be full");
    }
    let stub = "source ($root)/boot/grub/grub.cfg\nset timeout=60\n";
    let layout = [("/EFI/BOOT/grub.cfg", stub), ("/boot/grub/grub.cfg", &*menu)];
    assert!(Layout { menus: &layout, files: FILES }.edited()[0].ends_with("set timeout=1\n"));
}

const MENU_LOCAL: &str = "label local\n  menu label Boot from ^local drive\n  localboot 0xffff\n";
const TXT: &str = "label install\n  menu label ^Install\n  kernel /vmlinuz\n  append initrd=/initrd quiet\n";

/// Checks that a menu of Syslinux boots the installer by itself, as a host sees it, and that it did not before.
fn check_leaves(menus: &[(&str, &str)], changed: &[(usize, &str)]) {
    let edited = Layout { menus, files: FILES }.edited();
    for (number, line) in changed {
        assert!(edited[*number].contains(line), "{line:?} in {}", edited[*number]);
    }
    let seen: Vec<_> = menus.iter().zip(&edited).map(|((path, _), text)| (*path, text.as_str())).collect();
    let is_default = |menus: &[(&str, &str)]| {
        let entries = Layout { menus, files: FILES }.entries();
        entries.iter().any(|(_, entry)| entry.is_default && entry.title == "Install")
    };
    assert_eq!((is_default(menus), is_default(&seen)), (false, true), "{edited:?}");
}

#[test]
fn a_syslinux_menu_of_several_files_never_boots_the_disk() {
    let main = "/isolinux/isolinux.cfg";
    let (menu, txt) = ("/isolinux/menu.cfg", "/isolinux/txt.cfg");
    let shows = "default vesamenu.c32\nprompt 0\ntimeout 600\ninclude menu.cfg\ninclude txt.cfg\n";
    let marked = "label install\n  menu default\n  menu label ^Install\n";
    // The first label is the default of a menu without any other.
    check_leaves(&[(main, shows), (menu, MENU_LOCAL), (txt, TXT)], &[(2, marked)]);
    let nested = format!("{MENU_LOCAL}include txt.cfg\n");
    check_leaves(&[(txt, TXT), (menu, &nested), (main, "ui menu.c32\ninclude menu.cfg\n")], &[(0, marked)]);
    // The last mark is the effective one.
    let local = MENU_LOCAL.replace("  localboot", "  menu default\n  localboot");
    let install = TXT.replace("  kernel", "  menu default\n  kernel");
    let after = "default vesamenu.c32\ninclude txt.cfg\ninclude menu.cfg\n";
    check_leaves(&[(main, after), (menu, &local), (txt, TXT)], &[(1, "# menu default\n"), (2, marked)]);
    check_leaves(&[(main, after), (menu, &local), (txt, &install)], &[(1, "# menu default\n")]);
    // The last `default` line is, too, wherever it is.
    let named = "default install\ninclude menu.cfg\n";
    let local = format!("{MENU_LOCAL}include txt.cfg\ndefault local\n");
    check_leaves(&[(main, named), (menu, &local), (txt, TXT)], &[(1, "default install\n")]);
    let program = "default chain.c32 hd0\ninclude txt.cfg\n";
    check_leaves(&[(main, program), (txt, TXT)], &[(0, "default install\n")]);
    let hidden = TXT.replace("install", "old").replace("^Install", "Old\n  menu hide");
    let hides = format!("ui vesamenu.c32\n{hidden}{MENU_LOCAL}include txt.cfg\n");
    check_leaves(&[(main, &hides), (txt, TXT)], &[(1, marked)]);
    let later = Layout { menus: &[(main, "default install\ninclude txt.cfg\n"), (txt, TXT)], files: FILES }.edited();
    assert!(later[0].contains("default install\n") && !later[1].contains("menu default"), "{later:?}");
    let timeout = [(main, "default install\ninclude menu.cfg\ninclude txt.cfg\nontimeout local\n"), (menu, MENU_LOCAL)];
    let edited = Layout { menus: &[timeout[0], timeout[1], (txt, TXT)], files: FILES }.edited();
    assert!(edited[0].ends_with("# ontimeout local\n"), "{edited:?}");
}

#[test]
fn a_default_in_a_file_that_is_not_edited_is_followed_by_another() {
    let main = format!("{MENU_LOCAL}{TXT}include common.cfg");
    let menus = [("/boot/isolinux.cfg", main.as_str()), ("/boot/common.cfg", "default local\n")];
    check_leaves(&menus, &[(0, "include common.cfg\ndefault install\n")]);
}

#[test]
fn an_installer_in_a_submenu_is_the_default_by_its_name() {
    let main = format!("ui vesamenu.c32\n{MENU_LOCAL}menu include txt.cfg Install it\n");
    let menus = [("/isolinux/isolinux.cfg", main.as_str()), ("/isolinux/txt.cfg", TXT)];
    check_leaves(&menus, &[(0, "menu include txt.cfg Install it\ndefault install\n")]);
}

#[test]
fn shared_arguments_are_those_at_the_end_of_a_label() {
    let shared = "append initrd=/initrd ip=dhcp\n";
    let bare = "label install\n  kernel /vmlinuz\n";
    let main = format!("default install\n{shared}include txt.cfg\n");
    let menus = [("/isolinux/isolinux.cfg", main.as_str()), ("/isolinux/txt.cfg", bare)];
    let layout = Layout { menus: &menus, files: FILES };
    layout.check(&[("install", "/vmlinuz", "ip=dhcp", "/initrd", "*")]);
    let edited = layout.edited();
    assert!(edited[0].contains("append initrd=/initrd ip=dhcp site=1\n") && edited[1] == bare, "{edited:?}");
    // The arguments after a label are its own; those after the end of a submenu are shared.
    let rows = [
        ("label a\n kernel /vmlinuz\nappend x\nlabel b\n kernel /vmlinuz\n", ["x", ""]),
        ("append x\nlabel a\n kernel /vmlinuz\nmenu separator\nappend y\nlabel b\n kernel /vmlinuz\n", ["x", "y"]),
        ("menu begin m\nlabel a\n kernel /vmlinuz\nmenu end\nappend y\nlabel b\n kernel /vmlinuz\n", ["", "y"]),
        ("append x\ninclude none.cfg\nlabel a\n kernel /vmlinuz\nlabel b\n kernel /vmlinuz\n append -\n", ["x", ""]),
    ];
    for (text, expected) in rows {
        let menus = [("/isolinux/isolinux.cfg", text)];
        let entries = Layout { menus: &menus, files: FILES }.entries();
        assert_eq!(entries.iter().map(|(_, entry)| entry.arguments.as_str()).collect::<Vec<_>>(), expected, "{text}");
        let edited = Layout { menus: &menus, files: FILES }.edited();
        let seen = [("/isolinux/isolinux.cfg", edited[0].as_str())];
        for (_, entry) in (Layout { menus: &seen, files: FILES }).entries() {
            assert!(entry.arguments.split(' ').any(|word| word == "site=1"), "{} in {}", entry.title, edited[0]);
        }
    }
}

#[test]
fn shared_arguments_of_a_file_that_is_no_menu_are_copied_to_the_label() {
    let bare = "include common.cfg\nlabel install\n  kernel /vmlinuz\n";
    let menus = [("/boot/isolinux.cfg", bare), ("/boot/common.cfg", "append initrd=/initrd ip=dhcp\n")];
    let layout = Layout { menus: &menus, files: FILES };
    layout.check(&[("install", "/vmlinuz", "ip=dhcp", "/initrd", "")]);
    assert_eq!(layout.texts()[1].dialect, None, "it is not edited");
    let edited = layout.edited();
    assert!(edited[0].ends_with("  kernel /vmlinuz\n  append initrd=/initrd ip=dhcp site=1\n"), "{edited:?}");
}

#[test]
fn a_file_that_a_menu_reads_and_that_is_not_read_is_a_gap() {
    let unread = |path: &str| vec![MenuGap::UnreadFile(path.to_owned())];
    let grub = "/boot/grub/grub.cfg";
    let entry = "menuentry 'Install' {\n  linux /vmlinuz $kargs\n  initrd /initrd\n}\n";
    let sources = format!("source $prefix/kargs.inc\n{entry}");
    let files = &["/vmlinuz", "/initrd", "/boot/grub/kargs.inc", "/isolinux/labels.inc"];
    let menus = [(grub, sources.as_str())];
    let layout = Layout { menus: &menus, files };
    assert_eq!(layout.gaps(), unread("/boot/grub/kargs.inc"));
    layout.check(&[("Install", "/vmlinuz", "$kargs", "/initrd", "!")]);
    let missing = Layout { menus: &menus, files: FILES };
    assert_eq!(missing.gaps(), [], "a file that is not there sets nothing");
    missing.check(&[("Install", "/vmlinuz", "", "/initrd", "*")]);
    let more = format!("{entry}submenu 'More' {{ configfile $prefix/kargs.inc }}\n");
    let menus = [(grub, more.as_str())];
    let layout = Layout { menus: &menus, files };
    assert_eq!(layout.gaps(), unread("/boot/grub/kargs.inc"));
    layout.check(&[("Install", "/vmlinuz", "", "/initrd", "*")]);
    // Its entries may come first: the default may leave for the disk.
    let first = format!("source $prefix/kargs.inc\n{INSTALL}{LOCAL}");
    let menus = [(grub, first.as_str())];
    assert!(Layout { menus: &menus, files }.edited()[0].ends_with("set default=Install\n"));
    assert!(!Layout { menus: &menus, files: FILES }.edited()[0].contains("set default"));
    let menus = [("/isolinux/isolinux.cfg", "ui gfxboot labels.inc\nlabel a\n  kernel /vmlinuz\ninclude labels.inc\n")];
    assert_eq!(Layout { menus: &menus, files }.gaps(), unread("/isolinux/labels.inc"));
    assert_eq!(Layout { menus: &menus, files: FILES }.gaps(), []);
}

#[test]
fn a_value_of_a_file_that_is_not_read_is_not_replaced() {
    let menu = "set kargs='quiet b'\nsource /boot/kargs.inc\nlinux /vmlinuz $kargs\nmenuentry a { linux /k }\n";
    let menus = [("/boot/grub/grub.cfg", menu)];
    let layout = Layout { menus: &menus, files: &["/vmlinuz", "/boot/kargs.inc"] };
    let edit = MenuEdit { remove: vec!["quiet".into()], ..MenuEdit::default() };
    assert_eq!(edit_menus(&layout.texts(), &layout.unread(), &edit).unwrap()[0].0, menu.as_bytes());
}

#[test]
fn a_submenu_that_is_the_default_never_boots_the_disk() {
    let main = "/isolinux/isolinux.cfg";
    let (begin, end) = ("menu begin more\n", "menu end\n");
    for mark in ["menu default\n", "menu start\n"] {
        let marked = format!("ui vesamenu.c32\n{TXT}{begin}{mark}{MENU_LOCAL}{end}");
        check_leaves(&[(main, &marked)], &[(0, "menu end\ndefault install\n")]);
        let by_default = format!("default vesamenu.c32\n{TXT}{begin}{mark}{MENU_LOCAL}{end}");
        check_leaves(&[(main, &by_default)], &[(0, "menu end\nui vesamenu.c32\ndefault install\n")]);
        let included = format!("ui vesamenu.c32\n{TXT}menu include more.cfg More\n");
        let more = format!("{mark}{MENU_LOCAL}");
        check_leaves(&[(main, &included), ("/isolinux/more.cfg", &more)], &[(0, "More\ndefault install\n")]);
    }
    let both = format!("ui vesamenu.c32\n{TXT}{begin}menu default\n{MENU_LOCAL}{end}{MENU_LOCAL}menu default\n");
    check_leaves(&[(main, &both)], &[(0, "# menu default\ndefault install\n")]);
    let boots = format!("ui vesamenu.c32\n{MENU_LOCAL}{begin}menu default\n{TXT}{MENU_LOCAL}{end}");
    let menus = [(main, boots.as_str())];
    assert!(
        !Layout { menus: &menus, files: FILES }.edited()[0].contains("\ndefault"),
        "its first label boots a kernel"
    );
}

#[test]
fn a_label_that_menus_read_with_different_arguments_gets_its_own() {
    let bare = "label install\n  kernel /vmlinuz\n";
    let one = ("/isolinux/one.cfg", "append initrd=/initrd a\ninclude txt.cfg\nlabel x\nlocalboot 0\n");
    let two = ("/isolinux/two.cfg", "include txt.cfg\nlabel x\nlocalboot 0\n");
    for menus in [[one, two, ("/isolinux/txt.cfg", bare)], [two, one, ("/isolinux/txt.cfg", bare)]] {
        let edited = Layout { menus: &menus, files: FILES }.edited();
        assert_eq!(edited[2], format!("{bare}  append initrd=/initrd a site=1\n"));
    }
    let other = ("/isolinux/two.cfg", "append initrd=/initrd b\ninclude txt.cfg\nlabel x\nlocalboot 0\n");
    let edited = Layout { menus: &[one, other, ("/isolinux/txt.cfg", bare)], files: FILES }.edited();
    assert!(edited[0].contains("a site=1\n") && edited[1].contains("b site=1\n") && edited[2] == bare, "{edited:?}");
}

#[test]
fn a_script_in_an_efi_partition_reads_its_files() {
    let (main, vars) = ("efi:/EFI/BOOT/grub.cfg", "efi:/EFI/BOOT/vars.cfg");
    let script = format!("source /EFI/BOOT/vars.cfg\n{}{LOCAL}", INSTALL.replace("quiet", "$kargs"));
    let menus = [(main, script.as_str()), (vars, "set kargs=quiet\n")];
    assert_eq!(detect_dialect(vars, b"set kargs=quiet\n"), None, "it is no menu by itself");
    Layout { menus: &menus, files: FILES }.check(&[("Install", "/vmlinuz", "quiet", "/initrd", "*")]);
    let alone = [(main, script.as_str())];
    let layout = Layout { menus: &alone, files: &["/vmlinuz", "/initrd", vars] };
    assert_eq!(layout.gaps(), [MenuGap::UnreadFile(vars.to_owned())]);
    layout.check(&[("Install", "/vmlinuz", "$kargs", "/initrd", "!")]);
    assert!(layout.edited()[0].ends_with("set default=Install\n"), "its entries may come first");
    let outside = [("/EFI/BOOT/grub.cfg", script.as_str())];
    assert_eq!(Layout { menus: &outside, files: &[vars] }.gaps(), [], "another script does not");
    let beside = [("/EFI/BOOT/grub.cfg", script.as_str()), (vars, "set kargs=quiet\n")];
    Layout { menus: &beside, files: FILES }.check(&[("Install", "/vmlinuz", "", "/initrd", "*")]);
}

#[test]
fn a_file_that_was_not_looked_up_is_not_absent_in_a_view() {
    let script = format!("source /boot/late.inc\n{INSTALL}{LOCAL}");
    let text = MenuText { path: "/boot/grub/grub.cfg", dialect: Some(Dialect::Grub), raw: script.as_bytes() };
    let edit = MenuEdit { timeout: Some(1), ..MenuEdit::default() };
    for (exists, default) in [(Some(false), false), (Some(true), true), (None, true)] {
        let readings = read_menus(&[text], &|_| exists);
        let unread = UnreadFiles::of(readings.iter().flat_map(|reading| &reading.gaps));
        let edited = edit_menus(&[text], &unread, &edit).unwrap();
        assert_eq!(edited[0].0.ends_with(b"set default=Install\n"), default, "{exists:?}");
    }
    let config = "include late.inc\nlabel a\nkernel /k\n";
    let text = MenuText { path: "/isolinux.cfg", dialect: Some(Dialect::Syslinux), raw: config.as_bytes() };
    assert_eq!(read_menus(&[text], &|_| None)[0].gaps, [MenuGap::Includes]);
}
