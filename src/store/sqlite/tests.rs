//! What the writer keeps and what it does not.

use super::super::db::Store;
use super::*;
use crate::params;

fn store() -> Store {
    let store = Store::open(":memory:").unwrap();
    store
        .write_blocking(|tx| {
            tx.execute("CREATE TABLE probe (a INTEGER, b TEXT) STRICT", &[])?;
            Ok(Verdict::Commit(()))
        })
        .unwrap();
    store
}

fn count(store: &Store) -> i64 {
    store.read(|tx| tx.first("SELECT count(*) FROM probe", &[], |row| row.get(0))).unwrap().expect("a count")
}

#[test]
fn parameters_are_bound_by_number_not_by_first_appearance() {
    let store = store();
    store
        .write_blocking(|tx| {
            tx.execute("INSERT INTO probe (b, a) VALUES ($2, $1)", params![7, "seven"])?;
            Ok(Verdict::Commit(()))
        })
        .unwrap();
    let row = store
        .read(|tx| tx.first("SELECT a, b FROM probe", &[], |r| Ok((r.get::<i64>(0)?, r.get::<String>(1)?))));
    assert_eq!(row.unwrap(), Some((7, "seven".to_owned())));
    assert_eq!(numbered("a = $12 AND b = '$' AND c = $1"), "a = ?12 AND b = '$' AND c = ?1");
}

#[test]
fn a_rollback_leaves_nothing_and_still_answers() {
    let store = store();
    let said = store.write_blocking(|tx| {
        tx.execute("INSERT INTO probe (a) VALUES (1)", &[])?;
        Ok(Verdict::Rollback("refused"))
    });
    assert_eq!(said.unwrap(), "refused");
    assert_eq!(count(&store), 0);
}

#[tokio::test]
async fn a_panic_rolls_back_its_own_change_and_no_neighbours() {
    let store = store();
    let mut waiting = Vec::new();
    for n in 0..50_i64 {
        let store = store.clone();
        waiting.push(tokio::spawn(async move {
            store
                .write(move |tx| {
                    tx.execute("INSERT INTO probe (a) VALUES ($1)", params![n])?;
                    assert!(n % 10 != 3, "a bug in one change");
                    Ok(Verdict::Commit(()))
                })
                .await
        }));
    }
    let mut failed = 0;
    for task in waiting {
        failed += i64::from(task.await.unwrap().is_err());
    }
    assert_eq!(failed, 5);
    assert_eq!(count(&store), 45);
}

#[tokio::test]
async fn one_of_many_parallel_callers_consumes_a_thing() {
    let store = store();
    store
        .write(|tx| {
            tx.execute("INSERT INTO probe (a, b) VALUES (1, NULL)", &[])?;
            Ok(Verdict::Commit(()))
        })
        .await
        .unwrap();
    let mut waiting = Vec::new();
    for n in 0..32 {
        let store = store.clone();
        waiting.push(tokio::spawn(async move {
            let sql = "UPDATE probe SET b = $1 WHERE a = 1 AND b IS NULL RETURNING a";
            store
                .write(move |tx| {
                    let won = tx.first(sql, params![format!("{n}")], |row| row.get::<i64>(0))?;
                    Ok(Verdict::Commit(won.is_some()))
                })
                .await
                .unwrap()
        }));
    }
    let mut winners = 0;
    for task in waiting {
        winners += usize::from(task.await.unwrap());
    }
    assert_eq!(winners, 1);
}

#[test]
fn a_transaction_that_sqlite_rolled_back_by_itself_answers_everyone_with_not_committed() {
    let store = store();
    let lost = store.write_blocking(|tx| {
        tx.execute("INSERT INTO probe (a) VALUES (1)", &[])?;
        // What a full disk does: the transaction is over before COMMIT.
        tx.execute("ROLLBACK", &[])?;
        Ok(Verdict::Commit(()))
    });
    assert!(matches!(lost, Err(DbError::NotCommitted)));
    assert_eq!(count(&store), 0);
}

#[test]
fn a_temporary_database_is_removed_with_its_store() {
    let store = store();
    let path = store.path().to_owned();
    assert!(path.exists());
    drop(store);
    assert!(!path.exists());
}
