//! Lines and labels of a Syslinux configuration.

use crate::iso::menu::entry::{base_name, is_xen, takes_arguments};

/// Programs that leave the menu for the local disk, or for nothing.
const LEAVING: [&str; 5] = ["chain.c32", "chain.com", "reboot.c32", "poweroff.c32", "poweroff.com"];
/// Maximum number of references to other configurations that are followed.
const MAX_REFERENCES: usize = 64;
/// Maximum length of a file's or a directory's name, in bytes.
pub const MAX_NAME_LENGTH: usize = 1024;

/// A line with a relevant keyword.
#[derive(Debug, Clone)]
pub struct ConfigLine<'a> {
    /// Number of the line, from 0.
    pub number: usize,
    /// White space before the keyword.
    pub indent: &'a str,
    /// Keyword.
    pub keyword: &'a str,
    /// Text after the keyword.
    pub value: &'a str,
    /// The line with its ending.
    pub whole: &'a str,
}

impl ConfigLine<'_> {
    /// Returns the line ending, `\r\n` or `\n`.
    pub fn end(&self) -> &'static str {
        if self.whole.ends_with("\r\n") { "\r\n" } else { "\n" }
    }

    /// Returns the line with another value.
    pub fn with_value(&self, value: &str) -> String {
        format!("{}{} {value}{}", self.indent, self.keyword, self.end())
    }

    /// Returns the line as a comment.
    pub fn commented(&self) -> String {
        format!("# {}", self.whole.trim_ascii_start())
    }
}

/// A label of the menu.
#[derive(Debug, Clone)]
pub struct Label<'a> {
    /// Line of the label. Its value is the name.
    pub line: ConfigLine<'a>,
    /// Title in the menu.
    pub title: Option<&'a str>,
    /// Line with the kernel, or with the program in its place.
    pub kernel: Option<ConfigLine<'a>>,
    /// Line with the arguments.
    pub append: Option<ConfigLine<'a>>,
    /// Initrds, separated by commas.
    pub initrd: Option<&'a str>,
    /// Line that makes it the default.
    pub menu_default: Option<ConfigLine<'a>>,
    /// Whether it boots the local disk.
    pub is_local: bool,
    /// Whether the menu does not show it, or does not let it be chosen.
    pub is_hidden: bool,
}

impl<'a> Label<'a> {
    /// Returns the name.
    pub fn name(&self) -> &'a str {
        self.line.value
    }

    /// Returns the title, or else the name, without the mark of its key.
    pub fn shown(&self) -> String {
        self.title.unwrap_or(self.name()).replace('^', "")
    }

    /// Returns the path of the kernel, and the arguments on its line.
    pub fn kernel_words(&self) -> Option<(&'a str, impl Iterator<Item = &'a str> + use<'a>)> {
        let mut words = self.kernel.as_ref()?.value.split_ascii_whitespace();
        Some((words.next()?, words))
    }

    /// Returns whether the label boots a kernel that takes arguments.
    pub fn boots(&self) -> bool {
        self.hypervisor().is_some() || self.kernel_words().is_some_and(|(kernel, _)| takes_arguments(kernel))
    }

    /// Returns the sections of the arguments of `mboot.c32` that starts Xen: the hypervisor, the kernel and its modules,
    /// each with its arguments.
    pub fn hypervisor(&self) -> Option<Vec<Vec<&'a str>>> {
        let (program, _) = self.kernel_words()?;
        if !base_name(program).eq_ignore_ascii_case("mboot.c32") {
            return None;
        }
        let words: Vec<&str> = self.append.as_ref()?.value.split_ascii_whitespace().collect();
        let sections: Vec<Vec<&str>> = words.split(|word| *word == "---").map(<[&str]>::to_vec).collect();
        let is_xens = is_xen(sections.first()?.first()?) && takes_arguments(sections.get(1)?.first()?);
        is_xens.then_some(sections)
    }

    /// Returns whether the label leaves the menu without a kernel.
    pub fn leaves(&self) -> bool {
        self.is_local || self.kernel_words().is_some_and(|(program, _)| is_leaving(program))
    }
}

/// Returns whether a program leaves the menu without a kernel.
pub fn is_leaving(program: &str) -> bool {
    LEAVING.iter().any(|known| base_name(program).eq_ignore_ascii_case(known))
}

/// A reference to another configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// Directory of its relative names, if it is not that of this configuration.
    pub directory: Option<&'a str>,
    /// How the file is read.
    pub kind: ReferenceKind,
}

/// How a configuration is read that another one refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferenceKind {
    /// As a part of this one.
    Include,
    /// In place of this one, by the loader.
    Config,
    /// As a menu of its own, by a menu program.
    Menu,
    /// By a program with files of another kind.
    Other,
}

/// A step of reading a configuration, in the order of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A label, by its number.
    Label(usize),
    /// The end of a label before the next one.
    End,
    /// Arguments outside of a label, by their number.
    Append(usize),
    /// The beginning of a submenu.
    Open,
    /// The end of a submenu.
    Close,
    /// A line that names the default label, by its number.
    Default(usize),
    /// The submenu is the default of the menu around it.
    Mark,
    /// The submenu is the first one that is shown.
    Start,
    /// Another configuration that is read here, by the number of its reference.
    Include(usize),
}

/// The relevant lines of a configuration.
#[derive(Debug, Default)]
pub struct SyslinuxConfig<'a> {
    /// Lines with arguments outside of labels, for labels that have none.
    pub appends: Vec<ConfigLine<'a>>,
    /// Labels.
    pub labels: Vec<Label<'a>>,
    /// Lines that name a kernel with its arguments in place of a label.
    pub commands: Vec<ConfigLine<'a>>,
    /// Lines with the timeout.
    pub timeouts: Vec<ConfigLine<'a>>,
    /// Lines that name the label to boot without a key (`default`), and those for the end of the timeout.
    pub defaults: Vec<ConfigLine<'a>>,
    /// References to other configurations.
    pub references: Vec<Reference<'a>>,
    /// Steps of reading it.
    pub steps: Vec<Step>,
    /// Whether it shows a menu.
    pub has_menu: bool,
    /// Whether it names its menu program by `ui`. Else the last `default` line does.
    pub has_ui: bool,
    /// Whether it has more references than are followed.
    pub has_more: bool,
    /// Whether the lines that follow belong to the last label.
    in_label: bool,
}

impl<'a> SyslinuxConfig<'a> {
    /// Parses a configuration.
    pub fn read(text: &'a str) -> Self {
        let mut config = Self::default();
        let mut in_help = false;
        for (number, whole) in text.split_inclusive('\n').enumerate() {
            let Some((keyword, value)) = split(whole) else { continue };
            let lower = keyword.to_ascii_lowercase();
            if in_help {
                in_help = lower != "endtext";
                continue;
            }
            in_help = lower == "text" && value.to_ascii_lowercase().starts_with("help");
            let indent = &whole[..whole.len() - whole.trim_ascii_start().len()];
            config.add(&lower, ConfigLine { number, indent, keyword, value, whole });
        }
        config.add_references_of_labels();
        config
    }

    /// Adds a line. `keyword` is in lower case.
    fn add(&mut self, keyword: &str, line: ConfigLine<'a>) {
        let value = line.value;
        match (keyword, self.labels.last_mut().filter(|_| self.in_label)) {
            ("label", _) => {
                self.in_label = true;
                self.steps.push(Step::Label(self.labels.len()));
                self.labels.push(Label::new(line));
            }
            ("timeout", _) => self.timeouts.push(line),
            ("default" | "ontimeout" | "onerror", _) if is_command(value) => self.commands.push(line),
            ("default" | "ontimeout", _) => {
                self.add_program(value);
                self.steps.push(Step::Default(self.defaults.len()));
                self.defaults.push(line);
            }
            ("ui", _) => {
                self.has_ui = true;
                self.add_program(value);
            }
            ("include", _) => self.add_include(value),
            ("append", None) => {
                self.steps.push(Step::Append(self.appends.len()));
                self.appends.push(line);
            }
            ("append", Some(label)) => label.append = Some(line),
            ("kernel" | "linux" | "com32", Some(label)) => (label.kernel, label.is_local) = (Some(line), false),
            ("localboot", Some(label)) => (label.kernel, label.is_local) = (None, true),
            ("boot" | "bss" | "fdimage" | "pxe", Some(label)) => label.kernel = None,
            ("config", Some(label)) => (label.kernel, label.is_local) = (Some(line), false),
            ("initrd", Some(label)) => label.initrd = Some(value),
            ("menu", _) => self.add_menu_line(line),
            (_, _) => {}
        }
    }

    /// Adds a line of the menu: a title, a default, an include, or a beginning or end.
    fn add_menu_line(&mut self, line: ConfigLine<'a>) {
        let Some((word, rest)) = split(line.value) else { return };
        match word.to_ascii_lowercase().as_str() {
            "include" => self.add_include(rest),
            "separator" => self.end_label(Step::End),
            "begin" => self.end_label(Step::Open),
            "end" => self.end_label(Step::Close),
            "start" => self.steps.push(Step::Start),
            "default" if !self.in_label => self.steps.push(Step::Mark),
            word => {
                let Some(label) = self.labels.last_mut().filter(|_| self.in_label) else { return };
                match word {
                    "label" => label.title = label.title.or(Some(rest)),
                    "default" => label.menu_default = Some(line),
                    "hide" | "disable" | "disabled" => label.is_hidden = true,
                    _ => {}
                }
            }
        }
    }

    /// Ends the label that is being read.
    fn end_label(&mut self, step: Step) {
        self.in_label = false;
        self.steps.push(step);
    }

    /// Adds an include. A title after its name makes it a submenu.
    fn add_include(&mut self, value: &'a str) {
        let (file, title) = split(value).unwrap_or_default();
        let number = self.references.len();
        let is_followed = self.add_reference(Reference { file, directory: None, kind: ReferenceKind::Include });
        let step = is_followed.then_some(Step::Include(number));
        if title.is_empty() {
            self.steps.extend(step);
        } else {
            self.end_label(Step::Open);
            self.steps.extend(step);
            self.steps.push(Step::Close);
        }
    }

    /// Adds a reference; returns whether it is followed.
    fn add_reference(&mut self, reference: Reference<'a>) -> bool {
        let is_followed = self.references.len() < MAX_REFERENCES && reference.file.len() <= MAX_NAME_LENGTH;
        if is_followed {
            self.references.push(reference);
        }
        self.has_more |= !is_followed;
        is_followed
    }

    /// Adds the configurations that a menu program reads (`vesamenu.c32 other.cfg`).
    fn add_program(&mut self, value: &'a str) {
        let mut words = value.split_ascii_whitespace();
        let program = words.next().unwrap_or_default();
        if let Some(kind) = menu_program(program) {
            self.has_menu = true;
            for file in words {
                self.add_reference(Reference { file, directory: None, kind });
            }
        }
    }

    /// Adds the configurations that labels lead to: `config FILE`, or a menu program that reads another one.
    fn add_references_of_labels(&mut self) {
        let mut found = Vec::new();
        for label in &mut self.labels {
            let Some((program, mut rest)) = label.kernel_words() else { continue };
            let append = label.append.as_ref().map_or("", |line| line.value);
            let is_config = label.kernel.as_ref().is_some_and(|line| line.keyword.eq_ignore_ascii_case("config"));
            if is_config {
                let directory = rest.next().or_else(|| append.split_ascii_whitespace().next());
                let directory = directory.filter(|directory| directory.len() <= MAX_NAME_LENGTH);
                found.push(Reference { file: program, directory, kind: ReferenceKind::Config });
                label.kernel = None;
            } else if menu_program(program) == Some(ReferenceKind::Menu) {
                let files = append.split_ascii_whitespace().take(MAX_REFERENCES);
                found.extend(files.map(|file| Reference { file, directory: None, kind: ReferenceKind::Menu }));
            }
        }
        for reference in found {
            self.add_reference(reference);
        }
    }
}

impl<'a> Label<'a> {
    /// Creates a label of its line.
    fn new(line: ConfigLine<'a>) -> Self {
        Self {
            line,
            title: None,
            kernel: None,
            append: None,
            initrd: None,
            menu_default: None,
            is_local: false,
            is_hidden: false,
        }
    }
}

/// Returns how a menu program reads its files.
pub fn menu_program(program: &str) -> Option<ReferenceKind> {
    match base_name(program).to_ascii_lowercase().as_str() {
        "menu.c32" | "vesamenu.c32" => Some(ReferenceKind::Menu),
        "gfxboot" | "gfxboot.c32" => Some(ReferenceKind::Other),
        _ => None,
    }
}

/// Returns whether a value is a kernel with arguments, and not a label or a menu program.
fn is_command(value: &str) -> bool {
    let kernel = value.split_ascii_whitespace().next().unwrap_or_default();
    kernel.contains('/') && kernel.len() < value.len() && takes_arguments(kernel)
}

/// Splits a line into its keyword and the rest. Returns `None` for a comment or an empty line.
pub fn split(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    Some(
        line.split_once(|byte: char| byte.is_ascii_whitespace())
            .map_or((line, ""), |(word, rest)| (word, rest.trim_ascii())),
    )
}
