//! Variables of GRUB, and the expansion of words (GRUB manual, "Shell-like scripting").

use std::collections::HashMap;

use super::command::is_name;
use super::lexer::unquote;
use crate::iso::menu::entry::{Obstacle, ValueOrigin};

/// Maximum length of a variable's value in bytes.
const MAX_VALUE_LENGTH: usize = 4096;
/// Maximum length of all expansions of variables in the scripts of an image, in bytes.
pub const MAX_EXPANSION_BYTES: usize = 4 << 20;
/// Maximum number of variables.
const MAX_VARIABLES: usize = 10_000;
/// Character in the place of the device that GRUB calls `$root`, which a path is free of.
pub const DEVICE: char = '\u{1}';

/// Variables that GRUB sets itself, and those that a view of the menu sets.
const GRUBS_OWN: [&str; 18] = [
    "grub_platform",
    "grub_cpu",
    "lang",
    "shim_lock",
    "biosnum",
    "chosen",
    "fw_path",
    "pxe_default_server",
    "default",
    "fallback",
    "timeout",
    "timeout_style",
    "check_signatures",
    "debug",
    "pager",
    "lockdown",
    "gfxmode",
    "package_version",
];
/// Beginnings of the names of such variables.
const GRUBS_OWN_PREFIXES: [&str; 3] = ["net_", "feature_", "smbios_"];

/// The value of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariableValue {
    /// A text that every boot has.
    Constant(String),
    /// A value that the script does not determine.
    Unknown(ValueOrigin),
}

/// A variable.
#[derive(Debug, Clone)]
struct Variable {
    value: VariableValue,
    /// Whether submenus and other scripts see it.
    exported: bool,
}

/// The variables of a context.
#[derive(Debug, Default)]
struct VariableScope {
    variables: HashMap<String, Variable>,
    /// Whether only exported variables of the outer context are visible.
    sees_exported_only: bool,
    /// Arguments of the function that runs (`$1`).
    arguments: Option<Vec<VariableValue>>,
}

/// The variables of a script that is being evaluated.
#[derive(Debug)]
pub struct Variables {
    /// The outermost context is the first one.
    contexts: Vec<VariableScope>,
    /// Command that may set any variable, if one has run.
    sets_any: Option<String>,
    /// Bytes that expansions may still take.
    room: usize,
    /// Number of variables that may still be set.
    left: usize,
}

/// The use of an expanded word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Text, such as kernel arguments.
    Text,
    /// A path, in which the device does not matter.
    Path,
}

/// An expanded word.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The words that it becomes: an unquoted variable may have several words, or none.
    pub words: Vec<String>,
    /// The first variable whose value is not known. It stays in the text as it is written.
    pub obstacle: Option<Obstacle>,
}

impl Variables {
    /// Creates the variables of a script in a directory. `room` is the number of bytes that expansions may take.
    pub fn new(directory: &str, room: usize) -> Self {
        let mut variables =
            Self { contexts: vec![VariableScope::default()], sets_any: None, room, left: MAX_VARIABLES };
        for (name, value) in [
            ("root", DEVICE.to_string()),
            ("prefix", format!("({DEVICE}){directory}")),
            ("config_directory", format!("({DEVICE}){directory}")),
            ("cmdpath", format!("({DEVICE})/EFI/BOOT")),
        ] {
            variables.set(name, VariableValue::Constant(value), false);
            variables.export(name);
        }
        variables
    }

    /// Returns the number of bytes that expansions may still take.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Opens a context: a menu entry sees all variables, a submenu or another script only the exported ones.
    pub fn open(&mut self, sees_exported_only: bool) {
        self.contexts.push(VariableScope { sees_exported_only, ..VariableScope::default() });
    }

    /// Closes the innermost context.
    pub fn close(&mut self) {
        if self.contexts.len() > 1 {
            self.contexts.pop();
        }
    }

    /// Replaces the arguments of the function that runs; returns those of the one that called it.
    pub fn swap_arguments(&mut self, arguments: Option<Vec<VariableValue>>) -> Option<Vec<VariableValue>> {
        self.contexts.last_mut().and_then(|context| std::mem::replace(&mut context.arguments, arguments))
    }

    /// Sets a variable. `maybe` states that the assignment depends on a condition.
    pub fn set(&mut self, name: &str, value: VariableValue, maybe: bool) {
        // The device of the image is the only one that matters.
        if name == "root" && self.lookup(name).is_some() {
            return;
        }
        let before = self.lookup(name);
        let exported = before.is_some_and(|variable| variable.exported);
        let value = match (maybe, before) {
            (true, Some(before)) if before.value != value => VariableValue::Unknown(ValueOrigin::Condition),
            (true, None) if value != VariableValue::Constant(String::new()) => {
                VariableValue::Unknown(ValueOrigin::Condition)
            }
            (_, _) => value,
        };
        let Some(context) = self.contexts.last_mut() else { return };
        if let Some(variable) = context.variables.get_mut(name) {
            variable.value = value;
        } else if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            context.variables.insert(name.to_owned(), Variable { value, exported });
        } else {
            self.sets_any = Some("set".to_owned());
        }
    }

    /// Makes a variable visible in submenus and other scripts.
    pub fn export(&mut self, name: &str) {
        let Some(value) = self.lookup(name).map(|variable| variable.value.clone()) else { return };
        self.set(name, value, false);
        if let Some(variable) = self.contexts.last_mut().and_then(|context| context.variables.get_mut(name)) {
            variable.exported = true;
        }
    }

    /// Records that a command may have set any variable.
    pub fn set_any(&mut self, command: &str) {
        self.sets_any.get_or_insert_with(|| command.to_owned());
    }

    /// Returns whether a command may have set any variable.
    pub fn may_be_any(&self) -> bool {
        self.sets_any.is_some()
    }

    /// Returns the value of a variable. A variable that nothing sets is empty.
    pub fn value(&self, name: &str) -> VariableValue {
        let is_device = matches!(name, "root" | "prefix" | "config_directory" | "cmdpath");
        if let (Some(command), false) = (&self.sets_any, is_device) {
            return VariableValue::Unknown(ValueOrigin::Command(command.clone()));
        }
        let is_grubs = GRUBS_OWN.contains(&name) || GRUBS_OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        match self.lookup(name) {
            _ if is_grubs => VariableValue::Unknown(ValueOrigin::Grub),
            Some(variable) => variable.value.clone(),
            None => VariableValue::Constant(String::new()),
        }
    }

    /// Returns the value that the script gives to a variable, also to one of GRUB's own.
    pub fn assigned(&self, name: &str) -> Option<&VariableValue> {
        self.lookup(name).map(|variable| &variable.value)
    }

    fn lookup(&self, name: &str) -> Option<&Variable> {
        let mut exported_only = false;
        for context in self.contexts.iter().rev() {
            if let Some(variable) = context.variables.get(name) {
                return (!exported_only || variable.exported).then_some(variable);
            }
            exported_only |= context.sees_exported_only;
        }
        None
    }

    /// Returns the value of a positional parameter or of another variable without a name.
    fn parameter(&self, name: &str) -> VariableValue {
        let number = name.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let arguments = self.contexts.last().and_then(|context| context.arguments.as_ref());
        match (number, arguments) {
            (Some(number), Some(arguments)) => {
                arguments.get(number).cloned().unwrap_or(VariableValue::Constant(String::new()))
            }
            (_, _) => VariableValue::Unknown(ValueOrigin::Grub),
        }
    }

    /// Returns the value of a word in an assignment.
    pub fn value_of(&mut self, word: &str) -> VariableValue {
        let Expanded { words, obstacle } = self.expand(word, Use::Path);
        match obstacle {
            Some(Obstacle::Variable { origin, .. }) => VariableValue::Unknown(origin),
            Some(Obstacle::Hypervisor(_) | Obstacle::MissingFile(_) | Obstacle::UncheckedFile(_)) | None => {
                let value = words.join(" ");
                if value.len() > MAX_VALUE_LENGTH {
                    VariableValue::Unknown(ValueOrigin::Length)
                } else {
                    VariableValue::Constant(value)
                }
            }
        }
    }

    /// Expands the variables of a word, and removes its quotes.
    pub fn expand(&mut self, word: &str, how: Use) -> Expanded {
        if !word.contains('$') {
            return Expanded { words: vec![unquote(word)], obstacle: None };
        }
        let mut expansion = Expansion { done: Vec::new(), word: String::new(), is_word: false, obstacle: None };
        let (mut quote, mut at) = (None, 0);
        while let Some(character) = word[at..].chars().next() {
            at += character.len_utf8();
            match (quote, character) {
                (None | Some('"'), '\\') => {
                    let escaped = word[at..].chars().next();
                    expansion.push(escaped);
                    at += escaped.map_or(0, char::len_utf8);
                }
                (Some(open), _) if open == character => quote = None,
                (None, '"' | '\'') => {
                    quote = Some(character);
                    expansion.is_word = true;
                }
                (None | Some('"'), '$') => match variable_at(&word[at..]) {
                    Some((name, length)) => {
                        self.expand_variable(name, quote.is_none(), how, &mut expansion);
                        at += length;
                    }
                    None => expansion.push(Some('$')),
                },
                (_, _) => expansion.push(Some(character)),
            }
        }
        expansion.finish()
    }

    fn expand_variable(&mut self, name: &str, splits: bool, how: Use, expansion: &mut Expansion) {
        let value = if is_name(name) { self.value(name) } else { self.parameter(name) };
        let value = match value {
            VariableValue::Constant(text) if how == Use::Text && text.contains(DEVICE) => {
                VariableValue::Unknown(ValueOrigin::Grub)
            }
            VariableValue::Constant(text) => match self.room.checked_sub(text.len()) {
                Some(left) => {
                    self.room = left;
                    VariableValue::Constant(text)
                }
                None => VariableValue::Unknown(ValueOrigin::Length),
            },
            unknown => unknown,
        };
        match value {
            VariableValue::Constant(text) if splits => {
                for (number, part) in text.split(' ').enumerate() {
                    if number > 0 {
                        expansion.end_word();
                    }
                    part.chars().for_each(|character| expansion.push(Some(character)));
                }
            }
            VariableValue::Constant(text) => {
                expansion.is_word = true;
                expansion.word.push_str(&text);
            }
            VariableValue::Unknown(origin) => {
                expansion.is_word = true;
                expansion.word.push('$');
                expansion.word.push_str(name);
                expansion.obstacle.get_or_insert(Obstacle::Variable { name: name.to_owned(), origin });
            }
        }
    }
}

/// A word while it is being expanded.
#[derive(Debug)]
struct Expansion {
    done: Vec<String>,
    word: String,
    /// Whether `word` is a word, though it may be empty.
    is_word: bool,
    obstacle: Option<Obstacle>,
}

impl Expansion {
    fn push(&mut self, character: Option<char>) {
        self.is_word |= character.is_some();
        self.word.extend(character);
    }

    fn end_word(&mut self) {
        if std::mem::take(&mut self.is_word) {
            self.done.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Expanded {
        self.end_word();
        Expanded { words: self.done, obstacle: self.obstacle }
    }
}

/// Returns the name of the variable after a `$`, and the length of its text.
fn variable_at(rest: &str) -> Option<(&str, usize)> {
    if let Some(inner) = rest.strip_prefix('{') {
        let end = inner.find('}')?;
        let name = &inner[..end];
        let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        return (is_name(name) || is_number || matches!(name, "?" | "#" | "*" | "@")).then_some((name, end + 2));
    }
    let first = rest.bytes().next()?;
    let length = match first {
        b'?' | b'#' | b'*' | b'@' => 1,
        b'0'..=b'9' => rest.bytes().take_while(u8::is_ascii_digit).count(),
        _ => rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count(),
    };
    (length > 0).then(|| (&rest[..length], length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(text: &str) -> VariableValue {
        VariableValue::Constant(text.to_owned())
    }

    #[test]
    fn a_word_is_expanded_as_grub_does() {
        let mut variables = Variables::new("/boot/grub", MAX_EXPANSION_BYTES);
        variables.set("kargs", constant("quiet  splash"), false);
        variables.set("one", constant("1"), false);
        variables.set("found", VariableValue::Unknown(ValueOrigin::Command("probe".into())), false);
        let rows: [(&str, &[&str], Option<&str>); 16] = [
            ("plain", &["plain"], None),
            ("$kargs", &["quiet", "splash"], None),
            ("\"$kargs\"", &["quiet  splash"], None),
            ("'$kargs'", &["$kargs"], None),
            ("a=${one}b", &["a=1b"], None),
            ("a$kargs", &["aquiet", "splash"], None),
            ("$nothing", &[], None),
            ("a=$nothing", &["a="], None),
            ("\"$nothing\"", &[""], None),
            ("a\\$one", &["a$one"], None),
            ("\"a\\$one\"", &["a$one"], None),
            ("id=$found", &["id=$found"], Some("found")),
            ("${grub_platform}", &["$grub_platform"], Some("grub_platform")),
            ("root=$root", &["root=$root"], Some("root")),
            ("a$", &["a$"], None),
            ("${a-b}", &["${a-b}"], None),
        ];
        for (word, expected, unknown) in rows {
            let expanded = variables.expand(word, Use::Text);
            assert_eq!(expanded.words, expected, "{word}");
            let name = expanded.obstacle.map(|obstacle| match obstacle {
                Obstacle::Variable { name, .. } => name,
                other => panic!("{other}"),
            });
            assert_eq!(name.as_deref(), unknown, "{word}");
        }
        assert_eq!(variables.expand("$prefix/../k", Use::Path).words, [format!("({DEVICE})/boot/grub/../k")]);
    }

    #[test]
    fn an_assignment_under_a_condition_is_not_constant() {
        let mut variables = Variables::new("", MAX_EXPANSION_BYTES);
        variables.set("a", constant("1"), false);
        variables.set("a", constant("1"), true);
        assert_eq!(variables.value("a"), constant("1"));
        variables.set("a", constant("2"), true);
        assert_eq!(variables.value("a"), VariableValue::Unknown(ValueOrigin::Condition));
        variables.set("b", constant("1"), true);
        assert_eq!(variables.value("b"), VariableValue::Unknown(ValueOrigin::Condition));
        variables.set("a", constant("3"), false);
        assert_eq!(variables.value("a"), constant("3"));
    }

    #[test]
    fn a_submenu_sees_exported_variables_only() {
        let mut variables = Variables::new("", MAX_EXPANSION_BYTES);
        variables.set("a", constant("1"), false);
        variables.set("b", constant("2"), false);
        variables.export("b");
        variables.open(false);
        assert_eq!((variables.value("a"), variables.value("b")), (constant("1"), constant("2")));
        variables.close();
        variables.open(true);
        assert_eq!((variables.value("a"), variables.value("b")), (constant(""), constant("2")));
        variables.set("a", constant("3"), false);
        variables.open(false);
        assert_eq!(variables.value("a"), constant("3"));
        variables.close();
        variables.close();
        assert_eq!(variables.value("a"), constant("1"));
    }

    #[test]
    fn values_that_double_take_little_memory() {
        let mut variables = Variables::new("", MAX_EXPANSION_BYTES);
        variables.set("a", constant("xxxxxxxx"), false);
        for _ in 0..100 {
            let value = variables.value_of("$a$a");
            variables.set("a", value, false);
        }
        assert_eq!(variables.value("a"), VariableValue::Unknown(ValueOrigin::Length));
        variables.set("b", constant(&"x".repeat(MAX_VALUE_LENGTH)), false);
        let long = variables.expand(&"$b".repeat(100_000), Use::Text);
        assert!(long.words.iter().map(String::len).sum::<usize>() <= MAX_EXPANSION_BYTES + 200_000);
    }
}
