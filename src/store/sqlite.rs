//! SQLite: one writer thread that commits waiting changes as a group, and a pool of readers.

use std::any::Any;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::ToSql;
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

use super::db::{DbError, FromColumn, Param, Row, Tx, Verdict};

pub(super) type RawRow<'a> = rusqlite::Row<'a>;

/// At most this many changes share a commit, so that the first of them does not wait long.
const GROUP: usize = 256;
/// Statements kept prepared on each connection.
const STATEMENTS: usize = 200;
/// How long to wait for another process's write lock (an import beside a running server).
const BUSY: Duration = Duration::from_secs(10);

mod migrations {
    refinery::embed_migrations!("migrations");
}

impl From<rusqlite::Error> for DbError {
    fn from(e: rusqlite::Error) -> Self {
        match e {
            // Its own text repeats the whole statement, which for a search may be long.
            rusqlite::Error::SqlInputError { msg, .. } => DbError::Database(msg),
            e => DbError::Database(e.to_string()),
        }
    }
}

impl ToSql for Param {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Param::Null => ToSqlOutput::Owned(Value::Null),
            Param::Int(v) => ToSqlOutput::Owned(Value::Integer(*v)),
            Param::Real(v) => ToSqlOutput::Owned(Value::Real(*v)),
            Param::Text(v) => ToSqlOutput::Borrowed(ValueRef::Text(v.as_bytes())),
        })
    }
}

macro_rules! from_column {
    ($($to:ty),*) => {$(
        impl FromColumn for $to {
            fn from_column(row: &Row<'_>, index: usize) -> Result<Self, DbError> {
                Ok(row.0.get(index)?)
            }
        }
    )*};
}

from_column!(i64, bool, f64, String, Option<i64>, Option<String>);

/// One open connection.
pub(super) struct Connection(rusqlite::Connection);

impl Connection {
    fn open(path: &Path) -> Result<Self, DbError> {
        let raw = rusqlite::Connection::open(path)?;
        raw.busy_timeout(BUSY)?;
        raw.set_prepared_statement_cache_capacity(STATEMENTS);
        // A plan must not depend on what is bound: SQLite would make those plans anew at every use of a kept
        // statement, which takes longer than the statements themselves.
        raw.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        raw.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA mmap_size = 4294967296; PRAGMA cache_size = -16000; PRAGMA wal_autocheckpoint = 8000;",
        )?;
        Ok(Connection(raw))
    }

    /// 256 MB of pages, and a log of as much, before anything is written to its place.
    pub(super) fn fill_mode(&self) -> Result<(), DbError> {
        self.batch("PRAGMA cache_size = -262144; PRAGMA wal_autocheckpoint = 64000;")
    }

    pub(super) fn execute(&self, sql: &str, params: &[Param]) -> Result<usize, DbError> {
        Ok(self.0.prepare_cached(&numbered(sql))?.execute(rusqlite::params_from_iter(params))?)
    }

    /// Hands each row to `read` until it answers false.
    pub(super) fn each(
        &self,
        sql: &str,
        params: &[Param],
        read: &mut dyn FnMut(&Row<'_>) -> Result<bool, DbError>,
    ) -> Result<(), DbError> {
        let mut statement = self.0.prepare_cached(&numbered(sql))?;
        let mut rows = statement.query(rusqlite::params_from_iter(params))?;
        let mut more = true;
        // Always to the end, even when no further row is wanted: an UPDATE … RETURNING does its work
        // as it is stepped through.
        while let Some(row) = rows.next()? {
            if more {
                more = read(&Row(row))?;
            }
        }
        Ok(())
    }

    fn batch(&self, sql: &str) -> Result<(), DbError> {
        Ok(self.0.execute_batch(sql)?)
    }
}

/// `$n` to `?n`: in SQLite `$n` is a *name*, numbered by where it first stands.
fn numbered(sql: &str) -> Cow<'_, str> {
    if !sql.contains('$') {
        return Cow::Borrowed(sql);
    }
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        out.push(if after[1..].starts_with(|c: char| c.is_ascii_digit()) { '?' } else { '$' });
        rest = &after[1..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// A change on its way through the writer.
trait Change: Send {
    /// Runs it inside its savepoint; true where its verdict is to keep what it wrote.
    fn run(&mut self, tx: &Tx<'_>) -> bool;
    /// Tells the caller, after the commit or its failure.
    fn answer(self: Box<Self>, committed: bool);
}

struct Waiting<F, T> {
    change: Option<F>,
    outcome: Option<Result<T, DbError>>,
    reply: Box<dyn FnOnce(Result<T, DbError>) + Send>,
}

impl<F, T> Change for Waiting<F, T>
where
    T: Send,
    F: FnOnce(&Tx<'_>) -> Result<Verdict<T>, DbError> + Send,
{
    fn run(&mut self, tx: &Tx<'_>) -> bool {
        let Some(change) = self.change.take() else { return false };
        let ran: Result<_, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(|| change(tx)));
        let (outcome, keep) = match ran {
            Ok(Ok(Verdict::Commit(value))) => (Ok(value), true),
            Ok(Ok(Verdict::Rollback(value))) => (Ok(value), false),
            Ok(Err(e)) => (Err(e), false),
            Err(_) => (Err(DbError::Panicked), false),
        };
        self.outcome = Some(outcome);
        keep
    }

    fn answer(self: Box<Self>, committed: bool) {
        let outcome = match self.outcome {
            Some(outcome) if committed => outcome,
            // A refusal that wrote nothing is still answered with 503 here: the state it was decided
            // on may include a neighbour's change that is gone.
            _ => Err(DbError::NotCommitted),
        };
        (self.reply)(outcome);
    }
}

/// The database file, its writer and its readers.
pub(super) struct Sqlite {
    path: PathBuf,
    readers: Mutex<Vec<Connection>>,
    writer: Option<mpsc::Sender<Box<dyn Change>>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Present for `:memory:`: the folder goes when the store does.
    temporary: Option<PathBuf>,
}

impl Sqlite {
    pub(super) fn open(path: &str) -> Result<Self, DbError> {
        let temporary = (path == ":memory:").then(temporary_folder).transpose()?;
        let path = temporary.as_ref().map_or_else(|| PathBuf::from(path), |dir| dir.join("hearthgate.db"));
        let mut connection = Connection::open(&path)?;
        migrations::migrations::runner()
            .run(&mut connection.0)
            .map_err(|e| DbError::Database(format!("the schema could not be brought up to date: {e}")))?;
        let (writer, changes) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("hearthgate-writer".into())
            .spawn(move || write_groups(&connection, &changes))
            .map_err(|e| DbError::Database(e.to_string()))?;
        Ok(Sqlite {
            path,
            readers: Mutex::new(Vec::new()),
            writer: Some(writer),
            thread: Some(thread),
            temporary,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn send<T, F>(&self, change: F, reply: Box<dyn FnOnce(Result<T, DbError>) + Send>) -> Result<(), DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<Verdict<T>, DbError> + Send + 'static,
    {
        let waiting = Box::new(Waiting { change: Some(change), outcome: None, reply });
        let writer = self.writer.as_ref().ok_or(DbError::NotCommitted)?;
        writer.send(waiting).map_err(|_| DbError::NotCommitted)
    }

    pub(super) async fn write<T, F>(&self, change: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<Verdict<T>, DbError> + Send + 'static,
    {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.send(change, Box::new(move |outcome| drop(reply.send(outcome))))?;
        answer.await.unwrap_or(Err(DbError::NotCommitted))
    }

    pub(super) fn write_blocking<T, F>(&self, change: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<Verdict<T>, DbError> + Send + 'static,
    {
        let (reply, answer) = mpsc::channel();
        self.send(change, Box::new(move |outcome| drop(reply.send(outcome))))?;
        answer.recv().unwrap_or(Err(DbError::NotCommitted))
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Tx<'_>) -> Result<T, DbError>) -> Result<T, DbError> {
        let pooled = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = pooled.map_or_else(|| Connection::open(&self.path), Ok)?;
        connection.execute("BEGIN", &[])?;
        let outcome = read(&Tx(&connection));
        // A connection that cannot end its snapshot is dropped rather than reused.
        connection.execute("COMMIT", &[])?;
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        outcome
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // The writer ends when nobody can send to it any more, after what was already sent.
        drop(self.writer.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        if let Some(folder) = &self.temporary {
            drop(std::fs::remove_dir_all(folder));
        }
    }
}

fn temporary_folder() -> Result<PathBuf, DbError> {
    let name = format!("hearthgate-{}-{}", std::process::id(), crate::clock::Chance::system().id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder).map_err(|e| DbError::Database(e.to_string()))?;
    Ok(folder)
}

fn write_groups(connection: &Connection, changes: &mpsc::Receiver<Box<dyn Change>>) {
    while let Ok(first) = changes.recv() {
        let mut group = vec![first];
        group.extend(changes.try_iter().take(GROUP - 1));
        let committed = run_group(connection, &mut group).is_ok();
        if !committed && !connection.0.is_autocommit() {
            // If even this fails the connection is dead, and every later group will say so.
            drop(connection.batch("ROLLBACK"));
        }
        for change in group {
            change.answer(committed);
        }
    }
}

fn run_group(connection: &Connection, group: &mut [Box<dyn Change>]) -> Result<(), DbError> {
    connection.execute("BEGIN IMMEDIATE", &[])?;
    // Alone it needs no savepoint, whose journal would copy every page that it changes.
    if let [only] = group {
        let keep = only.run(&Tx(connection));
        if connection.0.is_autocommit() {
            return Err(DbError::NotCommitted);
        }
        return connection.execute(if keep { "COMMIT" } else { "ROLLBACK" }, &[]).map(drop);
    }
    for change in group {
        connection.execute("SAVEPOINT change", &[])?;
        if !change.run(&Tx(connection)) {
            connection.execute("ROLLBACK TO change", &[])?;
        }
        // SQLite rolls a whole transaction back by itself when the disk is full, for one: the
        // changes before this one are gone too, and going on would commit later ones alone.
        if connection.0.is_autocommit() {
            return Err(DbError::NotCommitted);
        }
        connection.execute("RELEASE change", &[])?;
    }
    connection.execute("COMMIT", &[]).map(drop)
}

#[cfg(test)]
mod tests;
