//! Tests at the limits of the work that the menus of a hostile image cause.

use std::cell::RefCell;

use super::*;

#[test]
fn a_path_is_looked_up_once_and_only_so_many_are() {
    let asked = RefCell::new(Vec::new());
    let is_file = |path: &str| {
        asked.borrow_mut().push(path.to_owned());
        Some(true)
    };
    let menu: String = (0..MAX_LOOKUPS + 10).map(|number| format!("linux /k{number}\nlinux /k0\n")).collect();
    let text = MenuText { path: "/boot/grub/grub.cfg", dialect: Some(Dialect::Grub), raw: menu.as_bytes() };
    let readings = read_menus(&[text], &is_file);
    let mut asked = asked.into_inner();
    assert_eq!(asked.len(), MAX_LOOKUPS);
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), MAX_LOOKUPS, "no path is looked up twice");
    let unchecked = |entry: &&MenuEntry| matches!(entry.obstacle, Some(Obstacle::UncheckedFile(_)));
    assert_eq!(readings[0].entries.iter().filter(unchecked).count(), 10, "they are not said to be missing");
    let sources: String = (0..MAX_LOOKUPS + 10).map(|number| format!("source /s{number}\n")).collect();
    let asked = RefCell::new(0);
    let text = MenuText { path: "/boot/grub/grub.cfg", dialect: Some(Dialect::Grub), raw: sources.as_bytes() };
    let readings = read_menus(&[text], &|_| {
        *asked.borrow_mut() += 1;
        Some(false)
    });
    assert_eq!((asked.into_inner(), &readings[0].gaps[..]), (MAX_LOOKUPS, &[MenuGap::Includes][..]));
}

#[test]
fn menus_with_too_many_kernel_lines_are_not_edited() {
    let edit = MenuEdit { append: vec!["a".into()], timeout: Some(1), ..MenuEdit::default() };
    for (path, dialect, line) in [
        ("/boot/grub/grub.cfg", Dialect::Grub, "linux /k\n"),
        ("/isolinux/isolinux.cfg", Dialect::Syslinux, "label a\nlinux /k\n"),
        ("/isolinux/commands.cfg", Dialect::Syslinux, "ontimeout /k x\n"),
    ] {
        let most = line.repeat(MAX_KERNEL_LINES);
        let text = |raw: &'static [u8]| MenuText { path: "/x.cfg", dialect: Some(Dialect::Grub), raw };
        let full = MenuText { path, dialect: Some(dialect), raw: most.as_bytes() };
        let edited = edit_menus(&[full, text(b"linux /k"), text(b"echo a")], &UnreadFiles::default(), &edit).unwrap();
        let lines: Vec<usize> = edited.iter().map(|(_, lines)| *lines).collect();
        assert_eq!(lines, [MAX_KERNEL_LINES, 0, 0], "{path}");
        assert!(edited[0].0 != most.as_bytes() && edited[1].0 == b"linux /k", "{path}");
        let more = format!("{most}{line}");
        let texts = [MenuText { path, dialect: Some(dialect), raw: more.as_bytes() }, text(b"linux /k")];
        let edited = edit_menus(&texts, &UnreadFiles::default(), &edit).unwrap();
        assert_eq!((&edited[0].0[..], edited[0].1, edited[1].1), (more.as_bytes(), 0, 1), "{path}");
        let readings = read_menus(&texts, &|_| Some(true));
        assert_eq!((&readings[0].gaps[..], readings[0].kernel_lines), (&[MenuGap::KernelLines][..], 0), "{path}");
        assert_eq!((readings[1].gaps.len(), readings[1].kernel_lines), (0, 1), "{path}");
    }
}

#[test]
fn includes_that_multiply_are_cut() {
    let include = |name: &str| format!("include {name}.cfg\n").repeat(60);
    let (a, b, c) = (include("b"), include("c"), include("d"));
    let d = format!("label a\nkernel /k\n{}", "# comment\n".repeat(10_000));
    let menus = [
        ("/isolinux/isolinux.cfg", a.as_str()),
        ("/isolinux/b.cfg", &b),
        ("/isolinux/c.cfg", &c),
        ("/isolinux/d.cfg", &d),
    ];
    let layout = Layout { menus: &menus, files: &["/k"] };
    assert_eq!(layout.gaps(), [MenuGap::Includes, MenuGap::Includes, MenuGap::Includes], "in each that includes");
    assert_eq!(layout.entries().len(), 1);
    let many = "include a.cfg\n".repeat(65);
    let menus = [("/isolinux/isolinux.cfg", many.as_str()), ("/isolinux/a.cfg", "label a\nkernel /k\n")];
    assert_eq!(Layout { menus: &menus, files: &["/k"] }.gaps(), [MenuGap::Includes]);
    let menus = [("/isolinux/isolinux.cfg", &many[14..]), ("/isolinux/a.cfg", "label a\nkernel /k\n")];
    assert_eq!(Layout { menus: &menus, files: &["/k"] }.gaps(), []);
}

#[test]
fn sources_that_multiply_are_cut() {
    let source = |name: &str| format!("source /{name}.cfg\n").repeat(60);
    let (a, b) = (source("b"), source("c"));
    let c = format!("menuentry a {{ linux /k }}\n{}", "echo comment\n".repeat(10_000));
    let menus = [("/boot/grub/grub.cfg", a.as_str()), ("/b.cfg", &b), ("/c.cfg", &c)];
    assert!(Layout { menus: &menus, files: &["/k"] }.gaps().contains(&MenuGap::Includes));
    let menus = [("/boot/grub/grub.cfg", "function f { f; }\nmenuentry a { linux /k; f }\n")];
    assert_eq!(Layout { menus: &menus, files: &["/k"] }.gaps(), [MenuGap::Includes], "a function that calls itself");
}

#[test]
fn shared_arguments_are_compared_once() {
    let shared = "a ".repeat(10_000);
    let labels = "label Rescue\nkernel /k\nlabel a\nkernel /k rescue\nlabel a\nkernel /k\n".repeat(1000);
    let text = format!("append rescue {shared}\n{labels}append {shared}\n");
    let compared = || entry::tests::COMPARED.get();
    let before = compared();
    edit_menu(Dialect::Syslinux, "/isolinux/isolinux.cfg", text.as_bytes(), &MenuEdit::default());
    assert!((1..30_000).contains(&(compared() - before)), "{}", compared() - before);
}

/// Returns the length of the menus after an edit that makes another entry the default.
fn edited_length(texts: &[MenuText<'_>]) -> usize {
    let edit = MenuEdit { append: vec!["a".into()], remove: Vec::new(), timeout: Some(1) };
    edit_menus(texts, &UnreadFiles::default(), &edit).unwrap().iter().map(|(text, _)| text.len()).sum()
}

#[test]
fn a_long_name_is_not_written_again_and_again() {
    let config = |length: usize| {
        let lines = "default l\n".repeat(13_000);
        format!("label l\nlocalboot 0\nlabel {}\nkernel /k\n{lines}", "n".repeat(length))
    };
    for (length, chosen) in [(4_096, true), (128 * 1024, false)] {
        let raw = config(length);
        let text = MenuText { path: "/isolinux/isolinux.cfg", dialect: Some(Dialect::Syslinux), raw: raw.as_bytes() };
        assert!(edited_length(&[text]) < raw.len() + 13_000 * "# ".len() + length + 100, "{length}");
        let edit = MenuEdit { timeout: Some(1), ..MenuEdit::default() };
        let edited =
            String::from_utf8(edit_menus(&[text], &UnreadFiles::default(), &edit).unwrap()[0].0.clone()).unwrap();
        let name = format!("\ndefault {}\n", "n".repeat(length));
        assert_eq!(edited.matches(&name).count(), usize::from(chosen), "only the last line is effective");
    }
}

#[test]
fn a_long_title_is_not_copied_to_every_script() {
    let title = "t".repeat(128 * 1024);
    let main = |number: usize| format!("source /boot/grub/part{number}.cfg\nset default=9\n");
    let mut menus: Vec<(String, String)> = (0..100)
        .map(|number| {
            (format!("/boot/grub/part{number}.cfg"), format!("menuentry p{number} {{ exit }}\n{}", main(number + 1)))
        })
        .collect();
    menus.push(("/boot/grub/part100.cfg".into(), format!("menuentry '{title}' {{ linux /k }}\n")));
    let texts: Vec<_> = menus
        .iter()
        .map(|(path, text)| MenuText { path, dialect: Some(Dialect::Grub), raw: text.as_bytes() })
        .collect();
    let before: usize = menus.iter().map(|(_, text)| text.len()).sum();
    assert!(edited_length(&texts) < before + 100 * 5_000, "{}", edited_length(&texts));
}

#[test]
fn an_edit_that_writes_too_much_is_refused() {
    let shared = "x".repeat(120_000);
    let labels = "label a\nkernel /k\n".repeat(2_000);
    let (main, part) = (format!("include part.inc\n{labels}"), format!("append {shared}\n"));
    let texts = [
        MenuText { path: "/isolinux/isolinux.cfg", dialect: Some(Dialect::Syslinux), raw: main.as_bytes() },
        MenuText { path: "/isolinux/part.inc", dialect: None, raw: part.as_bytes() },
    ];
    let edit = MenuEdit { append: vec!["a".into()], ..MenuEdit::default() };
    assert!(edit_menus(&texts, &UnreadFiles::default(), &edit).is_none());
    let fewer = main.replacen("label a\nkernel /k\n", "", 1_900);
    let texts = [MenuText { raw: fewer.as_bytes(), ..texts[0] }, texts[1]];
    assert!(edit_menus(&texts, &UnreadFiles::default(), &edit).is_some());
}

#[test]
fn a_name_is_looked_up_in_a_directory_once() {
    let lengthy = |number: usize| format!("/{number}{}", "d/".repeat(100 * 1024));
    let configs = (0..8)
        .map(|number| (format!("/isolinux/c{number}.cfg"), format!("label a\nconfig b.cfg {}\n", lengthy(number))));
    let includes: String = (0..60).map(|number| format!("include no/such/file{number}.cfg\n")).collect();
    let parts = (0..50)
        .map(|number| (format!("/isolinux/p{number}.cfg"), format!("label a\nkernel /k\n{includes}include b.cfg\n")));
    let menus: Vec<(String, String)> =
        configs.chain(parts).chain([("/isolinux/b.cfg".to_owned(), includes.clone())]).collect();
    let menus: Vec<(&str, &str)> = menus.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let before = entry::tests::NORMALIZED.get();
    Layout { menus: &menus, files: &["/k"] }.entries();
    let length = entry::tests::NORMALIZED.get() - before;
    assert!(length < 1 << 20, "{length}");
}
