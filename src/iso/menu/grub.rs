//! Scripts of GRUB 2 (GRUB manual, "Writing full configuration files directly").

use std::ops::Range;

use super::{EntryRoom, MenuEdit, MenuEntry, edited_arguments, takes_arguments};

/// Commands that load a Linux kernel.
const KERNEL_COMMANDS: [&str; 6] = ["linux", "linuxefi", "linux16", "linux32", "$linux", "${linux}"];
/// Commands that load initrds.
const INITRD_COMMANDS: [&str; 5] = ["initrd", "initrdefi", "initrd16", "$initrd", "${initrd}"];
/// Words before a command.
const KEYWORDS: [&str; 10] = ["if", "then", "else", "elif", "while", "until", "do", "!", "time", "{"];

/// Returns whether a text is a GRUB script, by its commands.
pub fn matches(text: &str) -> bool {
    commands(text).iter().any(|command| kernel(command).is_some() || has_name(command, &["menuentry", "submenu"]))
}

/// Returns the kernels that a script boots, as far as there is room for them.
pub(super) fn entries(text: &str, room: &mut EntryRoom) -> Vec<MenuEntry> {
    let mut entries: Vec<MenuEntry> = Vec::new();
    let mut title = String::new();
    for command in commands(text) {
        if has_name(&command, &["menuentry", "submenu"]) {
            title = entry_title(&command);
        }
        if let Some(kernel) = kernel(&command) {
            let rest = command.words.iter().skip(2).map(|word| unquote(&word.text));
            let arguments = rest.collect::<Vec<_>>().join(" ");
            let entry = MenuEntry { title: title.clone(), kernel, initrds: Vec::new(), arguments };
            let Some(entry) = room.take(entry) else { break };
            entries.push(entry);
        }
        if has_name(&command, &INITRD_COMMANDS)
            && let Some(mut entry) = entries.pop()
        {
            entry.initrds = command.words.iter().skip(1).map(|word| unquote(&word.text)).collect();
            let Some(entry) = room.take(entry) else { break };
            entries.push(entry);
        }
    }
    entries
}

/// Applies an edit. Returns the text and the number of commands that load a Linux kernel.
pub fn edit_menu(text: &str, edit: &MenuEdit) -> (String, usize) {
    let commands = commands(text);
    let kernels: Vec<&GrubCommand> = commands.iter().filter(|command| kernel(command).is_some()).collect();
    let mut out = text.to_owned();
    if edit.changes_arguments() {
        // From the last to the first, so that the positions of the others stay valid.
        for command in kernels.iter().rev() {
            let Some(name) = command.words.get(1) else { continue };
            let rest = command.words.iter().skip(2).map(|word| word.text.as_str());
            let words = edited_arguments(rest, edit, quote);
            let end = command.words.last().map_or(name.at.end, |word| word.at.end);
            let tail = words.iter().map(|word| format!(" {word}")).collect::<String>();
            out.replace_range(name.at.end..end, &tail);
        }
    }
    if let Some(seconds) = edit.timeout
        && commands.iter().any(|command| has_name(command, &["menuentry"]))
        && commands.iter().flat_map(|command| &command.words).all(|word| word.closed)
    {
        // The last assignment is effective: a theme or an include may have set another timeout.
        let gap = if out.ends_with('\n') { "" } else { "\n" };
        out.push_str(&format!("{gap}set timeout_style=menu\nset timeout={seconds}\n"));
    }
    (out, kernels.len())
}

/// Returns the kernel that a command loads, unless it is a memory tester or a similar program.
fn kernel(command: &GrubCommand) -> Option<String> {
    let name = command.words.get(1).filter(|_| has_name(command, &KERNEL_COMMANDS))?;
    // GRUB refuses a script with an open quote, so nothing is added to it.
    if command.words.iter().any(|word| !word.closed) {
        return None;
    }
    takes_arguments(&name.text).then(|| unquote(&name.text))
}

/// Returns the title of a menu entry. Options (`--hotkey=g`, `--class debian`) may precede it.
fn entry_title(command: &GrubCommand) -> String {
    let mut words = command.words.iter().skip(1);
    while let Some(word) = words.next() {
        match word.text.as_str() {
            "--unrestricted" => {}
            option if option.starts_with("--") && option.contains('=') => {}
            option if option.starts_with("--") => drop(words.next()),
            title => return unquote(title),
        }
    }
    String::new()
}

/// Returns whether a command has one of the names.
fn has_name(command: &GrubCommand, names: &[&str]) -> bool {
    command.words.first().is_some_and(|word| names.contains(&word.text.as_str()))
}

/// A command of a script.
#[derive(Debug, Default)]
struct GrubCommand {
    words: Vec<GrubWord>,
}

/// A word with its quotes and its position.
#[derive(Debug)]
struct GrubWord {
    text: String,
    at: Range<usize>,
    /// Whether its quotes are closed.
    closed: bool,
}

/// Splits a script into its commands.
fn commands(text: &str) -> Vec<GrubCommand> {
    let mut commands = Vec::new();
    let mut command = GrubCommand::default();
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        match next {
            '\\' if text[at..].starts_with("\\\n") => at += 2,
            '\\' if text[at..].starts_with("\\\r\n") => at += 3,
            '#' => at += text[at..].find('\n').unwrap_or(text.len() - at),
            '\n' | ';' | '|' | '&' => {
                commands.push(std::mem::take(&mut command));
                at += 1;
            }
            next if next.is_ascii_whitespace() => at += 1,
            _ => {
                let (end, closed) = word_end(text, at);
                let word = &text[at..end];
                if (command.words.is_empty() && KEYWORDS.contains(&word)) || word == "{" || word == "}" {
                    commands.push(std::mem::take(&mut command));
                } else {
                    command.words.push(GrubWord { text: word.to_owned(), at: at..end, closed });
                }
                at = end;
            }
        }
    }
    commands.push(command);
    commands.retain(|command| !command.words.is_empty());
    commands
}

/// Returns the end of the word that begins at a position, and whether its quotes are closed.
fn word_end(text: &str, from: usize) -> (usize, bool) {
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in text[from..].char_indices() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (None | Some('"'), '\\') => {
                if quote.is_none() && text[from + at..].starts_with("\\\n") {
                    return (from + at, true);
                }
                escaped = true;
            }
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, ';' | '\n' | '|' | '&') => return (from + at, true),
            (None, character) if character.is_ascii_whitespace() => return (from + at, true),
            (None, _) => {}
        }
    }
    (text.len(), quote.is_none() && !escaped)
}

/// Quotes an argument with characters that are special in a GRUB script: `ds=nocloud;s=...` has a semicolon.
fn quote(argument: &str) -> String {
    let unquoted = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:=,+@%-".contains(&byte);
    if argument.bytes().all(unquoted) { argument.to_owned() } else { format!("'{}'", argument.replace('\'', "'\\''")) }
}

/// Removes the quotes of a word.
fn unquote(word: &str) -> String {
    let (mut out, mut quote, mut escaped) = (String::new(), None, false);
    for character in word.chars() {
        match (quote, character) {
            _ if escaped => {
                escaped = false;
                out.push(character);
            }
            (None | Some('"'), '\\') => escaped = true,
            (Some(open), _) if open == character => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (_, _) => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adding(arguments: &[&str]) -> MenuEdit {
        MenuEdit { append: arguments.iter().map(|text| text.to_string()).collect(), ..MenuEdit::default() }
    }

    fn check(before: &str, after: &str) {
        let (text, _) = edit_menu(before, &adding(&["a=1", "ds=nocloud;s=http://h/"]));
        assert_eq!(text, after.replace('@', "a=1 'ds=nocloud;s=http://h/'"));
        assert_eq!(
            edit_menu(&text, &adding(&["a=1", "ds=nocloud;s=http://h/"])).0,
            text,
            "a second edit changes nothing"
        );
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
    }

    #[test]
    fn an_entry_has_its_kernel_and_initrds() {
        let text = "menuentry --hotkey=g 'x' {\n}\nmenuentry --hotkey=i --class y \"Install \\\"me\\\"\" {\n linux /k a=\"b c\"\n initrd /i /j\n}";
        let found = entries(text, &mut EntryRoom::default());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].title, "Install \"me\"");
        assert_eq!((found[0].kernel.as_str(), found[0].arguments.as_str()), ("/k", "a=b c"));
        assert_eq!(found[0].initrds, ["/i", "/j"]);
    }

    #[test]
    fn arguments_are_removed() {
        let edit = MenuEdit { remove: vec!["quiet".into(), "console=".into()], ..MenuEdit::default() };
        assert_eq!(edit_menu("linux /k quiet a console=tty0 quietly", &edit).0, "linux /k a quietly");
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
    }
}
