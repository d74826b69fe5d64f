use std::os::unix::fs::PermissionsExt;

use getrandom::SysRng;
use rand_core::UnwrapErr;

use super::*;

fn pairing() -> Pairing {
    Pairing::generate("i", "r", 0, 1000, &mut UnwrapErr(SysRng)).unwrap()
}

#[test]
fn what_goes_in_comes_out_and_damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("log.key"), dir.path().join("backup"));
    std::fs::write(&from, "a secret").unwrap();
    let pairing = pairing();
    let manifest = || Manifest::new("relay", &pairing, DatabaseKind::Sqlite, 1);
    let mut backup = NewBackup::create(&to, manifest()).unwrap();
    backup.copy(&from).unwrap();
    let refused = Backup::open(&to, "relay").err().unwrap().to_string();
    assert!(refused.contains("cut short"), "{refused}");
    let log = LogPart { oldest: 1, head: 2, cell_bytes: 3, sealed_from: 4, sealed_to: 5 };
    assert_eq!(backup.finish(&pairing, Some(log)).unwrap(), 8);
    for path in [&to, &to.join("log.key"), &to.join(MANIFEST)] {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
    let refused = NewBackup::create(&to, manifest()).err().unwrap().to_string();
    assert!(refused.contains("a new folder for each backup"), "{refused}");
    let refused = Backup::open(&to, "issuer").err().unwrap().to_string();
    assert!(refused.contains("a backup of tocyn-relay"), "{refused}");

    let backup = Backup::open(&to, "relay").unwrap();
    assert_eq!(backup.manifest().log, Some(log));
    assert!(backup.has("log.key") && !backup.has("pairing.toml"));
    let out = dir.path().join("out");
    backup.copy_out_whole("log.key", &out).unwrap();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "a secret");
    std::fs::write(to.join("log.key"), "a secreT").unwrap();
    let out = dir.path().join("out2");
    let refused = backup.copy_out("log.key", &out).unwrap_err().to_string();
    assert!(refused.contains("damaged") && !out.exists(), "{refused}");
}

#[test]
fn a_file_is_linked_once_and_not_with_a_mode_that_lets_others_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("a/b/to"));
    let mut names = Batch::default();
    assert!(!link_or_copy(&mut names, &from, &to).unwrap(), "it is gone");
    std::fs::write(&from, "sealed").unwrap();
    for mode in [0o600, 0o644] {
        std::fs::set_permissions(&from, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(link_or_copy(&mut names, &from, &to).unwrap());
        assert!(link_or_copy(&mut names, &from, &to).unwrap(), "it stays as it is");
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "sealed");
        let mode = std::fs::metadata(&to).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_file(&to).unwrap();
    }
}

#[tokio::test]
async fn a_database_is_copied_beside_one_that_writes() {
    use sqlx::ConnectOptions;
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from.sqlite"), dir.path().join("to.sqlite"));
    let options = sqlx::sqlite::SqliteConnectOptions::new().create_if_missing(true);
    let options = options.journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
    let mut writer = options.clone().filename(&from).connect().await.unwrap();
    let run =
        "CREATE TABLE t (n); INSERT INTO t VALUES (1); BEGIN IMMEDIATE; INSERT INTO t VALUES (2)";
    sqlx::raw_sql(run).execute(&mut writer).await.unwrap();
    copy_sqlite(&from, &to).await.unwrap();
    let mut copy = options.filename(&to).connect().await.unwrap();
    let found: Vec<i64> = sqlx::query_scalar("SELECT n FROM t").fetch_all(&mut copy).await.unwrap();
    assert_eq!(found, [1], "what is committed");
    let mode = std::fs::metadata(&to).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        copy_sqlite(&from, &to).await.unwrap_err().contains("to.sqlite"),
        "nothing is replaced"
    );
}

#[test]
fn a_pairing_renewed_meanwhile_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("backup");
    let manifest = Manifest::new("issuer", &pairing(), DatabaseKind::Sqlite, 1);
    let backup = NewBackup::create(&to, manifest).unwrap();
    let refused = backup.finish(&pairing(), None).unwrap_err().to_string();
    assert!(refused.contains("renewed meanwhile"), "{refused}");
    assert!(Backup::open(&to, "issuer").is_err());
}
