//! Lines and labels of a Syslinux configuration.

use std::collections::HashMap;

use crate::iso::menu::entry::{base_name, is_xen, takes_arguments};

/// Programs that leave the menu for the local disk, or for nothing.
const LEAVING: [&str; 5] = ["chain.c32", "chain.com", "reboot.c32", "poweroff.c32", "poweroff.com"];
/// Maximum number of references to other configurations that are followed.
const MAX_REFERENCES: usize = 64;
/// Maximum number of lines with the default label.
const MAX_DEFAULTS: usize = 16;

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
        let program = self.kernel_words().map_or("", |(program, _)| base_name(program)).to_ascii_lowercase();
        self.is_local || LEAVING.contains(&program.as_str())
    }
}

/// A reference to another configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// Directory of its relative names, if it is not that of this configuration.
    pub directory: Option<&'a str>,
}

/// The relevant lines of a configuration.
#[derive(Debug, Default)]
pub struct SyslinuxConfig<'a> {
    /// Line with the arguments of labels that have none.
    pub append: Option<ConfigLine<'a>>,
    /// Labels.
    pub labels: Vec<Label<'a>>,
    /// Numbers of the labels by their names in lower case, the first of a name.
    names: HashMap<String, usize>,
    /// Lines that name a kernel with its arguments in place of a label.
    pub commands: Vec<ConfigLine<'a>>,
    /// Lines with the timeout.
    pub timeouts: Vec<ConfigLine<'a>>,
    /// Lines that name the label to boot without a key (`default`), and those for the end of the timeout.
    pub defaults: Vec<ConfigLine<'a>>,
    /// References to other configurations.
    pub references: Vec<Reference<'a>>,
    /// Whether it shows a menu.
    pub has_menu: bool,
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
        config.references.truncate(MAX_REFERENCES);
        for (number, label) in config.labels.iter().enumerate() {
            config.names.entry(label.name().to_ascii_lowercase()).or_insert(number);
        }
        config
    }

    /// Adds a line. `keyword` is in lower case.
    fn add(&mut self, keyword: &str, line: ConfigLine<'a>) {
        let value = line.value;
        match (keyword, self.labels.last_mut()) {
            ("label", _) => self.labels.push(Label {
                line,
                title: None,
                kernel: None,
                append: None,
                initrd: None,
                menu_default: None,
                is_local: false,
            }),
            ("timeout", _) => self.timeouts.push(line),
            ("default" | "ontimeout" | "onerror", _) if is_command(value) => self.commands.push(line),
            ("default" | "ontimeout", _) => {
                self.add_program(value);
                if self.defaults.len() < MAX_DEFAULTS {
                    self.defaults.push(line);
                }
            }
            ("ui", _) => self.add_program(value),
            ("include", _) => self.references.push(Reference { file: value, directory: None }),
            ("append", None) => self.append = Some(line),
            ("append", Some(label)) => label.append = Some(line),
            ("kernel" | "linux" | "com32", Some(label)) => (label.kernel, label.is_local) = (Some(line), false),
            ("localboot", Some(label)) => (label.kernel, label.is_local) = (None, true),
            ("boot" | "bss" | "fdimage" | "pxe", Some(label)) => label.kernel = None,
            ("config", Some(label)) => (label.kernel, label.is_local) = (Some(line), false),
            ("initrd", Some(label)) => label.initrd = Some(value),
            ("menu", label) => {
                let in_label = label.is_some();
                self.add_menu_line(in_label, line);
            }
            (_, _) => {}
        }
    }

    /// Adds a line of the menu: a title, a default or an include.
    fn add_menu_line(&mut self, in_label: bool, line: ConfigLine<'a>) {
        let Some((word, rest)) = split(line.value) else { return };
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        if is("include") {
            let file = rest.split_ascii_whitespace().next().unwrap_or_default();
            self.references.push(Reference { file, directory: None });
        }
        let Some(label) = self.labels.last_mut().filter(|_| in_label) else { return };
        if is("label") {
            label.title = label.title.or(Some(rest));
        } else if is("default") {
            label.menu_default = Some(line);
        }
    }

    /// Adds the configuration that a menu program reads (`vesamenu.c32 other.cfg`).
    fn add_program(&mut self, value: &'a str) {
        let mut words = value.split_ascii_whitespace();
        let program = base_name(words.next().unwrap_or_default()).to_ascii_lowercase();
        if matches!(program.as_str(), "menu.c32" | "vesamenu.c32" | "gfxboot" | "gfxboot.c32") {
            self.has_menu = true;
            self.references.extend(words.map(|file| Reference { file, directory: None }));
        }
    }

    /// Adds the configurations that labels lead to: `config FILE`, or a menu program that reads another one.
    fn add_references_of_labels(&mut self) {
        for label in &mut self.labels {
            let Some((program, mut rest)) = label.kernel_words() else { continue };
            let append = label.append.as_ref().map_or("", |line| line.value);
            let is_config = label.kernel.as_ref().is_some_and(|line| line.keyword.eq_ignore_ascii_case("config"));
            if is_config {
                let directory = rest.next().or_else(|| append.split_ascii_whitespace().next());
                self.references.push(Reference { file: program, directory });
                label.kernel = None;
            } else if matches!(base_name(program).to_ascii_lowercase().as_str(), "menu.c32" | "vesamenu.c32") {
                let files = append.split_ascii_whitespace();
                self.references.extend(files.map(|file| Reference { file, directory: None }));
            }
        }
    }

    /// Returns the number of the label with a name, which may have arguments after it.
    pub fn label(&self, value: &str) -> Option<usize> {
        let by_name = |name: &str| self.names.get(&name.to_ascii_lowercase()).copied();
        by_name(value).or_else(|| by_name(value.split_ascii_whitespace().next()?))
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
