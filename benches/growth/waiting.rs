//! What a process pays that takes up many runs which do nothing but wait.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use flowrun::limits::Limits;
use flowrun::machine::event::Event;
use serde_json::{Value, json};

use super::Row;
use super::kit::{Place, close, memory, ms, now, open, runtime, scratch};
use super::store::Filler;

/// The mode in which this program is its own child.
pub(crate) const CHILD: &str = "take-up";

const WAITS: &str = "flowrun: 1\nname: waits\nsteps:\n  paid: { wait: { signal: paid } }\n";

pub(crate) fn waiting(sizes: &[u64]) -> Vec<Row> {
    sizes.iter().map(|runs| measure(*runs)).collect()
}

fn measure(runs: u64) -> Row {
    let dir = scratch();
    let path = dir.path().join("growth.redb");
    let store = open(&path);
    let workflow = Place::over(Arc::clone(&store), Limits::default()).workflow(WAITS);
    let wait = Event::WaitStarted { step: "paid".into(), until: None, signal: Some("paid".to_owned()) };
    Filler::new(Arc::clone(&store), workflow).fill(runs, &[wait, Event::RunInterrupted]);
    close(&store);
    let this = std::env::current_exe().expect("this program has a path");
    let child = Command::new(this).arg(CHILD).arg(&path).arg(runs.to_string()).output().expect("it starts");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let said: Value = serde_json::from_slice(&child.stdout).expect("the child says what it measured");
    let each = |name: &str| said[name].as_f64().unwrap_or(f64::NAN) / runs as f64;
    vec![
        ("runs", json!(runs)),
        ("all taken up after, ms", said["ms"].clone()),
        ("µs for each", json!(each("ms") * 1e3)),
        ("process, MiB", json!(said["after"].as_u64().unwrap_or(0) >> 10)),
        ("KiB for each", json!(each("grown"))),
    ]
}

/// Takes up every run of a store, says what it cost, and ends without putting them down.
pub(crate) fn child(words: &[String]) {
    let [path, runs] = words else { panic!("a store and a number") };
    let runs: u64 = runs.parse().expect("a number");
    let begun = now();
    let store = open(path.as_ref());
    let place = Place::over(Arc::clone(&store), Limits::default());
    let resident = || memory(std::process::id(), "VmRSS").expect("Linux says what a process has");
    let before = resident();
    runtime().block_on(async {
        let taken = place.engine.resume_all().await.expect("the runs are taken up");
        assert_eq!(taken.len() as u64, runs);
        // Each records that it was taken up, and waits again.
        while store.written().commits < runs {
            pause(Duration::from_millis(1)).await;
        }
        let took = begun.elapsed();
        let after = resident();
        println!("{}", json!({ "ms": ms(took), "after": after, "grown": after.saturating_sub(before) }));
        std::process::exit(0);
    });
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
