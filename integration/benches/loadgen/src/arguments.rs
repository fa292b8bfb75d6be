//! Command-line options: `--name value`, in any order.

use std::collections::BTreeMap;
use std::error::Error;
use std::str::FromStr;

/// The options of this program.
pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// Parses the program's arguments; an option in `flags` has no value.
    pub fn read(flags: &[&str]) -> Result<Self, Box<dyn Error>> {
        let mut given = BTreeMap::new();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = match flags.contains(&word.as_str()) {
                true => String::new(),
                false => words.next().ok_or(format!("{word} wants a value"))?,
            };
            given.insert(word, value);
        }
        Ok(Self(given))
    }

    pub fn text(&self, name: &str) -> Result<&str, String> {
        self.perhaps(name).ok_or(format!("{name} is missing"))
    }

    pub fn perhaps(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns a numeric option, or the default.
    pub fn number<N: FromStr>(&self, name: &str, or: N) -> Result<N, N::Err> {
        self.perhaps(name).map_or(Ok(or), str::parse)
    }
}
