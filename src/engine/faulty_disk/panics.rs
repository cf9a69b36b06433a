//! A mistake of flowrun's own in the middle of a run.

use std::sync::Arc;

use super::story::{BEGIN, Story, parts, services_after};
use crate::engine::report::RunReport;
use crate::engine::{Engine, EngineError, EngineOptions, Patience, Submission};
use crate::handlers::Handlers;
use crate::store::memory::MemoryStore;
use crate::time::VirtualClock;

/// Lets a process live that panics when so many events are durable. Returns how the run stands with it.
fn live(store: MemoryStore, services: &Handlers, panics_at: Option<u64>) -> Result<RunReport, EngineError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let options = EngineOptions {
            observer: Some(Arc::new(move |recorded| {
                assert!(Some(recorded.seq) != panics_at, "a mistake inside the engine");
            })),
            seed: Some(1),
            ..EngineOptions::default()
        };
        let clock = Arc::new(VirtualClock::starting_at(BEGIN));
        let engine = Engine::new(Arc::new(store), services.clone(), clock, options)?;
        engine.resume_all().await?;
        let workflow = Arc::clone(&parts().workflow);
        let Story { input, id, .. } = Story::success();
        let submission = Submission { workflow, input, id: Some(id.to_owned()) };
        let run = engine.submit(submission).await?.run;
        engine.rest(run, Patience::Timers).await
    })
}

#[test]
fn a16_a_panic_inside_the_engine_is_told_and_the_run_goes_on_in_the_next_process() {
    for event in (0..24).step_by(4) {
        let (store, services) = (MemoryStore::with_id([7; 16]), services_after(vec![]));
        let next = store.reader();
        let told = live(store, &services, Some(event));
        assert!(matches!(told, Err(EngineError::Bug(_))), "a panic at event {event}: {told:?}");
        let report = live(next.reopen(), &services, None).expect("it goes on");
        assert_eq!(report.status, "completed", "after a panic at event {event}");
    }
}
