//! Evaluation of GRUB scripts: the kernels of their menu entries, with the values of variables as far as they are
//! constant. Loops do not run, and commands have no effect but on variables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;

use super::command::{CommandKind, assignment, is_name};
use super::condition::{Conditions, Truth, test};
use super::lexer::{GrubCommand, Token, commands};
use super::script::Scripts;
use super::selection::{Item, Preceding, Selection, default_item, may_be_number};
use super::variables::{DEVICE, Expanded, MAX_EXPANSION_BYTES, Use, VariableValue, Variables};
use crate::iso::menu::entry::{
    EntryRoom, MAX_DEFAULT_LENGTH, MenuEntry, MenuGap, Obstacle, ValueOrigin, directory, is_side_title, normal_path,
    takes_arguments,
};
use crate::iso::menu::lookup::FileLookup;

/// Maximum length of the functions and other scripts that the scripts of an image call, in bytes, with each call.
const MAX_CALLED_BYTES: usize = 1 << 20;
/// Maximum depth of calls, scripts and submenus.
const MAX_DEPTH: usize = 8;
/// Maximum number of kernels that share the initrds of one command.
const MAX_SHARED: usize = 8;
/// Commands that end a menu entry without a kernel of the image.
const LEAVING: [&str; 6] = ["exit", "chainloader", "halt", "reboot", "fwsetup", "normal_exit"];

/// The result of evaluating a script.
#[derive(Debug, Default)]
pub struct Evaluated {
    /// Kernels, each with the number of the script that has its command.
    pub entries: Vec<(usize, MenuEntry)>,
    /// Entries to boot instead of the default ones that leave for the local disk, as values of `default`, by the scripts
    /// that show the menu or have its default entry.
    pub other_defaults: BTreeMap<usize, Rc<str>>,
    /// Scripts that show menus: with their own entries, or with those of scripts that they source.
    pub menus: BTreeSet<usize>,
    /// What is not understood, with the number of the script that has the command.
    pub gaps: BTreeSet<(usize, MenuGap)>,
    /// Numbers of the other scripts that it reads.
    pub reads: BTreeSet<usize>,
    /// Values of the words with variables in kernel commands, by script and position; absent where they differ.
    pub words: HashMap<(usize, usize), Option<Vec<String>>>,
}

/// The effects of the commands of a script or of a menu entry.
#[derive(Debug, Default)]
struct Block {
    items: Vec<Item>,
    /// Kernels, each with the number of its script, and whether an initrd command followed.
    kernels: Vec<(usize, MenuEntry, bool)>,
    hypervisor: Option<String>,
    leaves: bool,
    /// Whether a script is a part of it that is not read.
    has_gap: bool,
}

/// What a menu does without a key, and what it may do instead.
#[derive(Debug, Default)]
struct Outcome {
    /// Whether the entry that boots without a key may leave for the local disk.
    leaves: bool,
    /// VariableValue of `default` for the first entry that boots a kernel and is no rescue system, upgrade or test.
    other: Option<String>,
}

/// A script while it is being evaluated.
#[derive(Debug)]
struct Evaluator<'s, 'a, 'l, 'f> {
    scripts: &'s Scripts<'a>,
    variables: Variables,
    functions: HashMap<&'a str, (usize, Range<usize>)>,
    limits: &'s mut EvaluationBudget<'l, 'f>,
    depth: usize,
    /// Scripts that are being read, the root first.
    reading: Vec<usize>,
    /// Number of entries and submenus around the commands: a menu in them is not shown without a key.
    enclosing: usize,
    result: Evaluated,
}

/// The memory that the scripts of an image may still take.
#[derive(Debug)]
pub struct EvaluationBudget<'l, 'f> {
    /// Bytes of functions and other scripts.
    called: usize,
    /// Bytes of expanded variables.
    expanded: usize,
    /// Bytes of entries.
    entries: EntryRoom,
    /// Lookups of other scripts.
    files: &'l mut FileLookup<'f>,
}

impl<'l, 'f> EvaluationBudget<'l, 'f> {
    /// Creates the limits of an image.
    pub fn new(files: &'l mut FileLookup<'f>) -> Self {
        Self { called: MAX_CALLED_BYTES, expanded: MAX_EXPANSION_BYTES, entries: EntryRoom::default(), files }
    }
}

/// Evaluates a script. The others are those that it may read.
pub fn evaluate(scripts: &Scripts<'_>, root: usize, limits: &mut EvaluationBudget<'_, '_>) -> Evaluated {
    let path = scripts.list[root].path;
    let directory = directory(path.strip_prefix("efi:").unwrap_or(path));
    let mut evaluator = Evaluator {
        scripts,
        variables: Variables::new(directory, limits.expanded),
        functions: HashMap::new(),
        limits,
        depth: 0,
        reading: vec![root],
        enclosing: 0,
        result: Evaluated::default(),
    };
    let mut block = Block::default();
    evaluator.run(root, 0..scripts.list[root].tokens.len(), Truth::Yes, &mut block);
    evaluator.show_menu(root, block);
    evaluator.limits.expanded = evaluator.variables.room();
    evaluator.result
}

impl<'a> Evaluator<'_, 'a, '_, '_> {
    /// Evaluates the tokens of a block.
    fn run(&mut self, script: usize, range: Range<usize>, outer: Truth, block: &mut Block) {
        let scripts = self.scripts;
        let tokens = &scripts.list[script].tokens;
        let mut conditions = Conditions::new(outer);
        let mut at = range.start;
        while let Some(token) = tokens.get(at).filter(|_| at < range.end) {
            at += 1;
            let command = match token {
                Token::Keyword(word) => {
                    conditions.keyword(word);
                    continue;
                }
                Token::Open | Token::Close => continue,
                Token::Command(command) => command,
            };
            let now = conditions.now();
            if conditions.structure(command) {
                let variable = command.words.get(1).filter(|word| command.name() == "for" && is_name(word.text));
                if let Some(variable) = variable {
                    self.variables.set(
                        variable.text,
                        VariableValue::Unknown(ValueOrigin::Command("for".into())),
                        false,
                    );
                }
                continue;
            }
            let defines = command.has_name(&["menuentry", "submenu", "function", "hiddenentry"]);
            if defines && matches!(tokens.get(at), Some(Token::Open)) {
                let end = block_end(tokens, at, range.end);
                if now != Truth::No {
                    self.define(script, command, at + 1..end, now, block);
                }
                at = (end + 1).min(range.end);
                continue;
            }
            let result = match now {
                Truth::No => Truth::No,
                Truth::Maybe | Truth::Yes => self.execute(script, at - 1, command, now, block),
            };
            conditions.completed(result);
        }
    }

    /// Defines a function, a menu entry or a submenu.
    fn define(&mut self, script: usize, command: &GrubCommand<'a>, body: Range<usize>, now: Truth, block: &mut Block) {
        if command.name() == "function" {
            if let Some(name) = command.words.get(1) {
                self.functions.insert(name.text, (script, body));
            }
            return;
        }
        if command.name() == "hiddenentry" {
            // It is no entry of the menu, but a key.
            return;
        }
        let is_submenu = command.name() == "submenu";
        let (mut title, mut id) = (None, None);
        let mut words = command.words.iter().skip(1);
        while let Some(word) = words.next() {
            match word.text {
                "--unrestricted" => {}
                "--id" | "$menuentry_id_option" | "${menuentry_id_option}" => id = words.next().map(|word| word.text),
                option if option.starts_with("--id=") => id = option.get(5..),
                option if option.starts_with("--") && option.contains('=') => {}
                option if option.starts_with("--") => drop(words.next()),
                text => title = title.or(Some(text)),
            }
        }
        let title = title.map(|title| self.variables.expand(title, Use::Text)).unwrap_or_default();
        let id = id.map(|id| self.variables.expand(id, Use::Text));
        let is_known = |expanded: &&Expanded| expanded.obstacle.is_none();
        let all = || id.iter().chain([&title]);
        let names = all().filter(is_known).map(|name| name.words.join(" ")).filter(|name| !name.is_empty());
        block.items.push(Item {
            script,
            body,
            names: names.collect(),
            has_unknown_name: !all().all(|name| is_known(&name)),
            title: title.words.join(" "),
            is_submenu,
            is_certain: now == Truth::Yes,
        });
    }

    /// Evaluates a command. Returns whether it succeeds.
    fn execute(&mut self, script: usize, at: usize, command: &GrubCommand<'a>, now: Truth, block: &mut Block) -> Truth {
        match self.scripts.list[script].kinds.get(at).copied() {
            Some(CommandKind::Kernel(number)) => self.load_kernel(script, command, number, None, block),
            Some(CommandKind::HypervisorKernel(number)) => {
                let hypervisor = block.hypervisor.take();
                self.load_kernel(script, command, number, hypervisor, block);
            }
            Some(CommandKind::Initrd) => self.load_initrds(command, block),
            Some(CommandKind::Hypervisor) => {
                let path = command.words.iter().skip(1).find(|word| !word.text.starts_with("--"));
                block.hypervisor = path.map(|word| self.path(word.text).0);
            }
            Some(CommandKind::Other) | None => return self.execute_other(command, now, block),
        }
        Truth::Maybe
    }

    fn execute_other(&mut self, command: &GrubCommand<'a>, now: Truth, block: &mut Block) -> Truth {
        let maybe = now == Truth::Maybe;
        let name = command.name();
        match name {
            "[" | "test" => return test(command, &mut self.variables),
            "true" => return Truth::Yes,
            "false" => return Truth::No,
            "set" | "export" => {
                for word in command.words.iter().skip(1) {
                    self.assign(word.text, maybe);
                    let variable = assignment(word.text).map_or(word.text, |(name, _)| name);
                    if name == "export" && is_name(variable) {
                        self.variables.export(variable);
                    }
                }
            }
            "unset" => {
                for word in command.words.iter().skip(1).filter(|word| is_name(word.text)) {
                    self.variables.set(word.text, VariableValue::Constant(String::new()), maybe);
                }
            }
            "source" | "." => self.read_script(command, now, Some(block)),
            "configfile" => self.read_script(command, now, None),
            "load_env" | "eval" => self.variables.set_any(name),
            "read" => self.set_by_command(command.words.get(1).map(|word| word.text), name),
            _ if self.assign(name, maybe) => {}
            _ if self.functions.contains_key(name) => self.call(command, now, block),
            _ => {
                block.leaves |= LEAVING.contains(&name);
                self.set_by_option(command);
            }
        }
        Truth::Maybe
    }

    /// Assigns the value in a word (`a=b`). Returns whether it is an assignment.
    fn assign(&mut self, word: &str, maybe: bool) -> bool {
        let Some((name, value)) = assignment(word) else { return false };
        let value = self.variables.value_of(value);
        self.variables.set(name, value, maybe);
        true
    }

    /// Records the variables that a command sets by its options (`--set=NAME`, `--set NAME`, `-s NAME`, `--set=1:NAME`).
    fn set_by_option(&mut self, command: &GrubCommand<'_>) {
        let mut words = command.words.iter().skip(1).map(|word| word.text);
        while let Some(word) = words.next() {
            let variable = match word.strip_prefix("--set=") {
                Some(variable) => Some(variable),
                None if word == "--set" || word == "-s" => words.next(),
                None => None,
            };
            let variable = variable.map(|variable| variable.split_once(':').map_or(variable, |(_, variable)| variable));
            if command.name() == "search" {
                // It finds the device of the image.
                if let Some(variable) = variable.filter(|variable| is_name(variable)) {
                    self.variables.set(variable, VariableValue::Constant(DEVICE.to_string()), false);
                }
            } else {
                self.set_by_command(variable, command.name());
            }
        }
    }

    fn set_by_command(&mut self, variable: Option<&str>, command: &str) {
        if let Some(variable) = variable.filter(|variable| is_name(variable)) {
            self.variables.set(variable, VariableValue::Unknown(ValueOrigin::Command(command.to_owned())), false);
        }
    }

    /// Evaluates a call of a function.
    fn call(&mut self, command: &GrubCommand<'a>, now: Truth, block: &mut Block) {
        let Some((script, body)) = self.functions.get(command.name()).cloned() else { return };
        if self.depth >= MAX_DEPTH || !self.takes_length(script, &body) {
            self.result.gaps.insert((script, MenuGap::Includes));
            block.has_gap = true;
            return;
        }
        self.depth += 1;
        let arguments = command.words.iter().skip(1).map(|word| self.variables.value_of(word.text)).collect();
        let outer = self.variables.swap_arguments(Some(arguments));
        self.run(script, body, now, block);
        self.variables.swap_arguments(outer);
        self.depth -= 1;
    }

    /// Takes the length of a range of tokens from what is left to evaluate; returns whether it fits. After one that does
    /// not fit none does, so that the lengths are not measured again.
    fn takes_length(&mut self, script: usize, range: &Range<usize>) -> bool {
        if self.limits.called == 0 {
            return false;
        }
        let left = self.limits.called.checked_sub(self.length(script, range));
        self.limits.called = left.unwrap_or(0);
        left.is_some()
    }

    /// Returns the length of the commands in a range of tokens, in bytes.
    fn length(&self, script: usize, range: &Range<usize>) -> usize {
        let tokens = self.scripts.list[script].tokens.get(range.clone()).unwrap_or_default();
        tokens.len() + commands(tokens).flat_map(|command| &command.words).map(|word| word.text.len()).sum::<usize>()
    }

    /// Evaluates another script: within this one, or as a menu of its own if there is no block.
    fn read_script(&mut self, command: &GrubCommand<'a>, now: Truth, within: Option<&mut Block>) {
        let Some(word) = command.words.get(1) else { return };
        let (path, obstacle) = self.path(word.text);
        if obstacle.is_some() {
            // A script that cannot be found may set anything.
            if within.is_some() {
                self.variables.set_any(command.name());
            }
            return;
        }
        let Some(script) = self.scripts.find(&path, self.is_in_partition()) else {
            if let Some(gap) = self.unread(path) {
                self.miss(command, gap, within);
            }
            return;
        };
        if self.reading.contains(&script) {
            // What is not read may set anything.
            if within.is_some() {
                self.variables.set_any(command.name());
            }
            return;
        }
        let range = 0..self.scripts.list[script].tokens.len();
        if self.depth >= MAX_DEPTH || !self.takes_length(script, &range) {
            self.miss(command, MenuGap::Includes, within);
            return;
        }
        self.depth += 1;
        self.reading.push(script);
        self.result.reads.insert(script);
        match within {
            Some(block) => self.run(script, range, now, block),
            None => {
                self.variables.open(true);
                let mut block = Block::default();
                self.run(script, range, now, &mut block);
                self.show_menu(script, block);
                self.variables.close();
            }
        }
        self.reading.pop();
        self.depth -= 1;
    }

    /// Returns whether a script that is being read is in an EFI partition.
    fn is_in_partition(&self) -> bool {
        self.reading.iter().any(|script| self.scripts.list[*script].path.starts_with("efi:"))
    }

    /// Returns what is missing if a file is not read; nothing if the image does not have it. A script in an EFI partition
    /// may read files of the partition.
    fn unread(&mut self, path: String) -> Option<MenuGap> {
        let in_partition = self.is_in_partition().then(|| format!("efi:{path}"));
        [path].into_iter().chain(in_partition).find_map(|path| match self.limits.files.exists(&path) {
            Some(false) => None,
            Some(true) => Some(MenuGap::UnreadFile(path)),
            None => Some(MenuGap::Includes),
        })
    }

    /// Records a script that is not read. As a part of this one it may set anything, and have entries.
    fn miss(&mut self, command: &GrubCommand<'a>, gap: MenuGap, within: Option<&mut Block>) {
        self.result.gaps.extend(self.reading.iter().map(|script| (*script, gap.clone())));
        if let Some(block) = within {
            self.variables.set_any(command.name());
            block.has_gap = true;
        }
    }

    /// Adds the kernel of a command.
    fn load_kernel(
        &mut self,
        script: usize,
        command: &GrubCommand<'a>,
        number: usize,
        hypervisor: Option<String>,
        block: &mut Block,
    ) {
        let Some(word) = command.words.get(number) else { return };
        let (kernel, mut obstacle) = self.path(word.text);
        if !takes_arguments(&kernel) {
            return;
        }
        let mut arguments: Vec<String> = Vec::new();
        for word in command.words.iter().skip(number + 1) {
            let expanded = self.variables.expand(word.text, Use::Text);
            if word.text.contains('$') {
                let value = expanded.obstacle.is_none().then(|| expanded.words.clone());
                let known = self.result.words.entry((script, word.at.start)).or_insert_with(|| value.clone());
                if *known != value {
                    *known = None;
                }
            }
            obstacle = obstacle.or(expanded.obstacle);
            arguments.extend(expanded.words.into_iter().filter(|word| !word.is_empty()).map(kernel_word));
        }
        let obstacle = hypervisor.map(Obstacle::Hypervisor).or(obstacle);
        let entry = MenuEntry { kernel, arguments: arguments.join(" "), obstacle, ..MenuEntry::default() };
        block.kernels.push((script, entry, false));
    }

    /// Adds the initrds of a command to the kernels before it that have none.
    fn load_initrds(&mut self, command: &GrubCommand<'a>, block: &mut Block) {
        let mut initrds = Vec::new();
        let mut unknown = None;
        for word in command.words.iter().skip(1).filter(|word| !word.text.starts_with("--")) {
            let expanded = self.variables.expand(word.text, Use::Path);
            unknown = unknown.or(expanded.obstacle);
            initrds.extend(expanded.words.iter().filter(|word| !word.is_empty()).map(|word| image_path(word)));
        }
        let waiting = block.kernels.iter().rev().take(MAX_SHARED).take_while(|(_, _, complete)| !complete).count();
        // The modules of a hypervisor add up, as several initrd commands do not.
        let adds = block
            .kernels
            .last()
            .is_some_and(|(_, kernel, complete)| *complete && matches!(kernel.obstacle, Some(Obstacle::Hypervisor(_))));
        let first = block.kernels.len() - waiting.max(1).min(block.kernels.len());
        for (_, kernel, complete) in &mut block.kernels[first..] {
            if adds {
                kernel.initrds.extend(initrds.iter().cloned());
            } else {
                kernel.initrds.clone_from(&initrds);
            }
            *complete = true;
            kernel.obstacle = kernel.obstacle.take().or_else(|| unknown.clone());
        }
    }

    /// Returns the path in a word, without its device, and the variable in it that is not known.
    fn path(&mut self, word: &str) -> (String, Option<Obstacle>) {
        let Expanded { words, obstacle } = self.variables.expand(word, Use::Path);
        (image_path(words.first().map_or("", String::as_str)), obstacle)
    }

    /// Adds the kernels of a script that shows its menu when all of it has run.
    fn show_menu(&mut self, script: usize, block: Block) {
        if !block.items.is_empty() {
            self.result.menus.insert(script);
        }
        let selection = match self.variables.assigned("default") {
            _ if self.enclosing > 0 => Selection::None,
            None => Selection::Entry(String::new()),
            Some(VariableValue::Constant(default)) => Selection::Entry(default.clone()),
            Some(VariableValue::Unknown(_)) => Selection::Unknown,
        };
        let owners: BTreeSet<usize> = block.items.iter().map(|item| item.script).chain([script]).collect();
        let outcome = self.finish(block, &selection);
        if let (true, Some(other)) = (outcome.leaves, outcome.other) {
            let other: Rc<str> = other.into();
            // A script that this one reads may have the item at another place.
            let owners = owners.into_iter().filter(|owner| *owner == script || !may_be_number(&other));
            self.result.other_defaults.extend(owners.map(|owner| (owner, Rc::clone(&other))));
        }
    }

    /// Adds the kernels of a script, then those of its menu entries. Entries run when all of the script has run.
    fn finish(&mut self, block: Block, selection: &Selection) -> Outcome {
        self.add("", block.kernels, false);
        let (default, rest) = match selection {
            Selection::Entry(value) if !block.has_gap => default_item(&block.items, value),
            Selection::Entry(_) | Selection::None | Selection::Unknown => (None, String::new()),
        };
        let may_be_any = *selection != Selection::None && (default.is_none() || self.variables.may_be_any());
        let mut outcome = Outcome::default();
        let mut in_submenu = None;
        let mut preceding = Preceding::new(block.has_gap);
        for (number, item) in block.items.iter().enumerate() {
            let value = preceding.add(item);
            if self.depth >= MAX_DEPTH {
                continue;
            }
            let is_default = default == Some(number);
            let mut inner = Block::default();
            (self.depth, self.enclosing) = (self.depth + 1, self.enclosing + 1);
            self.variables.open(item.is_submenu);
            // A submenu gets the rest of the value, and may set another one.
            let rest = VariableValue::Constant(if is_default { rest.clone() } else { String::new() });
            if item.is_submenu {
                self.variables.set("default", rest.clone(), false);
            }
            self.run(item.script, item.body.clone(), Truth::Yes, &mut inner);
            if item.is_submenu {
                let inner_default = self.variables.assigned("default").cloned();
                let is_own = inner_default.as_ref() != Some(&rest);
                let selection = match inner_default {
                    Some(VariableValue::Constant(default)) if is_default => Selection::Entry(default),
                    _ if is_default || may_be_any => Selection::Unknown,
                    _ => Selection::None,
                };
                let Outcome { leaves, other } = self.finish(inner, &selection);
                outcome.leaves |= leaves;
                let path = value.filter(|_| !is_own).zip(other).map(|(item, other)| format!("{item}>{other}"));
                in_submenu = in_submenu.or(path.filter(|path| path.len() <= MAX_DEFAULT_LENGTH));
            } else {
                outcome.leaves |= (is_default || may_be_any) && inner.leaves && inner.kernels.is_empty();
                if outcome.other.is_none() && inner.boots(&item.title) {
                    outcome.other = value;
                }
                self.add(&item.title, inner.kernels, is_default);
            }
            self.variables.close();
            (self.depth, self.enclosing) = (self.depth - 1, self.enclosing - 1);
        }
        outcome.other = outcome.other.or(in_submenu);
        outcome
    }

    /// Adds kernels to the result, as far as there is room.
    fn add(&mut self, title: &str, kernels: Vec<(usize, MenuEntry, bool)>, is_default: bool) {
        for (script, kernel, _) in kernels {
            let entry = MenuEntry { title: title.to_owned(), is_default, ..kernel };
            let Some(entry) = self.limits.entries.take(entry) else { return };
            self.result.entries.push((script, entry));
        }
    }
}

impl Block {
    /// Returns whether a menu entry with a title boots a kernel, and is no rescue system, upgrade or test.
    fn boots(&self, title: &str) -> bool {
        let first = self.kernels.first();
        first.is_some_and(|(_, kernel, _)| !is_side_title(title) && !kernel.is_side_entry())
    }
}

/// Returns the number of the token that closes a block, or the end of the range.
fn block_end(tokens: &[Token<'_>], open: usize, end: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().take(end).skip(open) {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            Token::Command(_) | Token::Keyword(_) => {}
        }
        if depth == 0 {
            return at;
        }
    }
    end
}

/// Returns a path without its device. The menu's own loader takes any device for that of the image.
fn image_path(path: &str) -> String {
    let inner = path.strip_prefix('(').and_then(|path| path.split_once(")/")).map(|(_, path)| path);
    match inner.or_else(|| path.strip_prefix('/')) {
        Some(path) => normal_path(path),
        None => path.to_owned(),
    }
}

/// Returns a word of a kernel's command line. GRUB quotes the words that have spaces.
fn kernel_word(word: String) -> String {
    let has_space = word.contains(|sign: char| sign.is_ascii_whitespace());
    if has_space && !word.contains('"') { format!("\"{word}\"") } else { word }
}
