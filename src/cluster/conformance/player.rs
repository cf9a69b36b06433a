//! One playthrough of a scenario on a cluster: the same script as [`crate::scenario::play`] takes, and the same ending.
//!
//! The server lives in our time and the scenario in its own, which goes on only when everything is quiet: every message
//! that was sent has come, no turn is under way, and whoever is called waits for the time. Alarms of runs are kept here
//! instead of in the cluster, and rung when their time has come.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

use super::admin::Admin;
use super::clock::HeldClock;
use super::real;
use super::worker::{Tally, Worker};
use crate::cluster::life::Row;
use crate::cluster::message::{Message, Wish};
use crate::cluster::reading::Which;
use crate::cluster::worker::{Doing, Onlooker as _, Serving};
use crate::cluster::{Cluster, ClusterError, ClusterJournal};
use crate::engine::view::View;
use crate::engine::{EngineError, EngineOptions, Patience};
use crate::faults::CallFacts;
use crate::handlers::{Handlers, World};
use crate::machine::fold;
use crate::payload::Payload;
use crate::scenario::play::{
    Ending, LIVES_MAX, Progress, START, Script, Shared, VIRTUAL_MAX, refused, refused_input, runs, signal_id,
};
use crate::scenario::read::{Deed, Verb};
use crate::store::format;
use crate::time::{Clock as _, Timestamp};

/// How long a scenario may take in our time.
const REAL_MAX: Duration = Duration::from_secs(120);

/// How long nothing may happen until messages that are missing are taken for told: a worker that died leaves some.
const SILENCE: Duration = Duration::from_secs(2);

/// How long it is waited before the cluster is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The cluster that scenarios are played on.
pub(super) struct Stage {
    pub(super) ingress: String,
    pub(super) admin: String,
    /// Where every worker listens, one after the other.
    pub(super) address: SocketAddr,
}

/// A scenario under way.
struct Play<'a> {
    stage: &'a Stage,
    script: Script<'a>,
    admin: Admin,
    handlers: Handlers,
    clock: HeldClock,
    shared: Arc<Shared>,
    alarms: Arc<Mutex<BTreeSet<(Timestamp, String)>>>,
    /// Each run: its id, its input, and when it is submitted.
    runs: Vec<(String, Value, Timestamp)>,
    /// The runs that were handed in, and where they stand.
    known: BTreeMap<usize, Known>,
    /// Each run's report, once it was refused.
    refused: Vec<Option<Value>>,
}

/// What is known of a run.
struct Known {
    row: Row,
    /// When something happens in it by itself.
    alarm: Option<Timestamp>,
}

/// A worker's life.
struct Life {
    worker: Worker,
    tally: Arc<Tally>,
    cluster: Cluster,
}

/// How a wait for quiet ended.
enum Waited {
    Quiet,
    Died,
}

/// Plays a scenario on a cluster.
pub(super) async fn play(script: Script<'_>, stage: &Stage) -> Ending {
    let broken = |problem: String| Ending { problems: vec![problem], ..Ending::default() };
    let clock = HeldClock::at(START);
    let world = World { dir: None, shared: false, setup: script.case.setup.clone(), clock: Arc::new(clock.clone()) };
    let handlers = match script.registry.build(&world) {
        Ok(handlers) => handlers,
        Err(problems) => return broken(problems.join("; ")),
    };
    let runs = match runs(script) {
        Ok(runs) => runs,
        Err(problem) => return broken(problem),
    };
    let mut play = Play {
        stage,
        script,
        admin: Admin::new(stage.admin.clone()),
        handlers,
        clock,
        shared: Shared::new(script.case, runs.len(), None),
        alarms: Arc::default(),
        known: BTreeMap::new(),
        refused: vec![None; runs.len()],
        runs,
    };
    let mut life = match play.live(false).await {
        Ok(life) => life,
        Err(problem) => return broken(problem),
    };
    for lives in 1.. {
        match play.through(&life).await {
            Ok(None) => break,
            Ok(Some(down)) if lives < LIVES_MAX => {
                drop(life);
                play.shared.killed.store(false, Ordering::SeqCst);
                play.clock.set(play.clock.now().after(down));
                life = match play.live(true).await {
                    Ok(life) => life,
                    Err(problem) => return broken(problem),
                };
            }
            Ok(Some(_)) => {
                play.shared.memory.lock().problems.push("the worker died too often".to_owned());
                break;
            }
            Err(problem) => {
                play.shared.memory.lock().problems.push(problem);
                break;
            }
        }
    }
    let mut ending = play.ending(&life).await;
    if let Err(problem) = play.admin.forget().await {
        ending.problems.push(problem);
    }
    ending
}

impl Play<'_> {
    /// Starts a worker; `again` says that another one died.
    async fn live(&self, again: bool) -> Result<Life, String> {
        let tally = Tally::over(&self.alarms, again);
        let serving = Serving {
            handlers: self.handlers.clone(),
            clock: Arc::new(self.clock.clone()),
            options: self.options(),
            admin: self.stage.admin.clone(),
            advertised: None,
            onlooker: Some(Arc::clone(&tally) as _),
        };
        let address = self.stage.address;
        let worker = tokio::task::block_in_place(|| Worker::start(address, serving))?;
        let begun = real::now();
        loop {
            match Cluster::reach(&self.stage.ingress).await {
                Ok(cluster) => return Ok(Life { worker, tally, cluster }),
                Err(error) if begun.elapsed() > REAL_MAX => return Err(error.to_string()),
                Err(_) => real::sleep(LOOK_AGAIN).await,
            }
        }
    }

    fn options(&self) -> EngineOptions {
        let shared = Arc::clone(&self.shared);
        let killer = Arc::new(move || shared.kill(Duration::ZERO));
        let shared = Arc::clone(&self.shared);
        let watch = Arc::new(move |call: &CallFacts<'_>, moment| shared.attempt(call, moment));
        EngineOptions {
            limits: self.script.limits.clone(),
            secrets: self.script.secrets.cloned(),
            faults: Some(Arc::new(self.script.case.faults.clone())),
            observer: None,
            killer: Some(killer),
            watch: Some(watch),
            seed: Some(self.script.case.seed),
            lockstep: Some(REAL_MAX),
        }
    }

    /// Plays until everything rests, or the worker dies; then it returns for how long.
    async fn through(&mut self, life: &Life) -> Result<Option<Duration>, String> {
        let begun = real::now();
        let end = START.after(VIRTUAL_MAX);
        loop {
            if begun.elapsed() > REAL_MAX {
                return Err(format!("the scenario has not ended after {REAL_MAX:?}: {}", self.stuck()));
            }
            self.submit(life).await?;
            if let Some(down) = self.act(life).await? {
                return Ok(Some(down));
            }
            if let Waited::Died = self.until_quiet(life).await? {
                return Ok(Some(self.shared.memory.lock().down));
            }
            self.look(life).await?;
            let due = self.next_due();
            if due.is_some_and(|due| due <= self.clock.now()) {
                continue;
            }
            let rests =
                |known: &Known| known.row.finished_at.is_some() || known.row.standing.is_resting(Patience::Timers);
            let own = if due.is_none() && self.known.values().all(rests) {
                let next = self.known.values().filter_map(|known| known.alarm).min();
                match next {
                    Some(next) if next <= end => {}
                    _ => return Ok(None),
                }
                next
            } else {
                None
            };
            let alarm = self.alarms.lock().first().map(|(at, _)| *at);
            let next = [due, own, alarm, self.clock.next()].into_iter().flatten().min();
            match next {
                Some(next) if next <= end => self.clock.set(next),
                _ => return Err(format!("the scenario has not ended after 30 days of its own time: {}", self.stuck())),
            }
            self.ring(life).await?;
        }
    }

    /// Submits the runs whose time has come.
    async fn submit(&mut self, life: &Life) -> Result<(), String> {
        for (run, (id, input, at)) in self.runs.iter().enumerate() {
            if self.known.contains_key(&run) || self.refused[run].is_some() || *at > self.clock.now() {
                continue;
            }
            let definition = self.script.workflow.definition.clone();
            match life.cluster.submit(id, None, definition, Payload::of(input.clone())).await {
                Ok(_) => {
                    let row = life.cluster.standing(id).await.map_err(|e| e.to_string())?;
                    self.known.insert(run, Known { row, alarm: None });
                }
                Err(ClusterError::Engine(EngineError::Input(errors))) => {
                    self.refused[run] = Some(refused_input(id, &errors));
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Does what is due. Returns for how long the worker is down, if that kills it.
    async fn act(&self, life: &Life) -> Result<Option<Duration>, String> {
        for (n, deed) in self.script.case.then.iter().enumerate() {
            for run in self.known.keys() {
                let now = self.clock.now();
                if !self.shared.memory.lock().deeds[n][*run].is_due(now) {
                    continue;
                }
                let Some(wish) = wish(&deed.verb, n) else {
                    self.shared.memory.lock().deeds[n].fill(Progress::Done);
                    let (Verb::Kill { down } | Verb::Restart { down }) = &deed.verb else { continue };
                    return Ok(Some(*down));
                };
                self.shared.memory.lock().deeds[n][*run] = Progress::Done;
                self.wish(life, n, deed, &self.runs[*run].0, wish).await?;
            }
        }
        Ok(None)
    }

    async fn wish(&self, life: &Life, n: usize, deed: &Deed, id: &str, wish: Wish) -> Result<(), String> {
        match life.cluster.wish(id, wish).await {
            Ok(_) => Ok(()),
            Err(ClusterError::Engine(EngineError::Refused(refusal))) => {
                self.shared.memory.lock().unmet.push(refused(n, deed, &refusal));
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Rings the alarms whose time has come.
    async fn ring(&self, life: &Life) -> Result<(), String> {
        let now = self.clock.now();
        loop {
            let due = self.alarms.lock().first().filter(|(at, _)| *at <= now).cloned();
            let Some(alarm) = due else { return Ok(()) };
            life.tally.note(Doing::Sends);
            life.cluster.send(&alarm.1, &Message::Wake).await.map_err(|e| e.to_string())?;
            self.alarms.lock().remove(&alarm);
        }
    }

    /// Waits until nothing is left to be done at this time.
    async fn until_quiet(&self, life: &Life) -> Result<Waited, String> {
        let begun = real::now();
        let mut since = real::now();
        let mut before = life.tally.count();
        loop {
            if self.shared.is_killed() {
                return Ok(Waited::Died);
            }
            if begun.elapsed() > REAL_MAX {
                let open = self.admin.open().await?;
                return Err(format!("it does not get quiet: {before:?}, {open:?}; {}", self.stuck()));
            }
            life.worker.settle().await;
            let count = life.tally.count();
            if count != before {
                (before, since) = (count, real::now());
            }
            let silent = since.elapsed() > SILENCE;
            if count.asking == 0 && ((count.under_way == 0 && !count.doubt) || silent) {
                let open = self.admin.open().await?;
                let all_perform = open.iter().all(|(_, performs)| *performs);
                life.worker.settle().await;
                if all_perform && open.len() as i64 == count.performing && life.tally.count() == count {
                    life.tally.rebase();
                    return Ok(if self.shared.is_killed() { Waited::Died } else { Waited::Quiet });
                }
            }
            real::sleep(LOOK_AGAIN).await;
        }
    }

    /// Looks at where runs stand, and notes actions whose time that brings.
    async fn look(&mut self, life: &Life) -> Result<(), String> {
        for (run, known) in &mut self.known {
            let id = &self.runs[*run].0;
            let row = life.cluster.standing(id).await.map_err(|e| e.to_string())?;
            if row.events == known.row.events && known.alarm.is_some() {
                continue;
            }
            known.row = row;
            let records = life.cluster.records(id.clone()).await.map_err(|e| e.to_string())?;
            let entries = records.iter().map(|record| format::decode(record)).collect::<Result<Vec<_>, _>>();
            let entries = entries.map_err(|e| e.to_string())?;
            let plan = &self.script.workflow.plan;
            let mut state = fold(known.row.run, plan, entries.first().cloned()).map_err(|e| e.to_string())?;
            self.shared.look(&self.script.case.then, *run, &state, plan, state.started_at);
            for entry in entries.iter().skip(1) {
                state.apply(plan, entry).map_err(|e| e.to_string())?;
                self.shared.look(&self.script.case.then, *run, &state, plan, entry.at);
            }
            known.alarm = state.next_alarm();
        }
        Ok(())
    }

    /// Returns when something is to be done next: a run to be submitted, or an action.
    fn next_due(&self) -> Option<Timestamp> {
        let open = |run: &usize| !self.known.contains_key(run) && self.refused[*run].is_none();
        let runs = (0..self.runs.len()).filter(open).map(|run| self.runs[run].2);
        self.shared.next_deed().into_iter().chain(runs).min()
    }

    /// Says what keeps the scenario from ending.
    fn stuck(&self) -> String {
        let rows = self.known.values().map(|known| &known.row).filter(|row| row.finished_at.is_none());
        rows.map(|row| format!("run {} is {} after {} events", row.id, row.status, row.events))
            .collect::<Vec<_>>()
            .join("; ")
    }

    async fn ending(&mut self, life: &Life) -> Ending {
        let took = self.clock.now().since(START);
        let mut ending = Ending::after(took, &self.handlers);
        let journal = Arc::new(ClusterJournal::new(life.cluster.clone()));
        let view = View::new(journal, self.handlers.contracts(), self.script.limits.clone());
        for (run, (id, ..)) in self.runs.iter().enumerate() {
            let Some(known) = self.known.get(&run) else {
                ending.add_refused(id, self.refused[run].take());
                continue;
            };
            let key = known.row.run;
            let row = life.cluster.rows(Which::Id(id.clone()), 1).await.ok().and_then(|mut rows| rows.pop());
            ending.add(&view, key, row.map(Into::into), run == 0);
        }
        self.shared.tell(&self.script.case.then, &mut ending);
        ending
    }
}

/// Returns what an action wants of a run; nothing for those that concern the worker.
fn wish(verb: &Verb, n: usize) -> Option<Wish> {
    Some(match verb.clone() {
        Verb::Signal { name, data, id } => Wish::Signal { id: Some(signal_id(id, n)), name, data: Payload::of(data) },
        Verb::Cancel { reason, compensate } => Wish::Cancel { reason, compensate },
        Verb::Compensate => Wish::Compensate,
        Verb::Retry { from } => Wish::Retry { from },
        Verb::MarkDone { step, item, reason } => Wish::MarkDone { step, item, reason },
        Verb::Kill { .. } | Verb::Restart { .. } => return None,
    })
}
