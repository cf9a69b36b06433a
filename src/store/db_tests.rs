//! Copies of a store and its compaction: what is in them, and what a crash leaves (RELIABILITY A11, B12, B16, B19).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use redb::backends::InMemoryBackend;

use super::check::check;
use super::check::tests::{sha, started, store};
use super::compact::{compact, compact_backend};
use super::conformance::{Dump, dump, run, wait};
use super::copy::CopyError;
use super::fault::{Calls, EIO, FaultDisk, Misbehaviour, Replay, Surviving};
use super::held::Held;
use super::journal::{Journal as _, StoreError};
use super::log;
use super::mark::Restored;
use super::open::{OpenOptions, behind_the_back, open_backend};
use super::redb::RedbStore;

fn open(path: &Path) -> RedbStore {
    RedbStore::open(path, OpenOptions::default()).expect("the store opens")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().expect("text")).collect();
    names.sort();
    names
}

#[test]
fn b19_a_backup_is_the_store_as_it_was_at_one_moment() {
    let (folder, path) = store();
    let holder = open(&path);
    let before = dump(&holder).expect("readable");
    let target = folder.path().join("backup.redb");
    let mut n = 10;
    // Somebody commits whenever the copy comes to another table.
    let copied = holder.copy_to(&target, sha, || {
        n += 1;
        wait(holder.commit(started(n, &format!("order-{n}")))).expect("written");
        false
    });
    let copied = copied.expect("copied");
    assert!(n >= 18, "only {} commits came between", n - 10);
    assert_eq!((copied.unfinished, copied.finished, copied.events), (2, 1, 10));
    assert_eq!(fs::metadata(&target).expect("it is there").permissions().mode() & 0o777, 0o600);
    assert_eq!(copied.bytes, fs::metadata(&target).expect("it is there").len());
    assert_eq!(names(folder.path()), ["backup.redb", "flowrun.mark", "flowrun.redb"]);

    let report = check(&target, sha).expect("it opens");
    assert!(report.is_sound() && !report.needs_repair, "{report:?}");
    let copy = open(&target);
    assert_eq!(dump(&copy), Ok(before));
    assert_eq!(copy.store_id(), holder.store_id(), "its runs keep their keys");
}

#[test]
fn b19_a_backup_that_cannot_be_made_leaves_nothing() {
    let (folder, path) = store();
    let holder = open(&path);
    let target = folder.path().join("backup.redb");
    let stopped = holder.copy_to(&target, sha, || true).expect_err("nobody wants it");
    assert!(matches!(stopped, CopyError::Stopped), "{stopped}");
    let nowhere = holder.copy_to(&folder.path().join("no/backup.redb"), sha, || false).expect_err("no folder");
    assert!(matches!(nowhere, CopyError::Target { .. }), "{nowhere}");
    // What is there by the time the copy is done is not replaced either.
    let taken = holder.copy_to(&target, sha, || {
        fs::write(&target, b"mine").expect("written");
        false
    });
    assert!(matches!(taken, Err(CopyError::Exists(_))), "{taken:?}");
    assert_eq!(fs::read(&target).expect("readable"), b"mine");
    assert_eq!(names(folder.path()), ["backup.redb", "flowrun.mark", "flowrun.redb"]);
}

#[test]
fn a_damaged_store_has_no_backup_that_looks_sound() {
    let (folder, path) = store();
    let database = behind_the_back(&path);
    let tx = database.begin_write().expect("a transaction");
    {
        let mut journal = tx.open_table(super::tables::JOURNAL).expect("the table");
        journal.insert(1, b"edited".as_slice()).expect("written");
    }
    tx.commit().expect("written");
    drop(database);
    let error = open(&path).copy_to(&folder.path().join("backup.redb"), sha, || false).expect_err("it is damaged");
    let CopyError::Damaged(1, problems) = &error else { panic!("{error}") };
    assert!(problems[0].starts_with("run order-2, event 0: "), "{problems:?}");
    assert_eq!(names(folder.path()), ["flowrun.mark", "flowrun.redb"]);
}

#[test]
fn b12_an_older_copy_in_the_place_of_the_store_is_noticed() {
    let (folder, path) = store();
    let older = folder.path().join("older");
    fs::copy(&path, &older).expect("copied");
    let backup = folder.path().join("backup.redb");
    let now = open(&path);
    assert_eq!(now.restored(), None);
    now.copy_to(&backup, sha, || false).expect("copied");
    wait(now.commit(started(5, "order-5"))).expect("written");
    // A kill: nobody has closed it, and nobody has written the mark for the last time.
    let killed = folder.path().join("killed");
    fs::copy(&path, &killed).expect("copied");
    drop(now);
    fs::copy(&killed, &path).expect("copied");
    assert_eq!(open(&path).restored(), None, "a crash is no restoring");

    for copy in [&older, &backup] {
        fs::copy(copy, &path).expect("restored");
        for _ in 0..2 {
            assert_eq!(open(&path).restored(), Some(Restored::Older { missing: 1 }), "until something is written");
        }
    }
    let restored = open(&path);
    wait(restored.commit(started(6, "order-6"))).expect("written");
    drop(restored);
    assert_eq!(open(&path).restored(), None, "it is the store now");
}

#[test]
fn b12_a_backup_says_so_where_nothing_is_known_of_the_store() {
    let (folder, path) = store();
    let elsewhere = tempfile::tempdir().expect("a folder");
    let copy = elsewhere.path().join("flowrun.redb");
    open(&path).copy_to(&copy, sha, || false).expect("copied");
    assert!(matches!(open(&copy).restored(), Some(Restored::Backup { made_at }) if made_at.0 > 0));
    let used = open(&copy);
    wait(used.commit(started(6, "order-6"))).expect("written");
    drop(used);
    assert_eq!(open(&copy).restored(), None);
    fs::remove_file(elsewhere.path().join("flowrun.mark")).expect("it was made");
    assert_eq!(open(&copy).restored(), None, "it is no copy any more");
    drop(folder);
}

#[test]
fn compacting_keeps_everything_and_gives_space_back() {
    let (_folder, path) = store();
    let fat = open(&path);
    for n in 10..400 {
        wait(fat.commit(started(n, &format!("order-{n}")))).expect("written");
    }
    let before = dump(&fat).expect("readable");
    assert!(matches!(compact(&path), Err(StoreError::Busy { .. })));
    drop(fat);
    let done = compact(&path).expect("compacted");
    assert!(done.after < done.before, "{done:?}");
    assert_eq!(done.after, fs::metadata(&path).expect("it is there").len());
    assert_eq!(dump(&open(&path)), Ok(before));
    assert!(check(&path, sha).expect("it opens").is_sound());
}

/// Returns the disk of a closed store with many runs, and what is in it.
fn many_runs() -> (Vec<u8>, Dump) {
    let disk = FaultDisk::default();
    let store = RedbStore::with_backend(disk.clone()).expect("a new store");
    for n in 1..60 {
        wait(store.commit(started(n, &format!("order-{n}")))).expect("written");
    }
    let content = dump(&store).expect("readable");
    drop(store);
    (disk.image(), content)
}

#[test]
fn a11_a_crash_at_every_write_of_a_compaction_leaves_the_whole_store() {
    let (before, content) = many_runs();
    let disk = FaultDisk::holding(before.clone());
    compact_backend(disk.clone()).expect("compacted");
    assert!(disk.image().len() < before.len(), "there was nothing to compact");

    let log = disk.log();
    let mut replay = Replay::from(before);
    for (at, op) in log.iter().enumerate() {
        replay.step(op);
        let seed = at as u64;
        for surviving in [Surviving::Nothing, Surviving::Everything, Surviving::Some(seed), Surviving::Torn(seed)] {
            let left = FaultDisk::holding(replay.image(surviving));
            let found = RedbStore::with_backend(left.clone()).and_then(|store| dump(&store));
            assert_eq!(found.as_ref(), Ok(&content), "crash after operation {at}, surviving {surviving:?}");
            if at % 8 == 0 {
                compact_backend(left.clone()).expect("it can be tried again");
                assert_eq!(RedbStore::with_backend(left).and_then(|store| dump(&store)).as_ref(), Ok(&content));
            }
        }
    }
    println!("{} crashes", 4 * log.len());
    assert!(log.len() >= 20, "only {} operations", log.len());
}

#[test]
fn a11_an_error_of_the_disk_during_a_compaction_is_told_and_loses_nothing() {
    let (image, content) = many_runs();
    let mut failed = 0;
    for at in 0.. {
        let disk = FaultDisk::holding(image.clone());
        disk.misbehave(Misbehaviour::Fail { calls: Calls::Changes, at, lasting: true, errno: EIO });
        let done = compact_backend(disk.clone());
        disk.misbehave(Misbehaviour::None);
        assert_eq!(RedbStore::with_backend(disk).and_then(|store| dump(&store)).as_ref(), Ok(&content), "from {at}");
        match done {
            Ok(()) => break,
            Err(StoreError::Io { .. }) => failed += 1,
            Err(other) => panic!("error from operation {at}: {other}"),
        }
    }
    assert!(failed >= 10, "only {failed} errors");
}

/// A disk in memory has no locks, as some file systems have none.
#[test]
fn b16_a_store_without_a_lock_is_not_opened() {
    let (held, _) = Held::new(InMemoryBackend::new(), false);
    let error = open_backend("here", held, Some(log::SHORT), false).expect_err("two processes could write to it");
    assert!(error.to_string().contains("no locks"), "{error}");

    let (_folder, path) = store();
    let error = super::open::is_locked(&path).expect_err("nobody has locked it");
    assert!(error.to_string().contains("locks do not work"), "{error}");
    let _holder = open(&path);
    assert_eq!(super::open::is_locked(&path), Ok(()));
}

#[test]
fn records_are_read_in_parts() {
    let (_folder, path) = store();
    let store = open(&path);
    let all = store.records(run(2)).expect("readable");
    assert_eq!(all.len(), 4);
    let memory = super::memory::MemoryStore::default();
    wait(memory.commit(started(2, "order-2"))).expect("written");
    let same = memory.records(run(2)).expect("readable");
    for from in 0..6 {
        let rest = &all[all.len().min(from as usize)..];
        assert_eq!(store.records_from(run(2), from, usize::MAX).as_deref(), Ok(rest));
        let part = store.records_from(run(2), from, 0).expect("readable");
        assert!(rest.starts_with(&part), "{from}");
        assert_eq!(part.is_empty(), rest.is_empty(), "{from}");
        let rest = &same[same.len().min(from as usize)..];
        assert_eq!(memory.records_from(run(2), from, usize::MAX).as_deref(), Ok(rest));
        let part = memory.records_from(run(2), from, 0).expect("readable");
        assert!(rest.starts_with(&part), "{from}");
        assert_eq!(part.is_empty(), rest.is_empty(), "{from}");
    }
}
