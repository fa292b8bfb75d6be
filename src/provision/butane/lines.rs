//! The lines of a Butane config that messages are about.

/// Returns the number of the line, counted from 1, that a message about a Butane config or about its Ignition config is about:
/// that of its place (`storage.files.0.mode`, `/storage/files/0/mode`), or of what is above it. `None` if it names no place.
pub fn line_of(text: &str, message: &str) -> Option<usize> {
    let message = message.trim_start_matches("as Ignition: ").trim_start_matches("unused key: ");
    let place = message.split([':', ',', ' ']).next().unwrap_or_default().trim_start_matches('$');
    let parts: Vec<String> = place.split(['.', '/']).filter(|part| !part.is_empty()).map(snake_case).collect();
    let lines: Vec<&str> = text.lines().collect();
    let mut block = Block { lines: &lines, first: 0, end: lines.len(), item: None };
    let mut found = None;
    for part in &parts {
        let Some(next) = block.child(part) else { break };
        found = Some(next.first + 1);
        block = next;
    }
    found
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// Lines of a value in block style. Of one in flow style, what is in it is not found.
#[derive(Debug, Clone, Copy)]
struct Block<'a> {
    lines: &'a [&'a str],
    /// The first line: that of its key, or of its dash.
    first: usize,
    end: usize,
    /// Column behind the dash of the first line, if the value is an item of a list.
    item: Option<usize>,
}

impl<'a> Block<'a> {
    /// Returns the lines of a key or of an item by its index.
    fn child(&self, name: &str) -> Option<Self> {
        let (mut indent, mut starts) = (None, Vec::new());
        for at in self.first..self.end {
            let (column, content) = match self.item.filter(|_| at == self.first) {
                // The first key of an item stands behind its dash.
                Some(column) => (column, self.lines[at].get(column..)?),
                None if at == self.first && self.first > 0 => continue,
                None => indented(self.lines[at])?,
            };
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if *indent.get_or_insert(column) == column {
                starts.push((at, column, content));
            }
        }
        let number = name.parse::<usize>().ok();
        let is_item = |content: &str| content == "-" || content.starts_with("- ");
        let index = match number {
            Some(number) => starts.iter().position(|(.., content)| is_item(content)).map(|begin| begin + number)?,
            None => starts.iter().position(|(.., content)| key(content) == Some(name))?,
        };
        let (first, column, content) =
            *starts.get(index).filter(|(.., content)| number.is_none() || is_item(content))?;
        // The items of a list may stand below its key without a further indent.
        let mut after = starts[index + 1..].iter().skip_while(|(.., content)| number.is_none() && is_item(content));
        let end = after.next().map_or(self.end, |(at, ..)| *at);
        let dash = content.len() - content.get(1..).unwrap_or_default().trim_start().len();
        Some(Self { first, end, item: number.map(|_| column + dash), ..*self })
    }
}

fn indented(line: &str) -> Option<(usize, &str)> {
    let content = line.trim_start_matches(' ');
    Some((line.len() - content.len(), content.trim_end()))
}

/// Returns the key that a line begins with.
fn key(content: &str) -> Option<&str> {
    let (key, rest) = content.split_once(':')?;
    (rest.is_empty() || rest.starts_with(' ')).then(|| key.trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "variant: fcos\nversion: 1.5.0\n# files\nstorage:\n  files:\n    - path: relative\n      mode: 0644\n\
                          \n      contents:\n        inline: |\n          mode: x\n    -\n      path: /b\n  trees:\n  - local: a\n  - local: b\n\
                          \"passwd\":\n  users: [{nam: core}]\nsystemd:\n  units:\n  - name: a.service\n    dropins:\n    - name: b.conf\n";

    #[test]
    fn a_message_has_the_line_of_its_place_or_of_what_is_above_it() {
        for (message, line) in [
            ("as Ignition: /storage/files/0/path: is relative", Some(6)),
            ("storage.files.0.mode: 644 is decimal", Some(7)),
            ("storage.files.0.contents.inlin: unused key", Some(9)),
            ("storage.files.0.contents.inline: x", Some(10)),
            ("as Ignition: /storage/files/1/path: x", Some(13)),
            ("storage.trees.1: no such file", Some(16)),
            ("storage.trees.1.local: no such file", Some(16)),
            ("as Ignition: /storage/files/7/path: x", Some(5)),
            // What is in flow style is on the line of its key, or follows it.
            ("as Ignition: /passwd/users/0/name: missing", Some(18)),
            ("systemd.units.0.dropins.0.name: x", Some(23)),
            ("unused key: $.storage.trees, in Ignition 3.4.0", Some(14)),
            ("variant \"x\", version \"9\": expected", Some(1)),
            ("line 1: expected a mapping", None),
            ("invalid YAML: x", None),
        ] {
            assert_eq!(line_of(CONFIG, message), line, "{message}");
        }
    }
}
