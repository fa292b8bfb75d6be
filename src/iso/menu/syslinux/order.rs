//! Menus of Syslinux in the order in which it reads them: included configurations are read as if their lines were in the
//! place of the include (com32/menu/readconfig.c of Syslinux).

use std::collections::{BTreeSet, HashMap, HashSet};

use super::config::{ConfigLine, Label, ReferenceKind, Step, SyslinuxConfig, is_leaving};
use crate::iso::menu::entry::{MAX_DEFAULT_LENGTH, is_side_argument, is_side_title};

/// Maximum length of the included configurations of an image in bytes, with each include.
const MAX_INCLUDED_BYTES: usize = 1 << 20;
/// Maximum depth of includes.
const MAX_DEPTH: usize = 16;

/// A label, or a line: the number of its configuration, and its own.
pub type Position = (usize, usize);

/// A menu: a configuration with those that it includes.
#[derive(Debug, Default)]
pub struct Menu {
    /// The configuration that is read first.
    pub root: usize,
    /// All of its configurations.
    pub configs: BTreeSet<usize>,
    /// Its `default` and `ontimeout` lines.
    pub defaults: Vec<Position>,
    /// Whether the last `default` line names what boots, or what leaves for the local disk.
    pub is_named: bool,
    /// Label that it boots without a key.
    pub default: Option<Position>,
    /// First label that boots a kernel and is no rescue system, upgrade or test; outside of submenus, if there is one.
    pub bootable: Option<Position>,
    /// Whether that label is outside of submenus.
    pub is_top: bool,
    /// Whether lines outside of labels determine what it shows first, or what is the default.
    pub is_marked_outside: bool,
    /// Whether a menu program shows it.
    is_shown: bool,
    /// First label that it shows.
    first: Option<Position>,
    /// Labels by their names in lower case, the first of a name.
    names: HashMap<String, Position>,
}

impl Menu {
    /// Returns the label that a line names. Arguments may follow the name.
    pub fn label(&self, value: &str) -> Option<Position> {
        let by_name = |name: &str| self.names.get(&name.to_ascii_lowercase()).copied();
        by_name(value).or_else(|| by_name(value.split_ascii_whitespace().next()?))
    }

    /// Returns whether a line names a label, or a program, that leaves for the local disk.
    pub fn leaves(&self, configs: &[SyslinuxConfig<'_>], line: &ConfigLine<'_>) -> bool {
        match self.label(line.value) {
            Some((config, label)) => configs[config].labels[label].leaves(),
            None => line.value.split_ascii_whitespace().next().is_some_and(is_leaving),
        }
    }

    /// Returns the position of the `default` line that is effective: the last one.
    pub fn last_default(&self, configs: &[SyslinuxConfig<'_>]) -> Option<Position> {
        let mut lines = self.defaults.iter().copied();
        lines.rfind(|(config, line)| !is_timeout(&configs[*config].defaults[*line]))
    }

    /// Determines the default label when all labels are known.
    fn complete(&mut self, configs: &[SyslinuxConfig<'_>], levels: &[Level], start: usize) {
        let last = self.last_default(configs).map(|(config, line)| &configs[config].defaults[line]);
        let named = last.and_then(|line| self.label(line.value)).filter(|(config, label)| {
            let label = &configs[*config].labels[*label];
            // A label that leads to another menu is none that boots.
            label.boots() || label.leaves()
        });
        self.is_named = named.is_some() || last.is_some_and(|line| self.leaves(configs, line));
        if self.is_named {
            self.default = named;
            return;
        }
        self.is_marked_outside |= start > 0;
        let is_marked = self.is_marked_outside || levels.first().is_some_and(|top| top.marked.is_some());
        self.default = default_of(levels, start).or(self.first).filter(|_| self.is_shown || is_marked);
    }
}

/// A menu, or a submenu of it.
#[derive(Debug, Default)]
struct Level {
    /// Number of the menu around it.
    parent: Option<usize>,
    /// What is marked as the default last.
    marked: Option<Shown>,
    /// What it shows first.
    first: Option<Shown>,
}

/// What a menu shows.
#[derive(Debug, Clone, Copy)]
enum Shown {
    Label(Position),
    /// A submenu, by its number. It is greater than that of the menu around it.
    Submenu(usize),
}

/// Returns the label that a menu boots without a key, in the submenus that are its default.
fn default_of(levels: &[Level], start: usize) -> Option<Position> {
    let mut level = levels.get(start)?;
    loop {
        match level.marked.or(level.first)? {
            Shown::Label(at) => return Some(at),
            Shown::Submenu(number) => level = levels.get(number)?,
        }
    }
}

/// Returns whether a line names the label for the end of the timeout.
pub fn is_timeout(line: &ConfigLine<'_>) -> bool {
    line.keyword.eq_ignore_ascii_case("ontimeout")
}

/// The lines with the arguments of a label that has none of its own. Menus may read it with different ones.
#[derive(Debug, Clone, Default)]
pub struct Inherited {
    /// The first line.
    pub first: Option<Position>,
    /// All lines, and nothing for a menu in which there is none.
    pub lines: BTreeSet<Option<Position>>,
}

/// All menus of an image.
#[derive(Debug, Default)]
pub struct ReadingOrder {
    /// Menus in the order of their first configurations.
    pub menus: Vec<Menu>,
    /// Lines with the arguments that labels without their own get, by configuration and label.
    pub inherited: Vec<Vec<Inherited>>,
    /// Lines with arguments that a kernel gets from outside of its label, in any menu, by configuration.
    pub shared: Vec<BTreeSet<usize>>,
    /// Configurations with includes that are not followed, since they are too long or too deep.
    pub cut: BTreeSet<usize>,
}

impl ReadingOrder {
    /// Reads the menus of configurations. `lengths` are those of their texts, `targets` the configurations that the
    /// references of each one lead to.
    pub fn read(configs: &[SyslinuxConfig<'_>], lengths: &[usize], targets: &[Vec<Option<usize>>]) -> Self {
        let targets_of = |wanted: ReferenceKind| -> BTreeSet<usize> {
            let all = configs.iter().enumerate().flat_map(|(from, config)| {
                let references = config.references.iter().zip(&targets[from]);
                references.filter_map(move |(reference, to)| to.filter(|_| reference.kind == wanted))
            });
            all.collect()
        };
        let included = targets_of(ReferenceKind::Include);
        let (shown, configured) = (targets_of(ReferenceKind::Menu), targets_of(ReferenceKind::Config));
        let mut reader = OrderReader {
            configs,
            lengths,
            targets,
            left: MAX_INCLUDED_BYTES,
            side: HashMap::new(),
            order: Self {
                inherited: configs.iter().map(|config| vec![Inherited::default(); config.labels.len()]).collect(),
                shared: vec![BTreeSet::new(); configs.len()],
                ..Self::default()
            },
        };
        let is_root =
            |config: &usize| !included.contains(config) || shown.contains(config) || configured.contains(config);
        let mut read = HashSet::new();
        for root in (0..configs.len()).filter(is_root) {
            read.extend(reader.read_menu(root, shown.contains(&root)));
        }
        // Configurations that include each other.
        for root in 0..configs.len() {
            if !read.contains(&root) {
                read.extend(reader.read_menu(root, shown.contains(&root)));
            }
        }
        reader.order
    }
}

/// A menu that is being read.
#[derive(Debug, Default)]
struct ReadState {
    menu: Menu,
    /// Label whose lines are being read.
    label: Option<Position>,
    /// Arguments of that label in an included configuration.
    own: Option<Position>,
    /// Whether an included configuration makes that label the default.
    marks_label: bool,
    /// Arguments for labels without their own, as they are now.
    append: Option<Position>,
    /// The menu, then its submenus.
    levels: Vec<Level>,
    /// Number of the one around the label.
    level: usize,
    /// Number of the one that is shown first.
    start: usize,
    /// Configurations that are being read, the root first.
    reading: Vec<usize>,
}

impl ReadState {
    /// Begins a submenu.
    fn open_level(&mut self) {
        let number = self.levels.len();
        self.levels[self.level].first.get_or_insert(Shown::Submenu(number));
        self.levels.push(Level { parent: Some(self.level), ..Level::default() });
        self.level = number;
    }

    /// Makes the submenu the default of the menu around it.
    fn mark_level(&mut self) {
        if let Some(parent) = self.levels[self.level].parent {
            self.levels[parent].marked = Some(Shown::Submenu(self.level));
            self.menu.is_marked_outside |= parent == 0;
        }
    }
}

struct OrderReader<'r, 'a> {
    configs: &'r [SyslinuxConfig<'a>],
    lengths: &'r [usize],
    targets: &'r [Vec<Option<usize>>],
    /// Bytes that includes may still take.
    left: usize,
    /// Lines of shared arguments that are those of a rescue system, an upgrade or a check.
    side: HashMap<Position, bool>,
    order: ReadingOrder,
}

impl OrderReader<'_, '_> {
    /// Reads a menu. Returns its configurations.
    fn read_menu(&mut self, root: usize, is_shown: bool) -> BTreeSet<usize> {
        let menu = Menu { root, is_shown, ..Menu::default() };
        let mut state = ReadState { menu, levels: vec![Level::default()], ..ReadState::default() };
        self.read_config(root, &mut state);
        self.end_label(&mut state);
        state.menu.complete(self.configs, &state.levels, state.start);
        let configs = state.menu.configs.clone();
        self.order.menus.push(state.menu);
        configs
    }

    fn read_config(&mut self, config: usize, state: &mut ReadState) {
        let configs = self.configs;
        state.menu.configs.insert(config);
        state.menu.is_shown |= configs[config].has_menu;
        state.reading.push(config);
        for step in &configs[config].steps {
            match *step {
                Step::Label(label) => {
                    self.end_label(state);
                    state.label = Some((config, label));
                }
                Step::End => self.end_label(state),
                Step::Open => {
                    self.end_label(state);
                    state.open_level();
                }
                Step::Close => {
                    self.end_label(state);
                    state.level = state.levels[state.level].parent.unwrap_or(0);
                }
                Step::Mark if state.label.is_none() => state.mark_level(),
                // The label is that of the configuration that includes this one.
                Step::Mark => (state.marks_label, state.menu.is_marked_outside) = (true, true),
                Step::Start => state.start = state.level,
                Step::Append(line) if state.label.is_some() => state.own = Some((config, line)),
                Step::Append(line) => state.append = Some((config, line)),
                Step::Default(line) => state.menu.defaults.push((config, line)),
                Step::Include(reference) => self.include(config, reference, state),
            }
        }
        state.reading.pop();
    }

    fn include(&mut self, from: usize, reference: usize, state: &mut ReadState) {
        let Some(to) = self.targets[from][reference].filter(|to| !state.reading.contains(to)) else { return };
        match self.left.checked_sub(self.lengths[to].max(1)) {
            Some(left) if state.reading.len() < MAX_DEPTH => {
                self.left = left;
                self.read_config(to, state);
            }
            _ => {
                self.order.cut.insert(from);
            }
        }
    }

    /// Ends the label that is being read: it gets the shared arguments as they are now.
    fn end_label(&mut self, state: &mut ReadState) {
        let (own, is_marked) = (state.own.take(), std::mem::take(&mut state.marks_label));
        let Some(at) = state.label.take() else { return };
        let label = &self.configs[at.0].labels[at.1];
        let shared = own.or(state.append).filter(|_| label.append.is_none());
        let inherited = &mut self.order.inherited[at.0][at.1];
        inherited.first = inherited.first.or(shared);
        inherited.lines.insert(shared);
        if let Some((config, line)) = shared.filter(|_| label.boots()) {
            self.order.shared[config].insert(line);
        }
        let menu = &mut state.menu;
        menu.names.entry(label.name().to_ascii_lowercase()).or_insert(at);
        let is_top = state.level == 0 && !label.is_hidden;
        let level = &mut state.levels[state.level];
        if !label.is_hidden {
            menu.first.get_or_insert(at);
            level.first.get_or_insert(Shown::Label(at));
        }
        if !label.is_hidden && (label.menu_default.is_some() || is_marked) {
            level.marked = Some(Shown::Label(at));
        }
        let is_wanted =
            label.name().len() <= MAX_DEFAULT_LENGTH && (menu.bootable.is_none() || (is_top && !menu.is_top));
        if is_wanted && label.boots() && !is_side_label(label) && !shared.is_some_and(|line| self.is_side(line)) {
            (menu.bootable, menu.is_top) = (Some(at), is_top);
        }
    }

    /// Returns whether shared arguments are those of a rescue system, an upgrade or a check.
    fn is_side(&mut self, at: Position) -> bool {
        let configs = self.configs;
        let is_side = || configs[at.0].appends[at.1].value.split_ascii_whitespace().any(is_side_argument);
        *self.side.entry(at).or_insert_with(is_side)
    }
}

/// Returns whether a label is that of a rescue system, an upgrade, a check or a test, by its title and its own arguments.
fn is_side_label(label: &Label<'_>) -> bool {
    if is_side_title(&label.shown()) {
        return true;
    }
    if let Some(sections) = label.hypervisor() {
        return sections.get(1).into_iter().flatten().skip(1).any(|word| is_side_argument(word));
    }
    let append = label.append.as_ref().map_or("", |line| line.value);
    let own = label.kernel_words().into_iter().flat_map(|(_, words)| words);
    own.chain(append.split_ascii_whitespace()).any(is_side_argument)
}
