//! Configuration files of Syslinux (ISOLINUX, EXTLINUX).

mod config;

use std::collections::{BTreeSet, HashMap};

use super::edit::{MenuEdit, edited_arguments};
use super::entry::{EntryRoom, MenuEntry, Obstacle, directory, normal_path};
use config::{ConfigLine, Label, SyslinuxConfig, split};

/// Maximum number of directories in which the names of a configuration are looked up.
const MAX_DIRECTORIES: usize = 8;

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
    files: Vec<(&'a str, &'a str)>,
    configs: Vec<SyslinuxConfig<'a>>,
    /// Directories in which the names of each configuration are looked up.
    directories: Vec<Vec<String>>,
    /// Numbers of the configurations that belong to the same menu, by configuration.
    groups: Vec<BTreeSet<usize>>,
    /// Labels of each menu that matter without a key, by the first of its configurations.
    labels: HashMap<usize, MenuLabels>,
}

/// Labels of a menu, each by its configuration and its number there.
#[derive(Debug, Clone, Copy, Default)]
struct MenuLabels {
    /// Label that the menu boots without a key.
    default: Option<(usize, usize)>,
    /// Whether a `default` line names it.
    is_named: bool,
    /// First label that boots a kernel and is no rescue system, upgrade or test.
    bootable: Option<(usize, usize)>,
}

impl<'a> SyslinuxConfigs<'a> {
    /// Reads configurations, each with its path, and connects those that include each other.
    pub fn read(files: &[(&'a str, &'a str)]) -> Self {
        let configs: Vec<_> = files.iter().map(|(_, text)| SyslinuxConfig::read(text)).collect();
        let count = configs.len();
        let mut read = Self {
            files: files.to_vec(),
            configs,
            directories: files.iter().map(|(path, _)| vec![directory(path).to_owned()]).collect(),
            groups: (0..count).map(|number| BTreeSet::from([number])).collect(),
            labels: HashMap::new(),
        };
        // Includes of includes: the directories spread along them.
        for _ in 0..MAX_DIRECTORIES {
            if !read.connect() {
                break;
            }
        }
        let groups: BTreeSet<&BTreeSet<usize>> = read.groups.iter().collect();
        let labels = groups.into_iter().filter_map(|group| Some((*group.first()?, read.labels_of(group))));
        read.labels = labels.collect();
        read
    }

    /// Passes directories to the configurations that others refer to, and joins their groups. Returns whether anything
    /// changed.
    fn connect(&mut self) -> bool {
        let mut changed = false;
        for from in 0..self.configs.len() {
            for reference in self.configs[from].references.clone() {
                let Some(to) = self.find(from, reference.file) else { continue };
                let mut directories: Vec<String> = reference.directory.map(normal_path).into_iter().collect();
                if directories.is_empty() {
                    directories.clone_from(&self.directories[from]);
                }
                for directory in directories {
                    let known = &mut self.directories[to];
                    if known.len() < MAX_DIRECTORIES && !known.contains(&directory) {
                        known.push(directory);
                        changed = true;
                    }
                }
                if !self.groups[from].contains(&to) {
                    let joined: BTreeSet<usize> = self.groups[from].union(&self.groups[to]).copied().collect();
                    for member in &joined {
                        self.groups[*member].clone_from(&joined);
                    }
                    changed = true;
                }
            }
        }
        changed
    }

    /// Returns the number of the configuration that another one names.
    fn find(&self, from: usize, name: &str) -> Option<usize> {
        self.candidates(from, name)
            .into_iter()
            .find_map(|path| self.files.iter().position(|(known, _)| known.eq_ignore_ascii_case(&path)))
    }

    /// Returns the paths that a name in a configuration may mean, the likeliest first.
    pub fn candidates(&self, config: usize, name: &str) -> Vec<String> {
        let name = name.replace('\\', "/");
        let name = name.strip_prefix("::").unwrap_or(&name);
        if name.starts_with('/') {
            return vec![normal_path(name)];
        }
        let directories = self.directories.get(config).into_iter().flatten().map(String::as_str).chain([""]);
        let mut paths: Vec<String> = directories.map(|directory| normal_path(&format!("{directory}/{name}"))).collect();
        paths.dedup();
        paths
    }

    /// Returns the labels of a menu that matter without a key.
    fn labels_of(&self, group: &BTreeSet<usize>) -> MenuLabels {
        let position = |found: &dyn Fn(&SyslinuxConfig<'_>, &Label<'_>) -> bool| {
            group.iter().find_map(|member| {
                let config = &self.configs[*member];
                Some((*member, config.labels.iter().position(|label| found(config, label))?))
            })
        };
        let defaults = group.iter().flat_map(|member| &self.configs[*member].defaults);
        let named = defaults.filter(|line| !is_timeout(line)).find_map(|line| {
            let (member, number) = self.find_label(group, line.value)?;
            let label = &self.configs[member].labels[number];
            // A label that leads to another menu is none that boots.
            (label.boots() || label.leaves()).then_some((member, number))
        });
        MenuLabels {
            is_named: named.is_some(),
            default: named.or_else(|| position(&|_, label| label.menu_default.is_some())),
            bootable: position(&|config, label| label.boots() && !entry(config, label).is_side_entry()),
        }
    }

    /// Returns the label with a name in a menu: its configuration and number.
    fn find_label(&self, group: &BTreeSet<usize>, name: &str) -> Option<(usize, usize)> {
        group.iter().find_map(|member| Some((*member, self.configs[*member].label(name)?)))
    }

    /// Returns the labels that matter without a key in the menu of a configuration.
    fn menu_labels(&self, config: usize) -> MenuLabels {
        let first = self.groups[config].first().and_then(|first| self.labels.get(first)).copied().unwrap_or_default();
        let own = &self.configs[config];
        let shows_own = own.has_menu && !own.labels.is_empty();
        MenuLabels { default: first.default.or(shows_own.then_some((config, 0))), ..first }
    }

    /// Returns the kernels that a configuration boots, as far as there is room for them.
    pub fn entries(&self, config: usize, room: &mut EntryRoom) -> Vec<MenuEntry> {
        let (menu, default) = (&self.configs[config], self.menu_labels(config).default);
        let labels = menu.labels.iter().enumerate().filter(|(_, label)| label.boots());
        labels
            .map_while(|(number, label)| {
                let is_default = default == Some((config, number));
                room.take(MenuEntry { is_default, ..entry(menu, label) })
            })
            .collect()
    }

    /// Applies an edit to a configuration. Returns the text and the number of labels that boot a Linux kernel.
    pub fn edit(&self, number: usize, edit: &MenuEdit) -> (String, usize) {
        let (menu, (path, text)) = (&self.configs[number], self.files[number]);
        let mut out: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        let boots: Vec<&Label<'_>> = menu.labels.iter().filter(|label| label.boots()).collect();
        if edit.changes_arguments() {
            edit_labels(menu, &boots, edit, &mut out);
        }
        for line in &menu.commands {
            // debian-installer's menus start speech synthesis when no key is pressed.
            let starts_speech = edit.timeout.is_some() && line.keyword.eq_ignore_ascii_case("ontimeout");
            if starts_speech {
                out[line.number] = line.commented();
            } else if edit.changes_arguments() {
                out[line.number] = edited_line(line, edit);
            }
        }
        if let Some(seconds) = edit.timeout {
            self.leave_for_a_kernel(number, &mut out);
            let tenths = u32::from(seconds) * 10;
            for line in &menu.timeouts {
                out[line.number] = line.with_value(&tenths.to_string());
            }
            if menu.timeouts.is_empty() && path.to_ascii_lowercase().ends_with("linux.cfg") {
                out.insert(0, format!("timeout {tenths}\n"));
            }
        }
        (out.concat(), boots.len() + menu.commands.len())
    }

    /// Makes the first label that boots a kernel the default, where the default one leaves for the local disk.
    fn leave_for_a_kernel(&self, number: usize, out: &mut [String]) {
        let (menu, labels) = (&self.configs[number], self.menu_labels(number));
        let Some((chosen_in, chosen)) = labels.bootable else { return };
        let at = |(config, label): (usize, usize)| &self.configs[config].labels[label];
        let chosen = at((chosen_in, chosen));
        for line in &menu.defaults {
            let leaves = self.find_label(&self.groups[number], line.value).is_some_and(|label| at(label).leaves());
            match leaves {
                true if is_timeout(line) => out[line.number] = line.commented(),
                true => out[line.number] = line.with_value(chosen.name()),
                false => {}
            }
        }
        if labels.is_named || !labels.default.is_some_and(|label| at(label).leaves()) {
            return;
        }
        for line in menu.labels.iter().filter(|label| label.leaves()).filter_map(|label| label.menu_default.as_ref()) {
            out[line.number] = line.commented();
        }
        if chosen_in == number && chosen.menu_default.is_none() {
            let line = &mut out[chosen.line.number];
            let gap = if line.ends_with('\n') { "" } else { "\n" };
            line.push_str(&format!("{gap}{}  menu default{}", chosen.line.indent, chosen.line.end()));
        }
    }
}

/// Returns whether a line names the label for the end of the timeout.
fn is_timeout(line: &ConfigLine<'_>) -> bool {
    line.keyword.eq_ignore_ascii_case("ontimeout")
}

/// Returns the kernel that a label boots.
fn entry(menu: &SyslinuxConfig<'_>, label: &Label<'_>) -> MenuEntry {
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
    let append = label.append.as_ref().or(menu.append.as_ref()).map_or("", |line| line.value);
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

/// Applies an edit to the arguments of labels.
fn edit_labels(menu: &SyslinuxConfig<'_>, boots: &[&Label<'_>], edit: &MenuEdit, out: &mut [String]) {
    let shared = menu.append.iter().filter(|_| boots.iter().any(|label| label.append.is_none()));
    for line in shared {
        out[line.number] = edited_line(line, edit);
    }
    let removal = MenuEdit { append: Vec::new(), ..edit.clone() };
    for label in boots {
        if let Some((kernel, own)) = label.kernel_words()
            && let Some(line) = &label.kernel
        {
            let own: Vec<&str> = own.collect();
            if own.iter().any(|word| edit.removes(word)) {
                let words = edited_arguments(own.into_iter(), &removal, str::to_owned);
                out[line.number] = line.with_value(&[vec![kernel.to_owned()], words].concat().join(" "));
            }
        }
        match (&label.append, &label.kernel) {
            (Some(line), _) => out[line.number] = edited_append(label, line, edit),
            (None, Some(kernel)) if menu.append.is_none() && !edit.append.is_empty() => {
                let gap = if out[kernel.number].ends_with('\n') { "" } else { "\n" };
                let line = format!("{gap}{}append {}{}", kernel.indent, edit.append.join(" "), kernel.end());
                out[kernel.number].push_str(&line);
            }
            (None, _) => {}
        }
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
    let words = line.value.split_ascii_whitespace().filter(|word| *word != "-");
    line.with_value(&edited_arguments(words, edit, str::to_owned).join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "default install\nlabel install\n\tmenu label ^Install\n\tkernel /install.amd/vmlinuz\n\
        \tappend vga=788 initrd=/install.amd/initrd.gz --- quiet\nlabel memtest\n\tkernel /memtest86+.bin\n\tappend none\n";

    fn edit_menu(path: &str, text: &str, edit: &MenuEdit) -> (String, usize) {
        SyslinuxConfigs::read(&[(path, text)]).edit(0, edit)
    }

    fn entries(text: &str) -> Vec<MenuEntry> {
        SyslinuxConfigs::read(&[("/isolinux/isolinux.cfg", text)]).entries(0, &mut EntryRoom::default())
    }

    fn adding(arguments: &[&str]) -> MenuEdit {
        MenuEdit { append: arguments.iter().map(|text| text.to_string()).collect(), ..MenuEdit::default() }
    }

    #[test]
    fn arguments_go_before_those_of_the_installed_system() {
        let (text, lines) = edit_menu("/isolinux/txt.cfg", DEBIAN, &adding(&["auto=true", "url=http://h/p;x"]));
        assert_eq!(lines, 1);
        let line = "\tappend vga=788 initrd=/install.amd/initrd.gz auto=true url=http://h/p;x --- quiet\n";
        assert_eq!(text, DEBIAN.replace("\tappend vga=788 initrd=/install.amd/initrd.gz --- quiet\n", line));
        assert_eq!(
            edit_menu("/isolinux/txt.cfg", &text, &adding(&["auto=true"])).0,
            text,
            "a second edit changes nothing"
        );
    }

    #[test]
    fn a_part_of_a_menu_is_known_by_its_place() {
        let rows = [
            ("/boot/syslinux/archiso_sys.cfg", "INCLUDE x.cfg\nTIMEOUT 150\n", true),
            ("/isolinux/gfxboot.cfg", "[base]\nbackground=0xffffff\n", false),
            ("/etc/app.cfg", "timeout 5\n", false),
            ("/x.cfg", "label a\nkernel /k\n", true),
            ("/isolinux/isolinux.cfg", "prompt 0\n", true),
            ("/isolinux/grub.cfg", "default 0\nmenuentry a { linux /k }\n", false),
        ];
        for (path, text, expected) in rows {
            assert_eq!(matches(path, text), expected, "{path}");
        }
    }

    #[test]
    fn an_entry_has_its_kernel_and_initrds() {
        let found = entries(DEBIAN);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].title, "Install");
        assert_eq!(found[0].kernel, "/install.amd/vmlinuz");
        assert_eq!(found[0].initrds, ["/install.amd/initrd.gz"]);
        assert_eq!(found[0].arguments, "vga=788 --- quiet");
    }

    #[test]
    fn a_label_without_append_gets_one() {
        let rows = [
            ("label a\n  linux /k", "label a\n  linux /k\n  append x\n"),
            ("append ro\nlabel a\n linux /k\n", "append ro x\nlabel a\n linux /k\n"),
            ("append ro\nlabel a\n linux /k\n append -\n", "append ro\nlabel a\n linux /k\n append x\n"),
            ("label a\r\nkernel /k\r\nappend b\r\n", "label a\r\nkernel /k\r\nappend b x\r\n"),
            (
                "label a\ntext help\nappend not this\nendtext\nkernel /k\nAPPEND b\n",
                "label a\ntext help\nappend not this\nendtext\nkernel /k\nAPPEND b x\n",
            ),
            ("label a\nlinux /k\nappend b=\u{c3}\u{a0}\n", "label a\nlinux /k\nappend b=\u{c3}\u{a0} x\n"),
            ("label m\nkernel vesamenu.c32\nappend menu.cfg\n", "label m\nkernel vesamenu.c32\nappend menu.cfg\n"),
        ];
        for (before, after) in rows {
            assert_eq!(edit_menu("/x.cfg", before, &adding(&["x"])).0, after);
        }
    }

    #[test]
    fn a_kernel_outside_of_a_label_gets_the_arguments() {
        let text = "ontimeout /k speakup.synth=soft --- quiet\ndefault vesamenu.c32 x\n";
        let (new, lines) = edit_menu("/x.cfg", text, &adding(&["x"]));
        assert_eq!((new.as_str(), lines), ("ontimeout /k speakup.synth=soft x --- quiet\ndefault vesamenu.c32 x\n", 1));
        let edit = MenuEdit { timeout: Some(1), ..adding(&["x"]) };
        assert!(edit_menu("/x.cfg", text, &edit).0.starts_with("# ontimeout /k"));
    }

    #[test]
    fn the_timeout_is_set() {
        let edit = MenuEdit { timeout: Some(3), ..MenuEdit::default() };
        assert_eq!(edit_menu("/isolinux/isolinux.cfg", "prompt 0\ntimeout 0\n", &edit).0, "prompt 0\ntimeout 30\n");
        assert_eq!(edit_menu("/isolinux/isolinux.cfg", "prompt 0\n", &edit).0, "timeout 30\nprompt 0\n");
        assert_eq!(edit_menu("/isolinux/txt.cfg", DEBIAN, &edit).0, DEBIAN);
    }

    #[test]
    fn the_kernel_of_xen_gets_the_arguments() {
        let xen = "label install\n  KERNEL mboot.c32\n  APPEND /boot/xen.gz dom0_mem=max:8192M --- /boot/vmlinuz console=hvc0@ --- /install.img\n";
        let before = xen.replace('@', "");
        let (text, lines) = edit_menu("/boot/isolinux/isolinux.cfg", &before, &adding(&["a=1", "install"]));
        assert_eq!((text.as_str(), lines), (xen.replace('@', " a=1 install").as_str(), 1));
        assert_eq!(edit_menu("/x.cfg", &text, &adding(&["install"])).0, text, "a second edit changes nothing");
        let found = entries(&before);
        assert_eq!((found[0].kernel.as_str(), found[0].arguments.as_str()), ("/boot/vmlinuz", "console=hvc0"));
        assert_eq!(found[0].initrds, ["/install.img"]);
        assert_eq!(found[0].obstacle, Some(Obstacle::Hypervisor("/boot/xen.gz".into())));
        let esxi = "label install\nKERNEL mboot.c32\nAPPEND -c boot.cfg\n";
        assert_eq!(
            edit_menu("/isolinux.cfg", esxi, &adding(&["a"])),
            (esxi.to_owned(), 0),
            "another kernel of mboot.c32"
        );
    }

    #[test]
    fn arguments_may_be_on_the_line_of_the_kernel() {
        let text = "label a\nlinux /boot/bzImage init=/nix quiet\nappend b\n";
        let found = entries(text);
        assert_eq!((found[0].kernel.as_str(), found[0].arguments.as_str()), ("/boot/bzImage", "init=/nix quiet b"));
        let edit = MenuEdit { remove: vec!["quiet".into()], ..adding(&["x"]) };
        assert_eq!(edit_menu("/x.cfg", text, &edit).0, "label a\nlinux /boot/bzImage init=/nix\nappend b x\n");
    }

    const SUSE: &str = "default harddisk\n\n# hard disk\nlabel harddisk\n  localboot -2\n\nlabel upgrade\n  kernel linux\n  append initrd=initrd upgrade=1\n\n\
        label linux\n  kernel linux\n  append initrd=initrd splash=silent\n\nui gfxboot bootlogo message\nimplicit 1\ntimeout 600\n";

    #[test]
    fn a_view_boots_a_kernel_by_itself() {
        let edit = MenuEdit { timeout: Some(1), ..adding(&["x"]) };
        let edited = |text: &str| edit_menu("/boot/x86_64/loader/isolinux.cfg", text, &edit).0;
        assert!(
            edited(SUSE).starts_with("default linux\n") && edited(SUSE).contains("timeout 10\n"),
            "{}",
            edited(SUSE)
        );
        assert!(edit_menu("/isolinux.cfg", SUSE, &adding(&["x"])).0.starts_with("default harddisk\n"));
        let cobbler = "default vesamenu.c32\nlabel local\n  menu default\n  localboot 0xffff\nlabel install\n  kernel /k\n  append a\n";
        let after = "default vesamenu.c32\nlabel local\n# menu default\n  localboot 0xffff\nlabel install\n  menu default\n  kernel /k\n  append a x\n";
        assert_eq!(edited(cobbler), format!("timeout 10\n{after}"));
        let first = "ui menu.c32\nlabel disk\ncom32 chain.c32\nappend hd0\nlabel install\nkernel /k\nappend a\n";
        assert!(edited(first).contains("label install\n  menu default\n"), "{}", edited(first));
        let later = "default install\nontimeout local\nlabel local\nlocalboot 0\nlabel install\nkernel /k\nappend a\n";
        assert!(edited(later).contains("default install\n# ontimeout local\n"), "{}", edited(later));
        let rescue = "default install\nlabel install\nkernel /k\nappend a\nlabel local\nlocalboot 0\n";
        assert!(edited(rescue).contains("default install\n"), "a default that boots a kernel stays");
    }

    #[test]
    fn a_default_in_another_file_is_found() {
        let files = [
            ("/isolinux/isolinux.cfg", "include menu.cfg\ndefault local\ntimeout 600\n"),
            ("/isolinux/menu.cfg", "label local\nlocalboot 0\nmenu include install.cfg Install\n"),
            ("/isolinux/install.cfg", "label install\nkernel vmlinuz\nappend a\n"),
        ];
        let configs = SyslinuxConfigs::read(&files);
        let edit = MenuEdit { timeout: Some(1), ..MenuEdit::default() };
        assert_eq!(configs.edit(0, &edit).0, "include menu.cfg\ndefault install\ntimeout 10\n");
        assert_eq!(configs.edit(1, &edit).0, files[1].1);
        let named = [
            ("/isolinux/isolinux.cfg", "include txt.cfg\ndefault second\n"),
            ("/isolinux/txt.cfg", "label first\nkernel /k\nlabel second\nkernel /l\n"),
        ];
        let found = SyslinuxConfigs::read(&named).entries(1, &mut EntryRoom::default());
        assert_eq!(found.iter().map(|entry| entry.is_default).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn names_are_relative_to_the_menu_or_to_its_reader() {
        let files = [
            (
                "/isolinux/isolinux.cfg",
                "default loadconfig\nlabel loadconfig\n  config /arch/boot/syslinux/archiso.cfg\n  append /arch/\n",
            ),
            ("/arch/boot/syslinux/archiso.cfg", "include boot/syslinux/archiso_sys.cfg\n"),
            ("/arch/boot/syslinux/archiso_sys.cfg", "label arch\nlinux boot/x86_64/vmlinuz\n"),
        ];
        let configs = SyslinuxConfigs::read(&files);
        assert!(configs.candidates(2, "boot/x86_64/vmlinuz").contains(&"/arch/boot/x86_64/vmlinuz".to_owned()));
        assert_eq!(configs.candidates(0, "vmlinuz"), ["/isolinux/vmlinuz", "/vmlinuz"]);
        assert_eq!(configs.candidates(0, "/vmlinuz"), ["/vmlinuz"]);
        assert_eq!(configs.candidates(0, "../k"), ["/k"]);
    }
}
