//! The queue of notifications for webhooks. A notification is a row that the transaction of its change writes: what is
//! durable is announced, and nothing else. Each webhook reads on from a position of its own.

use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use crate::event::{Entry, Notification};
use crate::fleet::{NotificationKind, Object};

use super::history::{ChangeKind, ChangeRecord};
use super::seen_host::enrolment_entry;

/// Maximum number of queued notifications. The oldest are deleted.
const MAX_ROWS: i64 = 8192;
/// Maximum number of queued notifications about machines that nobody declared. Further ones are not queued.
const MAX_STRANGER_ROWS: i64 = MAX_ROWS / 4;

/// The tables. Added without a new version of the schema: a program that does not know them ignores them.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT, stranger INTEGER NOT NULL, body TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS outbox_readers (name TEXT PRIMARY KEY, position INTEGER NOT NULL);
";

/// A reader of the queue: a webhook.
#[derive(Debug, Clone)]
pub struct OutboxReader {
    /// Its name, by which it reads on after a restart.
    pub name: String,
    /// The kinds of notifications that it wants.
    pub kinds: Vec<NotificationKind>,
}

/// The queue, as the writer sees it.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The kinds of notifications that some webhook wants.
    kinds: Vec<NotificationKind>,
    /// The last line. Lines have no gaps but at the beginning.
    newest: i64,
    /// Number of rows about machines that nobody declared.
    strangers: i64,
    /// Number of notifications about machines that nobody declared that were left out.
    left_out: u64,
}

impl Outbox {
    /// Creates the tables, forgets readers that are no longer configured, and has new ones begin behind the last row.
    ///
    /// # Errors
    /// SQLite fails.
    pub fn open(connection: &mut Connection, readers: &[OutboxReader]) -> rusqlite::Result<Self> {
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLES)?;
        let newest = newest(&transaction)?;
        let known = names(&transaction)?;
        for name in known.iter().filter(|name| !readers.iter().any(|reader| reader.name == **name)) {
            transaction.execute("DELETE FROM outbox_readers WHERE name = ?", [name])?;
        }
        for reader in readers {
            transaction.execute("INSERT OR IGNORE INTO outbox_readers VALUES (?, ?)", params![reader.name, newest])?;
        }
        remove_read(&transaction)?;
        transaction.commit()?;
        let mut kinds: Vec<_> = readers.iter().flat_map(|reader| reader.kinds.iter().copied()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let mut outbox = Self { kinds, newest, ..Self::default() };
        outbox.reload(connection)?;
        Ok(outbox)
    }

    /// Reads the state of the tables again, after a transaction that was rolled back.
    ///
    /// # Errors
    /// SQLite fails.
    pub fn reload(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.newest = newest(connection)?;
        self.strangers = connection.query_row("SELECT count(*) FROM outbox WHERE stranger", [], |row| row.get(0))?;
        Ok(())
    }

    /// Returns the last line.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// Returns the number of notifications that were left out since the last call.
    pub fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    /// Queues the notifications of changes and of timeline entries. An entry is about a stranger or not.
    ///
    /// # Errors
    /// SQLite fails.
    pub fn write<'a>(
        &mut self,
        transaction: &Transaction<'_>,
        changes: impl Iterator<Item = &'a ChangeRecord>,
        entries: impl Iterator<Item = (&'a Entry, bool)>,
    ) -> rusqlite::Result<()> {
        if self.kinds.is_empty() {
            return Ok(());
        }
        let before = self.newest;
        for record in changes {
            let Object::Host(host) = &record.object else { continue };
            if host.status.is_first_seen_only() {
                if record.operation == ChangeKind::Added
                    && let Some((_, entry)) = enrolment_entry(host)
                {
                    self.add(transaction, Notification::of_entry(Uuid::new_v4(), &entry), true)?;
                }
            } else if let Some((previous, _)) = record.phase_change() {
                self.add(transaction, Some(Notification::of_phase(Uuid::new_v4(), host, previous)), false)?;
            }
        }
        // What strangers do else is in the timeline only.
        for (entry, _) in entries.filter(|(_, is_by_stranger)| !is_by_stranger) {
            self.add(transaction, Notification::of_entry(Uuid::new_v4(), entry), false)?;
        }
        if self.newest > before {
            self.trim(transaction)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        transaction: &Transaction<'_>,
        notification: Option<Notification>,
        is_by_stranger: bool,
    ) -> rusqlite::Result<()> {
        let Some(notification) = notification.filter(|found| self.kinds.contains(&found.kind())) else { return Ok(()) };
        if is_by_stranger && self.strangers >= MAX_STRANGER_ROWS {
            self.left_out += 1;
            return Ok(());
        }
        let body = serde_json::to_string(&notification);
        let body = body.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let sql = "INSERT INTO outbox (stranger, body) VALUES (?, ?)";
        transaction.prepare_cached(sql)?.execute(params![is_by_stranger, body])?;
        self.newest = transaction.last_insert_rowid();
        self.strangers += i64::from(is_by_stranger);
        Ok(())
    }

    /// Deletes the oldest rows beyond the maximum.
    fn trim(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let sql = "DELETE FROM outbox WHERE id <= ? RETURNING stranger";
        let mut oldest = transaction.prepare_cached(sql)?;
        let strangers = oldest.query_map([self.newest - MAX_ROWS], |row| row.get::<_, i64>(0))?;
        self.strangers -= strangers.sum::<rusqlite::Result<i64>>()?;
        Ok(())
    }

    /// Records how far readers have come, and deletes the rows that all of them have read.
    ///
    /// # Errors
    /// SQLite fails.
    pub fn mark_read(&mut self, transaction: &Transaction<'_>, reads: &[(String, i64)]) -> rusqlite::Result<()> {
        for (name, position) in reads {
            let sql = "UPDATE outbox_readers SET position = max(position, ?) WHERE name = ?";
            transaction.prepare_cached(sql)?.execute(params![position, name])?;
        }
        if !reads.is_empty() {
            self.strangers -= remove_read(transaction)?;
        }
        Ok(())
    }
}

/// Returns the last line that a row had.
fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'";
    connection.query_row(sql, [], |row| row.get(0))
}

fn names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection.prepare("SELECT name FROM outbox_readers")?.query_map([], |row| row.get(0))?.collect()
}

/// Deletes the rows that all readers have read; all rows if there is no reader. Returns how many were about strangers.
fn remove_read(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    let sql = "DELETE FROM outbox WHERE id <= (SELECT coalesce(min(position), 9223372036854775807) FROM outbox_readers)
        RETURNING stranger";
    transaction.prepare_cached(sql)?.query_map([], |row| row.get::<_, i64>(0))?.sum()
}

/// Returns the line behind which a reader reads on.
///
/// # Errors
/// SQLite fails.
pub fn position(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    let sql = "SELECT position FROM outbox_readers WHERE name = ?";
    connection.query_row(sql, [name], |row| row.get(0))
}

/// Reads the queued notifications behind a line, oldest first, at most `limit`. One that another version wrote and that
/// cannot be decoded is `None`.
///
/// # Errors
/// SQLite fails.
pub fn read(connection: &Connection, after: i64, limit: u32) -> rusqlite::Result<Vec<(i64, Option<Notification>)>> {
    let mut rows = connection.prepare_cached("SELECT id, body FROM outbox WHERE id > ? ORDER BY id LIMIT ?")?;
    let rows = rows.query_map(params![after, limit], |row| {
        let body: String = row.get(1)?;
        Ok((row.get(0)?, serde_json::from_str(&body).ok()))
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::Event;
    use crate::fleet::enrolment::UnknownHostAction;
    use crate::fleet::{Host, HostSpec, HostStatus, Mac, Meta, Phase, StallReason};

    const VM: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn reader(name: &str, kinds: &[NotificationKind]) -> OutboxReader {
        OutboxReader { name: name.to_owned(), kinds: kinds.to_vec() }
    }

    fn host(phase: Phase) -> Object {
        let status = HostStatus { phase, ..HostStatus::default() };
        let metadata = Meta::named("vm".parse().unwrap(), None);
        Object::Host(Arc::new(Host { metadata, spec: HostSpec::for_mac(VM), status }))
    }

    fn change(before: Option<Phase>, after: Phase) -> ChangeRecord {
        let kind = if before.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        ChangeRecord::new(1, kind, host(after), before.map(host))
    }

    fn cleared() -> Entry {
        let event = Event::StallCleared { reason: StallReason::Held };
        Entry::once(jiff::Timestamp::UNIX_EPOCH, Some(VM), None, event)
    }

    /// Writes changes and entries in a transaction.
    fn write(connection: &mut Connection, outbox: &mut Outbox, changes: &[ChangeRecord], entries: &[(Entry, bool)]) {
        let transaction = connection.transaction().unwrap();
        let entries = entries.iter().map(|(entry, is_by_stranger)| (entry, *is_by_stranger));
        outbox.write(&transaction, changes.iter(), entries).unwrap();
        transaction.commit().unwrap();
    }

    fn codes(connection: &Connection, after: i64) -> Vec<(i64, &'static str)> {
        let rows = read(connection, after, 1000).unwrap().into_iter();
        rows.map(|(line, found)| (line, found.map_or("?", |found| found.kind().code()))).collect()
    }

    #[test]
    fn wanted_changes_and_entries_are_queued_and_read_on_after_a_restart() {
        let mut connection = Connection::open_in_memory().unwrap();
        let both = [reader("a", &NotificationKind::USUAL), reader("b", &[NotificationKind::PhaseChanged])];
        let mut outbox = Outbox::open(&mut connection, &both).unwrap();
        let changes = [change(None, Phase::Assigned), change(Some(Phase::Held), Phase::Held)];
        write(&mut connection, &mut outbox, &changes, &[(cleared(), false), (cleared(), true)]);
        assert_eq!(codes(&connection, 0), [(1, "phase_changed"), (2, "stall_cleared")]);
        assert_eq!(outbox.newest(), 2);
        let mark = |connection: &mut Connection, outbox: &mut Outbox, name: &str, position| {
            let transaction = connection.transaction().unwrap();
            outbox.mark_read(&transaction, &[(name.to_owned(), position)]).unwrap();
            transaction.commit().unwrap();
        };
        mark(&mut connection, &mut outbox, "a", 2);
        assert_eq!(codes(&connection, 0).len(), 2, "b has read nothing");
        mark(&mut connection, &mut outbox, "b", 1);
        assert_eq!(codes(&connection, 0), [(2, "stall_cleared")]);
        let outbox = Outbox::open(&mut connection, &[both[1].clone(), reader("c", &[])]).unwrap();
        assert_eq!(
            (outbox.newest(), position(&connection, "b").unwrap(), position(&connection, "c").unwrap()),
            (2, 1, 2)
        );
        assert!(position(&connection, "a").is_err(), "it is forgotten");
    }

    #[test]
    fn nothing_is_queued_without_webhooks() {
        let mut connection = Connection::open_in_memory().unwrap();
        let mut outbox = Outbox::open(&mut connection, &[reader("a", &NotificationKind::USUAL)]).unwrap();
        write(&mut connection, &mut outbox, &[change(None, Phase::Held)], &[]);
        let mut outbox = Outbox::open(&mut connection, &[]).unwrap();
        assert!(codes(&connection, 0).is_empty(), "what nobody reads is deleted");
        write(&mut connection, &mut outbox, &[change(None, Phase::Held)], &[(cleared(), false)]);
        assert!(codes(&connection, 0).is_empty());
    }

    #[test]
    fn the_queue_is_bounded_and_its_lines_have_no_gaps() {
        let mut connection = Connection::open_in_memory().unwrap();
        let mut outbox = Outbox::open(&mut connection, &[reader("a", &NotificationKind::USUAL)]).unwrap();
        let changes: Vec<_> = (0..MAX_ROWS + 10).map(|_| change(None, Phase::Held)).collect();
        write(&mut connection, &mut outbox, &changes, &[]);
        let rows = read(&connection, 0, u32::MAX).unwrap();
        assert_eq!((rows.len() as i64, rows[0].0, rows[rows.len() - 1].0), (MAX_ROWS, 11, MAX_ROWS + 10));
    }

    #[test]
    fn strangers_have_a_share_of_the_queue() {
        let mut connection = Connection::open_in_memory().unwrap();
        let mut outbox = Outbox::open(&mut connection, &[reader("a", &[NotificationKind::FirstSeen])]).unwrap();
        let event = Event::FirstSeen { action: UnknownHostAction::Hold };
        let entry = Entry::once(jiff::Timestamp::UNIX_EPOCH, Some(VM), None, event);
        let transaction = connection.transaction().unwrap();
        for _ in 0..MAX_STRANGER_ROWS + 5 {
            outbox.add(&transaction, Notification::of_entry(Uuid::new_v4(), &entry), true).unwrap();
        }
        transaction.commit().unwrap();
        assert_eq!((outbox.newest(), outbox.take_left_out(), outbox.take_left_out()), (MAX_STRANGER_ROWS, 5, 0));
        let transaction = connection.transaction().unwrap();
        outbox.mark_read(&transaction, &[("a".to_owned(), 3)]).unwrap();
        outbox.add(&transaction, Notification::of_entry(Uuid::new_v4(), &entry), true).unwrap();
        transaction.commit().unwrap();
        assert_eq!((outbox.strangers, outbox.take_left_out()), (MAX_STRANGER_ROWS - 2, 0), "there is room again");
    }
}
