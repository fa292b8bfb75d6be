//! Edits of boot menus, checked through the entries that the menu has before and after.

use bootlatch::fleet::text::is_printable;
use bootlatch::iso::menu::{MAX_ENTRIES_SIZE, MAX_KERNEL_LINES};
use bootlatch::iso::{Dialect, MenuEdit, MenuEntry, menu};

/// Arguments to add: plain ones, and what has a meaning in a GRUB script.
const ARGUMENTS: [&str; 6] =
    ["inst.ks=http://10.0.0.1/ks", "ds=nocloud;s=http://h/", "a", "x='y'", "$v&w|{z}", "url=http://h/p\\q#r"];
/// The octet that stands for a long text, so that short inputs reach the limits.
const LONG: u8 = 0xfe;
const LONG_LENGTH: usize = 2000;
/// Number of octets that do.
const LONGS: usize = 1;

/// Edits the text of the fuzzer's bytes; the first one selects the edit.
pub fn check(dialect: Dialect, path: &str, data: &[u8]) {
    let Some((how, short)) = data.split_first() else { return };
    let (mut text, mut longs) = (Vec::new(), 0..if how & 0x80 == 0x80 { LONGS } else { 0 });
    for octet in short {
        match *octet {
            LONG if longs.next().is_some() => text.resize(text.len() + LONG_LENGTH, b'x'),
            other => text.push(other),
        }
    }
    let before = menu::entries(dialect, &text);
    check_texts(&before);
    let chosen = ARGUMENTS.iter().enumerate().filter(|(bit, _)| how >> bit & 1 == 1);
    let append: Vec<String> = chosen.map(|(_, argument)| argument.to_string()).collect();
    let timeout = (how & 0x40 == 0x40).then_some(7);
    let edit = MenuEdit { append: append.clone(), remove: Vec::new(), timeout };
    let (once, lines) = menu::edit_menu(dialect, path, &text, &edit);
    let after = menu::entries(dialect, &once);
    check_texts(&after);
    if lines == 0 && text.len() > MAX_KERNEL_LINES {
        // There may be too many kernel lines to edit them.
        return;
    }
    // A function may load a kernel for several entries.
    assert!(lines > 0 || before.is_empty(), "no kernel line, {} entries", before.len());
    if is_left_out(&before) || is_left_out(&after) {
        return;
    }
    assert_eq!(after.len(), before.len(), "the edited menu has the same kernels");
    for (after, before) in after.iter().zip(&before) {
        assert_eq!((&after.title, &after.kernel, &after.initrds), (&before.title, &before.kernel, &before.initrds));
        let (new, old) = (words(&after.arguments, &append), words(&before.arguments, &append));
        assert_eq!(new, old, "an argument of the menu is changed");
        for argument in &append {
            assert!(after.arguments.split_ascii_whitespace().any(|word| word == argument), "{argument} is missing");
        }
    }
    // What is added can be removed.
    let undo = MenuEdit { append: Vec::new(), remove: vec!["a".into()], timeout: None };
    let without = menu::edit_menu(dialect, path, &once, &undo).0;
    assert_eq!(menu::entries(dialect, &without).len(), before.len());
}

/// Returns the arguments without the added ones.
fn words<'a>(arguments: &'a str, added: &[String]) -> Vec<&'a str> {
    arguments.split_ascii_whitespace().filter(|word| !added.iter().any(|other| word == other)).collect()
}

/// Returns the size of entries in memory.
fn size(entries: &[MenuEntry]) -> usize {
    let of = |entry: &MenuEntry| {
        let initrds: usize = entry.initrds.iter().map(|path| size_of::<String>() + path.len()).sum();
        size_of::<MenuEntry>() + entry.title.len() + entry.kernel.len() + entry.arguments.len() + initrds
    };
    entries.iter().map(of).sum()
}

/// Returns whether entries may have been left out for their size.
fn is_left_out(entries: &[MenuEntry]) -> bool {
    size(entries) > MAX_ENTRIES_SIZE / 4
}

/// Checks that entries can be shown and take little memory. A replacement character may be longer than its byte.
fn check_texts(entries: &[MenuEntry]) {
    for entry in entries {
        let texts = [&entry.title, &entry.kernel, &entry.arguments].into_iter().chain(&entry.initrds);
        assert!(texts.into_iter().all(|text| is_printable(text)), "{entry:?}");
        let obstacle = entry.obstacle.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(is_printable(&obstacle), "{entry:?}");
    }
    assert!(size(entries) <= 3 * MAX_ENTRIES_SIZE, "{} bytes of entries", size(entries));
}
