//! The lines of a configuration that is being edited.

use std::borrow::Cow;

use crate::iso::menu::edit::EditRoom;

/// The lines of a configuration, with their endings.
#[derive(Debug)]
pub struct EditedLines<'e> {
    lines: Vec<Cow<'e, str>>,
    /// Lines before the first one, and after the last one.
    first: String,
    last: String,
    room: &'e mut EditRoom,
}

impl<'e> EditedLines<'e> {
    /// Splits a text into lines. `room` is what the edit may write.
    pub fn new(text: &'e str, room: &'e mut EditRoom) -> Self {
        let lines = text.split_inclusive('\n').map(Cow::Borrowed).collect();
        Self { lines, first: String::new(), last: String::new(), room }
    }

    /// Returns whether there is no room for more lines.
    pub fn is_full(&self) -> bool {
        self.room.is_used_up()
    }

    /// Replaces a line.
    pub fn set(&mut self, number: usize, line: String) {
        if self.room.take(line.len()) {
            self.lines[number] = Cow::Owned(line);
        }
    }

    /// Adds a line after another one.
    pub fn add_after(&mut self, number: usize, line: String) {
        let before = &mut self.lines[number];
        if self.room.take(before.len() + line.len()) {
            let gap = if before.ends_with('\n') { "" } else { "\n" };
            before.to_mut().extend([gap, &line]);
        }
    }

    /// Adds a line before all others.
    pub fn add_first(&mut self, line: String) {
        if self.room.take(line.len()) {
            self.first.insert_str(0, &line);
        }
    }

    /// Adds a line after all others.
    pub fn add_last(&mut self, line: String) {
        if self.room.take(line.len()) {
            self.last.push_str(&line);
        }
    }

    /// Returns the text.
    pub fn text(self) -> String {
        let Self { mut lines, first, last, .. } = self;
        let gap = match lines.last() {
            Some(line) if !line.ends_with('\n') && !last.is_empty() => "\n",
            _ => "",
        };
        lines.insert(0, Cow::Owned(first));
        lines.extend([Cow::Borrowed(gap), Cow::Owned(last)]);
        lines.concat()
    }
}
