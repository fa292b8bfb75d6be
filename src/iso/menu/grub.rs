use std::ops::Range;

use super::{Edit, MenuEntry, arguments, takes_arguments};

const KERNEL_COMMANDS: [&str; 6] = ["linux", "linuxefi", "linux16", "linux32", "$linux", "${linux}"];
const INITRD_COMMANDS: [&str; 5] = ["initrd", "initrdefi", "initrd16", "$initrd", "${initrd}"];
/// Are the words behind which a command begins, rather than being commands themselves.
const KEYWORDS: [&str; 10] = ["if", "then", "else", "elif", "while", "until", "do", "!", "time", "{"];

/// Knows a script of GRUB's by its commands.
pub fn is_one(text: &str) -> bool {
    commands(text).iter().any(|command| kernel(command).is_some() || is(command, &["menuentry", "submenu"]))
}

pub fn entries(text: &str) -> Vec<MenuEntry> {
    let mut entries: Vec<MenuEntry> = Vec::new();
    let mut title = String::new();
    for command in commands(text) {
        if is(&command, &["menuentry", "submenu"]) {
            title = title_of(&command);
        }
        if let Some(kernel) = kernel(&command) {
            let rest = command.words.iter().skip(2).map(|word| plain(&word.text));
            let arguments = rest.collect::<Vec<_>>().join(" ");
            entries.push(MenuEntry { title: title.clone(), kernel, initrds: Vec::new(), arguments });
        }
        if is(&command, &INITRD_COMMANDS)
            && let Some(entry) = entries.last_mut()
        {
            entry.initrds = command.words.iter().skip(1).map(|word| plain(&word.text)).collect();
        }
    }
    entries
}

/// Makes an edit; gives the text and how many of its commands load a kernel of Linux's.
pub fn edited(text: &str, edit: &Edit) -> (String, usize) {
    let commands = commands(text);
    let kernels: Vec<&Command> = commands.iter().filter(|command| kernel(command).is_some()).collect();
    let mut out = text.to_owned();
    if edit.arguments() {
        // From the last to the first, so that what is still to come lies where it lay.
        for command in kernels.iter().rev() {
            let Some(name) = command.words.get(1) else { continue };
            let rest = command.words.iter().skip(2).map(|word| word.text.as_str());
            let words = arguments(rest, edit, quoted);
            let end = command.words.last().map_or(name.at.end, |word| word.at.end);
            let tail = words.iter().map(|word| format!(" {word}")).collect::<String>();
            out.replace_range(name.at.end..end, &tail);
        }
    }
    if let Some(seconds) = edit.timeout
        && commands.iter().any(|command| is(command, &["menuentry"]))
    {
        // The last word counts: a theme or an include may have set another.
        let gap = if out.ends_with('\n') { "" } else { "\n" };
        out.push_str(&format!("{gap}set timeout_style=menu\nset timeout={seconds}\n"));
    }
    (out, kernels.len())
}

/// Gives the kernel that a command loads, unless it is a memory tester or the like.
fn kernel(command: &Command) -> Option<String> {
    let name = command.words.get(1).filter(|_| is(command, &KERNEL_COMMANDS))?;
    // A quote that never ends swallows whatever follows: GRUB refuses such a script, and nothing is added to it.
    if command.words.iter().any(|word| !word.whole) {
        return None;
    }
    takes_arguments(&name.text).then(|| plain(&name.text))
}

/// Gives a menu entry's title, which may stand behind options (`--hotkey=g`, `--class debian`).
fn title_of(command: &Command) -> String {
    let mut words = command.words.iter().skip(1);
    while let Some(word) = words.next() {
        match word.text.as_str() {
            "--unrestricted" => {}
            option if option.starts_with("--") && option.contains('=') => {}
            option if option.starts_with("--") => drop(words.next()),
            title => return plain(title),
        }
    }
    String::new()
}

fn is(command: &Command, names: &[&str]) -> bool {
    command.words.first().is_some_and(|word| names.contains(&word.text.as_str()))
}

/// Is one command of a script.
#[derive(Debug, Default)]
struct Command {
    words: Vec<Word>,
}

/// Is a word with its quotes, and where it stands.
#[derive(Debug)]
struct Word {
    text: String,
    at: Range<usize>,
    /// Says whether its quotes are closed.
    whole: bool,
}

/// Splits a script into its commands (GRUB manual, "Writing full configuration files directly").
fn commands(text: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut command = Command::default();
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
            next if next.is_whitespace() => at += next.len_utf8(),
            _ => {
                let (end, whole) = word_end(text, at);
                let word = &text[at..end];
                if (command.words.is_empty() && KEYWORDS.contains(&word)) || word == "{" || word == "}" {
                    commands.push(std::mem::take(&mut command));
                } else {
                    command.words.push(Word { text: word.to_owned(), at: at..end, whole });
                }
                at = end;
            }
        }
    }
    commands.push(command);
    commands.retain(|command| !command.words.is_empty());
    commands
}

/// Finds where the word that begins at a place ends, and whether its quotes do.
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
            (None, character) if character.is_whitespace() => return (from + at, true),
            (None, _) => {}
        }
    }
    (text.len(), quote.is_none() && !escaped)
}

/// Quotes an argument where GRUB's scripts would read more into it: `ds=nocloud;s=...` has a semicolon.
fn quoted(argument: &str) -> String {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:=,+@%-".contains(&byte);
    if argument.bytes().all(harmless) { argument.to_owned() } else { format!("'{}'", argument.replace('\'', "'\\''")) }
}

/// Takes a word's quotes off.
fn plain(word: &str) -> String {
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

    fn adding(arguments: &[&str]) -> Edit {
        Edit { append: arguments.iter().map(|text| text.to_string()).collect(), ..Edit::default() }
    }

    fn check(before: &str, after: &str) {
        let (text, _) = edited(before, &adding(&["a=1", "ds=nocloud;s=http://h/"]));
        assert_eq!(text, after.replace('@', "a=1 'ds=nocloud;s=http://h/'"));
        assert_eq!(edited(&text, &adding(&["a=1", "ds=nocloud;s=http://h/"])).0, text, "and only once");
    }

    #[test]
    fn arguments_are_added_wherever_a_kernel_is_loaded() {
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
    }

    #[test]
    fn an_entry_says_what_it_boots() {
        let text = "menuentry --hotkey=g 'x' {\n}\nmenuentry --hotkey=i --class y \"Install \\\"me\\\"\" {\n linux /k a=\"b c\"\n initrd /i /j\n}";
        let found = entries(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].title, "Install \"me\"");
        assert_eq!((found[0].kernel.as_str(), found[0].arguments.as_str()), ("/k", "a=b c"));
        assert_eq!(found[0].initrds, ["/i", "/j"]);
    }

    #[test]
    fn arguments_are_taken_out() {
        let edit = Edit { remove: vec!["quiet".into(), "console=".into()], ..Edit::default() };
        assert_eq!(edited("linux /k quiet a console=tty0 quietly", &edit).0, "linux /k a quietly");
    }

    #[test]
    fn the_menu_boots_by_itself() {
        let edit = Edit { timeout: Some(3), ..Edit::default() };
        assert_eq!(
            edited("menuentry a { linux /k }", &edit).0,
            "menuentry a { linux /k }\nset timeout_style=menu\nset timeout=3\n"
        );
        assert_eq!(edited("linux /k", &edit).0, "linux /k");
    }
}
