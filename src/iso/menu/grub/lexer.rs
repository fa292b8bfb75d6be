//! Words, commands and keywords of GRUB scripts.

use std::ops::Range;

/// Words before a command.
const KEYWORDS: [&str; 10] = ["if", "then", "else", "elif", "while", "until", "do", "!", "time", "{"];

/// A part of a script.
#[derive(Debug)]
pub enum Token<'a> {
    /// A command with its words. `fi`, `done` and `for` are commands too.
    Command(GrubCommand<'a>),
    /// A word before a command.
    Keyword(&'a str),
    /// The beginning of a block.
    Open,
    /// The end of a block.
    Close,
}

/// A command of a script. It has at least one word.
#[derive(Debug, Default)]
pub struct GrubCommand<'a> {
    /// Name of the command, then its arguments.
    pub words: Vec<GrubWord<'a>>,
}

impl<'a> GrubCommand<'a> {
    /// Returns the first word.
    pub fn name(&self) -> &'a str {
        self.words.first().map_or("", |word| word.text)
    }

    /// Returns whether the command has one of the names.
    pub fn has_name(&self, names: &[&str]) -> bool {
        names.contains(&self.name())
    }

    /// Returns whether all quotes are closed. GRUB refuses a script with an open quote.
    pub fn is_closed(&self) -> bool {
        self.words.iter().all(|word| word.closed)
    }
}

/// A word with its quotes and its position.
#[derive(Debug)]
pub struct GrubWord<'a> {
    /// The word as it is written.
    pub text: &'a str,
    /// Byte range in the script.
    pub at: Range<usize>,
    /// Whether its quotes are closed.
    pub closed: bool,
}

/// Splits a script into its parts.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut command = GrubCommand::default();
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        match next {
            '\\' if text[at..].starts_with("\\\n") => at += 2,
            '\\' if text[at..].starts_with("\\\r\n") => at += 3,
            '#' => at += text[at..].find('\n').unwrap_or(text.len() - at),
            '\n' | ';' | '|' | '&' => {
                end_command(&mut tokens, &mut command);
                at += 1;
            }
            next if next.is_ascii_whitespace() => at += 1,
            _ => {
                let (end, closed) = word_end(text, at);
                let word = &text[at..end];
                if (command.words.is_empty() && KEYWORDS.contains(&word)) || word == "{" || word == "}" {
                    end_command(&mut tokens, &mut command);
                    tokens.push(match word {
                        "{" => Token::Open,
                        "}" => Token::Close,
                        keyword => Token::Keyword(keyword),
                    });
                } else {
                    command.words.push(GrubWord { text: word, at: at..end, closed });
                }
                at = end;
            }
        }
    }
    end_command(&mut tokens, &mut command);
    tokens
}

/// Adds the command that ends here, if it has words.
fn end_command<'a>(tokens: &mut Vec<Token<'a>>, command: &mut GrubCommand<'a>) {
    if !command.words.is_empty() {
        tokens.push(Token::Command(std::mem::take(command)));
    }
}

/// Returns the commands among the parts of a script.
pub fn commands<'t, 'a>(tokens: &'t [Token<'a>]) -> impl Iterator<Item = &'t GrubCommand<'a>> {
    tokens.iter().filter_map(|token| match token {
        Token::Command(command) => Some(command),
        Token::Keyword(_) | Token::Open | Token::Close => None,
    })
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
pub fn quote(argument: &str) -> String {
    let unquoted = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:=,+@%-".contains(&byte);
    let is_plain = !argument.is_empty() && argument.bytes().all(unquoted);
    if is_plain { argument.to_owned() } else { format!("'{}'", argument.replace('\'', "'\\''")) }
}

/// Removes the quotes of a word. Variables stay as they are written.
pub fn unquote(word: &str) -> String {
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
