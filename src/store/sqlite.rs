//! The database file (SQLite): objects, leases and the timeline.

use std::net::Ipv4Addr;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use crate::event::{Entry, Notification};
use crate::fleet::{BadName, Key, Kind, Lease, LeaseState, Mac, Name, Object, deserialize_text};

use super::history::{ChangeKind, ChangeRecord};
use super::outbox::{self, Outbox, OutboxReader};
use super::seal::{self, Seal};
use super::seen_host::{SeenHost, SharedParts, enrolment_entry};
use super::snapshot::Snapshot;
use super::timeline_coalescer::{TimelineCoalescer, TimelineLine};
use super::timeline_sizes::TimelineSizes;

/// Version of the schema, in SQLite's `user_version`. Versions 1 and 2 belong to programs that were never released:
/// there is no migration from them.
const SCHEMA_VERSION: u32 = 4;
/// Version with the same tables, of programs that do not know the rows of hosts that were only seen.
const SCHEMA_WITHOUT_SEEN_ROWS: u32 = 3;

const SCHEMA: &str = "
    CREATE TABLE objects (
        kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (kind, namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE version (only INTEGER PRIMARY KEY CHECK (only = 1), number INTEGER NOT NULL);
    INSERT INTO version VALUES (1, 0);
    CREATE TABLE timeline (
        id INTEGER PRIMARY KEY AUTOINCREMENT, mac TEXT, image TEXT, config TEXT, body TEXT NOT NULL
    );
    CREATE INDEX timeline_mac ON timeline (mac, id);
    CREATE INDEX timeline_image ON timeline (image, id) WHERE image IS NOT NULL;
    CREATE INDEX timeline_config ON timeline (config, id) WHERE config IS NOT NULL;
    CREATE TABLE leases (
        address INTEGER PRIMARY KEY, mac BLOB NOT NULL, client BLOB, hostname TEXT,
        held INTEGER NOT NULL, until INTEGER NOT NULL
    );
";

/// The timeline entries of strangers, which have a share of their own. Added without a new version of the schema: a
/// program that does not know the table ignores it.
const STRANGERS: &str = "CREATE TABLE IF NOT EXISTS timeline_strangers (id INTEGER PRIMARY KEY)";

/// Error of the database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite failed.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The database has another schema.
    #[error("schema version {found}, expected {SCHEMA_VERSION}: written by a {} bootlatch", age(*found))]
    Schema {
        /// Schema version of the database.
        found: u32,
    },
    /// A row cannot be decoded.
    #[error("{key}: invalid content: {message}")]
    Object {
        /// Name of the row.
        key: String,
        /// Reason.
        message: String,
    },
    /// SQLite found damage.
    #[error("table {table}: damaged: {found}")]
    Damaged {
        /// Name of the table.
        table: &'static str,
        /// The first fault that SQLite found.
        found: String,
    },
    /// A row cannot be decrypted.
    #[error("{key}: encrypted with another key than that of store.encryption_key_file")]
    Sealed {
        /// Name of the row.
        key: String,
    },
    /// An object could not be encrypted.
    #[error("encryption failed")]
    Unsealable,
}

impl DatabaseError {
    /// Returns whether more free space on the disk may help.
    pub fn is_disk_full(&self) -> bool {
        use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
        let Self::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(DiskFull | SystemIoFailure))
    }
}

/// The rows that one transaction writes.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Version of the state.
    pub version: u64,
    /// The changed objects.
    pub changes: Vec<&'a ChangeRecord>,
    /// The leases.
    pub leases: &'a [Lease],
    /// The timeline entries.
    pub entries: &'a [Entry],
    /// Number of the first entries that were queued before the changes. Their lines are before those of enrolments.
    pub queued: usize,
    /// Whether each entry is about a machine that nobody declared.
    pub strangers: Vec<bool>,
    /// The line of the first entry after the queued ones.
    pub next_line: i64,
    /// The webhooks that have read up to a line of the queue of notifications.
    pub outbox_reads: &'a [(String, i64)],
}

/// Returns which program wrote a database of another schema.
fn age(found: u32) -> &'static str {
    if found > SCHEMA_VERSION { "newer" } else { "pre-release" }
}

/// The connection of the writer.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    seal: Option<Seal>,
    coalescer: TimelineCoalescer,
    sizes: TimelineSizes,
    outbox: Outbox,
    /// Timeline entries as their lines were written; `None` if nobody watches.
    written: Option<Vec<Entry>>,
    /// The next line of the timeline that is free.
    next_line: i64,
}

impl Database {
    /// Opens the database, creates the schema if it is empty, and reads the objects and leases.
    ///
    /// # Errors
    /// SQLite fails, the schema is another one, or a row cannot be decoded or decrypted.
    pub fn open(
        path: &Path,
        seal: Option<Seal>,
        outbox_readers: &[OutboxReader],
    ) -> Result<(Self, Snapshot), DatabaseError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "secure_delete", "ON")?;
        // A commit that a killed process did not sync is in the log and will be seen: make it durable before. A
        // checkpoint syncs the log first.
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        let (coalescer, sizes) = (TimelineCoalescer::default(), TimelineSizes::default());
        let outbox = Outbox::default();
        let mut database = Self { connection, seal, coalescer, sizes, outbox, written: None, next_line: 1 };
        database.create_schema()?;
        database.check()?;
        database.connection.execute_batch(STRANGERS)?;
        database.sizes = TimelineSizes::read(&database.connection)?;
        let (snapshot, plain_text) = database.load()?;
        let taken = snapshot.first_seen().filter_map(|(_, first_seen)| first_seen.line).max();
        database.next_line = taken.max(database.last_line()?).unwrap_or(0) + 1;
        database.outbox = Outbox::open(&mut database.connection, outbox_readers)?;
        // Last: an older program can still read a database that this one cannot.
        if database.schema_version()? != SCHEMA_VERSION {
            database.connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        if plain_text > 0 && database.seal.is_some() {
            database.seal_all(&snapshot)?;
        }
        Ok((database, snapshot))
    }

    /// Returns the next line of the timeline that is free.
    pub fn next_line(&self) -> i64 {
        self.next_line
    }

    /// Begins to keep the timeline entries that are written, or stops.
    pub fn keep_written_entries(&mut self, is_watched: bool) {
        self.written = is_watched.then(Vec::new);
    }

    /// Returns the timeline entries of the last transaction, as their lines are.
    pub fn take_written_entries(&mut self) -> Vec<Entry> {
        self.written.take().unwrap_or_default()
    }

    /// Returns the last line of the queue of notifications.
    pub fn newest_outbox_line(&self) -> i64 {
        self.outbox.newest()
    }

    /// Returns the number of notifications about strangers that were left out since the last call.
    pub fn take_left_out_notifications(&mut self) -> u64 {
        self.outbox.take_left_out()
    }

    /// Returns the last line of the timeline that a row had.
    fn last_line(&self) -> Result<Option<i64>, DatabaseError> {
        let sql = "SELECT max(id) FROM (SELECT max(id) AS id FROM timeline
            UNION ALL SELECT max(id) FROM timeline_strangers
            UNION ALL SELECT seq FROM sqlite_sequence WHERE name = 'timeline')";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    fn schema_version(&self) -> Result<u32, DatabaseError> {
        Ok(self.connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
    }

    /// Creates the schema in an empty database, and checks its version in any other.
    fn create_schema(&mut self) -> Result<(), DatabaseError> {
        match self.schema_version()? {
            SCHEMA_VERSION | SCHEMA_WITHOUT_SEEN_ROWS => Ok(()),
            0 => {
                let transaction = self.connection.transaction()?;
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                Ok(transaction.commit()?)
            }
            found => Err(DatabaseError::Schema { found }),
        }
    }

    /// Checks the tables whose loss would have machines installed again: SQLite reads on over some kinds of damage.
    fn check(&self) -> Result<(), DatabaseError> {
        for table in ["objects", "version", "leases"] {
            let sql = format!("PRAGMA quick_check({table})");
            let found: String = self.connection.query_row(&sql, [], |row| row.get(0))?;
            if found != "ok" {
                return Err(DatabaseError::Damaged { table, found });
            }
        }
        Ok(())
    }

    /// Reads all objects and leases. Returns them and the number of objects in plain text.
    fn load(&self) -> Result<(Snapshot, usize), DatabaseError> {
        let version: i64 = self.connection.query_row("SELECT number FROM version", [], |row| row.get(0))?;
        let mut snapshot = Snapshot::default();
        snapshot.version = version.unsigned_abs();
        let mut plain_text = 0;
        let mut rows = self.connection.prepare("SELECT kind, namespace, name, body FROM objects")?;
        let mut rows = rows.query([])?;
        let mut shared = SharedParts::default();
        while let Some(row) = rows.next()? {
            let (kind, body): (String, String) = (row.get(0)?, row.get(3)?);
            let (namespace, name): (String, String) = (row.get(1)?, row.get(2)?);
            let key = row_name(&kind, &namespace, &name);
            let is_sealed = seal::is_sealed(&body);
            plain_text += usize::from(!is_sealed);
            let body = if is_sealed { self.unseal(&key, &body)? } else { body };
            let invalid = |message| DatabaseError::Object { key: key.clone(), message };
            match SeenHost::from_row(&name, &body) {
                Some(seen) => {
                    let mut seen = seen.map_err(invalid)?;
                    shared.share(&mut seen);
                    let namespace = namespace.parse().map_err(|error: BadName| invalid(error.to_string()))?;
                    snapshot.put_seen(namespace, seen);
                }
                None => snapshot.put(object(&kind, &body).map_err(invalid)?),
            }
        }
        self.load_leases(&mut snapshot)?;
        Ok((snapshot, plain_text))
    }

    /// Decrypts the text of a row.
    fn unseal(&self, key: &str, body: &str) -> Result<String, DatabaseError> {
        let open = self.seal.as_ref().and_then(|seal| seal.open(key, body));
        open.ok_or_else(|| DatabaseError::Sealed { key: key.to_owned() })
    }

    /// Encrypts all objects, and removes their plain text from the file.
    fn seal_all(&mut self, snapshot: &Snapshot) -> Result<(), DatabaseError> {
        let records = Kind::ALL.into_iter().flat_map(|kind| snapshot.list(kind, None)).map(|object| {
            let seen = match &object {
                Object::Host(host) => snapshot.seen_form(host.spec.boot_mac_address).cloned(),
                Object::Image(_) | Object::BootConfig(_) | Object::ConfigTemplate(_) => None,
            };
            ChangeRecord { seen, ..ChangeRecord::new(snapshot.version, ChangeKind::Modified, object, None) }
        });
        let records: Vec<ChangeRecord> = records.collect();
        let (version, changes, next_line) = (snapshot.version, records.iter().collect(), self.next_line);
        let rows = Rows {
            version,
            changes,
            leases: &[],
            entries: &[],
            queued: 0,
            strangers: Vec::new(),
            next_line,
            outbox_reads: &[],
        };
        // What is encrypted is not news.
        let outbox = std::mem::take(&mut self.outbox);
        let written = self.write(&rows);
        self.outbox = outbox;
        written?;
        self.connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")?;
        Ok(())
    }

    fn load_leases(&self, snapshot: &mut Snapshot) -> Result<(), DatabaseError> {
        let mut rows = self.connection.prepare("SELECT address, mac, client, hostname, held, until FROM leases")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let address = Ipv4Addr::from(row.get::<_, u32>(0)?);
            let held = row.get::<_, u8>(4).map(|held| LeaseState::ALL.get(usize::from(held)).copied())?;
            let until = jiff::Timestamp::from_second(row.get(5)?).ok();
            let (Some(held), Some(until)) = (held, until) else {
                let message = "unknown lease state or time".to_owned();
                return Err(DatabaseError::Object { key: format!("lease {address}"), message });
            };
            let client = row.get::<_, Option<Vec<u8>>>(2)?.map(Into::into);
            let hostname = row.get::<_, Option<String>>(3)?.map(Into::into);
            snapshot.put_lease(Lease { address, mac: Mac(row.get(1)?), client, hostname, held, until });
        }
        Ok(())
    }

    /// Writes changes, leases and timeline entries in one transaction.
    ///
    /// # Errors
    /// SQLite fails or an object cannot be encrypted; nothing is written.
    pub fn write(&mut self, rows: &Rows<'_>) -> Result<(), DatabaseError> {
        let written = self.transact(rows);
        if written.is_err() {
            // The coalescer and the sizes may hold lines that were rolled back.
            self.coalescer.clear();
            self.sizes = TimelineSizes::read(&self.connection).unwrap_or_default();
            // If this fails too, the lines that were rolled back are announced, and found to be none.
            let _ = self.outbox.reload(&self.connection);
        }
        written
    }

    fn transact(&mut self, rows: &Rows<'_>) -> Result<(), DatabaseError> {
        self.written.iter_mut().for_each(Vec::clear);
        let Rows { version, changes, leases, entries, queued, strangers, next_line, outbox_reads } = rows;
        let transaction = self.connection.transaction()?;
        write_objects(&transaction, self.seal.as_ref(), changes.iter().copied())?;
        for (record, (line, entry)) in changes.iter().filter_map(|record| Some((record, replaced_entry(record)?))) {
            add_line(&transaction, line, &entry)?;
            self.sizes.added(&transaction, line, entry.mac, record.operation == ChangeKind::Deleted)?;
        }
        changes.iter().filter_map(|record| enrolled(record)).for_each(|mac| self.coalescer.forget(mac));
        if let Some(written) = &mut self.written {
            written.extend(changes.iter().filter_map(|record| enrolment(record)));
        }
        write_leases(&transaction, leases)?;
        transaction.prepare_cached("UPDATE version SET number = ?")?.execute([version.cast_signed()])?;
        let lines = (self.next_line..).take(*queued).chain(*next_line..);
        let lines = entries.iter().zip(lines).map(|(entry, line)| (line, entry)).zip(strangers.iter().copied());
        write_entries(&transaction, &mut self.coalescer, &mut self.sizes, &mut self.written, lines)?;
        self.sizes.trim(&transaction)?;
        let told = entries.iter().zip(strangers.iter().copied());
        self.outbox.write(&transaction, changes.iter().copied(), told)?;
        self.outbox.mark_read(&transaction, outbox_reads)?;
        transaction.commit()?;
        self.next_line = next_line + i64::try_from(entries.len() - queued).unwrap_or(i64::MAX);
        Ok(())
    }
}

/// Writes changed objects and deletes deleted ones.
fn write_objects<'a>(
    transaction: &rusqlite::Transaction<'_>,
    seal: Option<&Seal>,
    changes: impl Iterator<Item = &'a ChangeRecord>,
) -> Result<(), DatabaseError> {
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)")?;
    let mut remove = transaction.prepare_cached("DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?")?;
    for record in changes {
        let Key { kind, namespace, name } = record.object.key();
        let namespace = namespace.as_ref().map_or("", Name::as_str);
        match record.operation {
            ChangeKind::Added | ChangeKind::Modified => {
                let body = body_of(record)?;
                let body = match seal {
                    None => body,
                    Some(seal) => {
                        let row_name = row_name(kind.as_str(), namespace, name.as_str());
                        seal.close(&row_name, &body).ok_or(DatabaseError::Unsealable)?
                    }
                };
                put.execute(params![kind.as_str(), namespace, name.as_str(), body])?;
            }
            ChangeKind::Deleted => {
                remove.execute(params![kind.as_str(), namespace, name.as_str()])?;
            }
        }
    }
    Ok(())
}

/// Returns a changed object as the text of its row.
fn body_of(record: &ChangeRecord) -> Result<String, rusqlite::Error> {
    match &record.seen {
        Some(seen) => Ok(seen.to_row()),
        None => record.object.to_json().map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into())),
    }
}

/// Returns the timeline entry of an enrolment whose host stands for it no longer.
fn replaced_entry(record: &ChangeRecord) -> Option<(i64, Entry)> {
    let (Some(Object::Host(before)), Object::Host(after)) = (&record.before, &record.object) else { return None };
    let stays = record.operation != ChangeKind::Deleted && after.status.is_first_seen_only();
    if stays { None } else { enrolment_entry(before) }
}

/// Returns the machine that a change enrolled.
fn enrolled(record: &ChangeRecord) -> Option<Mac> {
    match (record.operation, &record.object) {
        (ChangeKind::Added, Object::Host(host)) if host.status.is_first_seen_only() => Some(host.spec.boot_mac_address),
        (ChangeKind::Added | ChangeKind::Modified | ChangeKind::Deleted, _) => None,
    }
}

/// Returns the timeline entry of a change that enrolled a machine. It has no line: the host stands for it.
fn enrolment(record: &ChangeRecord) -> Option<Entry> {
    let (ChangeKind::Added, Object::Host(host)) = (record.operation, &record.object) else { return None };
    enrolment_entry(host).map(|(_, entry)| entry)
}

/// Writes leases, each in place of the last one of its address.
fn write_leases(transaction: &rusqlite::Transaction<'_>, leases: &[Lease]) -> Result<(), DatabaseError> {
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?)")?;
    for lease in leases {
        let (address, held) = (u32::from(lease.address), lease.held as u8);
        let (client, until) = (lease.client.as_deref(), lease.until.as_second());
        put.execute(params![address, lease.mac.0, client, lease.hostname, held, until])?;
    }
    Ok(())
}

/// Writes timeline entries: each as a new line with its number, or as a repetition of an existing one.
fn write_entries<'a>(
    transaction: &rusqlite::Transaction<'_>,
    coalescer: &mut TimelineCoalescer,
    sizes: &mut TimelineSizes,
    written: &mut Option<Vec<Entry>>,
    entries: impl Iterator<Item = ((i64, &'a Entry), bool)>,
) -> Result<(), DatabaseError> {
    let mut update = transaction.prepare_cached("UPDATE timeline SET body = ? WHERE id = ?")?;
    for ((id, entry), is_by_stranger) in entries {
        // The line may have been deleted as one of the oldest.
        if let Some(line) = coalescer.join(entry)
            && update.execute(params![encode(&line.entry)?, line.id])? == 1
        {
            written.iter_mut().for_each(|written| written.push(line.entry.clone()));
            coalescer.keep(line);
            continue;
        }
        add_line(transaction, id, entry)?;
        sizes.added(transaction, id, entry.mac, is_by_stranger)?;
        written.iter_mut().for_each(|written| written.push(entry.clone()));
        coalescer.keep(TimelineLine { id, entry: entry.clone() });
    }
    Ok(())
}

/// Adds a line to the timeline. A number that was used before would otherwise keep all changes from being written.
fn add_line(transaction: &rusqlite::Transaction<'_>, id: i64, entry: &Entry) -> Result<(), rusqlite::Error> {
    let (image, config) = (entry.event.image().map(Name::as_str), entry.event.config().map(Name::as_str));
    let mac = entry.mac.map(|mac| mac.to_string());
    let sql = "INSERT OR REPLACE INTO timeline (id, mac, image, config, body) VALUES (?, ?, ?, ?, ?)";
    transaction.prepare_cached(sql)?.execute(params![id, mac, image, config, encode(entry)?])?;
    Ok(())
}

fn encode(entry: &Entry) -> Result<String, rusqlite::Error> {
    serde_json::to_string(entry).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// Returns the name of a row in errors, which is also authenticated with its encrypted text.
fn row_name(kind: &str, namespace: &str, name: &str) -> String {
    format!("{kind} {namespace}/{name}")
}

/// Decodes an object.
fn object(kind: &str, body: &str) -> Result<Object, String> {
    let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind).ok_or("unknown kind")?;
    let read = match kind {
        Kind::BareMetalHost => deserialize_text(body).map(|host| Object::Host(std::sync::Arc::new(host))),
        Kind::IscsiCdrom => deserialize_text(body).map(|image| Object::Image(std::sync::Arc::new(image))),
        Kind::BootConfig => deserialize_text(body).map(|config| Object::BootConfig(std::sync::Arc::new(config))),
        Kind::ConfigTemplate => deserialize_text(body).map(|found| Object::ConfigTemplate(std::sync::Arc::new(found))),
    };
    read.map_err(|error| error.to_string())
}

/// Decodes a timeline entry. Returns `None` for one that another version wrote: it must not hide the others.
fn decode(body: &str) -> Option<Entry> {
    deserialize_text(body).inspect_err(|error| tracing::debug!(%error, "timeline entry skipped")).ok()
}

/// A read-only connection for the timeline, independent of the writer.
#[derive(Debug)]
pub struct TimelineReader {
    connection: Connection,
}

impl TimelineReader {
    /// Opens the connection.
    ///
    /// # Errors
    /// SQLite fails.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(Self { connection })
    }

    /// Reads the newest entries of a machine, or of all, with their lines, oldest first.
    ///
    /// # Errors
    /// SQLite fails.
    pub fn timeline(&self, mac: Option<Mac>, limit: usize) -> Result<Vec<(i64, Entry)>, DatabaseError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let body = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let lines: Vec<(i64, String)> = match mac {
            Some(mac) => {
                let sql = "SELECT id, body FROM timeline WHERE mac = ? ORDER BY id DESC LIMIT ?";
                self.connection
                    .prepare_cached(sql)?
                    .query_map(params![mac.to_string(), limit], body)?
                    .collect::<Result<_, _>>()?
            }
            None => {
                let sql = "SELECT id, body FROM timeline ORDER BY id DESC LIMIT ?";
                self.connection.prepare_cached(sql)?.query_map([limit], body)?.collect::<Result<_, _>>()?
            }
        };
        Ok(lines.iter().rev().filter_map(|(line, body)| Some((*line, decode(body)?))).collect())
    }

    /// Returns the line behind which a webhook reads on.
    ///
    /// # Errors
    /// SQLite fails.
    pub fn outbox_position(&self, name: &str) -> Result<i64, DatabaseError> {
        Ok(outbox::position(&self.connection, name)?)
    }

    /// Reads the notifications that are queued behind a line, oldest first.
    ///
    /// # Errors
    /// SQLite fails.
    pub fn outbox(&self, after: i64, limit: u32) -> Result<Vec<(i64, Option<Notification>)>, DatabaseError> {
        Ok(outbox::read(&self.connection, after, limit)?)
    }

    /// Reads the newest entries that name an image or a boot config, oldest first; none for a host or a template.
    ///
    /// # Errors
    /// SQLite fails.
    pub fn timeline_of(&self, key: &Key, limit: usize) -> Result<Vec<Entry>, DatabaseError> {
        let sql = match key.kind {
            Kind::BareMetalHost | Kind::ConfigTemplate => return Ok(Vec::new()),
            Kind::IscsiCdrom => "SELECT body FROM timeline WHERE image = ? ORDER BY id DESC LIMIT ?",
            Kind::BootConfig => "SELECT body FROM timeline WHERE config = ? ORDER BY id DESC LIMIT ?",
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(sql)?;
        let bodies = statement.query_map(params![key.name.as_str(), limit], |row| row.get::<_, String>(0))?;
        let bodies = bodies.collect::<Result<Vec<_>, _>>()?;
        Ok(bodies.iter().rev().filter_map(|body| decode(body)).collect())
    }
}
