//! Entries of systemd-boot (Boot Loader Specification, type 1).

use super::{MenuEdit, MenuEntry, edited_arguments};

/// Returns whether a text is an entry of systemd-boot, by its path and its keys. The path is in lower case.
pub fn matches(path: &str, text: &str) -> bool {
    path.contains("/loader/entries/") && path.ends_with(".conf") && key(text, "linux").is_some()
}

/// Returns the kernel that an entry boots.
pub fn entries(text: &str) -> Vec<MenuEntry> {
    let Some(kernel) = key(text, "linux") else { return Vec::new() };
    vec![MenuEntry {
        title: key(text, "title").unwrap_or_default().to_owned(),
        kernel: kernel.to_owned(),
        initrds: keys(text, "initrd").map(str::to_owned).collect(),
        arguments: keys(text, "options").collect::<Vec<_>>().join(" "),
    }]
}

/// Applies an edit. Returns the text and the number of kernel lines, which is 1.
pub fn edit_menu(text: &str, edit: &MenuEdit) -> (String, usize) {
    if !edit.changes_arguments() {
        return (text.to_owned(), 1);
    }
    let mut out = String::new();
    let mut done = false;
    for line in text.split_inclusive('\n') {
        match value(line, "options") {
            Some(options) => {
                let once = MenuEdit { append: if done { Vec::new() } else { edit.append.clone() }, ..edit.clone() };
                done = true;
                out.push_str("options ");
                out.push_str(&edited_arguments(options.split_ascii_whitespace(), &once, str::to_owned).join(" "));
                out.push('\n');
            }
            None => out.push_str(line),
        }
    }
    if !done && !edit.append.is_empty() {
        let gap = if out.ends_with('\n') { "" } else { "\n" };
        out.push_str(&format!("{gap}options {}\n", edit.append.join(" ")));
    }
    (out, 1)
}

/// Returns the first value of a key.
fn key<'a>(text: &'a str, name: &'a str) -> Option<&'a str> {
    keys(text, name).next()
}

/// Returns all values of a key.
fn keys<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| value(line, name))
}

/// Returns the value of a line if it has the key.
fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (first, rest) = line.trim_ascii().split_once(|byte: char| byte.is_ascii_whitespace())?;
    (first == name).then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCH: &str = "title    Arch Linux install medium\nlinux    /arch/boot/x86_64/vmlinuz-linux\n\
        initrd   /arch/boot/x86_64/initramfs-linux.img\noptions  archisobasedir=arch archisosearchuuid=2026\n";

    #[test]
    fn arguments_are_added_to_the_options() {
        assert!(matches("/loader/entries/01-archiso.conf", ARCH));
        let edit =
            MenuEdit { append: vec!["console=ttyS0".into()], remove: vec!["archisosearchuuid=".into()], timeout: None };
        let (text, lines) = edit_menu(ARCH, &edit);
        assert_eq!(lines, 1);
        assert!(text.ends_with("options archisobasedir=arch console=ttyS0\n"), "{text}");
        assert_eq!(entries(&text)[0].kernel, "/arch/boot/x86_64/vmlinuz-linux");
    }

    #[test]
    fn an_entry_without_options_gets_an_options_line() {
        let edit = MenuEdit { append: vec!["a".into()], ..MenuEdit::default() };
        assert_eq!(edit_menu("linux /k", &edit).0, "linux /k\noptions a\n");
    }
}
