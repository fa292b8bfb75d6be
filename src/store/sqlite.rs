use std::net::Ipv4Addr;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use crate::event::Entry;
use crate::fleet::{Key, Kind, Lease, LeaseState, Mac, Name, Object};

use super::lines::{Line, TimelineCoalescer};
use super::{ChangeRecord, Operation, Seal, Snapshot, seal};

/// Version of the schema, in SQLite's `user_version`. Versions 1 and 2 belong to programs that were never released:
/// there is no migration from them.
const SCHEMA_VERSION: u32 = 3;

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

/// Bounds the timeline: the oldest entries go.
const TIMELINE_ENTRIES: i64 = 200_000;

#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("schema version {found}, expected {SCHEMA_VERSION}: written by a {} bootlatch", age(*found))]
    Schema { found: u32 },
    #[error("the object {key} in it makes no sense: {message}")]
    Object { key: String, message: String },
    #[error("the object {key} in it is encrypted, and not under the key that api.key_file gives")]
    Sealed { key: String },
    #[error("it could not be encrypted")]
    Unsealable,
}

fn age(found: u32) -> &'static str {
    if found > SCHEMA_VERSION { "newer" } else { "pre-release" }
}

/// Is the writer's connection.
#[derive(Debug)]
pub struct Disk {
    connection: Connection,
    seal: Option<Seal>,
    lines: TimelineCoalescer,
}

impl Disk {
    /// Opens the database and reads everything that is in it.
    pub fn open(path: &Path, seal: Option<Seal>) -> Result<(Self, Snapshot), Trouble> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "secure_delete", "ON")?;
        let mut disk = Self { connection, seal, lines: TimelineCoalescer::default() };
        disk.create_schema()?;
        let (snapshot, bare) = disk.load()?;
        if bare > 0 && disk.seal.is_some() {
            disk.seal_all(&snapshot)?;
        }
        Ok((disk, snapshot))
    }

    /// Creates the schema in an empty database, and checks its version in any other.
    fn create_schema(&mut self) -> Result<(), Trouble> {
        let found: u32 = self.connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match found {
            SCHEMA_VERSION => Ok(()),
            0 => {
                let transaction = self.connection.transaction()?;
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                Ok(transaction.commit()?)
            }
            found => Err(Trouble::Schema { found }),
        }
    }

    /// Reads all objects, and counts those that are not encrypted.
    fn load(&self) -> Result<(Snapshot, usize), Trouble> {
        let version: i64 = self.connection.query_row("SELECT number FROM version", [], |row| row.get(0))?;
        let mut snapshot = Snapshot::default();
        snapshot.version = version.unsigned_abs();
        let mut bare = 0;
        let mut rows = self.connection.prepare("SELECT kind, namespace, name, body FROM objects")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let (kind, body): (String, String) = (row.get(0)?, row.get(3)?);
            let body = match (seal::is_sealed(&body), &self.seal) {
                (false, _) => {
                    bare += 1;
                    body
                }
                (true, seal) => {
                    let key = place(&kind, &row.get::<_, String>(1)?, &row.get::<_, String>(2)?);
                    let open = seal.as_ref().and_then(|seal| seal.open(&key, &body));
                    open.ok_or(Trouble::Sealed { key })?
                }
            };
            let object = object(&kind, &body).map_err(|message| {
                let key = format!(
                    "{kind} {}/{}",
                    row.get::<_, String>(1).unwrap_or_default(),
                    row.get::<_, String>(2).unwrap_or_default()
                );
                Trouble::Object { key, message }
            })?;
            snapshot.put(object);
        }
        self.load_leases(&mut snapshot)?;
        Ok((snapshot, bare))
    }

    /// Encrypts everything that is there, and leaves nothing of what it was on the disk.
    fn seal_all(&mut self, snapshot: &Snapshot) -> Result<(), Trouble> {
        let pasts = Kind::ALL.into_iter().flat_map(|kind| snapshot.list(kind, None)).map(|object| ChangeRecord {
            version: snapshot.version,
            verb: Operation::Modified,
            object: object.clone(),
            before: None,
            wire: std::sync::OnceLock::new(),
        });
        let pasts: Vec<ChangeRecord> = pasts.collect();
        self.write(snapshot.version, pasts.iter(), &[], &[])?;
        self.connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")?;
        Ok(())
    }

    fn load_leases(&self, snapshot: &mut Snapshot) -> Result<(), Trouble> {
        let mut rows = self.connection.prepare("SELECT address, mac, client, hostname, held, until FROM leases")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let address = Ipv4Addr::from(row.get::<_, u32>(0)?);
            let held = row.get::<_, u8>(4).map(|held| LeaseState::ALL.get(usize::from(held)).copied())?;
            let until = jiff::Timestamp::from_second(row.get(5)?).ok();
            let (Some(held), Some(until)) = (held, until) else {
                let message = "it is held in no way that is known".to_owned();
                return Err(Trouble::Object { key: format!("lease {address}"), message });
            };
            let client = row.get::<_, Option<Vec<u8>>>(2)?.map(Into::into);
            let hostname = row.get::<_, Option<String>>(3)?.map(Into::into);
            snapshot.put_lease(Lease { address, mac: Mac(row.get(1)?), client, hostname, held, until });
        }
        Ok(())
    }

    /// Makes changes and timeline entries durable, all or none.
    pub fn write<'a>(
        &mut self,
        version: u64,
        changes: impl Iterator<Item = &'a ChangeRecord>,
        leases: &[Lease],
        entries: &[Entry],
    ) -> Result<(), Trouble> {
        let written = self.transact(version, changes, leases, entries);
        if written.is_err() {
            // What is joined later must be on disk.
            self.lines.clear();
        }
        written
    }

    fn transact<'a>(
        &mut self,
        version: u64,
        changes: impl Iterator<Item = &'a ChangeRecord>,
        leases: &[Lease],
        entries: &[Entry],
    ) -> Result<(), Trouble> {
        let transaction = self.connection.transaction()?;
        {
            let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)")?;
            let mut remove =
                transaction.prepare_cached("DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?")?;
            for past in changes {
                let Key { kind, namespace, name } = past.object.key();
                let namespace = namespace.as_ref().map_or("", Name::as_str);
                match past.verb {
                    Operation::Added | Operation::Modified => {
                        let body = past
                            .object
                            .to_json()
                            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
                        let body = match &self.seal {
                            None => body,
                            Some(seal) => {
                                let place = place(kind.as_str(), namespace, name.as_str());
                                seal.close(&place, &body).ok_or(Trouble::Unsealable)?
                            }
                        };
                        put.execute(params![kind.as_str(), namespace, name.as_str(), body])?;
                    }
                    Operation::Deleted => {
                        remove.execute(params![kind.as_str(), namespace, name.as_str()])?;
                    }
                }
            }
            let mut grant = transaction.prepare_cached("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?)")?;
            for lease in leases {
                let (address, held) = (u32::from(lease.address), lease.held as u8);
                let (client, until) = (lease.client.as_deref(), lease.until.as_second());
                grant.execute(params![address, lease.mac.0, client, lease.hostname, held, until])?;
            }
            transaction.prepare_cached("UPDATE version SET number = ?")?.execute([version.cast_signed()])?;
        }
        note(&transaction, &mut self.lines, entries)?;
        if !entries.is_empty() {
            let trim = "DELETE FROM timeline WHERE id <= (SELECT max(id) FROM timeline) - ?";
            transaction.prepare_cached(trim)?.execute([TIMELINE_ENTRIES])?;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Writes what happened: as lines of their own, or as another time of lines that are there.
fn note(
    transaction: &rusqlite::Transaction<'_>,
    lines: &mut TimelineCoalescer,
    entries: &[Entry],
) -> Result<(), Trouble> {
    let mut add = transaction.prepare_cached("INSERT INTO timeline (mac, image, config, body) VALUES (?, ?, ?, ?)")?;
    let mut again = transaction.prepare_cached("UPDATE timeline SET body = ? WHERE id = ?")?;
    let written = |entry: &Entry| {
        serde_json::to_string(entry).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
    };
    for entry in entries {
        // The oldest lines go when there are too many: such a one is not there to be joined.
        if let Some(line) = lines.join(entry)
            && again.execute(params![written(&line.entry)?, line.id])? == 1
        {
            lines.keep(line);
            continue;
        }
        let (image, config) = (entry.event.image().map(Name::as_str), entry.event.config().map(Name::as_str));
        add.execute(params![entry.mac.map(|mac| mac.to_string()), image, config, written(entry)?])?;
        lines.keep(Line { id: transaction.last_insert_rowid(), entry: entry.clone() });
    }
    Ok(())
}

fn place(kind: &str, namespace: &str, name: &str) -> String {
    format!("{kind} {namespace}/{name}")
}

fn object(kind: &str, body: &str) -> Result<Object, String> {
    let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind).ok_or("its kind is not known")?;
    let read = match kind {
        Kind::BareMetalHost => serde_json::from_str(body).map(|host| Object::Host(std::sync::Arc::new(host))),
        Kind::IscsiCdrom => serde_json::from_str(body).map(|image| Object::Image(std::sync::Arc::new(image))),
        Kind::BootConfig => serde_json::from_str(body).map(|config| Object::BootConfig(std::sync::Arc::new(config))),
    };
    read.map_err(|error| error.to_string())
}

fn entry(body: &str) -> Result<Entry, Trouble> {
    serde_json::from_str(body).map_err(|error| Trouble::Object { key: "timeline".into(), message: error.to_string() })
}

/// Reads the timeline beside the writer.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    pub fn open(path: &Path) -> Result<Self, Trouble> {
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(Self { connection })
    }

    pub fn timeline(&self, mac: Option<Mac>, limit: usize) -> Result<Vec<Entry>, Trouble> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let body = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let bodies: Vec<String> = match mac {
            Some(mac) => {
                let sql = "SELECT body FROM timeline WHERE mac = ? ORDER BY id DESC LIMIT ?";
                self.connection
                    .prepare_cached(sql)?
                    .query_map(params![mac.to_string(), limit], body)?
                    .collect::<Result<_, _>>()?
            }
            None => {
                let sql = "SELECT body FROM timeline ORDER BY id DESC LIMIT ?";
                self.connection.prepare_cached(sql)?.query_map([limit], body)?.collect::<Result<_, _>>()?
            }
        };
        bodies.iter().rev().map(|body| entry(body)).collect()
    }

    /// Reads the newest entries that concern an image or a config, oldest first; none for a host.
    pub fn mentions(&self, key: &Key, limit: usize) -> Result<Vec<Entry>, Trouble> {
        let sql = match key.kind {
            Kind::BareMetalHost => return Ok(Vec::new()),
            Kind::IscsiCdrom => "SELECT body FROM timeline WHERE image = ? ORDER BY id DESC LIMIT ?",
            Kind::BootConfig => "SELECT body FROM timeline WHERE config = ? ORDER BY id DESC LIMIT ?",
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(sql)?;
        let bodies = statement.query_map(params![key.name.as_str(), limit], |row| row.get::<_, String>(0))?;
        let mut found = bodies.map(|body| entry(&body?)).collect::<Result<Vec<_>, Trouble>>()?;
        found.reverse();
        Ok(found)
    }
}
