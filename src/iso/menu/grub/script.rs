//! The scripts of an image.

use std::collections::HashMap;

use super::command::{CommandKind, CommandVariables};
use super::lexer::{Token, commands, tokens};

/// A script of an image.
#[derive(Debug)]
pub struct Script<'a> {
    /// Path in the image.
    pub path: &'a str,
    /// Parts of the text.
    pub tokens: Vec<Token<'a>>,
    /// Kinds of the commands, by the number of their token.
    pub kinds: Vec<CommandKind>,
}

impl<'a> Script<'a> {
    /// Reads a script.
    pub fn read(path: &'a str, text: &'a str) -> Self {
        let tokens = tokens(text);
        let variables = CommandVariables::read(&tokens);
        let mut reader = variables.reader();
        let kind = |token: &Token<'_>| match token {
            Token::Command(command) => reader.next(command),
            Token::Keyword(_) | Token::Open | Token::Close => CommandKind::Other,
        };
        let kinds = tokens.iter().map(kind).collect();
        Self { path, tokens, kinds }
    }
}

/// The scripts of an image.
#[derive(Debug)]
pub struct Scripts<'a> {
    /// Scripts.
    pub list: Vec<Script<'a>>,
    /// Their numbers by their paths in lower case, the first of a path.
    paths: HashMap<String, usize>,
}

impl<'a> Scripts<'a> {
    /// Reads scripts, each with its path.
    pub fn read(files: &[(&'a str, &'a str)]) -> Self {
        let mut paths = HashMap::new();
        for (number, (path, _)) in files.iter().enumerate() {
            paths.entry(path.to_ascii_lowercase()).or_insert(number);
        }
        Self { list: files.iter().map(|(path, text)| Script::read(path, text)).collect(), paths }
    }

    /// Returns the number of the script at a path. Only a script in an EFI partition finds others there.
    pub fn find(&self, path: &str, is_in_partition: bool) -> Option<usize> {
        let path = path.to_ascii_lowercase();
        let in_partition = || self.paths.get(&format!("efi:{path}")).filter(|_| is_in_partition);
        self.paths.get(&path).or_else(in_partition).copied()
    }
}

/// Returns whether a text is a GRUB script, by its commands. A script of GRUB's own directories that only reads others is
/// one too. The path is in lower case.
pub fn is_script(path: &str, text: &str) -> bool {
    let script = Script::read("", text);
    let has_kernel =
        script.kinds.iter().any(|kind| matches!(kind, CommandKind::Kernel(_) | CommandKind::HypervisorKernel(_)));
    let is_place = path.contains("grub") || path.contains("/efi/");
    let readers: &[&str] = if is_place { &["source", "configfile"] } else { &[] };
    has_kernel
        || commands(&script.tokens)
            .any(|command| command.has_name(&["menuentry", "submenu"]) || command.has_name(readers))
}
