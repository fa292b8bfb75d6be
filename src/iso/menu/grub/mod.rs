//! Scripts of GRUB 2 (GRUB manual, "Writing full configuration files directly").

mod command;
mod condition;
mod evaluate;
mod lexer;
mod variables;

use std::collections::{BTreeSet, HashMap};

use super::edit::{MenuEdit, edited_arguments};
use super::entry::{MenuEntry, base_name};
use command::CommandKind;
use evaluate::{Evaluated, Limits, Script, evaluate};
use lexer::{GrubCommand, commands, quote, unquote};

pub use evaluate::is_script as matches;

/// The scripts of an image.
#[derive(Debug)]
pub struct GrubScripts<'a> {
    texts: Vec<&'a str>,
    scripts: Vec<Script<'a>>,
    results: Vec<ScriptResult>,
}

/// What the evaluation of the scripts says about one of them.
#[derive(Debug, Default)]
struct ScriptResult {
    /// Kernels of its commands, whichever script reads it.
    entries: Vec<MenuEntry>,
    other_default: Option<String>,
    has_menu: bool,
    /// Values of the words with variables in its kernel commands, by position.
    words: HashMap<usize, Option<Vec<String>>>,
}

impl<'a> GrubScripts<'a> {
    /// Reads and evaluates scripts, each with its path. A script that another one reads is evaluated within that one, so
    /// that its variables have values.
    pub fn read(files: &[(&'a str, &'a str)]) -> Self {
        let scripts: Vec<Script<'a>> = files.iter().map(|(path, text)| Script::read(path, text)).collect();
        let mut limits = Limits::default();
        let evaluated: Vec<Evaluated> = (0..scripts.len()).map(|root| evaluate(&scripts, root, &mut limits)).collect();
        // Other boot managers read `loopback.cfg`, in place of the menu that it reads itself.
        let is_loopback = |script: usize| is_loopback(files[script].0);
        let main = (0..scripts.len()).filter(|script| !is_loopback(*script));
        let read: BTreeSet<usize> = main.flat_map(|script| evaluated[script].reads.iter().copied()).collect();
        let mut roots: Vec<usize> = (0..scripts.len()).filter(|script| !read.contains(script)).collect();
        let mut covered: BTreeSet<usize> =
            roots.iter().flat_map(|root| evaluated[*root].reads.iter().copied()).collect();
        for (script, evaluation) in evaluated.iter().enumerate() {
            // Scripts that read each other.
            if read.contains(&script) && !covered.contains(&script) {
                roots.push(script);
                covered.extend(evaluation.reads.iter().copied().chain([script]));
            }
        }
        let mut results: Vec<ScriptResult> = scripts.iter().map(|_| ScriptResult::default()).collect();
        let mut readers: Vec<Option<usize>> = vec![None; scripts.len()];
        for (root, evaluation) in evaluated.into_iter().enumerate().filter(|(root, _)| roots.contains(root)) {
            let own = |script: &usize| *script == root || !is_loopback(root);
            for (script, entry) in evaluation.entries.into_iter().filter(|(script, _)| own(script)) {
                if *readers[script].get_or_insert(root) == root {
                    results[script].entries.push(entry);
                }
            }
            for ((script, at), value) in evaluation.words {
                let known = results[script].words.entry(at).or_insert_with(|| value.clone());
                if *known != value {
                    *known = None;
                }
            }
            (results[root].other_default, results[root].has_menu) = (evaluation.other_default, evaluation.has_menu);
        }
        Self { texts: files.iter().map(|(_, text)| *text).collect(), scripts, results }
    }

    /// Takes the kernels of a script.
    pub fn take_entries(&mut self, script: usize) -> Vec<MenuEntry> {
        std::mem::take(&mut self.results[script].entries)
    }

    /// Applies an edit to a script. Returns the text and the number of commands that load a Linux kernel.
    pub fn edit(&self, number: usize, edit: &MenuEdit) -> (String, usize) {
        let (script, result) = (&self.scripts[number], &self.results[number]);
        let kernels: Vec<(&GrubCommand<'_>, usize)> = kernel_commands(script).collect();
        let mut out = self.texts[number].to_owned();
        if edit.changes_arguments() {
            // From the last to the first, so that the positions of the others stay valid.
            for (command, path) in kernels.iter().rev() {
                let Some(path_end) = command.words.get(*path).map(|word| word.at.end) else { continue };
                let words = edited_words(command, *path, &result.words, edit);
                let end = command.words.last().map_or(path_end, |word| word.at.end);
                let tail = words.iter().map(|word| format!(" {word}")).collect::<String>();
                out.replace_range(path_end..end, &tail);
            }
        }
        let has_menu = result.has_menu || commands(&script.tokens).any(|command| command.has_name(&["menuentry"]));
        if let Some(seconds) = edit.timeout
            && has_menu
            && commands(&script.tokens).all(GrubCommand::is_closed)
        {
            // The last assignment is effective: a theme or an include may have set another timeout.
            let gap = if out.ends_with('\n') { "" } else { "\n" };
            out.push_str(&format!("{gap}set timeout_style=menu\nset timeout={seconds}\n"));
            if let Some(default) = &result.other_default {
                // `>` separates a submenu from its entry.
                out.push_str(&format!("set default={}\n", quote(&default.replace('>', ">>"))));
            }
        }
        (out, kernels.len())
    }
}

/// Returns whether a script is the one that other boot managers read from an image in a file.
pub fn is_loopback(path: &str) -> bool {
    base_name(path).eq_ignore_ascii_case("loopback.cfg")
}

/// Returns the commands that load a Linux kernel, with the number of the word that has its path.
fn kernel_commands<'s, 'a>(script: &'s Script<'a>) -> impl Iterator<Item = (&'s GrubCommand<'a>, usize)> {
    script.tokens.iter().zip(&script.kinds).filter_map(|(token, kind)| match (token, kind) {
        (lexer::Token::Command(command), CommandKind::Kernel(path) | CommandKind::HypervisorKernel(path)) => {
            Some((command, *path))
        }
        (_, _) => None,
    })
}

/// Returns the arguments of a kernel command after an edit. A variable with an argument that is removed is replaced by the
/// others of its arguments.
fn edited_words(
    command: &GrubCommand<'_>,
    path: usize,
    values: &HashMap<usize, Option<Vec<String>>>,
    edit: &MenuEdit,
) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in command.words.iter().skip(path + 1) {
        match values.get(&word.at.start) {
            Some(Some(values)) if values.iter().any(|value| edit.removes(value)) => {
                words.extend(values.iter().filter(|value| !edit.removes(value)).map(|value| quote(value)));
            }
            _ if edit.removes(&unquote(word.text)) => {}
            _ => words.push(word.text.to_owned()),
        }
    }
    edited_arguments(words.iter().map(String::as_str), edit, quote)
}

#[cfg(test)]
mod tests;
