//! A disk that takes its time.

use std::sync::Arc;
use std::time::Duration;

use super::crash::calm;
use super::life::{InTurn, Notary, Past, engine};
use super::story::{BEGIN, Story, parts, services_after};
use crate::engine::{Patience, Submission};
use crate::store::fault::FaultDisk;
use crate::store::journal::Journal as _;
use crate::store::redb::RedbStore;

const SYNC: Duration = Duration::from_secs(2);

#[test]
fn b18_on_a_slow_disk_runs_go_on_side_by_side_without_a_storm() {
    let story = Story::success();
    let events = calm(&story).records.len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let disk = FaultDisk::holding(parts().new_store.clone());
        let store = Arc::new(RedbStore::with_backend(disk.clone()).expect("the store"));
        let notary = Notary::new(&disk, services_after(Vec::new()), &Past::none());
        let journal = Arc::new(InTurn { store: Arc::clone(&store), notary: notary.clone(), sync: Some(SYNC) });
        let engine = engine(&story, journal).expect("an engine");
        let mut runs = Vec::new();
        for n in 0..4 {
            let mut input = story.input.clone();
            input["orderId"] = format!("ORD-{n}").into();
            let submission =
                Submission { workflow: Arc::clone(&parts().workflow), input, id: Some(format!("ORD-{n}")) };
            let engine = engine.clone();
            runs.push(tokio::spawn(async move { engine.submit(submission).await.expect("taken in").run }));
        }
        for run in runs {
            let run = run.await.expect("it was submitted");
            let report = engine.rest(run, Patience::Timers).await.expect("the store works");
            assert_eq!(report.status, "completed", "{:?}", report.error);
            assert_eq!(
                store.records(run).expect("readable").len(),
                events,
                "no event is there that is not on a fast disk"
            );
        }
        // All four together take no longer than one: at most a sync for each event.
        let took = notary.now().since(BEGIN);
        assert!(took <= SYNC * u32::try_from(events).expect("few"), "{took:?}");
    });
}
