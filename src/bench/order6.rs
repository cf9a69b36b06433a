//! The workload: six steps, one after the other, that do nothing but pass an order of about 500 bytes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{BenchError, compile, percentile_ms};
use crate::engine::{Engine, EngineError, EngineOptions, Patience, Submission, Workflow};
use crate::handlers::registry::Handlers;
use crate::limits::Limits;
use crate::store::journal::Journal;
use crate::time::SystemClock;

/// How many steps a run has.
pub const STEPS: u64 = 6;

/// How many bytes the order has.
const BYTES: usize = 500;

const WORKFLOW: &str = r#"flowrun: 1
name: order6
input:
  type: object
  required: [order]
  properties: { order: { type: object } }
steps:
  validate: { uses: core.pass, with: { order: "{{ input.order }}" } }
  reserve: { uses: core.pass, with: { order: "{{ steps.validate.output.order }}" } }
  charge: { uses: core.pass, with: { order: "{{ steps.reserve.output.order }}" } }
  ship: { uses: core.pass, with: { order: "{{ steps.charge.output.order }}" } }
  notify: { uses: core.pass, with: { order: "{{ steps.ship.output.order }}" } }
  finalize: { uses: core.pass, with: { order: "{{ steps.notify.output.order }}" } }
output: { order: "{{ steps.finalize.output.order }}" }
"#;

/// Returns the workflow, with another handler that takes an object with the field `order` and returns one.
#[must_use]
pub fn order6(handler: &str) -> String {
    WORKFLOW.replace("core.pass", handler)
}

/// The workload over one store.
#[derive(Clone, Debug)]
pub struct Order6 {
    engine: Engine,
    workflow: Arc<Workflow>,
    /// The number of the next run: no two have the same id.
    next: Arc<AtomicU64>,
}

/// How one level went.
#[derive(Debug)]
pub struct Level {
    /// From the first submission to the last result.
    pub elapsed: Duration,
    /// How long each run took, the shortest first.
    took: Vec<Duration>,
}

impl Level {
    /// Returns how long so many of a hundred runs took at most, in milliseconds.
    #[must_use]
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        percentile_ms(&self.took, percent)
    }
}

impl Order6 {
    /// Prepares the workload; `journal` should be fresh.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(journal: Arc<dyn Journal>, handlers: Handlers) -> Result<Self, BenchError> {
        Self::starting_at(journal, handlers, 0)
    }

    /// Prepares the workload over a store that has the runs below number `first`.
    ///
    /// # Errors
    /// When the store cannot be read.
    #[doc(hidden)]
    pub fn starting_at(journal: Arc<dyn Journal>, handlers: Handlers, first: u64) -> Result<Self, BenchError> {
        let workflow = Arc::new(compile("order6.yaml", WORKFLOW, &Limits::default(), &handlers)?);
        let engine = Engine::new(journal, handlers, Arc::new(SystemClock), EngineOptions::default())?;
        Ok(Self { engine, workflow, next: Arc::new(AtomicU64::new(first)) })
    }

    /// Runs the workflow `runs` times, always `concurrency` at once.
    ///
    /// # Errors
    /// When the store fails, or a run does not complete.
    #[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
    pub async fn run(&self, concurrency: u32, runs: u64) -> Result<Level, BenchError> {
        let left = Arc::new(AtomicU64::new(runs));
        let begun = Instant::now();
        let mut places = tokio::task::JoinSet::new();
        for _ in 0..concurrency {
            let (order6, left) = (self.clone(), Arc::clone(&left));
            places.spawn(async move {
                let mut took = Vec::new();
                let one_less = |left: u64| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
                    let begun = Instant::now();
                    order6.once(order6.next.fetch_add(1, Ordering::Relaxed)).await?;
                    took.push(begun.elapsed());
                }
                Ok::<_, BenchError>(took)
            });
        }
        let mut took = Vec::new();
        while let Some(place) = places.join_next().await {
            took.extend(place.map_err(|error| EngineError::Bug(error.to_string()))??);
        }
        let elapsed = begun.elapsed();
        took.sort();
        Ok(Level { elapsed, took })
    }

    /// Puts down what is still under way.
    pub async fn stop(&self) {
        self.engine.stop(Duration::ZERO).await;
    }

    async fn once(&self, number: u64) -> Result<(), BenchError> {
        let (workflow, id) = (Arc::clone(&self.workflow), format!("order-{number}"));
        let order = order(&id);
        let submission = Submission { workflow, input: json!({ "order": order.clone() }), id: Some(id) };
        let submitted = self.engine.submit(submission).await?;
        let report = self.engine.rest(submitted.run, Patience::Timers).await?;
        // A run that lost its order on the way would be fast for nothing.
        match report.output {
            Some(output) if output["order"] == order => Ok(()),
            _ => Err(BenchError::Wrong(report.status)),
        }
    }
}

/// Returns an order of 500 bytes.
#[must_use]
pub fn order(id: &str) -> Value {
    let mut order = json!({
        "order_id": id,
        "status": "new",
        "customer": { "name": "Ada", "email": "ada@example.test" },
        "items": [{ "sku": "A-100", "quantity": 2, "price": 1999 }],
        "note": "",
    });
    let has = order.to_string().len();
    order["note"] = "x".repeat(BYTES.saturating_sub(has)).into();
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::{Registry, World};
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn every_run_passes_its_order_through_six_steps() {
        let handlers = Registry::new().build(&World::in_memory(Arc::new(SystemClock))).expect("built-in handlers");
        let journal = Arc::new(MemoryStore::default());
        let order6 = Order6::new(Arc::clone(&journal) as Arc<dyn Journal>, handlers).expect("a new store");
        let level = order6.run(3, 4).await.expect("every run completes");
        assert_eq!(level.took.len(), 4);
        let level = order6.run(2, 6).await.expect("other runs complete");
        assert_eq!(level.took.len(), 6);
        assert!(level.percentile_ms(50) <= level.percentile_ms(99));
        let run = journal.run_by_id("order-9").expect("readable").expect("it was run");
        let steps = order6.engine.report(run).expect("readable").steps;
        assert_eq!(steps.len() as u64, STEPS);
        assert!(steps.values().all(|step| step.status == "succeeded"));
    }

    #[test]
    fn an_order_has_500_bytes() {
        assert_eq!(order("order-12345").to_string().len(), BYTES);
    }
}
