//! Scripts of GRUB 2 (GRUB manual, "Writing full configuration files directly").

mod command;
mod condition;
mod evaluate;
mod lexer;
mod script;
mod selection;
mod variables;

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::edit::{EditRoom, MenuEdit, edited_arguments};
use super::entry::{MenuEntry, MenuGap, base_name};
use super::lookup::FileLookup;
use command::{CommandKind, assignment};
use evaluate::{Evaluated, EvaluationBudget, evaluate};
use lexer::{GrubCommand, commands, quote, unquote};
use script::{Script, Scripts};

pub use script::is_script as matches;

/// The scripts of an image.
#[derive(Debug)]
pub struct GrubScripts<'a> {
    texts: Vec<&'a str>,
    scripts: Scripts<'a>,
    results: Vec<ScriptResult>,
}

/// The result of the evaluation for one script.
#[derive(Debug, Default)]
struct ScriptResult {
    /// Kernels of its commands, whichever script reads it.
    entries: Vec<MenuEntry>,
    /// VariableValue of `default` in place of one that leaves for the local disk.
    other_default: Option<Rc<str>>,
    /// Whether it shows a menu.
    has_menu: bool,
    gaps: BTreeSet<MenuGap>,
    /// Values of the words with variables in its kernel commands, by position.
    words: HashMap<usize, Option<Vec<String>>>,
}

impl<'a> GrubScripts<'a> {
    /// Reads and evaluates scripts, each with its path. A script that another one reads is evaluated within that one, so
    /// that its variables have values.
    pub fn read(files: &[(&'a str, &'a str)], lookup: &mut FileLookup<'_>) -> Self {
        let scripts = Scripts::read(files);
        let mut limits = EvaluationBudget::new(lookup);
        let evaluated: Vec<Evaluated> = (0..files.len()).map(|root| evaluate(&scripts, root, &mut limits)).collect();
        let results = results_of(files, evaluated);
        Self { texts: files.iter().map(|(_, text)| *text).collect(), scripts, results }
    }

    /// Takes the kernels of a script.
    pub fn take_entries(&mut self, script: usize) -> Vec<MenuEntry> {
        std::mem::take(&mut self.results[script].entries)
    }

    /// Takes the parts of a script that are not understood.
    pub fn take_gaps(&mut self, script: usize) -> BTreeSet<MenuGap> {
        std::mem::take(&mut self.results[script].gaps)
    }

    /// Returns the number of commands that load a Linux kernel.
    pub fn kernel_lines(&self, script: usize) -> usize {
        kernel_commands(&self.scripts.list[script]).count()
    }

    /// Applies an edit to a script.
    pub fn edit(&self, number: usize, edit: &MenuEdit, room: &mut EditRoom) -> String {
        let (script, result, text) = (&self.scripts.list[number], &self.results[number], self.texts[number]);
        let (mut out, mut copied) = (String::new(), 0);
        for (command, path) in kernel_commands(script).filter(|_| edit.changes_arguments()) {
            let Some(path_end) = command.words.get(path).map(|word| word.at.end) else { continue };
            out.push_str(&text[copied..path_end]);
            for word in edited_words(command, path, &result.words, edit) {
                if !room.take(1 + word.len()) {
                    return out;
                }
                out.extend([" ", &word]);
            }
            copied = command.words.last().map_or(path_end, |word| word.at.end);
        }
        out.push_str(&text[copied..]);
        if let Some(seconds) = edit.timeout
            && boots_by_itself(script, result)
            && commands(&script.tokens).all(GrubCommand::is_closed)
        {
            // The last assignment is effective: a theme or an include may have set another timeout.
            let gap = if out.ends_with('\n') { "" } else { "\n" };
            out.push_str(&format!("{gap}set timeout_style=menu\nset timeout={seconds}\n"));
            if let Some(default) = &result.other_default {
                let line = format!("set default={}\n", quote(default));
                if room.take(line.len()) {
                    out.push_str(&line);
                }
            }
        }
        out
    }
}

/// Returns the results of scripts, from the evaluation of each with those that it reads.
fn results_of(files: &[(&str, &str)], mut evaluated: Vec<Evaluated>) -> Vec<ScriptResult> {
    let mut results: Vec<ScriptResult> = files.iter().map(|_| ScriptResult::default()).collect();
    // A script may be read by some menus, and be the menu of others: no default of any of them leaves for the disk.
    for (script, result) in results.iter_mut().enumerate() {
        result.other_default = evaluated[script].other_defaults.remove(&script);
    }
    for evaluation in &mut evaluated {
        for (script, other) in std::mem::take(&mut evaluation.other_defaults) {
            results[script].other_default.get_or_insert(other);
        }
        for script in &evaluation.menus {
            results[*script].has_menu = true;
        }
    }
    let roots = roots_of(files, &evaluated);
    let mut readers: Vec<Option<usize>> = vec![None; files.len()];
    for (root, evaluation) in evaluated.into_iter().enumerate().filter(|(root, _)| roots.contains(root)) {
        let own = |script: &usize| *script == root || !is_loopback(files[root].0);
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
        for (script, gap) in evaluation.gaps {
            results[script].gaps.insert(gap);
        }
    }
    results
}

/// Returns the scripts that no other one reads, and one of those that read each other. Other boot managers read
/// `loopback.cfg`, in place of the menu that it reads itself.
fn roots_of(files: &[(&str, &str)], evaluated: &[Evaluated]) -> BTreeSet<usize> {
    let main = (0..files.len()).filter(|script| !is_loopback(files[*script].0));
    let read: BTreeSet<usize> = main.flat_map(|script| evaluated[script].reads.iter().copied()).collect();
    let mut roots: BTreeSet<usize> = (0..files.len()).filter(|script| !read.contains(script)).collect();
    let mut covered: BTreeSet<usize> = roots.iter().flat_map(|root| evaluated[*root].reads.iter().copied()).collect();
    for (script, evaluation) in evaluated.iter().enumerate() {
        if read.contains(&script) && !covered.contains(&script) {
            roots.insert(script);
            covered.extend(evaluation.reads.iter().copied().chain([script]));
        }
    }
    roots
}

/// Returns whether a script determines the timeout and the default of a menu: it has menu entries, or sources them and
/// sets these variables itself.
fn boots_by_itself(script: &Script<'_>, result: &ScriptResult) -> bool {
    let sets = |command: &GrubCommand<'_>| {
        let mut words = command.words.iter().filter_map(|word| assignment(word.text));
        words.any(|(name, _)| matches!(name, "timeout" | "default"))
    };
    commands(&script.tokens).any(|command| command.has_name(&["menuentry"]))
        || (result.has_menu && (result.other_default.is_some() || commands(&script.tokens).any(sets)))
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
