//! `db backup` and `db compact` are killed at several moments; and a large store whose process was killed (RELIABILITY
//! A11, B15, and how long a store takes to open after a crash).

use std::sync::Arc;
use std::time::Duration;

use flowrun::machine::event::{Entry, Event};
use flowrun::names::RunKey;
use flowrun::store::format;
use flowrun::store::journal::{Commit, DoneRow, Journal as _, LiveRow, RunRow, StartRow};
use flowrun::store::open::OpenOptions;
use flowrun::store::redb::RedbStore;
use rustix::process::Signal;

use crate::program::Place;

const STORE: &str = ".flowrun/flowrun.redb";

const WAITS: &str = "flowrun: 1\nname: waits\nsteps:\n  ask: { wait: { signal: answer } }\n";

/// Adds finished runs to a store, each a copy of the run `pattern`, until there are `runs` of them or the file has
/// `bytes`.
fn fill(place: &Place, pattern: &str, runs: u64, bytes: u64) {
    let path = place.path(STORE);
    let store = Arc::new(RedbStore::open(&path, OpenOptions::default()).expect("the store opens"));
    let run = store.run_by_id(pattern).expect("readable").expect("it is there");
    let records = store.records(run).expect("readable");
    let Some(RunRow::Done(done)) = store.run(run).expect("readable") else { panic!("{pattern} is not finished") };
    let first: Entry = format::decode(&records[0]).expect("readable");
    let Event::RunStarted(started) = &first.event else { panic!("it begins otherwise") };
    let definition = (started.definition, store.definition(started.definition).expect("readable"));
    let copy = |n: u64| {
        let id = format!("bulk-{n}");
        let mut started = started.clone();
        started.id.clone_from(&id);
        let mut records = records.clone();
        records[0] = format::encode(&Entry { at: first.at, event: Event::RunStarted(started) });
        let finish = DoneRow { id: id.clone(), ..done.clone() };
        let live = LiveRow { id: id.clone(), workflow: done.workflow.clone(), started_at: done.started_at };
        Commit {
            run: RunKey(uuid::Uuid::now_v7()),
            first: 0,
            records: records.iter().collect(),
            start: Some(StartRow { id, live, definition: definition.clone() }),
            finish: Some(finish),
            breakers: vec![],
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let mut made = 0;
    while made < runs && std::fs::metadata(&path).expect("it is there").len() < bytes {
        runtime.block_on(async {
            let mut commits = tokio::task::JoinSet::new();
            for n in made..runs.min(made + 1_000) {
                commits.spawn(store.commit(copy(n)));
            }
            for written in commits.join_all().await {
                written.expect("written");
            }
        });
        made += 1_000;
    }
    drop(runtime);
    store.close().expect("closed");
}

/// A store with many finished runs and one that waits.
fn filled(runs: u64, bytes: u64) -> Place {
    let place = Place::new();
    place.write("waits.yaml", WAITS);
    place.run(&["exec", "ecommerce-order", "--input", "examples/order.json", "--id", "pattern"]).expect(0);
    place.run(&["exec", "waits.yaml", "--id", "open"]).expect(7);
    fill(&place, "pattern", runs, bytes);
    place
}

/// Kills `args` later and later, until it ends before that. Returns how often it was killed. FLOWRUN_KILL_ROUNDS, which
/// asks for more elsewhere, makes the steps smaller.
fn killed_everywhere(place: &Place, args: &[&str], mut after: impl FnMut()) -> u64 {
    let step = if std::env::var_os("FLOWRUN_KILL_ROUNDS").is_some() { 2 } else { 15 };
    for deaths in 0_u64..400 {
        let mut running = place.start(args);
        running.run_for(Duration::from_millis(deaths * step + deaths * deaths));
        running.signal(Signal::KILL);
        let ran = running.end();
        after();
        if !ran.was_killed() {
            ran.expect(0);
            return deaths;
        }
    }
    panic!("`flowrun {}` never came to its end", args.join(" "));
}

#[test]
fn a11_b15_killed_while_it_compacts() {
    let place = filled(2_000, u64::MAX);
    let content = place.run(&["db", "export"]).expect(0).stdout;
    let mut before = std::fs::metadata(place.path(STORE)).expect("it is there").len();
    let whole = before;
    let deaths = killed_everywhere(&place, &["db", "compact"], || {
        // Nobody holds it any more, and it is whole: first without opening it for writing, then after a repair.
        let checked = place.run(&["db", "check", "-o", "json"]).expect(0).json();
        assert_eq!((&checked["sound"], &checked["live"]), (&true.into(), &1.into()), "{checked}");
        before = before.min(std::fs::metadata(place.path(STORE)).expect("it is there").len());
    });
    println!("killed {deaths} times while compacting");
    assert!(deaths >= 3, "it was killed {deaths} times only");
    assert!(before < whole, "it never became smaller than {whole}");
    assert_eq!(place.run(&["db", "export"]).expect(0).stdout, content);
}

#[test]
fn a11_killed_while_it_copies() {
    let place = filled(120, u64::MAX);
    let content = place.run(&["db", "export"]).expect(0).stdout;
    let copy = place.path("copy.redb");
    let deaths = killed_everywhere(&place, &["db", "backup", "copy.redb"], || {
        // There is none, or a whole one.
        if copy.exists() {
            place.run(&["db", "check", "--store", "copy.redb"]).expect(0);
            if place.run(&["db", "export", "--store", "copy.redb"]).expect(0).stdout != content {
                panic!("the copy is not the store");
            }
            std::fs::remove_file(&copy).expect("removed");
        }
    });
    println!("killed {deaths} times while copying");
    assert!(deaths >= 3, "it was killed {deaths} times only");
    assert_eq!(place.run(&["db", "export"]).expect(0).stdout, content);
    place.run(&["db", "backup", "copy.redb"]).expect(0);
}

#[test]
fn a11_the_holder_is_killed_while_it_copies_for_another() {
    let place = filled(120, u64::MAX);
    place.write("long.yaml", WAITS.replace("signal: answer", "signal: answer, timeout: 1h").replace("waits", "long"));
    let mut holder = place.start(&["exec", "long.yaml", "--id", "long"]);
    holder.wait_for("waits for signal answer");
    let mut asking = place.start(&["db", "backup", "copy.redb"]);
    asking.run_for(Duration::from_millis(40));
    holder.signal(Signal::KILL);
    assert!(holder.end().was_killed());
    // Whoever asked makes the copy itself, unless it was there before.
    asking.end().expect(0);
    place.run(&["db", "check", "--store", "copy.redb"]).expect(0);
    place.run(&["db", "check"]).expect(0);
}

/// Somebody who waits for a line of a run that waits must get it, whatever the threads do.
#[test]
fn what_happens_at_once_is_shown_at_once() {
    let place = Place::new();
    place.write("long.yaml", WAITS.replace("signal: answer", "signal: answer, timeout: 1h").replace("waits", "long"));
    let names: Vec<String> = (0..12).map(|n| format!("run-{n}")).collect();
    // All at once, so that the threads are in each other's way; each with a store of its own.
    let runs = names.iter().map(|name| place.start(&["exec", "long.yaml", "--store", name]));
    for mut running in runs.collect::<Vec<_>>() {
        running.wait_for("waits for signal answer");
        running.signal(Signal::KILL);
        assert!(running.end().was_killed());
    }
}

/// A store of more than 256 MiB, written by flowrun, whose process was killed: it opens, and its unfinished run goes on.
#[test]
#[ignore = "writes a file of FLOWRUN_LARGE_STORE MiB, 300 unless it says more"]
fn b15_a_large_store_is_resumed_after_a_kill() {
    let wanted = std::env::var("FLOWRUN_LARGE_STORE").ok().and_then(|text| text.parse::<u64>().ok());
    let mib = wanted.filter(|mib| *mib > 256).unwrap_or(300);
    let place = filled(u64::MAX, mib << 20);
    let size = std::fs::metadata(place.path(STORE)).expect("it is there").len() >> 20;
    assert!(size > 256, "{size} MiB");
    place.write("long.yaml", WAITS.replace("signal: answer", "signal: answer, timeout: 1h").replace("waits", "long"));
    let mut holder = place.start(&["exec", "long.yaml", "--id", "long"]);
    holder.wait_for("waits for signal answer");
    holder.signal(Signal::KILL);
    assert!(holder.end().was_killed());
    #[expect(clippy::disallowed_methods, reason = "the time that people wait is measured, and not asserted")]
    let begun = std::time::Instant::now();
    let mut resumed = place.start(&["resume", "long"]);
    resumed.wait_for("resumed");
    println!("{size} MiB: resumed {} ms after the program was started", begun.elapsed().as_millis());
    place.run(&["signal", "long", "answer"]).expect(0);
    resumed.end().expect(0);
    #[expect(clippy::disallowed_methods, reason = "the time that people wait is measured, and not asserted")]
    let begun = std::time::Instant::now();
    place.run(&["db", "check"]).expect(0);
    println!("{size} MiB: checked in {} ms", begun.elapsed().as_millis());
}
