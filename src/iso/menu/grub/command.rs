//! Kinds of commands: which of them load kernels and initrds, also by the name of a variable.

use std::collections::HashMap;

use super::lexer::{GrubCommand, GrubWord, Token, commands, unquote};
use crate::iso::menu::entry::{base_name, is_xen, takes_arguments};

/// Commands that load a Linux kernel.
const KERNEL_COMMANDS: [&str; 4] = ["linux", "linuxefi", "linux16", "linux32"];
/// Commands that load initrds.
const INITRD_COMMANDS: [&str; 3] = ["initrd", "initrdefi", "initrd16"];
/// Commands that load a multiboot kernel, such as the Xen hypervisor.
const MULTIBOOT_COMMANDS: [&str; 3] = ["multiboot", "multiboot2", "xen_hypervisor"];
/// Commands that load a module of a multiboot kernel.
const MODULE_COMMANDS: [&str; 3] = ["module", "module2", "xen_module"];
/// Parts of the names of Linux kernels, in lower case.
const KERNEL_NAMES: [&str; 5] = ["vmlinu", "linux", "bzimage", "zimage", "kernel"];
/// Ends of the names of initrds, in lower case.
const INITRD_ENDS: [&str; 7] = [".img", ".gz", ".xz", ".zst", ".lz", ".lz4", ".cpio"];

/// The kind of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandKind {
    /// Loads a Linux kernel. The value is the number of the word with its path.
    Kernel(usize),
    /// Loads initrds.
    Initrd,
    /// Loads a hypervisor.
    Hypervisor,
    /// Loads the Linux kernel of a hypervisor. The value is the number of the word with its path.
    HypervisorKernel(usize),
    /// Anything else.
    Other,
}

/// The use of the variables of a script as commands, by what the script assigns to them.
#[derive(Debug, Default)]
pub struct CommandVariables<'a>(HashMap<&'a str, Assigned>);

/// The commands that a script assigns to a variable.
#[derive(Debug, Default, Clone, Copy)]
struct Assigned {
    kernel: bool,
    initrd: bool,
}

/// The kinds of the commands of a script, one after the other.
#[derive(Debug)]
pub struct KindReader<'v, 'a> {
    variables: &'v CommandVariables<'a>,
    /// Whether a hypervisor waits for its kernel.
    hypervisor: bool,
}

impl<'a> CommandVariables<'a> {
    /// Finds the assignments of a script.
    pub fn read(tokens: &[Token<'a>]) -> Self {
        let mut found: HashMap<&str, Assigned> = HashMap::new();
        for command in commands(tokens) {
            let words = command.words.iter().skip(usize::from(command.has_name(&["set", "export"])));
            for (name, value) in words.take(1).filter_map(|word| assignment(word.text)) {
                let value = unquote(value);
                let assigned = found.entry(name).or_default();
                assigned.kernel |= KERNEL_COMMANDS.contains(&value.as_str());
                assigned.initrd |= INITRD_COMMANDS.contains(&value.as_str());
            }
        }
        Self(found)
    }

    /// Returns a reader of commands in their order.
    pub fn reader(&self) -> KindReader<'_, 'a> {
        KindReader { variables: self, hypervisor: false }
    }
}

impl KindReader<'_, '_> {
    /// Returns the kind of the next command.
    pub fn next(&mut self, command: &GrubCommand<'_>) -> CommandKind {
        let name = command.name();
        if command.has_name(&["menuentry", "submenu", "function"]) {
            self.hypervisor = false;
        }
        let path = path_word(command);
        let takes = path.filter(|(_, word)| takes_arguments(&unquote(word.text)) && command.is_closed());
        if MULTIBOOT_COMMANDS.contains(&name) {
            self.hypervisor = path.is_some_and(|(_, word)| is_xen(&unquote(word.text)));
            return if self.hypervisor { CommandKind::Hypervisor } else { CommandKind::Other };
        }
        if MODULE_COMMANDS.contains(&name) {
            return match (std::mem::take(&mut self.hypervisor), takes) {
                (true, Some((number, _))) => CommandKind::HypervisorKernel(number),
                (_, _) => CommandKind::Initrd,
            };
        }
        match self.loads(name, path.map(|(_, word)| word.text)) {
            Assigned { kernel: true, .. } => {
                takes.map_or(CommandKind::Other, |(number, _)| CommandKind::Kernel(number))
            }
            Assigned { initrd: true, .. } => CommandKind::Initrd,
            Assigned { .. } => CommandKind::Other,
        }
    }

    /// Returns what a command loads, by its name. A variable that the script does not set is judged by the file: menus
    /// that run in several loaders have `$linux /vmlinuz`.
    fn loads(&self, name: &str, path: Option<&str>) -> Assigned {
        let Some(variable) = variable(name) else {
            // `linux$suffix`, where the suffix is `16` or `efi`.
            return Assigned {
                kernel: KERNEL_COMMANDS.contains(&name) || name.starts_with("linux$"),
                initrd: INITRD_COMMANDS.contains(&name) || name.starts_with("initrd$"),
            };
        };
        if let Some(assigned) = self.variables.0.get(variable) {
            return *assigned;
        }
        let file = path.filter(|path| path.starts_with(['/', '(', '$', '"', '\'']));
        let file = file.map(|path| base_name(&unquote(path)).to_ascii_lowercase()).unwrap_or_default();
        let is_initrd = file.starts_with("init") || INITRD_ENDS.iter().any(|end| file.ends_with(end));
        let is_kernel = !is_initrd && KERNEL_NAMES.iter().any(|part| file.contains(part));
        Assigned {
            kernel: is_kernel || (variable.starts_with("linux") && !is_initrd),
            initrd: is_initrd || variable.starts_with("initrd"),
        }
    }
}

/// Returns the first word after the name and its options, with its number.
pub fn path_word<'c, 'a>(command: &'c GrubCommand<'a>) -> Option<(usize, &'c GrubWord<'a>)> {
    command.words.iter().enumerate().skip(1).find(|(_, word)| !word.text.starts_with("--"))
}

/// Returns the name of the variable that a word consists of.
fn variable(word: &str) -> Option<&str> {
    let word = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word);
    let name = word.strip_prefix('$')?;
    let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
    is_name(name).then_some(name)
}

/// Splits a word that assigns a variable into name and value.
pub fn assignment(word: &str) -> Option<(&str, &str)> {
    word.split_once('=').filter(|(name, _)| is_name(name))
}

/// Returns whether a text is the name of a variable.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokens;
    use super::*;

    fn kinds(text: &str) -> Vec<CommandKind> {
        let tokens = tokens(text);
        let variables = CommandVariables::read(&tokens);
        let mut reader = variables.reader();
        commands(&tokens).map(|command| reader.next(command)).filter(|kind| *kind != CommandKind::Other).collect()
    }

    #[test]
    fn a_variable_is_the_command_that_the_script_sets() {
        use CommandKind::{Initrd, Kernel};
        let rows: [(&str, &[CommandKind]); 10] = [
            ("linux$suffix /k\ninitrd${suffix} /i", &[Kernel(1), Initrd]),
            (
                "set linux_cmd=linux\nset initrd_cmd=initrd\n$linux_cmd /live/vmlinuz a\n$initrd_cmd /live/i",
                &[Kernel(1), Initrd],
            ),
            ("if [ x ]; then a=linuxefi; else a=linux; fi; ${a} /k", &[Kernel(1)]),
            ("set a=echo\n$a /vmlinuz", &[]),
            ("$anything /live/vmlinuz b\n$other ($root)/live/initrd.img", &[Kernel(1), Initrd]),
            ("\"${cmd}\" /boot/bzImage", &[Kernel(1)]),
            ("$linux /k\n${initrd} /i", &[Kernel(1), Initrd]),
            ("$cmd word vmlinuz", &[]),
            ("linux /memtest86+.bin\n$linux_cmd /boot/memtest86+.bin", &[]),
            ("linux", &[]),
        ];
        for (text, expected) in rows {
            assert_eq!(kinds(text), expected, "{text}");
        }
    }

    #[test]
    fn the_first_module_of_xen_is_a_kernel() {
        use CommandKind::{Hypervisor, HypervisorKernel, Initrd};
        let xen = "multiboot2 /boot/xen.gz a\nmodule2 --nounzip /boot/vmlinuz b\nmodule2 /install.img";
        assert_eq!(kinds(xen), [Hypervisor, HypervisorKernel(2), Initrd]);
        assert_eq!(
            kinds("multiboot /kernel.elf a\nmodule /vmlinuz b"),
            [Initrd],
            "another kernel's module is not Linux"
        );
        let rows = "menuentry a {\nmultiboot2 /xen.gz\n}\nmenuentry b {\nmodule2 /vmlinuz\n}";
        assert_eq!(kinds(rows), [Hypervisor, Initrd], "a hypervisor of another entry does not count");
    }
}
