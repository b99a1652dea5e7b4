//! The store as everything else sees it: one SQL text, typed parameters and rows, verdicts, migrations.
//!
//! A change runs as one closure in one transaction and says by its [`Verdict`] whether it stays.

use std::path::{Path, PathBuf};

use super::sqlite::{Connection, Sqlite};

/// Why the store could not do it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database answered with an error.
    #[error("database: {0}")]
    Database(String),
    /// The group this change was written with could not be committed.
    #[error("the change could not be committed")]
    NotCommitted,
    /// The closure panicked; its own changes were rolled back.
    #[error("a change panicked and was rolled back")]
    Panicked,
    /// A row holds what no version of this program writes.
    #[error("a stored row cannot be read: {0}")]
    Corrupt(String),
}

/// Whether what a closure wrote stays. A refusal that must be remembered (a reused code, a failed
/// sign-in) is a `Commit` whose value is the refusal.
pub enum Verdict<T> {
    /// Keep the changes and answer with this once they are on disk.
    Commit(T),
    /// Undo the changes and answer with this.
    Rollback(T),
}

/// A parameter of a statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    /// SQL NULL.
    Null,
    /// An integer, and booleans as 0 and 1.
    Int(i64),
    /// A floating-point number.
    Real(f64),
    /// Text, and JSON as text.
    Text(String),
}

macro_rules! param_from {
    ($($from:ty => |$v:ident| $to:expr),* $(,)?) => {$(
        impl From<$from> for Param {
            fn from($v: $from) -> Self {
                $to
            }
        }
    )*};
}

param_from! {
    i64 => |v| Param::Int(v),
    bool => |v| Param::Int(v.into()),
    f64 => |v| Param::Real(v),
    String => |v| Param::Text(v),
    &String => |v| Param::Text(v.clone()),
    &str => |v| Param::Text(v.to_owned()),
    Option<i64> => |v| v.map_or(Param::Null, Param::Int),
    Option<f64> => |v| v.map_or(Param::Null, Param::Real),
    Option<String> => |v| v.map_or(Param::Null, Param::Text),
    Option<&String> => |v| v.cloned().into(),
    Option<&str> => |v| v.map(str::to_owned).into(),
}

/// The parameters of a statement, in the order of `$1`, `$2`, …
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::store::db::Param::from($value)),*] };
}

/// A value that can be read from a column.
pub trait FromColumn: Sized {
    /// Reads it from column `index`, counted from 0.
    fn from_column(row: &Row<'_>, index: usize) -> Result<Self, DbError>;
}

/// One row of an answer.
pub struct Row<'a>(pub(super) &'a super::sqlite::RawRow<'a>);

impl Row<'_> {
    /// The value of column `index`, counted from 0.
    pub fn get<T: FromColumn>(&self, index: usize) -> Result<T, DbError> {
        T::from_column(self, index)
    }

    /// A JSON column.
    pub fn json<T: serde::de::DeserializeOwned>(&self, index: usize) -> Result<T, DbError> {
        let text: String = self.get(index)?;
        serde_json::from_str(&text).map_err(|e| DbError::Corrupt(e.to_string()))
    }
}

/// A snapshot to read from, or a transaction to write in.
pub struct Tx<'a>(pub(super) &'a Connection);

impl Tx<'_> {
    /// Runs a statement; answers how many rows it changed.
    pub fn execute(&self, sql: &str, params: &[Param]) -> Result<usize, DbError> {
        self.0.execute(sql, params)
    }

    /// All rows of a query.
    pub fn all<T>(
        &self,
        sql: &str,
        params: &[Param],
        mut read: impl FnMut(&Row<'_>) -> Result<T, DbError>,
    ) -> Result<Vec<T>, DbError> {
        let mut rows = Vec::new();
        self.0.each(sql, params, &mut |row| {
            rows.push(read(row)?);
            Ok(true)
        })?;
        Ok(rows)
    }

    /// The first row of a query, if there is one. With `UPDATE … RETURNING` this is how a thing is consumed.
    pub fn first<T>(
        &self,
        sql: &str,
        params: &[Param],
        mut read: impl FnMut(&Row<'_>) -> Result<T, DbError>,
    ) -> Result<Option<T>, DbError> {
        let mut found = None;
        self.0.each(sql, params, &mut |row| {
            found = Some(read(row)?);
            Ok(false)
        })?;
        Ok(found)
    }
}

/// The database: one writer that commits in groups, many readers.
#[derive(Clone)]
pub struct Store {
    sqlite: std::sync::Arc<Sqlite>,
    /// Searches that may run at once: each holds a thread, a connection and a core.
    searching: std::sync::Arc<tokio::sync::Semaphore>,
}

/// More searches than this at once would only take turns.
fn searches_at_once() -> usize {
    2 * std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

impl Store {
    /// Opens (or makes) the database and brings it to this program's schema.
    /// `:memory:` is a private temporary file, removed when the store is dropped.
    pub fn open(path: &str) -> Result<Self, DbError> {
        Ok(Store {
            sqlite: std::sync::Arc::new(Sqlite::open(path)?),
            searching: std::sync::Arc::new(tokio::sync::Semaphore::new(searches_at_once())),
        })
    }

    /// The same for a process that only fills the database: it may take more memory, and puts off
    /// moving what it wrote from the log to its place.
    pub fn open_to_fill(path: &str) -> Result<Self, DbError> {
        let store = Store::open(path)?;
        store.sqlite.write_blocking(|tx| {
            tx.0.fill_mode()?;
            Ok(Verdict::Commit(()))
        })?;
        Ok(store)
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        self.sqlite.path()
    }

    /// The file that holds the master key where `HEARTHGATE_KEY` does not: `<database>.key`.
    pub fn key_path(&self) -> PathBuf {
        let mut name = self.path().as_os_str().to_owned();
        name.push(".key");
        name.into()
    }

    /// Runs `change` in a transaction of its own; answers after it is durable on disk.
    ///
    /// # Errors
    /// [`DbError`] when nothing of it was kept; the caller answers 503 and may try again.
    pub async fn write<T, F>(&self, change: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<Verdict<T>, DbError> + Send + 'static,
    {
        self.sqlite.write(change).await
    }

    /// The same for a caller outside the async runtime (command line, import).
    pub fn write_blocking<T, F>(&self, change: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<Verdict<T>, DbError> + Send + 'static,
    {
        self.sqlite.write_blocking(change)
    }

    /// Reads one consistent snapshot on the caller's own thread: for point reads, which take microseconds.
    pub fn read<T>(&self, read: impl FnOnce(&Tx<'_>) -> Result<T, DbError>) -> Result<T, DbError> {
        self.sqlite.read(read)
    }

    /// Reads one consistent snapshot on a blocking thread: for searches, which may take long.
    pub async fn search<T, F>(&self, read: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T, DbError> + Send + 'static,
    {
        // A caller who gives up while waiting here costs nothing.
        let _turn = self.searching.acquire().await.map_err(|_| DbError::NotCommitted)?;
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.read(read)).await.map_err(|_| DbError::Panicked)?
    }
}
