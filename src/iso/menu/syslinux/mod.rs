//! Configuration files of Syslinux (ISOLINUX, EXTLINUX).

mod config;
mod lines;
mod names;
mod order;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::edit::{EditRoom, MenuEdit, edited_arguments};
use super::entry::{EntryRoom, MenuEntry, MenuGap, Obstacle};
use super::lookup::FileLookup;
use config::{ConfigLine, Label, ReferenceKind, SyslinuxConfig, split};
use lines::EditedLines;
use names::ConfigNames;
use order::{Inherited, Menu, Position, ReadingOrder};

/// Returns whether a text is a Syslinux configuration, by its keywords. The path is in lower case.
pub fn matches(path: &str, text: &str) -> bool {
    let named = [".cfg", ".conf", ".lnx", ".inc"].iter().any(|end| path.ends_with(end));
    if !named || text.contains("menuentry") {
        return false;
    }
    let is_root = path.contains("linux.cfg") || path.contains("extlinux.conf");
    let is_beside = path.contains("/syslinux/") || path.contains("/isolinux/");
    let mut keywords = text.lines().filter_map(|line| split(line).map(|(word, _)| word.to_ascii_lowercase()));
    is_root
        || keywords.any(|word| match word.as_str() {
            "label" | "ontimeout" => true,
            "default" | "timeout" | "include" => is_beside,
            _ => false,
        })
}

/// The configurations of an image.
#[derive(Debug)]
pub struct SyslinuxConfigs<'a> {
    files: Vec<ConfigFile<'a>>,
    configs: Vec<SyslinuxConfig<'a>>,
    names: ConfigNames,
    order: ReadingOrder,
    /// Labels that a menu boots without a key.
    defaults: HashSet<Position>,
    /// Parts of each configuration that are not understood.
    gaps: Vec<BTreeSet<MenuGap>>,
}

/// A text that may be a configuration.
#[derive(Debug, Clone, Copy)]
pub struct ConfigFile<'a> {
    /// Path in the image.
    pub path: &'a str,
    /// Content.
    pub text: &'a str,
    /// Whether it can be edited.
    pub is_menu: bool,
}

impl<'a> SyslinuxConfigs<'a> {
    /// Reads configurations, and connects those that include each other.
    pub fn read(files: &[ConfigFile<'a>], lookup: &mut FileLookup<'_>) -> Self {
        let configs: Vec<_> = files.iter().map(|file| SyslinuxConfig::read(file.text)).collect();
        let paths: Vec<&str> = files.iter().map(|file| file.path).collect();
        let mut read = Self {
            files: files.to_vec(),
            gaps: vec![BTreeSet::new(); configs.len()],
            names: ConfigNames::read(&paths, &configs),
            configs,
            order: ReadingOrder::default(),
            defaults: HashSet::new(),
        };
        let lengths: Vec<usize> = files.iter().map(|file| file.text.len()).collect();
        read.order = ReadingOrder::read(&read.configs, &lengths, read.names.targets());
        read.defaults = read.order.menus.iter().filter_map(|menu| menu.default).collect();
        read.find_gaps(lookup);
        read
    }

    /// Finds the parts of menus that are not understood: files that they read and that are not among the texts.
    fn find_gaps(&mut self, lookup: &mut FileLookup<'_>) {
        for (from, config) in self.configs.iter().enumerate() {
            let mut gaps = BTreeSet::new();
            for (reference, target) in config.references.iter().zip(&self.names.targets()[from]) {
                if reference.kind == ReferenceKind::Other || reference.file.is_empty() || target.is_some() {
                    continue;
                }
                let gap = self.candidates(from, reference.file).find_map(|path| match lookup.exists(&path) {
                    Some(true) => Some(MenuGap::UnreadFile(path)),
                    Some(false) => None,
                    None => Some(MenuGap::Includes),
                });
                gaps.extend(gap);
            }
            if config.has_more || self.order.cut.contains(&from) {
                gaps.insert(MenuGap::Includes);
            }
            if gaps.is_empty() {
                continue;
            }
            // What is missing in a part is missing in the menus that read it.
            let in_menus = self.order.menus.iter().filter(|menu| menu.configs.contains(&from));
            let mut readers: BTreeSet<usize> = in_menus.flat_map(|menu| menu.configs.iter().copied()).collect();
            readers.retain(|reader| *reader == from || !self.files[from].is_menu);
            for reader in readers {
                self.gaps[reader].extend(gaps.iter().cloned());
            }
        }
    }

    /// Takes the parts of a configuration that are not understood.
    pub fn take_gaps(&mut self, config: usize) -> BTreeSet<MenuGap> {
        std::mem::take(&mut self.gaps[config])
    }

    /// Returns the paths that a name in a configuration may mean, the likeliest first.
    pub fn candidates(&self, config: usize, name: &str) -> impl Iterator<Item = String> {
        self.names.candidates(config, name)
    }

    /// Returns the kernels that a configuration boots, as far as there is room for them.
    pub fn entries(&self, config: usize, room: &mut EntryRoom) -> Vec<MenuEntry> {
        let labels = self.configs[config].labels.iter().enumerate().filter(|(_, label)| label.boots());
        labels
            .map_while(|(number, label)| {
                let at = (config, number);
                let shared = self.inherited(at).first.map_or("", |line| self.append(line));
                room.take(MenuEntry { is_default: self.defaults.contains(&at), ..entry(label, shared) })
            })
            .collect()
    }

    /// Returns the lines with the arguments of a label that has none of its own.
    fn inherited(&self, (config, label): Position) -> &Inherited {
        &self.order.inherited[config][label]
    }

    /// Returns the arguments of a line outside of labels.
    fn append(&self, (config, line): Position) -> &'a str {
        self.configs[config].appends[line].value
    }

    /// Returns whether a label gets the arguments of an edit from a line outside of it, in every menu that reads it.
    fn is_edited_outside(&self, at: Position) -> bool {
        let lines = &self.inherited(at).lines;
        !lines.is_empty() && lines.iter().all(|line| line.is_some_and(|(config, _)| self.files[config].is_menu))
    }

    /// Returns the number of labels and lines that boot a Linux kernel.
    pub fn kernel_lines(&self, config: usize) -> usize {
        let menu = &self.configs[config];
        menu.labels.iter().filter(|label| label.boots()).count() + menu.commands.len()
    }

    /// Applies an edit to a configuration.
    pub fn edit(&self, number: usize, edit: &MenuEdit, room: &mut EditRoom) -> String {
        let (menu, file) = (&self.configs[number], &self.files[number]);
        let mut out = EditedLines::new(file.text, room);
        if edit.changes_arguments() {
            self.edit_labels(number, edit, &mut out);
        }
        for line in &menu.commands {
            // debian-installer's menus start speech synthesis when no key is pressed.
            let starts_speech = edit.timeout.is_some() && line.keyword.eq_ignore_ascii_case("ontimeout");
            if starts_speech {
                out.set(line.number, line.commented());
            } else if edit.changes_arguments() {
                out.set(line.number, edited_line(line, edit));
            }
        }
        if let Some(seconds) = edit.timeout {
            self.leave_for_a_kernel(number, &mut out);
            let tenths = u32::from(seconds) * 10;
            for line in &menu.timeouts {
                out.set(line.number, line.with_value(&tenths.to_string()));
            }
            if menu.timeouts.is_empty() && file.path.to_ascii_lowercase().ends_with("linux.cfg") {
                out.add_first(format!("timeout {tenths}\n"));
            }
        }
        out.text()
    }

    /// Makes the first label that boots a kernel the default, where the default one leaves for the local disk.
    fn leave_for_a_kernel(&self, number: usize, out: &mut EditedLines<'_>) {
        let config = &self.configs[number];
        let at = |(config, label): Position| &self.configs[config].labels[label];
        let mut done = BTreeSet::new();
        // Lines that name a label for the local disk: one that is the last of a menu names another, the others have no effect.
        let mut replaced: BTreeMap<usize, Option<&str>> = BTreeMap::new();
        for menu in self.order.menus.iter().filter(|menu| menu.configs.contains(&number)) {
            let Some(chosen) = menu.bootable else { continue };
            let last = menu.last_default(&self.configs);
            for position in menu.defaults.iter().filter(|position| position.0 == number) {
                if menu.leaves(&self.configs, &config.defaults[position.1]) {
                    let name = (last == Some(*position)).then(|| at(chosen).name());
                    let known = replaced.entry(position.1).or_default();
                    *known = known.or(name);
                }
            }
            let in_part = last.filter(|position| menu.root == number && !self.files[position.0].is_menu);
            if in_part.is_some_and(|(config, line)| menu.leaves(&self.configs, &self.configs[config].defaults[line])) {
                out.add_last(default_line(at(chosen).name()));
            }
            if menu.is_named || !menu.default.is_some_and(|label| at(label).leaves()) {
                continue;
            }
            for line in
                config.labels.iter().filter(|label| label.leaves()).filter_map(|label| label.menu_default.as_ref())
            {
                out.set(line.number, line.commented());
            }
            self.mark_default(number, menu, chosen, &mut done, out);
        }
        for (line, name) in replaced.into_iter().map(|(line, name)| (&config.defaults[line], name)) {
            out.set(line.number, name.map_or_else(|| line.commented(), |name| line.with_value(name)));
        }
    }

    /// Adds the line that makes a label the default of a menu, if it belongs in a configuration. Those in `done` have it.
    fn mark_default(
        &self,
        number: usize,
        menu: &Menu,
        chosen: Position,
        done: &mut BTreeSet<Position>,
        out: &mut EditedLines<'_>,
    ) {
        let label = &self.configs[chosen.0].labels[chosen.1];
        let is_marked = menu.is_top && !menu.is_marked_outside;
        if is_marked && chosen.0 == number && label.menu_default.is_none() && done.insert(chosen) {
            let line = format!("{}  menu default{}", label.line.indent, label.line.end());
            out.add_after(label.line.number, line);
        }
        // `menu default` in a submenu does not open the submenu, and one outside does not close it.
        if !is_marked && menu.root == number && done.insert(chosen) {
            // Without `ui` the last `default` line is the command that shows the menu.
            let last = menu.last_default(&self.configs).map(|(config, line)| self.configs[config].defaults[line].value);
            let program = last.filter(|value| value.split_ascii_whitespace().next().is_some_and(is_menu_program));
            let has_ui = menu.configs.iter().any(|config| self.configs[*config].has_ui);
            if let Some(program) = program.filter(|_| !has_ui) {
                out.add_last(format!("ui {program}\n"));
            }
            out.add_last(default_line(label.name()));
        }
    }

    /// Applies an edit to the arguments of the labels of a configuration.
    fn edit_labels(&self, number: usize, edit: &MenuEdit, out: &mut EditedLines<'_>) {
        let menu = &self.configs[number];
        for line in self.order.shared[number].iter().map(|line| &menu.appends[*line]) {
            out.set(line.number, edited_line(line, edit));
        }
        let mut shared_values: HashMap<Option<Position>, Option<String>> = HashMap::new();
        let removal = MenuEdit { append: Vec::new(), ..edit.clone() };
        for (at, label) in menu.labels.iter().enumerate().filter(|(_, label)| label.boots()) {
            if out.is_full() {
                return;
            }
            if let Some((kernel, own)) = label.kernel_words()
                && let Some(line) = &label.kernel
            {
                let own: Vec<&str> = own.collect();
                if own.iter().any(|word| edit.removes(word)) {
                    let words = edited_arguments(own.into_iter(), &removal, str::to_owned);
                    out.set(line.number, line.with_value(&[vec![kernel.to_owned()], words].concat().join(" ")));
                }
            }
            match (&label.append, &label.kernel) {
                (Some(line), _) => out.set(line.number, edited_append(label, line, edit)),
                (None, Some(kernel)) => {
                    if self.is_edited_outside((number, at)) {
                        continue;
                    }
                    // A line of its own, with the arguments that it has in the first menu that gives it any.
                    let shared = self.inherited((number, at)).first;
                    let edited = shared_values.entry(shared).or_insert_with(|| {
                        let value = shared.map_or("", |line| self.append(line));
                        Some(edited_value(value, edit)).filter(|edited| edited != value)
                    });
                    let Some(words) = edited else { continue };
                    out.add_after(kernel.number, format!("{}append {words}{}", kernel.indent, kernel.end()));
                }
                (None, None) => {}
            }
        }
    }
}

/// Returns a `default` line. The last one is the effective one.
fn is_menu_program(program: &str) -> bool {
    config::menu_program(program).is_some()
}

fn default_line(name: &str) -> String {
    format!("default {name}\n")
}

/// Returns the kernel that a label boots. `shared` are the arguments of labels that have none.
fn entry(label: &Label<'_>, shared: &str) -> MenuEntry {
    let title = label.shown();
    if let Some(sections) = label.hypervisor() {
        let path = |section: &Vec<&str>| section.first().copied().unwrap_or_default().to_owned();
        let kernel = sections.get(1).map(Vec::as_slice).unwrap_or_default();
        return MenuEntry {
            title,
            kernel: kernel.first().copied().unwrap_or_default().to_owned(),
            initrds: sections.iter().skip(2).map(path).collect(),
            arguments: kernel.get(1..).unwrap_or_default().join(" "),
            is_default: false,
            obstacle: sections.first().map(path).map(Obstacle::Hypervisor),
        };
    }
    let append = label.append.as_ref().map_or(shared, |line| line.value);
    let (kernel, own): (&str, Vec<&str>) =
        label.kernel_words().map(|(kernel, own)| (kernel, own.collect())).unwrap_or_default();
    let words = || own.iter().copied().chain(append.split_ascii_whitespace());
    let initrd = words().filter_map(|word| word.strip_prefix("initrd=")).chain(label.initrd);
    MenuEntry {
        title,
        kernel: kernel.to_owned(),
        initrds: initrd.flat_map(|list| list.split(',')).map(str::to_owned).collect(),
        arguments: words().filter(|word| !word.starts_with("initrd=") && *word != "-").collect::<Vec<_>>().join(" "),
        is_default: false,
        obstacle: None,
    }
}

/// Returns the `append` line of a label with an edit applied: to the kernel's arguments, not to a hypervisor's.
fn edited_append(label: &Label<'_>, line: &ConfigLine<'_>, edit: &MenuEdit) -> String {
    let Some(sections) = label.hypervisor() else { return edited_line(line, edit) };
    let section = |(number, words): (usize, Vec<&str>)| match (number, words.split_first()) {
        (1, Some((kernel, arguments))) => {
            let arguments = edited_arguments(arguments.iter().copied(), edit, str::to_owned);
            [vec![(*kernel).to_owned()], arguments].concat().join(" ")
        }
        (_, _) => words.join(" "),
    };
    let sections: Vec<String> = sections.into_iter().enumerate().map(section).collect();
    line.with_value(&sections.join(" --- "))
}

/// Returns an `append` line, or a line of its kind, with the edit applied.
fn edited_line(line: &ConfigLine<'_>, edit: &MenuEdit) -> String {
    line.with_value(&edited_value(line.value, edit))
}

/// Returns the arguments of an `append` line with the edit applied.
fn edited_value(arguments: &str, edit: &MenuEdit) -> String {
    let words = arguments.split_ascii_whitespace().filter(|word| *word != "-");
    edited_arguments(words, edit, str::to_owned).join(" ")
}

#[cfg(test)]
mod tests;
