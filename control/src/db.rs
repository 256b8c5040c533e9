//! The database: SQLite in the data directory, or PostgreSQL by `DATABASE_URL`.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;

use sea_orm::{
    ConnectOptions, Database, DatabaseBackend, DatabaseConnection, DatabaseTransaction, DbErr, RuntimeErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::MigratorTrait as _;
use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};

use crate::limits::{DATABASE_CONNECTIONS, DATABASE_WAIT};
use crate::migration::Migrator;
use crate::secret::Secret;

/// Opens the database at `url`, making it and bringing its schema up to date as needed.
///
/// # Errors
/// When it cannot be reached, or holds a schema that no migration leads on from.
pub async fn open(url: &Secret<String>) -> Result<DatabaseConnection, DbErr> {
    make_private(url.expose()).map_err(|error| DbErr::Custom(format!("{error}")))?;
    let db = Database::connect(options(url)).await?;
    Migrator::up(&db, None).await?;
    Ok(db)
}

/// Makes SQLite's file before SQLite does: readable by its owner alone, as the files SQLite puts beside it then are, too.
fn make_private(url: &str) -> io::Result<()> {
    let Some(path) = url.strip_prefix("sqlite:") else { return Ok(()) };
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = path.split('?').next().unwrap_or_default();
    if path.is_empty() || path.contains(":memory:") {
        return Ok(());
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

fn options(url: &Secret<String>) -> ConnectOptions {
    let mut options = ConnectOptions::new(url.expose().as_str());
    options
        .max_connections(DATABASE_CONNECTIONS)
        .acquire_timeout(DATABASE_WAIT)
        .sqlx_logging(false)
        .set_application_name("rexec-control")
        .map_sqlx_sqlite_opts(|sqlite| {
            sqlite
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Normal)
                .foreign_keys(true)
                .busy_timeout(DATABASE_WAIT)
        });
    options
}

/// Begins a transaction that will write.
///
/// SQLite lets a transaction that read first begin to write only if nobody wrote meanwhile, and fails at once otherwise, so
/// a writer asks for the lock from the start.
///
/// # Errors
/// When the lock or a connection does not come free in time.
pub async fn write(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let sqlite_transaction_mode =
        (db.get_database_backend() == DatabaseBackend::Sqlite).then_some(SqliteTransactionMode::Immediate);
    db.begin_with_options(TransactionOptions { sqlite_transaction_mode, ..TransactionOptions::default() })
        .await
}

/// Whether the database refused because its disk is full: `SQLITE_FULL`, `SQLITE_IOERR_SHMSIZE` (<https://www.sqlite.org/rescode.html>), or PostgreSQL's
/// `disk_full`.
pub fn is_full(error: &DbErr) -> bool {
    let (DbErr::Conn(cause) | DbErr::Exec(cause) | DbErr::Query(cause)) = error else { return false };
    let RuntimeErr::SqlxError(cause) = cause else { return false };
    let code = cause.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(code.as_ref(), "13" | "4874" | "53100"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sea_orm::ConnectionTrait as _;

    #[tokio::test]
    async fn a_full_disk_is_told_from_other_faults() -> Result<(), DbErr> {
        let dir = tempfile::tempdir().expect("a directory");
        let url = Secret::new(format!("sqlite://{}", dir.path().join("full.sqlite").display()));
        // The limit holds for one connection.
        let db = Database::connect(options(&url).max_connections(1).to_owned()).await?;
        db.execute_unprepared("CREATE TABLE full (bytes)").await?;
        db.execute_unprepared("PRAGMA max_page_count = 2").await?;
        let error = db.execute_unprepared("INSERT INTO full VALUES (zeroblob(1000000))").await.unwrap_err();
        assert!(is_full(&error), "{error:?}");
        let error = db.execute_unprepared("INSERT INTO nowhere VALUES (1)").await.unwrap_err();
        assert!(!is_full(&error), "{error:?}");
        Ok(())
    }
}
