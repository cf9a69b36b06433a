//! What happens to files that are no stores, damaged stores, and stores that change under our feet.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableTable as _, TableDefinition};
use tempfile::TempDir;

use super::check::check;
use super::conformance::{Dump, add, definition, done, dump, finish, run, start, wait};
use super::journal::{Journal as _, StoreError};
use super::log;
use super::open::{OpenOptions, behind_the_back};
use super::redb::RedbStore;
use super::tables::META;
use crate::dice::Dice;
use crate::machine::event::Compensation;

const CREATE: OpenOptions = OpenOptions { create: true };

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("flowrun.redb");
    (folder, path)
}

/// Opens what must not open, and holds that it was not changed.
fn refused(path: &Path) -> StoreError {
    let before = fs::read(path).ok();
    let error = RedbStore::open(path, CREATE).map(drop).expect_err("it must not open");
    assert_eq!(fs::read(path).ok(), before, "the file was changed");
    error
}

fn message(error: &StoreError) -> String {
    error.to_string()
}

/// Fills a new store with runs, and returns what is in it.
fn filled(path: &Path) -> Dump {
    let store = RedbStore::open(path, CREATE).expect("a new store");
    for n in 1..=20 {
        let id = format!("order-{n}");
        let mut first = start(run(n), &id, &[b"started", &[n as u8; 700]]);
        first.start.as_mut().expect("it starts").definition = definition(n as usize * 10);
        wait(store.commit(first)).expect("written");
        if n % 2 == 0 {
            wait(store.commit(finish(run(n), 2, &[b"end"], done(&id, Compensation::Complete)))).expect("written");
        }
    }
    let content = dump(&store).expect("readable");
    store.close().expect("closed");
    content
}

#[test]
fn a_new_store_is_the_owners_alone_and_leaves_nothing_else() {
    let (folder, _) = folder();
    let path = folder.path().join("deep/.flowrun/flowrun.redb");
    let store = RedbStore::open(&path, CREATE).expect("a new store");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().expect("a folder")), 0o700);
    let names: Vec<_> = fs::read_dir(path.parent().expect("a folder")).expect("readable").collect();
    assert_eq!(names.len(), 1, "{names:?}");

    let id = store.store_id();
    drop(store);
    let again = RedbStore::open(&path, OpenOptions::default()).expect("it exists");
    assert_eq!(again.store_id(), id);
    let (_other, path) = self::folder();
    assert_ne!(RedbStore::open(&path, CREATE).expect("a new store").store_id(), id);
}

#[test]
fn an_absent_store_is_only_made_on_request() {
    let (folder, path) = folder();
    let expected = StoreError::Absent { path: path.display().to_string() };
    assert_eq!(RedbStore::open(&path, OpenOptions::default()).map(drop), Err(expected.clone()));
    assert_eq!(check(&path, |_| None), Err(expected));
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);
}

#[test]
fn what_a_killed_creation_leaves_is_in_nobodys_way() {
    let (folder, path) = folder();
    // Whatever the moment, only a file of another name was touched.
    fs::write(folder.path().join(".flowrun.redb.0123.new"), b"redb\x1A\x0A\xA9\x0D\x0Ahalf").expect("written");
    filled(&path);
    RedbStore::open(&path, OpenOptions::default()).expect("a whole store");
}

#[test]
fn of_many_that_create_at_once_all_get_the_same_store() {
    let (_folder, path) = folder();
    let open = || loop {
        match RedbStore::open(&path, CREATE) {
            Ok(store) => return store.store_id(),
            Err(StoreError::Busy { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    let ids: Vec<[u8; 16]> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it opened")).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn b14_a_store_has_one_holder() {
    let (_folder, path) = folder();
    let holder = RedbStore::open(&path, CREATE).expect("a new store");
    let busy = StoreError::Busy { path: path.display().to_string() };
    assert_eq!(RedbStore::open(&path, CREATE).map(drop), Err(busy));
    holder.close().expect("closed");
    RedbStore::open(&path, CREATE).expect("it is free again");
}

#[test]
fn b07_what_is_no_file_is_refused_with_what_to_do() {
    let (folder, path) = folder();
    assert!(message(&refused(folder.path())).contains("is a folder; name the file in it"));

    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    let error = RedbStore::open(&path, CREATE).map(drop).expect_err("a pipe");
    assert!(message(&error).contains("is not a regular file"), "{error}");
    fs::remove_file(&path).expect("removed");

    std::os::unix::fs::symlink("nowhere", &path).expect("a link");
    let error = RedbStore::open(&path, CREATE).map(drop).expect_err("a dangling link");
    assert!(message(&error).contains("leads nowhere"), "{error}");

    let below_a_file = folder.path().join("file");
    fs::write(&below_a_file, b"x").expect("written");
    let error = RedbStore::open(below_a_file.join("flowrun.redb"), CREATE).map(drop).expect_err("no folder");
    assert!(matches!(error, StoreError::NoStore { .. }), "{error}");
}

#[test]
fn a_link_to_a_store_is_followed() {
    let (folder, path) = folder();
    filled(&path);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    let store = RedbStore::open(&link, CREATE).expect("the store");
    wait(store.commit(add(run(1), 2, &[b"x"]))).expect("written");
}

#[test]
fn b10_files_that_are_no_stores_are_refused_and_kept() {
    let (_folder, path) = folder();
    for (content, expected) in [
        (&b""[..], "is empty, not a flowrun store"),
        (b"redb", "is not a flowrun store"),
        (b"SQLite format 3\0 and so on", "is not a flowrun store"),
        (b"redb\x1A\x0A\xA9\x0D\x0A", ""),
        (b"redb\x1A\x0A\xA9\x0D\x0A and nothing that fits", ""),
    ] {
        fs::write(&path, content).expect("written");
        let error = refused(&path);
        assert!(
            matches!(&error, StoreError::Corrupt { message, .. } | StoreError::NoStore { message, .. } if message.contains(expected)),
            "{error}"
        );
        assert!(matches!(check(&path, |_| None), Err(StoreError::Corrupt { .. } | StoreError::NoStore { .. })));
    }
    let mut dice = Dice(7);
    for length in [100, 4096, 70_000] {
        let mut noise: Vec<u8> = (0..length).map(|_| dice.below(256) as u8).collect();
        noise[..9].copy_from_slice(b"redb\x1A\x0A\xA9\x0D\x0A");
        fs::write(&path, &noise).expect("written");
        assert!(matches!(refused(&path), StoreError::Corrupt { .. } | StoreError::NoStore { .. }));
    }
}

#[test]
fn another_programs_database_is_refused_and_kept_even_if_it_needs_a_repair() {
    let (folder, path) = folder();
    let database = Database::create(&path).expect("a database");
    let tx = database.begin_write().expect("a transaction");
    tx.open_table(TableDefinition::<u64, u64>::new("theirs")).expect("a table").insert(1, 2).expect("written");
    tx.commit().expect("written");
    let unclean = folder.path().join("unclean.redb");
    fs::copy(&path, &unclean).expect("copied");
    drop(database);
    for path in [path, unclean] {
        let error = refused(&path);
        assert!(message(&error).ends_with("is a redb database of another program, not a flowrun store"), "{error}");
    }
}

fn set_meta(path: &Path, key: &str, value: &[u8]) {
    let database = behind_the_back(path);
    let tx = database.begin_write().expect("a transaction");
    tx.open_table(META).expect("the table").insert(key, value).expect("written");
    tx.commit().expect("written");
}

#[test]
fn b17_e05_a_store_of_a_newer_flowrun_is_refused_and_kept() {
    let (folder, path) = folder();
    filled(&path);
    set_meta(&path, "format", &7_u32.to_le_bytes());
    set_meta(&path, "needs", b"0.9.0");
    let newer = |path: &Path| StoreError::Newer {
        path: path.display().to_string(),
        found: 7,
        known: 1,
        needs: Some("0.9.0".into()),
    };
    assert_eq!(refused(&path), newer(&path));

    // Also if its holder was killed.
    let database = behind_the_back(&path);
    let unclean = folder.path().join("unclean.redb");
    fs::copy(&path, &unclean).expect("copied");
    drop(database);
    assert_eq!(refused(&unclean), newer(&unclean));
}

#[test]
fn a_store_without_its_id_is_refused() {
    let (_folder, path) = folder();
    filled(&path);
    set_meta(&path, "id", b"short");
    assert!(matches!(refused(&path), StoreError::Corrupt { .. } | StoreError::NoStore { .. }));
}

#[test]
fn b10_a_store_that_was_cut_or_grew_is_refused_or_whole() {
    let (_folder, path) = folder();
    let content = filled(&path);
    let whole = fs::read(&path).expect("readable");
    let pages_at = log::pages_at(log::LENGTH) as usize;
    let lengths = (0..pages_at).step_by(256 << 10).chain((pages_at..whole.len()).step_by(4096));
    for length in lengths.chain([100, 4096, whole.len() - 1]) {
        fs::write(&path, &whole[..length]).expect("written");
        assert!(
            matches!(refused(&path), StoreError::Corrupt { .. } | StoreError::NoStore { .. }),
            "{length} of {}",
            whole.len()
        );
    }
    let mut longer = whole.clone();
    longer.resize(whole.len() + 8192, 0);
    fs::write(&path, &longer).expect("written");
    match RedbStore::open(&path, CREATE) {
        Ok(store) => assert_eq!(dump(&store), Ok(content)),
        Err(error) => assert!(matches!(error, StoreError::Corrupt { .. } | StoreError::NoStore { .. }), "{error}"),
    }
}

#[test]
fn b09_a_flipped_bit_is_noticed_or_harmless() {
    let (_folder, path) = folder();
    let content = filled(&path);
    let whole = fs::read(&path).expect("readable");
    let mut dice = Dice(9);
    let pages_at = log::pages_at(log::LENGTH) as usize;
    let mut bits = |from: usize, to: usize, step: usize| -> Vec<usize> {
        (from..to).step_by(step).map(|at| at * 8 + dice.below(step as u64 * 8) as usize).collect()
    };
    let heads = [bits(0, 320, 1), bits(pages_at, pages_at + 320, 1)].concat();
    let pages = [bits(0, pages_at, 64 << 10), bits(pages_at, whole.len(), 256)].concat();
    let mut noticed = 0;
    for bit in heads.into_iter().chain(pages) {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &damaged).expect("written");
        match RedbStore::open(&path, CREATE).and_then(|store| dump(&store)) {
            Ok(found) => assert_eq!(found, content, "bit {bit} was not noticed"),
            Err(error) => {
                assert!(
                    matches!(error, StoreError::Corrupt { .. } | StoreError::NoStore { .. } | StoreError::Newer { .. }),
                    "bit {bit}: {error}"
                );
                noticed += 1;
            }
        }
    }
    assert!(noticed > 20, "only {noticed}");
}

/// A file too large to be checked whole is trusted by redb; rows have checksums of their own.
#[test]
fn a_damaged_row_is_noticed_without_a_check_of_the_whole_file() {
    let (_folder, path) = folder();
    filled(&path);
    let database = behind_the_back(&path);
    let tx = database.begin_write().expect("a transaction");
    {
        let mut live = tx.open_table(super::tables::LIVE).expect("the table");
        let key = *run(1).0.as_bytes();
        let mut row = live.get(&key).expect("readable").expect("run 1 is live").value().to_vec();
        *row.last_mut().expect("it has bytes") ^= 1;
        live.insert(&key, row.as_slice()).expect("written");
    }
    tx.commit().expect("written");
    drop(database);
    let store = RedbStore::open(&path, CREATE).expect("it opens");
    let error = store.live().expect_err("the row is damaged");
    assert!(
        message(&error).contains(&format!("run {}, row in `live`: the checksum does not match", run(1))),
        "{error}"
    );
}

#[test]
fn b13_a_store_that_is_deleted_or_replaced_takes_nothing_any_more() {
    for replace in [false, true] {
        let (folder, path) = folder();
        let store = RedbStore::open(&path, CREATE).expect("a new store");
        wait(store.commit(start(run(1), "order-1", &[b"a"]))).expect("written");
        fs::rename(&path, folder.path().join("gone")).expect("renamed");
        let expected = if replace {
            fs::write(&path, b"another").expect("written");
            "replaced"
        } else {
            "deleted"
        };
        let error = wait(store.commit(add(run(1), 1, &[b"b"]))).expect_err("its file is gone");
        assert!(
            matches!(&error, StoreError::Io { message, .. } | StoreError::NoStore { message, .. } if message.contains(expected)),
            "{error}"
        );
        fs::rename(folder.path().join("gone"), &path).expect("renamed");
        assert_eq!(wait(store.commit(add(run(1), 1, &[b"b"]))), Err(error), "nothing is tried twice");
        drop(store);
        let store = RedbStore::open(&path, CREATE).expect("it is whole");
        assert_eq!(store.records(run(1)), Ok(vec![b"a".to_vec()]));
    }
}

#[test]
fn b15_the_store_of_a_killed_process_opens_at_once() {
    let (folder, path) = folder();
    let store = RedbStore::open(&path, CREATE).expect("a new store");
    wait(store.commit(start(run(1), "order-1", &[b"a"]))).expect("written");
    // What is on the disk now is what a kill leaves, whatever the lock.
    let left = folder.path().join("left.redb");
    fs::copy(&path, &left).expect("copied");
    assert_eq!(RedbStore::open(&left, CREATE).and_then(|left| dump(&left)), dump(&store));
}
