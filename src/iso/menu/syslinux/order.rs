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
    /// Whether a menu program shows it.
    is_shown: bool,
    /// First label that it shows.
    first: Option<Position>,
    /// Last label outside of submenus with `menu default`.
    marked: Option<Position>,
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
    fn complete(&mut self, configs: &[SyslinuxConfig<'_>]) {
        let last = self.last_default(configs).map(|(config, line)| &configs[config].defaults[line]);
        let named = last.and_then(|line| self.label(line.value)).filter(|(config, label)| {
            let label = &configs[*config].labels[*label];
            // A label that leads to another menu is none that boots.
            label.boots() || label.leaves()
        });
        self.is_named = named.is_some() || last.is_some_and(|line| self.leaves(configs, line));
        if !self.is_named {
            self.default = self.marked.or(self.first.filter(|_| self.is_shown));
        } else {
            self.default = named;
        }
    }
}

/// Returns whether a line names the label for the end of the timeout.
pub fn is_timeout(line: &ConfigLine<'_>) -> bool {
    line.keyword.eq_ignore_ascii_case("ontimeout")
}

/// All menus of an image.
#[derive(Debug, Default)]
pub struct ReadingOrder {
    /// Menus in the order of their first configurations.
    pub menus: Vec<Menu>,
    /// Lines with the arguments that labels without their own get, by configuration and label.
    pub inherited: Vec<Vec<Option<Position>>>,
    /// Lines with arguments that a kernel gets from outside of its label, in any menu, by configuration.
    pub shared: Vec<BTreeSet<usize>>,
    /// Configurations with includes that are not followed, since they are too long or too deep.
    pub cut: BTreeSet<usize>,
}

impl ReadingOrder {
    /// Reads the menus of configurations. `lengths` are those of their texts, `find` returns the configuration that
    /// another one names.
    pub fn read(
        configs: &[SyslinuxConfig<'_>],
        lengths: &[usize],
        find: &dyn Fn(usize, &str) -> Option<usize>,
    ) -> Self {
        let targets = |wanted: ReferenceKind| -> BTreeSet<usize> {
            let all = configs.iter().enumerate().flat_map(|(from, config)| {
                let references = config.references.iter().filter(|reference| reference.kind == wanted);
                references.filter_map(move |reference| find(from, reference.file))
            });
            all.collect()
        };
        let included = targets(ReferenceKind::Include);
        let (shown, configured) = (targets(ReferenceKind::Menu), targets(ReferenceKind::Config));
        let mut reader = OrderReader {
            configs,
            lengths,
            find,
            left: MAX_INCLUDED_BYTES,
            side: HashMap::new(),
            order: Self {
                inherited: configs.iter().map(|config| vec![None; config.labels.len()]).collect(),
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
    /// Arguments for labels without their own, as they are now.
    append: Option<Position>,
    /// Number of submenus around the label.
    depth: usize,
    /// Configurations that are being read, the root first.
    reading: Vec<usize>,
}

struct OrderReader<'r, 'a> {
    configs: &'r [SyslinuxConfig<'a>],
    lengths: &'r [usize],
    find: &'r dyn Fn(usize, &str) -> Option<usize>,
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
        let mut state = ReadState { menu, ..ReadState::default() };
        self.read_config(root, &mut state);
        self.end_label(&mut state);
        state.menu.complete(self.configs);
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
                    state.depth += 1;
                }
                Step::Close => {
                    self.end_label(state);
                    state.depth = state.depth.saturating_sub(1);
                }
                Step::Append(line) if state.label.is_some() => state.own = Some((config, line)),
                Step::Append(line) => state.append = Some((config, line)),
                Step::Default(line) => state.menu.defaults.push((config, line)),
                Step::Include(file) => self.include(config, file, state),
            }
        }
        state.reading.pop();
    }

    fn include(&mut self, from: usize, file: &str, state: &mut ReadState) {
        let Some(to) = (self.find)(from, file).filter(|to| !state.reading.contains(to)) else { return };
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
        let own = state.own.take();
        let Some(at) = state.label.take() else { return };
        let label = &self.configs[at.0].labels[at.1];
        let shared = own.or(state.append).filter(|_| label.append.is_none());
        let inherited = &mut self.order.inherited[at.0][at.1];
        *inherited = inherited.or(shared);
        if let Some((config, line)) = shared.filter(|_| label.boots()) {
            self.order.shared[config].insert(line);
        }
        let menu = &mut state.menu;
        menu.names.entry(label.name().to_ascii_lowercase()).or_insert(at);
        let is_top = state.depth == 0 && !label.is_hidden;
        if !label.is_hidden {
            menu.first.get_or_insert(at);
        }
        if is_top && label.menu_default.is_some() {
            menu.marked = Some(at);
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
