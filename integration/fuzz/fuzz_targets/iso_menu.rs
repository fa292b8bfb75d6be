#![no_main]
//! Edits texts that may be boot menus: a second edit changes nothing.

use bootlatch::iso::{Dialect, MenuEdit, menu};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((which, text)) = data.split_first() else { return };
    let path = ["/isolinux/isolinux.cfg", "/boot/grub/grub.cfg", "/loader/entries/a.conf"][usize::from(*which) % 3];
    let dialect = [Dialect::Syslinux, Dialect::Grub, Dialect::SystemdBoot][usize::from(*which) % 3];
    let _ = menu::detect_dialect(path, text);
    let _ = menu::entries(dialect, text);
    let same = menu::edit_menu(dialect, path, text, &MenuEdit::default()).0;
    assert_eq!(same, text, "nothing wished, nothing changed");
    let edit = MenuEdit { append: vec!["ds=nocloud;s=http://h/'x".into(), "a".into()], ..MenuEdit::default() };
    let (once, lines) = menu::edit_menu(dialect, path, text, &edit);
    let (twice, again) = menu::edit_menu(dialect, path, &once, &edit);
    assert_eq!((&once, lines), (&twice, again));
});
