//! Conditions of GRUB scripts: which commands run, as far as the script determines it.

use super::lexer::GrubCommand;
use super::variables::{Expanded, Use, Variables};

/// Whether a command runs, or succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// Never.
    No,
    /// At some boots, or unknown.
    Maybe,
    /// Always.
    Yes,
}

impl Truth {
    fn negated(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }
}

/// An `if`, or a loop.
#[derive(Debug)]
struct Frame {
    is_loop: bool,
    /// Whether the commands around it run.
    outer: Truth,
    /// Whether a branch before this one is taken.
    taken: Truth,
    /// Whether the commands of this branch run.
    now: Truth,
}

/// The conditions around a command.
#[derive(Debug)]
pub struct Conditions {
    outer: Truth,
    frames: Vec<Frame>,
    /// Result of the last command.
    last: Truth,
    /// Whether the next command is negated.
    negates: bool,
}

impl Conditions {
    /// Creates the conditions of a block.
    pub fn new(outer: Truth) -> Self {
        Self { outer, frames: Vec::new(), last: Truth::Maybe, negates: false }
    }

    /// Returns whether the next command runs.
    pub fn now(&self) -> Truth {
        self.frames.last().map_or(self.outer, |frame| frame.now)
    }

    /// Reads a word before a command.
    pub fn keyword(&mut self, word: &str) {
        let (outer, last) = (self.now(), self.last);
        match word {
            "if" => self.frames.push(Frame { is_loop: false, outer, taken: Truth::No, now: outer }),
            "while" | "until" => self.push_loop(),
            "!" => self.negates = !self.negates,
            _ => {}
        }
        let Some(frame) = self.frames.last_mut().filter(|frame| !frame.is_loop) else { return };
        let untaken = frame.outer.min(frame.taken.negated());
        match word {
            "then" => {
                frame.now = untaken.min(last);
                frame.taken = frame.taken.max(last);
            }
            "else" | "elif" => frame.now = untaken,
            _ => {}
        }
    }

    /// Reads a command that begins or ends a loop, or ends an `if`. Returns whether it is one.
    pub fn structure(&mut self, command: &GrubCommand<'_>) -> bool {
        match command.name() {
            "fi" | "done" => drop(self.frames.pop()),
            "for" => self.push_loop(),
            _ => return false,
        }
        true
    }

    /// Records the result of a command.
    pub fn completed(&mut self, result: Truth) {
        self.last = if std::mem::take(&mut self.negates) { result.negated() } else { result };
    }

    /// Begins a loop. How often it runs is not known.
    fn push_loop(&mut self) {
        let outer = self.now();
        self.frames.push(Frame { is_loop: true, outer, taken: Truth::No, now: outer.min(Truth::Maybe) });
    }
}

/// Returns the result of `[ ... ]` or `test ...`. Tests of files and numbers are unknown.
pub fn test(command: &GrubCommand<'_>, variables: &mut Variables) -> Truth {
    let words = command.words.iter().skip(1).map(|word| word.text);
    let mut words: Vec<Option<String>> = words
        .flat_map(|word| match variables.expand(word, Use::Text) {
            Expanded { obstacle: Some(_), .. } => vec![None],
            Expanded { words, obstacle: None } => words.into_iter().map(Some).collect(),
        })
        .collect();
    if command.name() == "[" && words.pop() != Some(Some("]".to_owned())) {
        return Truth::Maybe;
    }
    let is = |word: &Option<String>, operator: &str| word.as_deref() == Some(operator);
    let alternatives = words.split(|word| is(word, "-o"));
    let truth = alternatives.map(|all| all.split(|word| is(word, "-a")).map(comparison).min().unwrap_or(Truth::Maybe));
    truth.max().unwrap_or(Truth::Maybe)
}

/// Returns the result of one comparison. A word whose value is not known is absent.
fn comparison(words: &[Option<String>]) -> Truth {
    let known = |text: &Option<String>, is: fn(&str) -> bool| match text {
        Some(text) if is(text) => Truth::Yes,
        Some(_) => Truth::No,
        None => Truth::Maybe,
    };
    match words {
        [] => Truth::No,
        [Some(not), rest @ ..] if not == "!" => comparison(rest).negated(),
        [operator] if operator.as_deref().is_some_and(|word| word == "-n" || word == "-z") => Truth::Maybe,
        [text] => known(text, |text| !text.is_empty()),
        [Some(operator), text] if operator == "-n" => known(text, |text| !text.is_empty()),
        [Some(operator), text] if operator == "-z" => known(text, str::is_empty),
        [Some(one), Some(operator), Some(other)] => match operator.as_str() {
            "=" | "==" if one == other => Truth::Yes,
            "=" | "==" => Truth::No,
            "!=" if one != other => Truth::Yes,
            "!=" => Truth::No,
            _ => Truth::Maybe,
        },
        _ => Truth::Maybe,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::{commands, tokens};
    use super::super::variables::VariableValue;
    use super::*;

    #[test]
    fn a_test_of_constants_has_a_result() {
        let mut variables = Variables::new("", 1000);
        variables.set("a", VariableValue::Constant("1".into()), false);
        let rows = [
            ("[ \"$a\" = \"1\" ]", Truth::Yes),
            ("[ \"$a\" == 2 ]", Truth::No),
            ("[ $a != 2 ]", Truth::Yes),
            ("[ -n \"$a\" ]", Truth::Yes),
            ("[ -z \"$a\" ]", Truth::No),
            ("[ \"${iso_path}\" ]", Truth::No),
            ("[ -n \"$iso_path\" ]", Truth::No),
            ("[ ! -z \"$iso_path\" ]", Truth::No),
            ("[ \"$grub_platform\" = \"efi\" ]", Truth::Maybe),
            ("[ \"$grub_platform\" = \"efi\" -a -n \"$nothing\" ]", Truth::No),
            ("[ \"$grub_platform\" = \"efi\" -o \"$a\" = 1 ]", Truth::Yes),
            ("[ -f /boot/memtest.efi ]", Truth::Maybe),
            ("[ x$feature_default_font_path = xy ]", Truth::Maybe),
            ("test \"$a\" = 1", Truth::Yes),
            ("[ \"$a\" = 1", Truth::Maybe),
        ];
        for (text, expected) in rows {
            let tokens = tokens(text);
            let command = commands(&tokens).next().unwrap();
            assert_eq!(test(command, &mut variables), expected, "{text}");
        }
    }
}
