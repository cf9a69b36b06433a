//! Taking runs over from processes that are gone: one, or all that are unfinished (SPEC 6.17).
//!
//! It owns the order in which runs are taken over, and that each is read once. What becomes of a run then is the
//! machine's to decide.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::driver::{Driver, Message, Position, Reply};
use super::{Engine, EngineError, Patience, Running};
use crate::machine::Input;
use crate::machine::state::RunState;
use crate::names::RunKey;

/// Which runs are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Those that are not final.
    Unfinished,
    /// Final ones, too.
    AlsoFinal,
    /// Those that were under way when processes died, and may be to blame for it.
    Suspicious,
}

impl Engine {
    /// Takes a run over from the store, if it is not final and not under way already.
    ///
    /// # Errors
    /// When the store cannot be read, or the run is damaged.
    pub async fn resume(&self, run: RunKey) -> Result<(), EngineError> {
        self.running(run, Wanted::Unfinished, None).await.map(|_| ())
    }

    /// Takes over every unfinished run that can be read, and returns all. Those that were under way when processes died
    /// are taken over first and one at a time, so that only the one to blame is held back (SPEC 6.17).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn resume_all(&self) -> Result<Vec<RunKey>, EngineError> {
        let live: Vec<RunKey> = self.inner.journal.live()?.into_iter().map(|(run, _)| run).collect();
        // A run that cannot be read must not keep the others from going on; whoever asks for it is told.
        let unreadable = |run: RunKey, error: EngineError| {
            if !error.is_of_one_run() {
                return Err(error);
            }
            tracing::warn!(%run, %error, "the run is left alone");
            Ok(())
        };
        let (mut suspects, mut others) = (Vec::new(), Vec::new());
        for run in &live {
            match self.inner.library.may_have_died(*run) {
                Ok(true) => suspects.push(*run),
                Ok(false) => others.push(*run),
                Err(error) => unreadable(*run, error)?,
            }
        }
        for run in suspects {
            match self.running(run, Wanted::Suspicious, None).await {
                Ok(Some(_)) => {}
                Ok(None) => {
                    others.push(run);
                    continue;
                }
                Err(error) => {
                    unreadable(run, error)?;
                    continue;
                }
            }
            let harmless =
                |position: &Position| position.heard || position.standing.idle || position.is_resting(Patience::None);
            if let Err(error) = self.wait_for(run, harmless).await {
                unreadable(run, error)?;
            }
        }
        for run in others {
            if let Err(error) = self.resume(run).await {
                unreadable(run, error)?;
            }
        }
        Ok(live)
    }

    /// Returns the driver of a run, taking the run over from the store if nobody has it yet; nothing for a run that is
    /// not wanted. The driver is told what somebody wants of the run.
    pub(super) async fn running(
        &self,
        run: RunKey,
        wanted: Wanted,
        wish: Option<(Input, Reply)>,
    ) -> Result<Option<Running>, EngineError> {
        let _taking_over = self.inner.taking_over.lock().await;
        let operate = |(input, reply)| Message::Operate(input, reply);
        if let Some(running) = self.inner.runs.lock().get(&run) {
            let _ = wish.map(|wish| running.mailbox.send(operate(wish)));
            return Ok(Some(running.clone()));
        }
        if self.inner.stopping.load(Ordering::Acquire) {
            return Err(EngineError::Stopping);
        }
        let machine = self.inner.library.machine(run)?;
        let is_final = machine.state().is_final();
        let is_wanted = match wanted {
            Wanted::Unfinished => !is_final,
            Wanted::AlsoFinal => true,
            Wanted::Suspicious => is_suspicious(machine.state()),
        };
        if !is_wanted {
            return Ok(None);
        }
        if is_final {
            return self.drive(Driver::new(Arc::clone(&self.inner), machine), wish.map(operate)).map(Some);
        }
        let obstacle = self.inner.obstacle_to(&machine);
        let driver = Driver::new(Arc::clone(&self.inner), machine);
        self.drive(driver, Some(Message::TakeOver { obstacle, wish })).map(Some)
    }
}

/// Tells whether a process died with the run under way that had died with it before.
fn is_suspicious(state: &RunState) -> bool {
    state.deaths > 0 && !state.put_down && state.parked.is_none() && state.has_running_call()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::super::{EngineOptions, Submission};
    use super::*;
    use crate::bench::compile;
    use crate::handlers::{Registry, State, StepCtx, StepError, World};
    use crate::limits::Limits;
    use crate::store::conformance::passes_on_the_rest;
    use crate::store::journal::{Commit, Committed, Journal, LiveRow, RunRow, StoreError};
    use crate::store::memory::MemoryStore;
    use crate::time::SystemClock;

    /// Three steps, one after the other, and a wait.
    const TEXT: &str = "flowrun: 1\nname: waits\nsteps:\n  a: { uses: core.pass }\n  b: { uses: core.pass, needs: [a] }\n  \
                        c: { uses: core.pass, needs: [b] }\n  paid: { wait: { signal: paid }, needs: [c] }\n";

    /// A journal that counts how often runs are read.
    struct Counted {
        store: MemoryStore,
        whole: Mutex<BTreeMap<RunKey, u32>>,
        ends: Mutex<BTreeMap<RunKey, u32>>,
    }

    impl Counted {
        fn over(store: MemoryStore) -> Arc<Self> {
            Arc::new(Self { store, whole: Mutex::default(), ends: Mutex::default() })
        }
    }

    impl Journal for Counted {
        fn commit(&self, commit: Commit) -> Committed {
            self.store.commit(commit)
        }
        fn records(&self, run: RunKey) -> Result<Vec<Vec<u8>>, StoreError> {
            *self.whole.lock().entry(run).or_default() += 1;
            self.store.records(run)
        }
        fn records_back(&self, run: RunKey, before: u64) -> Result<(u64, Vec<Vec<u8>>), StoreError> {
            *self.ends.lock().entry(run).or_default() += 1;
            // One at a time, so that reading more than is needed would show.
            let (_, records) = self.store.records_back(run, before)?;
            let last = records.last().cloned();
            Ok((records.len().saturating_sub(1) as u64, last.into_iter().collect()))
        }
        passes_on_the_rest!();
    }

    fn engine(journal: Arc<dyn Journal>) -> (Engine, Arc<super::super::Workflow>) {
        let handlers = Registry::new().build(&World::in_memory(Arc::new(SystemClock))).expect("built-in handlers");
        let workflow = compile("waits.yaml", TEXT, &Limits::default(), &handlers).expect("a workflow");
        let engine = Engine::new(journal, handlers, Arc::new(SystemClock), EngineOptions::default());
        (engine.expect("an engine"), Arc::new(workflow))
    }

    #[tokio::test]
    async fn a_run_is_read_once_to_be_taken_over_and_not_to_be_reported() {
        const RUNS: usize = 8;
        let store = Arc::new(MemoryStore::default());
        let (before, workflow) = engine(Arc::clone(&store) as Arc<dyn Journal>);
        for _ in 0..RUNS {
            let submission = Submission { workflow: Arc::clone(&workflow), input: json!({}), id: None };
            let run = before.submit(submission).await.expect("taken in").run;
            before.rest(run, Patience::Timers).await.expect("it waits");
        }
        // Nothing is put down in order: the process has died.
        let counted = Counted::over(store.reopen());
        let (after, _) = engine(Arc::clone(&counted) as Arc<dyn Journal>);
        let runs = after.resume_all().await.expect("all are taken over");
        assert_eq!(runs.len(), RUNS);
        for run in runs {
            let report = after.rest(run, Patience::Timers).await.expect("it waits");
            assert_eq!((report.status.as_str(), report.run_id), ("waiting", after.id(run).expect("it has one")));
        }
        let once = |counts: &BTreeMap<RunKey, u32>| counts.len() == RUNS && counts.values().all(|n| *n == 1);
        assert!(once(&counted.whole.lock()), "{:?}", counted.whole.lock());
        // The wait that came last says nothing, the end of the call before it does.
        assert!(counted.ends.lock().values().all(|n| *n <= 2), "{:?}", counted.ends.lock());
    }

    /// Counts the calls of a handler that does not return before it is let.
    struct Gate {
        called: Mutex<Vec<String>>,
        open: tokio::sync::watch::Sender<bool>,
    }

    async fn through(ctx: StepCtx, State(gate): State<Arc<Gate>>, _: Value) -> Result<Value, StepError> {
        gate.called.lock().push(ctx.run_id.to_string());
        let _ = gate.open.subscribe().wait_for(|open| *open).await;
        Ok(Value::Null)
    }

    #[tokio::test]
    async fn nothing_else_begins_while_a_run_is_under_way_that_may_be_to_blame() {
        let gate = Arc::new(Gate { called: Mutex::default(), open: tokio::sync::watch::channel(false).0 });
        let calls = |wanted: usize| {
            let gate = Arc::clone(&gate);
            async move {
                for _ in 0..10_000 {
                    tokio::task::yield_now().await;
                    if gate.called.lock().len() >= wanted {
                        break;
                    }
                }
                std::mem::take(&mut *gate.called.lock())
            }
        };
        let mut store = Arc::new(MemoryStore::default());
        let life = |store: &Arc<MemoryStore>| {
            let registry = Registry::new().state(Arc::clone(&gate)).handler("gate.through", through).keyed();
            let handlers = registry.build(&World::in_memory(Arc::new(SystemClock))).expect("a handler");
            let text = "flowrun: 1\nname: gated\nsteps:\n  only: { uses: gate.through }\n";
            let workflow = compile("gated.yaml", text, &Limits::default(), &handlers).expect("a workflow");
            let journal = Arc::clone(store) as Arc<dyn Journal>;
            let engine = Engine::new(journal, handlers, Arc::new(SystemClock), EngineOptions::default());
            (engine.expect("an engine"), Arc::new(workflow))
        };
        let submit = |(engine, workflow): &(Engine, Arc<super::super::Workflow>), id: &'static str| {
            let submission = Submission { workflow: Arc::clone(workflow), input: json!({}), id: Some(id.to_owned()) };
            let engine = engine.clone();
            async move { engine.submit(submission).await.expect("taken in").run }
        };

        let first = life(&store);
        let bad = submit(&first, "bad").await;
        assert_eq!(calls(1).await, ["bad"]);
        store = Arc::new(store.reopen());
        let second = life(&store);
        second.0.resume(bad).await.expect("taken over");
        submit(&second, "good").await;
        assert_eq!(calls(2).await.len(), 2);
        store = Arc::new(store.reopen());

        // `bad` has been there both times.
        let (third, _) = life(&store);
        let all = tokio::spawn({
            let third = third.clone();
            async move { third.resume_all().await.map(|runs| runs.len()) }
        });
        assert_eq!(calls(2).await, ["bad"]);
        gate.open.send_replace(true);
        assert_eq!(all.await.expect("it ends").expect("readable"), 2);
        assert_eq!(calls(1).await, ["good"]);
    }
}
