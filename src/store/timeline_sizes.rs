//! The bounds of the timeline: in all, of each machine, and of all machines that nobody declared.

use std::collections::HashMap;

use rusqlite::{Connection, Transaction, params};

use crate::fleet::Mac;

/// Maximum number of timeline entries. The oldest are deleted.
const MAX_ENTRIES: i64 = 200_000;
/// Maximum number of entries of machines that nobody declared. The oldest of these are deleted.
const MAX_STRANGER_ENTRIES: i64 = 20_000;
/// Number of entries that one machine keeps.
const MACHINE_ENTRIES: i64 = 2000;
/// Number of entries that one machine keeps that nobody declared.
const STRANGER_ENTRIES: i64 = 100;
/// Number of entries that a machine may have beyond that, so that not each entry deletes another one.
const SLACK: i64 = 50;
/// Maximum number of machines whose new entries are counted. All counts are dropped when it is exceeded.
const MACHINES: usize = 8192;

/// The number of entries in the timeline, as far as its bounds depend on it.
#[derive(Debug, Default)]
pub struct TimelineSizes {
    all: i64,
    strangers: i64,
    /// Entries of each machine since it was trimmed.
    added: HashMap<Mac, i64>,
    /// Machines to trim, and how many entries each keeps.
    due: Vec<(Mac, i64)>,
}

impl TimelineSizes {
    /// Counts the entries of a database.
    ///
    /// # Errors
    /// SQLite fails.
    pub fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let count = |sql| connection.query_row(sql, [], |row| row.get(0));
        let all = count("SELECT count(*) FROM timeline")?;
        let strangers = count("SELECT count(*) FROM timeline_strangers")?;
        Ok(Self { all, strangers, ..Self::default() })
    }

    /// Counts an entry that was added.
    ///
    /// # Errors
    /// SQLite fails.
    pub fn added(
        &mut self,
        transaction: &Transaction<'_>,
        id: i64,
        mac: Option<Mac>,
        is_by_stranger: bool,
    ) -> rusqlite::Result<()> {
        self.all += 1;
        if is_by_stranger {
            transaction.prepare_cached("INSERT INTO timeline_strangers VALUES (?)")?.execute([id])?;
            self.strangers += 1;
        }
        let Some(mac) = mac else { return Ok(()) };
        if self.added.len() >= MACHINES && !self.added.contains_key(&mac) {
            self.added.clear();
        }
        let added = self.added.entry(mac).or_insert(0);
        *added += 1;
        if *added >= SLACK {
            *added = 0;
            self.due.push((mac, if is_by_stranger { STRANGER_ENTRIES } else { MACHINE_ENTRIES }));
        }
        Ok(())
    }

    /// Deletes the oldest entries beyond the bounds.
    ///
    /// # Errors
    /// SQLite fails.
    pub fn trim(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for (mac, keep) in std::mem::take(&mut self.due) {
            let sql = "DELETE FROM timeline WHERE mac = ?1
                AND id <= (SELECT id FROM timeline WHERE mac = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
            let gone = transaction.prepare_cached(sql)?.execute(params![mac.to_string(), keep])?;
            self.all -= number(gone);
        }
        let excess = self.strangers - MAX_STRANGER_ENTRIES;
        if excess > 0 {
            let oldest = "SELECT id FROM timeline_strangers ORDER BY id LIMIT ?";
            let sql = format!("DELETE FROM timeline WHERE id IN ({oldest})");
            let gone = transaction.prepare_cached(&sql)?.execute([excess])?;
            self.all -= number(gone);
            let sql = format!("DELETE FROM timeline_strangers WHERE id IN ({oldest})");
            let gone = transaction.prepare_cached(&sql)?.execute([excess])?;
            self.strangers -= number(gone);
        }
        let excess = self.all - MAX_ENTRIES;
        if excess > 0 {
            let sql = "DELETE FROM timeline WHERE id IN (SELECT id FROM timeline ORDER BY id LIMIT ?)";
            let gone = transaction.prepare_cached(sql)?.execute([excess])?;
            self.all -= number(gone);
            let sql = "DELETE FROM timeline_strangers WHERE id < (SELECT min(id) FROM timeline)";
            let gone = transaction.prepare_cached(sql)?.execute([])?;
            self.strangers -= number(gone);
        }
        Ok(())
    }
}

/// Returns a number of rows as SQLite counts them.
fn number(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds so many entries of a machine, in transactions of 500.
    fn add(connection: &mut Connection, sizes: &mut TimelineSizes, count: i64, mac: impl Fn(i64) -> Mac, known: bool) {
        let numbers: Vec<i64> = (0..count).collect();
        for numbers in numbers.chunks(500) {
            let transaction = connection.transaction().unwrap();
            for number in numbers {
                let sql = "INSERT INTO timeline (mac) VALUES (?)";
                transaction.prepare_cached(sql).unwrap().execute([mac(*number).to_string()]).unwrap();
                let id = transaction.last_insert_rowid();
                sizes.added(&transaction, id, Some(mac(*number)), !known).unwrap();
            }
            sizes.trim(&transaction).unwrap();
            transaction.commit().unwrap();
        }
    }

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let schema = "CREATE TABLE timeline (id INTEGER PRIMARY KEY AUTOINCREMENT, mac TEXT);
            CREATE INDEX timeline_mac ON timeline (mac, id); CREATE TABLE timeline_strangers (id INTEGER PRIMARY KEY);";
        connection.execute_batch(schema).unwrap();
        connection
    }

    fn count(connection: &Connection, mac: Mac) -> i64 {
        let sql = "SELECT count(*) FROM timeline WHERE mac = ?";
        connection.query_row(sql, [mac.to_string()], |row| row.get(0)).unwrap()
    }

    #[test]
    fn strangers_cannot_wipe_the_entries_of_others() {
        let mut connection = database();
        let mut sizes = TimelineSizes::read(&connection).unwrap();
        let host = Mac([2, 0, 0, 0, 0, 1]);
        add(&mut connection, &mut sizes, 10, |_| host, true);
        let invented = |number: i64| {
            let [.., a, b, c] = number.to_be_bytes();
            Mac([0xfe, 0, 0, a, b, c])
        };
        add(&mut connection, &mut sizes, MAX_STRANGER_ENTRIES + 5000, invented, false);
        assert_eq!(count(&connection, host), 10);
        let read = TimelineSizes::read(&connection).unwrap();
        assert_eq!((sizes.all, sizes.strangers), (MAX_STRANGER_ENTRIES + 10, MAX_STRANGER_ENTRIES));
        assert_eq!((read.all, read.strangers), (sizes.all, sizes.strangers));
    }

    #[test]
    fn one_machine_keeps_its_newest_entries_only() {
        let mut connection = database();
        let mut sizes = TimelineSizes::read(&connection).unwrap();
        let (host, stranger) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        add(&mut connection, &mut sizes, 5000, |_| host, true);
        add(&mut connection, &mut sizes, 5000, |_| stranger, false);
        assert!((MACHINE_ENTRIES..=MACHINE_ENTRIES + SLACK).contains(&count(&connection, host)));
        assert!((STRANGER_ENTRIES..=STRANGER_ENTRIES + SLACK).contains(&count(&connection, stranger)));
        assert_eq!(TimelineSizes::read(&connection).unwrap().all, sizes.all);
    }

    #[test]
    fn the_new_entries_of_a_bounded_number_of_machines_are_counted() {
        let mut connection = database();
        let mut sizes = TimelineSizes::read(&connection).unwrap();
        let machines = i64::try_from(MACHINES).unwrap();
        let mac = |number: i64| {
            let [.., a, b, c] = number.to_be_bytes();
            Mac([2, 0, 0, a, b, c])
        };
        add(&mut connection, &mut sizes, machines, mac, true);
        assert_eq!(sizes.added.len(), MACHINES);
        add(&mut connection, &mut sizes, machines, mac, true);
        assert_eq!(sizes.added.len(), MACHINES, "the same machines");
        add(&mut connection, &mut sizes, 1, |_| mac(machines), true);
        assert_eq!(sizes.added.len(), 1);
        assert_eq!(sizes.all, 2 * machines + 1);
    }
}
