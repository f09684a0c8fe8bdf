//! What only the SQLite store promises: durability, error texts, permissions, and turns committed together.

use std::sync::Arc;

use tempfile::TempDir;

use super::super::contract;
use super::*;

/// A store whose folder lives as long as it does.
struct TempStore {
    store: SqliteStore,
    _folder: TempDir,
}

#[async_trait]
impl SessionStore for TempStore {
    async fn load(&self, id: &SessionId, owner: &str) -> Result<Option<Session>, SessionError> {
        self.store.load(id, owner).await
    }
    async fn append(
        &self,
        id: &SessionId,
        owner: &str,
        version: u64,
        turn: &[RawMessage],
    ) -> Result<u64, SessionError> {
        self.store.append(id, owner, version, turn).await
    }
    async fn delete(&self, id: &SessionId, owner: &str) -> Result<bool, SessionError> {
        self.store.delete(id, owner).await
    }
    async fn list(&self, owner: &str, offset: u64, limit: u64) -> Result<SessionPage, SessionError> {
        self.store.list(owner, offset, limit).await
    }
    async fn purge_expired(&self) -> Result<u64, SessionError> {
        self.store.purge_expired().await
    }
}

contract::tests!(|config, clock| {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open_with_clock(&folder.path().join("s.db"), config, clock).unwrap();
    TempStore { store, _folder: folder }
});

fn id(name: &str) -> SessionId {
    SessionId::parse(name).unwrap()
}

fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, Config::default())
}

#[tokio::test]
async fn sessions_survive_a_restart() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("new/folder/witgate.db");
    let turn = [RawMessage::user("hi"), RawMessage::assistant("there")];
    let store = open(&path).unwrap();
    store.append(&id("a"), "o", 0, &turn).await.unwrap();
    let before = store.load(&id("a"), "o").await.unwrap().unwrap();
    drop(store);
    let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "a closed store leaves one file: {left:?}");
    let store = open(&path).unwrap();
    assert_eq!(store.load(&id("a"), "o").await.unwrap().unwrap(), before);
    assert_eq!(store.append(&id("a"), "o", 1, &turn).await.unwrap(), 2);
}

#[tokio::test]
async fn turns_are_on_disk_before_the_answer() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("s.db");
    let store = open(&path).unwrap();
    for version in 0..5 {
        store.append(&id("a"), "o", version, &[RawMessage::user("x")]).await.unwrap();
    }
    // A copy of the files is what a killed process leaves behind.
    let copy = TempDir::new().unwrap();
    for name in ["s.db", "s.db-wal"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let recovered = open(&copy.path().join("s.db")).unwrap();
    assert_eq!(recovered.load(&id("a"), "o").await.unwrap().unwrap().version, 5);
}

#[tokio::test]
async fn the_last_user_of_a_shared_store_closes_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("s.db");
    let store = Arc::new(open(&path).unwrap());
    let writers: Vec<_> = (0..50)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                store.append(&id(&format!("s{number}")), "o", 0, &[RawMessage::user("x")]).await
            })
        })
        .collect();
    drop(store);
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    assert!(!path.with_extension("db-wal").exists(), "the write-ahead log is emptied into the file");
    assert_eq!(open(&path).unwrap().list("o", 0, 100).await.unwrap().sessions.len(), 50);
}

#[tokio::test]
async fn a_failing_job_takes_nothing_of_its_batch_with_it() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder.path().join("s.db")).unwrap();
    let turn = [RawMessage::user("x")];
    let half = store.writer.call(|connection| -> Result<(), SessionError> {
        connection.execute(
            "INSERT INTO sessions (id, owner, version, created_ms, updated_ms) VALUES ('half', 'o', 1, 0, 0)",
            [],
        )?;
        Err(SessionError::Store("broke in the middle".to_owned()))
    });
    let (id_a, id_b) = (id("a"), id("b"));
    let (a, half, b) =
        tokio::join!(store.append(&id_a, "o", 0, &turn), half, store.append(&id_b, "o", 0, &turn));
    assert!(half.unwrap_err().to_string().contains("broke in the middle"));
    assert_eq!((a.unwrap(), b.unwrap()), (1, 1));
    let listed = store.list("o", 0, 10).await.unwrap().sessions;
    let mut names: Vec<&str> = listed.iter().map(|session| session.session_id.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test]
async fn two_processes_share_a_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("s.db");
    let (one, two) = (open(&path).unwrap(), open(&path).unwrap());
    let turn = [RawMessage::user("x")];
    one.append(&id("a"), "o", 0, &turn).await.unwrap();
    assert_eq!(two.append(&id("a"), "o", 1, &turn).await.unwrap(), 2);
    let stale = one.append(&id("a"), "o", 1, &turn).await.unwrap_err();
    assert!(matches!(stale, SessionError::Conflict));
}

#[tokio::test]
async fn a_locked_database_is_an_error_and_not_a_hang() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("s.db");
    let store = SqliteStore::open(&path, Config { timeout_ms: 3000, ..Config::default() }).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let turn = [RawMessage::user("x")];
    let error = store.append(&id("a"), "o", 0, &turn).await.unwrap_err();
    assert!(error.to_string().contains("database is locked"), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.append(&id("a"), "o", 0, &turn).await.unwrap(), 1);
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder.path().join("s.db")).unwrap();
    store.append(&id("a"), "o", 0, &[RawMessage::user("x")]).await.unwrap();
    let limit = |connection: &Connection| {
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let sql = format!("PRAGMA max_page_count = {}", pages + 2);
        connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map_err(SessionError::from)
    };
    store.writer.call(limit).await.unwrap();
    let long = RawMessage::user(&"x".repeat(100_000));
    let error = store.append(&id("a"), "o", 1, &[long]).await.unwrap_err();
    assert!(matches!(&error, SessionError::Store(text) if text.contains("full")), "{error}");
    assert_eq!(store.load(&id("a"), "o").await.unwrap().unwrap().version, 1);
    assert_eq!(store.append(&id("a"), "o", 1, &[RawMessage::user("y")]).await.unwrap(), 2);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("data/s.db");
    let store = open(&path).unwrap();
    store.append(&id("a"), "o", 0, &[RawMessage::user("x")]).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for name in ["s.db", "s.db-wal", "s.db-shm"] {
        assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
    }
}

fn open_error(path: &Path) -> String {
    let error = open(path).err().unwrap().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    error
}

#[test]
fn what_cannot_be_opened_is_named_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, "not a database, but long enough to look like one\n".repeat(100)).unwrap();
    assert!(open_error(&garbage).contains("restore a backup"));
    assert!(open_error(&garbage.join("below/a/file.db")).contains("make its folder writable"));
    assert!(open_error(folder.path()).contains("set `data_dir`"));

    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(open_error(&foreign).contains("another program"));
    let tables = Connection::open(&foreign).unwrap();
    let count: i64 = tables.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1, "a foreign database is left alone");

    let newer = folder.path().join("newer.db");
    drop(open(&newer).unwrap());
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(open_error(&newer).contains("newer witgate"));
}

#[test]
fn names_that_mean_something_to_sqlite_are_files() {
    let folder = TempDir::new().unwrap();
    for name in ["file:x?mode=memory", ":memory:", "with space ü.db"] {
        let path = folder.path().join(name);
        drop(open(&path).unwrap());
        assert!(path.is_file(), "{name}");
    }
}

#[tokio::test]
async fn a_damaged_page_is_an_error_of_the_store() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("s.db");
    let store = open(&path).unwrap();
    let long = RawMessage::user(&"x".repeat(50_000));
    store.append(&id("a"), "o", 0, &[long]).await.unwrap();
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    // Everything behind the first page, which holds the schema.
    bytes[4096..].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let store = open(&path).unwrap();
    assert!(matches!(store.load(&id("a"), "o").await, Err(SessionError::Store(_))));
}

#[tokio::test]
async fn a_message_that_is_not_json_is_refused_before_it_spoils_the_session() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder.path().join("s.db")).unwrap();
    store.append(&id("a"), "o", 0, &[RawMessage::user("x")]).await.unwrap();
    for bad in [&b"{\"a\":"[..], b"1,2", b"", b"{} {}", b"\"\xff\""] {
        let message = RawMessage::from_json(Bytes::from_static(bad));
        assert!(matches!(store.append(&id("a"), "o", 1, &[message]).await, Err(SessionError::Store(_))));
    }
    assert_eq!(store.load(&id("a"), "o").await.unwrap().unwrap().version, 1);
}
