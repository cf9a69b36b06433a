//! What people ask of runs: signal, cancel, retry, compensate, mark done.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::oneshot;

use super::driver::{Driver, Message};
use super::report::RunReport;
use super::submit::shallow;
use super::takeover::Wanted;
use super::{Engine, EngineError};
use crate::machine::{Input, Refusal, Stuck};
use crate::names::{RunKey, StepName};
use crate::payload::Payload;

fn signal_data(name: &str, data: Value) -> Result<Payload, EngineError> {
    shallow(data).map_err(|why| {
        EngineError::Refused(Refusal::Invalid { message: format!("the data of signal `{name}` does not fit: {why}") })
    })
}

/// Tells whether this is asked of runs that have ended.
fn on_final_runs(input: &Input) -> bool {
    matches!(input, Input::Compensate | Input::MarkDone { .. })
}

impl Engine {
    /// Gives a run a message. It is durable when this returns.
    ///
    /// # Errors
    /// When no step waits for such a signal, its data does not fit, or the run is final.
    pub async fn signal(
        &self,
        run: RunKey,
        id: Option<String>,
        name: String,
        data: Value,
    ) -> Result<RunReport, EngineError> {
        let data = signal_data(&name, data)?;
        self.operate(run, Input::Signal { id, name, data }).await
    }

    /// Gives a run a message without making it go on: for a process that does not stay, and in which nobody resumes the
    /// run meanwhile. It is durable when this returns.
    ///
    /// # Errors
    /// As [`Engine::signal`].
    pub async fn leave_signal(
        &self,
        run: RunKey,
        id: Option<String>,
        name: String,
        data: Value,
    ) -> Result<RunReport, EngineError> {
        if self.inner.runs.lock().contains_key(&run) {
            return self.signal(run, id, name, data).await;
        }
        let data = signal_data(&name, data)?;
        let machine = self.inner.library.machine(run)?;
        if machine.state().is_final() {
            return Err(Refusal::of_final(machine.state()).into());
        }
        let (driver, running) = Driver::new(Arc::clone(&self.inner), machine);
        let (reply, done) = oneshot::channel();
        let _ = running.mailbox.send(Message::Hold);
        let _ = running.mailbox.send(Message::Operate(Input::Signal { id, name, data }, reply));
        driver.passing().run().await;
        match done.await {
            Ok(result) => result?,
            Err(_) => {
                let error = self.inner.halted.borrow().clone();
                return Err(error.map_or_else(|| EngineError::Bug(format!("run {run} took no signal")), Into::into));
            }
        }
        self.report(run)
    }

    /// Cancels a run. That it is cancelled is durable when this returns; its undoing goes on.
    ///
    /// # Errors
    /// When the run is final or past its point of no return.
    pub async fn cancel(
        &self,
        run: RunKey,
        reason: Option<String>,
        compensate: bool,
    ) -> Result<RunReport, EngineError> {
        self.operate(run, Input::Cancel { reason, compensate }).await
    }

    /// Lets a parked run go on.
    ///
    /// # Errors
    /// When the run is not parked, or the step is not failed or unknown.
    pub async fn retry(&self, run: RunKey, from: Option<StepName>) -> Result<RunReport, EngineError> {
        self.operate(run, Input::Retry { from }).await
    }

    /// Tries again what a final run left undone.
    ///
    /// # Errors
    /// When the run is not final or owes nothing.
    pub async fn compensate(&self, run: RunKey) -> Result<RunReport, EngineError> {
        self.operate(run, Input::Compensate).await
    }

    /// Records that a person repaired what an undo could not.
    ///
    /// # Errors
    /// When the run is not final or the step owes nothing.
    pub async fn mark_done(
        &self,
        run: RunKey,
        step: StepName,
        item: Option<u32>,
        reason: String,
    ) -> Result<RunReport, EngineError> {
        self.operate(run, Input::MarkDone { step, item, reason }).await
    }

    async fn operate(&self, run: RunKey, input: Input) -> Result<RunReport, EngineError> {
        self.ask_first(run, &input)?;
        let wanted = if on_final_runs(&input) { Wanted::AlsoFinal } else { Wanted::Unfinished };
        loop {
            let (reply, done) = oneshot::channel();
            let Some(running) = self.running(run, wanted, Some((input.clone(), reply))).await? else {
                let (_, state) = self.inner.library.state(run)?;
                return Err(Refusal::of_final(&state).into());
            };
            match done.await {
                Ok(result) => {
                    result?;
                    break;
                }
                // The driver ended without a look at it; the next one will take it, if its run goes on at all.
                Err(_) => self.after_the_end_of(running).await?,
            }
        }
        self.report(run)
    }

    /// Refuses a wish before a run that nobody drives is taken over for it: the machine is asked in memory, and nothing
    /// is recorded or carried out. A refusal then leaves the run exactly as it was.
    fn ask_first(&self, run: RunKey, input: &Input) -> Result<(), EngineError> {
        if self.inner.runs.lock().contains_key(&run) {
            return Ok(());
        }
        let mut machine = self.inner.library.machine(run)?;
        let now = self.inner.executor.clock.now();
        let obstacle = self.inner.obstacle_to(&machine);
        let taken = machine.advance(now, Input::Recovered { obstacle });
        // It has ended, or ends by what has come due meanwhile: who takes it over says so, and records it.
        if machine.state().is_final() && !on_final_runs(input) {
            return Ok(());
        }
        match taken.and_then(|_| machine.advance(now, input.clone())) {
            Err(Stuck::Refused(refusal)) => Err(refusal.into()),
            // A mistake of ours is told where the wish is really carried out.
            Ok(_) | Err(Stuck::Bug(_)) => Ok(()),
        }
    }
}
