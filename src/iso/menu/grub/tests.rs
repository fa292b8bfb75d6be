use super::*;
use crate::iso::menu::entry::{Obstacle, ValueOrigin};

fn adding(arguments: &[&str]) -> MenuEdit {
    MenuEdit { append: arguments.iter().map(|text| text.to_string()).collect(), ..MenuEdit::default() }
}

fn read<'a>(files: &[(&'a str, &'a str)]) -> GrubScripts<'a> {
    GrubScripts::read(files, &mut FileLookup::new(&|_| Some(false)))
}

fn edit_menu(text: &str, edit: &MenuEdit) -> (String, usize) {
    let scripts = read(&[("/boot/grub/grub.cfg", text)]);
    (scripts.edit(0, edit, &mut EditRoom::new()), scripts.kernel_lines(0))
}

fn entries(text: &str) -> Vec<MenuEntry> {
    entries_of(&[("/boot/grub/grub.cfg", text)])
}

fn entries_of(files: &[(&str, &str)]) -> Vec<MenuEntry> {
    let mut scripts = read(files);
    (0..files.len()).flat_map(|script| scripts.take_entries(script)).collect()
}

fn check(before: &str, after: &str) {
    let (text, _) = edit_menu(before, &adding(&["a=1", "ds=nocloud;s=http://h/"]));
    assert_eq!(text, after.replace('@', "a=1 'ds=nocloud;s=http://h/'"));
    assert_eq!(edit_menu(&text, &adding(&["a=1", "ds=nocloud;s=http://h/"])).0, text, "a second edit changes nothing");
}

#[test]
fn arguments_are_added_to_every_kernel_command() {
    check("linux /k", "linux /k @");
    check("\tlinuxefi /k ro  quiet\n\tinitrdefi /i\n", "\tlinuxefi /k ro quiet @\n\tinitrdefi /i\n");
    check("linux /install.amd/vmlinuz vga=788 --- quiet \n", "linux /install.amd/vmlinuz vga=788 @ --- quiet \n");
    check("menuentry 'a' { linux /k b; initrd /i }", "menuentry 'a' { linux /k b @; initrd /i }");
    check("if [ x = y ]; then linux /k; fi # linux /no\n", "if [ x = y ]; then linux /k @; fi # linux /no\n");
    check("linux /k \\\n  more\n", "linux /k more @\n");
    check("linux ($root)/k iso=\"$iso_path\"", "linux ($root)/k iso=\"$iso_path\" @");
    check("linux16 /boot/memtest86+.bin x\n", "linux16 /boot/memtest86+.bin x\n");
    check("echo 'linux /k'\n", "echo 'linux /k'\n");
    check("linux /k # why\n", "linux /k @ # why\n");
    check("linux /k a='b", "linux /k a='b");
    check("linux /k b\\", "linux /k b\\");
    check("linux /k CDLABEL=Voil\u{c3}\u{a0} \u{85}x", "linux /k CDLABEL=Voil\u{c3}\u{a0} \u{85}x @");
    check("set l=linux\n$l /live/vmlinuz b=\"\" ip= \n", "set l=linux\n$l /live/vmlinuz b=\"\" ip= @ \n");
    check(
        "${cmd} /live/vmlinuz b\n${other} /live/initrd.img\n",
        "${cmd} /live/vmlinuz b @\n${other} /live/initrd.img\n",
    );
    check("linux /k $kargs\n", "linux /k $kargs @\n");
}

#[test]
fn the_kernel_of_xen_gets_the_arguments() {
    let xen = "multiboot2 /boot/xen.gz dom0_mem=max:8192M\nmodule2 /boot/vmlinuz console=hvc0@\nmodule2 /install.img\n";
    check(&xen.replace('@', ""), &xen.replace('@', " @"));
    let found = entries(&format!("menuentry install {{\n{}}}", xen.replace('@', "")));
    assert_eq!((found[0].kernel.as_str(), found[0].arguments.as_str()), ("/boot/vmlinuz", "console=hvc0"));
    assert_eq!(found[0].initrds, ["/install.img"]);
    assert_eq!(found[0].obstacle, Some(Obstacle::Hypervisor("/boot/xen.gz".into())));
}

#[test]
fn an_entry_has_its_kernel_and_initrds() {
    let text = "menuentry --hotkey=g 'x' {\n}\nmenuentry --hotkey=i --class y \"Install \\\"me\\\"\" {\n linux /k a=\"b c\"\n initrd /i /j\n}";
    let found = entries(text);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].title, "Install \"me\"");
    assert_eq!((found[0].kernel.as_str(), found[0].arguments.as_str()), ("/k", "\"a=b c\""));
    assert_eq!(found[0].initrds, ["/i", "/j"]);
}

/// Checks the kernels of a script: kernel, arguments, initrds, and the variable that is not known.
fn check_entries(text: &str, expected: &[(&str, &str, &str, Option<&str>)]) {
    let found = entries(text);
    let found: Vec<_> = found.iter().map(|entry| (entry, entry.initrds.join(","))).collect();
    let rows: Vec<_> = found
        .iter()
        .map(|(entry, initrds)| {
            let variable = entry.obstacle.as_ref().map(|obstacle| match obstacle {
                Obstacle::Variable { name, .. } => name.as_str(),
                Obstacle::Hypervisor(path) | Obstacle::MissingFile(path) | Obstacle::UncheckedFile(path) => path,
            });
            (entry.kernel.as_str(), entry.arguments.as_str(), initrds.as_str(), variable)
        })
        .collect();
    assert_eq!(rows, expected, "{text}");
}

#[test]
fn constants_are_expanded() {
    check_entries("set kargs=\"quiet  a=b\"\nlinux /vmlinuz $kargs c", &[("/vmlinuz", "quiet a=b c", "", None)]);
    check_entries("kargs='quiet'\nmenuentry a { linux /k ${kargs} }", &[("/k", "quiet", "", None)]);
    check_entries("menuentry a { linux /k $late }\nset late=x", &[("/k", "x", "", None)]);
    check_entries("linux ($root)/boot/linux ${extra_cmdline} ${isoboot}", &[("/boot/linux", "", "", None)]);
    check_entries(
        "linux /casper/vmlinuz iso-scan/filename=${iso_path} ---",
        &[("/casper/vmlinuz", "iso-scan/filename= ---", "", None)],
    );
    check_entries("set root=(cd0)\nlinux (cd0)/k; initrd ($root)/i", &[("/k", "", "/i", None)]);
    check_entries(
        "linux $prefix/../linux26 ro\ninitrd $prefix/../initrd.img",
        &[("/boot/linux26", "ro", "/boot/initrd.img", None)],
    );
    check_entries("search --set=cd --label X\nlinux ($cd)/k", &[("/k", "", "", None)]);
    check_entries(
        "set dir=/live\nlinux $dir/vmlinuz\ninitrd ${dir}/initrd.img",
        &[("/live/vmlinuz", "", "/live/initrd.img", None)],
    );
    check_entries("for i in 1 2; do linux /k $i; done", &[("/k", "$i", "", Some("i"))]);
    check_entries(
        "function load { linux /k $1 \"$2\"; initrd /i; }\nmenuentry a { load x 'y z' }\nmenuentry b { load w }",
        &[("/k", "x \"y z\"", "/i", None), ("/k", "w", "/i", None)],
    );
}

#[test]
fn what_only_grub_knows_is_an_obstacle() {
    check_entries("probe --set uuid --fs-uuid \"${root}\"\nlinux /k id=$uuid", &[("/k", "id=$uuid", "", Some("uuid"))]);
    check_entries("regexp --set=1:x '(.*)' \"$cmdpath\"\nlinux /k a=${x}", &[("/k", "a=$x", "", Some("x"))]);
    check_entries("read line\nlinux /k $line", &[("/k", "$line", "", Some("line"))]);
    check_entries("linux /k p=$grub_platform", &[("/k", "p=$grub_platform", "", Some("grub_platform"))]);
    check_entries("if [ \"$grub_platform\" = efi ]; then set a=1; fi\nlinux /k $a", &[("/k", "$a", "", Some("a"))]);
    check_entries("load_env\nlinux /k $saved", &[("/k", "$saved", "", Some("saved"))]);
    check_entries("linux /k root=$root", &[("/k", "root=$root", "", Some("root"))]);
    check_entries(
        "linux /k a\ninitrd /i-$net_default_ip",
        &[("/k", "a", "/i-$net_default_ip", Some("net_default_ip"))],
    );
    let found = entries("probe --set uuid --fs-uuid $root\nlinux /k id=$uuid");
    let origin = ValueOrigin::Command("probe".into());
    assert_eq!(found[0].obstacle, Some(Obstacle::Variable { name: "uuid".into(), origin }));
}

#[test]
fn conditions_of_constants_are_followed() {
    let nixos = "if [ \"${iso_path}\" ] ; then\n  set isoboot=\"findiso=${iso_path}\"\nfi\nlinux /boot/bzImage ${isoboot} init=/nix\n";
    check_entries(nixos, &[("/boot/bzImage", "init=/nix", "", None)]);
    check_entries(
        "set a=1\nif [ \"$a\" = 2 ]; then linux /x; elif [ \"$a\" = 1 ]; then linux /y; else linux /z; fi",
        &[("/y", "", "", None)],
    );
    let both = "if [ \"$grub_platform\" = efi ]; then linuxefi /k a; else linux16 /k b; fi\ninitrd /i";
    check_entries(both, &[("/k", "a", "/i", None), ("/k", "b", "/i", None)]);
    let each = "if loadfont x; then linuxefi /k a; initrdefi /i; else linux16 /k b; initrd16 /j; fi";
    check_entries(each, &[("/k", "a", "/i", None), ("/k", "b", "/j", None)]);
}

#[test]
fn a_script_that_another_one_reads_sees_its_variables() {
    let main = "set kargs=quiet\nexport kargs\nset own=x\nsource /boot/grub/kernels.cfg\nsubmenu More { configfile $prefix/more.cfg }\n";
    let files = [
        ("/boot/grub/kernels.cfg", "menuentry a { linux /k $kargs $own }"),
        ("/boot/grub/more.cfg", "menuentry b { linux /k $kargs $own more }"),
        ("/boot/grub/grub.cfg", main),
        ("/boot/grub/loopback.cfg", "set own=loop\nsource /boot/grub/grub.cfg\n"),
    ];
    let found = entries_of(&files);
    let rows: Vec<_> = found.iter().map(|entry| (entry.title.as_str(), entry.arguments.as_str())).collect();
    assert_eq!(rows, [("a", "quiet x"), ("b", "quiet more")]);
    let circle =
        [("/a.cfg", "menuentry a { linux /k }\nsource /b.cfg"), ("/b.cfg", "menuentry b { linux /l }\nsource /a.cfg")];
    assert_eq!(entries_of(&circle).len(), 2, "scripts that read each other are read");
}

#[test]
fn a_submenu_has_entries_too() {
    let text = "menuentry a { linux /k 1 }\nsubmenu 'b' --class c {\n menuentry d { linux /k 2 }\n}\n";
    let titles: Vec<_> = entries(text).into_iter().map(|entry| (entry.title, entry.arguments)).collect();
    assert_eq!(titles, [("a".into(), "1".into()), ("d".into(), "2".into())]);
}

#[test]
fn the_default_entry_is_known() {
    let menu = "menuentry 'A' --id a { linux /k 1 }\nmenuentry B { linux /k 2 }\n";
    for (set, expected) in [
        ("", Some("A")),
        ("set default=1\n", Some("B")),
        ("default=\"a\"\n", Some("A")),
        ("default=B\n", Some("B")),
        ("default=9\n", None),
    ] {
        let found = entries(&format!("{set}{menu}"));
        let default = found.iter().find(|entry| entry.is_default).map(|entry| entry.title.as_str());
        assert_eq!(default, expected, "{set}");
    }
}

#[test]
fn a_view_boots_a_kernel_by_itself() {
    let leap = "default=0\ntimeout=60\nmenuentry 'Boot from Hard Disk' --class opensuse {\n  if search --no-floppy --file /efi/boot/fallback.efi --set ; then\n    chainloader /efi/boot/bootx64.efi\n  fi\n  exit\n}\n\
        menuentry 'Upgrade' { linux /l upgrade=1 }\nmenuentry 'Installation > all' { linux /l splash=silent }\n";
    let edit = MenuEdit { timeout: Some(1), ..adding(&["x"]) };
    let (text, _) = edit_menu(leap, &edit);
    assert!(text.ends_with("set timeout_style=menu\nset timeout=1\nset default='Installation >> all'\n"), "{text}");
    let installs = leap.replace("default=0", "default=2");
    assert!(edit_menu(&installs, &edit).0.ends_with("set timeout=1\n"), "a default that boots a kernel stays");
    assert!(!edit_menu(leap, &adding(&["x"])).0.contains("set default"), "without a timeout nothing boots by itself");
}

#[test]
fn arguments_are_removed() {
    let edit = MenuEdit { remove: vec!["quiet".into(), "console=".into()], ..MenuEdit::default() };
    let rows = [
        ("linux /k quiet a console=tty0 quietly", "linux /k a quietly"),
        ("linux /k 'quiet' \"console=tty0\" a", "linux /k a"),
        ("set kargs=\"quiet b\"\nlinux /k $kargs a", "set kargs=\"quiet b\"\nlinux /k b a"),
        ("set kargs=b\nlinux /k $kargs a", "set kargs=b\nlinux /k $kargs a"),
    ];
    for (before, after) in rows {
        assert_eq!(edit_menu(before, &edit).0, after);
    }
}

#[test]
fn the_timeout_is_set() {
    let edit = MenuEdit { timeout: Some(3), ..MenuEdit::default() };
    assert_eq!(
        edit_menu("menuentry a { linux /k }", &edit).0,
        "menuentry a { linux /k }\nset timeout_style=menu\nset timeout=3\n"
    );
    assert_eq!(edit_menu("linux /k", &edit).0, "linux /k");
    let open = "menuentry a { linux /k }\necho \"b";
    assert_eq!(edit_menu(open, &edit).0, open, "nothing is added to an open quote");
    let files = [("/main.cfg", "source /sub.cfg\nset timeout=60"), ("/sub.cfg", "menuentry a { linux /k }")];
    assert!(
        read(&files).edit(0, &edit, &mut EditRoom::new()).ends_with("set timeout=3\n"),
        "the script that reads the menu has the last word"
    );
}

#[test]
fn calls_and_submenus_are_bounded() {
    let doubling = (0..40).fold("function f0 { linux /k; }\n".to_owned(), |text, level| {
        format!("{text}function f{} {{ f{level}; f{level}; }}\n", level + 1)
    });
    assert!(entries(&format!("{doubling}f6")).len() <= 128);
    assert!(entries(&format!("{doubling}f40")).is_empty());
    let itself = "function f { f; f; }\nf\n";
    assert!(entries(itself).is_empty());
    let deep = format!("{}linux /k{}", "submenu a {\n".repeat(10_000), "\n}".repeat(10_000));
    assert!(entries(&deep).is_empty());
    let long =
        format!("function f {{ menuentry '{}' {{ linux /k; }}; }}\n{}", "x".repeat(100_000), "f\n".repeat(10_000));
    let size: usize = entries(&long).iter().map(MenuEntry::size).sum();
    assert!(size <= crate::iso::menu::entry::MAX_ENTRIES_SIZE);
}
