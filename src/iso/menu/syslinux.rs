//! Configuration files of Syslinux (ISOLINUX, EXTLINUX).

use super::{EntryRoom, MenuEdit, MenuEntry, edited_arguments, takes_arguments};

/// Returns whether a text is a Syslinux configuration, by its keywords. The path is in lower case.
pub fn matches(path: &str, text: &str) -> bool {
    let named = [".cfg", ".conf", ".lnx", ".inc"].iter().any(|end| path.ends_with(end));
    let mut keywords = text.lines().filter_map(|line| split(line).map(|(word, _)| word.to_ascii_lowercase()));
    named
        && (path.contains("linux.cfg")
            || path.contains("extlinux.conf")
            || keywords.any(|word| word == "label" || word == "ontimeout"))
        && !text.contains("menuentry")
}

/// Returns the kernels that a configuration boots, as far as there is room for them.
pub(super) fn entries(text: &str, room: &mut EntryRoom) -> Vec<MenuEntry> {
    let menu = SyslinuxConfig::read(text);
    let boots = menu.labels.iter().filter(|label| label.boots());
    boots
        .map_while(|label| {
            let append = label.append.as_ref().or(menu.append.as_ref());
            let append = append.map_or("", |line| line.value);
            let words = append.split_ascii_whitespace();
            let initrd = words.clone().filter_map(|word| word.strip_prefix("initrd=")).chain(label.initrd);
            room.take(MenuEntry {
                title: label.title.unwrap_or(label.name).replace('^', ""),
                kernel: label.kernel.as_ref().map_or("", |line| line.value).to_owned(),
                initrds: initrd.flat_map(|list| list.split(',')).map(str::to_owned).collect(),
                arguments: words
                    .filter(|word| !word.starts_with("initrd=") && *word != "-")
                    .collect::<Vec<_>>()
                    .join(" "),
            })
        })
        .collect()
}

/// Applies an edit. Returns the text and the number of labels that boot a Linux kernel.
pub fn edit_menu(path: &str, text: &str, edit: &MenuEdit) -> (String, usize) {
    let menu = SyslinuxConfig::read(text);
    let mut out: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let boots: Vec<&Label<'_>> = menu.labels.iter().filter(|label| label.boots()).collect();
    if edit.changes_arguments() {
        let shared = menu.append.iter().filter(|_| boots.iter().any(|label| label.append.is_none()));
        for line in shared.chain(boots.iter().filter_map(|label| label.append.as_ref())) {
            out[line.number] = edited_line(line, edit);
        }
        let bare = boots.iter().filter(|label| label.append.is_none() && menu.append.is_none());
        for kernel in bare.filter_map(|label| label.kernel.as_ref()).filter(|_| !edit.append.is_empty()) {
            let gap = if out[kernel.number].ends_with('\n') { "" } else { "\n" };
            let line = format!("{gap}{}append {}{}", kernel.indent, edit.append.join(" "), kernel.end());
            out[kernel.number].push_str(&line);
        }
    }
    for line in &menu.commands {
        // debian-installer's menus start speech synthesis when no key is pressed.
        let starts_speech = edit.timeout.is_some() && line.keyword.eq_ignore_ascii_case("ontimeout");
        if starts_speech {
            out[line.number] = format!("# {}", line.whole.trim_ascii_start());
        } else if edit.changes_arguments() {
            out[line.number] = edited_line(line, edit);
        }
    }
    if let Some(seconds) = edit.timeout {
        let tenths = u32::from(seconds) * 10;
        for line in &menu.timeouts {
            out[line.number] = format!("{}{} {tenths}{}", line.indent, line.keyword, line.end());
        }
        if menu.timeouts.is_empty() && path.to_ascii_lowercase().ends_with("linux.cfg") {
            out.insert(0, format!("timeout {tenths}\n"));
        }
    }
    (out.concat(), boots.len() + menu.commands.len())
}

/// Returns an `append` line, or a line of its kind, with the edit applied.
fn edited_line(line: &ConfigLine<'_>, edit: &MenuEdit) -> String {
    let words = line.value.split_ascii_whitespace().filter(|word| *word != "-");
    let words = edited_arguments(words, edit, str::to_owned);
    format!("{}{} {}{}", line.indent, line.keyword, words.join(" "), line.end())
}

/// A line with a relevant keyword.
#[derive(Debug, Clone)]
struct ConfigLine<'a> {
    number: usize,
    indent: &'a str,
    keyword: &'a str,
    value: &'a str,
    whole: &'a str,
}

impl ConfigLine<'_> {
    /// Returns the line ending, `\r\n` or `\n`.
    fn end(&self) -> &'static str {
        if self.whole.ends_with("\r\n") { "\r\n" } else { "\n" }
    }
}

/// A label of the menu.
#[derive(Debug, Default)]
struct Label<'a> {
    name: &'a str,
    title: Option<&'a str>,
    kernel: Option<ConfigLine<'a>>,
    append: Option<ConfigLine<'a>>,
    initrd: Option<&'a str>,
}

impl Label<'_> {
    /// Returns whether the label boots a kernel that takes arguments.
    fn boots(&self) -> bool {
        self.kernel.as_ref().is_some_and(|line| takes_arguments(line.value))
    }
}

/// The relevant lines of a configuration.
#[derive(Debug, Default)]
struct SyslinuxConfig<'a> {
    append: Option<ConfigLine<'a>>,
    labels: Vec<Label<'a>>,
    /// Lines that name a kernel with its arguments in place of a label.
    commands: Vec<ConfigLine<'a>>,
    timeouts: Vec<ConfigLine<'a>>,
}

impl<'a> SyslinuxConfig<'a> {
    /// Parses a configuration.
    fn read(text: &'a str) -> Self {
        let mut menu = Self::default();
        let mut in_help = false;
        for (number, whole) in text.split_inclusive('\n').enumerate() {
            let Some((keyword, value)) = split(whole) else { continue };
            let lower = keyword.to_ascii_lowercase();
            if in_help {
                in_help = lower != "endtext";
                continue;
            }
            let indent = &whole[..whole.len() - whole.trim_ascii_start().len()];
            let line = ConfigLine { number, indent, keyword, value, whole };
            match (lower.as_str(), menu.labels.last_mut()) {
                ("text", _) => in_help = value.to_ascii_lowercase().starts_with("help"),
                ("label", _) => menu.labels.push(Label { name: value, ..Label::default() }),
                ("timeout", _) => menu.timeouts.push(line),
                ("default" | "ontimeout" | "onerror", _) if is_command(value) => menu.commands.push(line),
                ("append", None) => menu.append = Some(line),
                ("append", Some(label)) => label.append = Some(line),
                ("kernel" | "linux", Some(label)) => label.kernel = Some(line),
                ("com32" | "boot" | "localboot" | "bss" | "fdimage" | "pxe" | "config", Some(label)) => {
                    label.kernel = None
                }
                ("initrd", Some(label)) => label.initrd = Some(value),
                ("menu", Some(label)) => label.title = label.title.or_else(|| title(value)),
                (_, _) => {}
            }
        }
        menu
    }
}

/// Returns whether a value is a kernel with arguments, and not a label or a menu program.
fn is_command(value: &str) -> bool {
    let kernel = value.split_ascii_whitespace().next().unwrap_or_default();
    kernel.contains('/') && kernel.len() < value.len() && takes_arguments(kernel)
}

/// Returns the title of a `menu label` line.
fn title(value: &str) -> Option<&str> {
    let (word, rest) = split(value)?;
    word.eq_ignore_ascii_case("label").then_some(rest)
}

/// Splits a line into its keyword and the rest. Returns `None` for a comment or an empty line.
fn split(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    Some(
        line.split_once(|byte: char| byte.is_ascii_whitespace())
            .map_or((line, ""), |(word, rest)| (word, rest.trim_ascii())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "default install\nlabel install\n\tmenu label ^Install\n\tkernel /install.amd/vmlinuz\n\
        \tappend vga=788 initrd=/install.amd/initrd.gz --- quiet\nlabel memtest\n\tkernel /memtest86+.bin\n\tappend none\n";

    fn adding(arguments: &[&str]) -> MenuEdit {
        MenuEdit { append: arguments.iter().map(|text| text.to_string()).collect(), ..MenuEdit::default() }
    }

    #[test]
    fn arguments_go_before_those_of_the_installed_system() {
        let (text, lines) = edit_menu("/isolinux/txt.cfg", DEBIAN, &adding(&["auto=true", "url=http://h/p;x"]));
        assert_eq!(lines, 1);
        let line = "\tappend vga=788 initrd=/install.amd/initrd.gz auto=true url=http://h/p;x --- quiet\n";
        assert_eq!(text, DEBIAN.replace("\tappend vga=788 initrd=/install.amd/initrd.gz --- quiet\n", line));
        assert_eq!(
            edit_menu("/isolinux/txt.cfg", &text, &adding(&["auto=true"])).0,
            text,
            "a second edit changes nothing"
        );
    }

    #[test]
    fn an_entry_has_its_kernel_and_initrds() {
        let found = entries(DEBIAN, &mut EntryRoom::default());
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
}
