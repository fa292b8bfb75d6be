//! systemd-boot: its configuration (loader.conf), and entries (Boot Loader Specification, type 1).

use super::edit::{MenuEdit, edited_arguments};
use super::entry::MenuEntry;

/// Returns whether a text belongs to systemd-boot, by its path and its keys. The path is in lower case.
pub fn matches(path: &str, text: &str) -> bool {
    is_configuration(path)
        || (path.contains("/loader/entries/") && path.ends_with(".conf") && key(text, "linux").is_some())
}

/// Returns whether a path is that of the configuration.
fn is_configuration(path: &str) -> bool {
    path.to_ascii_lowercase().ends_with("/loader/loader.conf")
}

/// Returns the kernel that an entry boots.
pub fn entries(path: &str, text: &str) -> Vec<MenuEntry> {
    let kernel = key(text, "linux").filter(|_| !is_configuration(path));
    let Some(kernel) = kernel else { return Vec::new() };
    vec![MenuEntry {
        title: key(text, "title").unwrap_or_default().to_owned(),
        kernel: kernel.to_owned(),
        initrds: keys(text, "initrd").map(str::to_owned).collect(),
        arguments: keys(text, "options").collect::<Vec<_>>().join(" "),
        ..MenuEntry::default()
    }]
}

/// Returns the number of kernel lines, which is 1 for an entry.
pub fn kernel_lines(path: &str) -> usize {
    usize::from(!is_configuration(path))
}

/// Applies an edit. Returns the text.
pub fn edit_menu(path: &str, text: &str, edit: &MenuEdit) -> String {
    if is_configuration(path) {
        return with_timeout(text, edit.timeout);
    }
    if !edit.changes_arguments() {
        return text.to_owned();
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
    out
}

/// Returns the configuration with a timeout in seconds. A menu that waits for a key (`menu-force`) does not boot a host.
fn with_timeout(text: &str, timeout: Option<u16>) -> String {
    let Some(seconds) = timeout else { return text.to_owned() };
    let lines = text.split_inclusive('\n').map(|line| match value(line, "timeout") {
        Some(_) => format!("timeout {seconds}\n"),
        None => line.to_owned(),
    });
    let new: String = lines.collect();
    if key(text, "timeout").is_some() {
        return new;
    }
    let gap = if new.is_empty() || new.ends_with('\n') { "" } else { "\n" };
    format!("{new}{gap}timeout {seconds}\n")
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
        let text = edit_menu("/loader/entries/01-archiso.conf", ARCH, &edit);
        assert_eq!(kernel_lines("/loader/entries/01-archiso.conf"), 1);
        assert!(text.ends_with("options archisobasedir=arch console=ttyS0\n"), "{text}");
        assert_eq!(entries("", &text)[0].kernel, "/arch/boot/x86_64/vmlinuz-linux");
    }

    #[test]
    fn an_entry_without_options_gets_an_options_line() {
        let edit = MenuEdit { append: vec!["a".into()], ..MenuEdit::default() };
        assert_eq!(edit_menu("", "linux /k", &edit), "linux /k\noptions a\n");
    }

    #[test]
    fn the_timeout_is_set() {
        let edit = MenuEdit { timeout: Some(1), ..MenuEdit::default() };
        let rows = [
            ("timeout menu-force\ndefault 01-archiso.conf\n", "timeout 1\ndefault 01-archiso.conf\n"),
            ("default 01-archiso.conf", "default 01-archiso.conf\ntimeout 1\n"),
        ];
        for (before, after) in rows {
            assert!(matches("efi:/loader/loader.conf", before));
            assert_eq!(kernel_lines("efi:/loader/loader.conf"), 0);
            assert_eq!(edit_menu("efi:/loader/loader.conf", before, &edit), after);
            assert_eq!(edit_menu("efi:/loader/loader.conf", before, &MenuEdit::default()), before);
            assert!(entries("/loader/loader.conf", before).is_empty());
        }
    }
}
