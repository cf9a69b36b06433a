//! The played handlers: they do in the outside of the rehearsal what their roles say, and answer accordingly.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

use super::roles::{Dice, Hold, Role};
use super::world::Services;
use crate::engine::{Fate, Moment, Watch};
use crate::faults::CallFacts;
use crate::handlers::contract::{Contract, IfAbsent};
use crate::handlers::{Confirmation, Player, Reply, StepCtx, StepError};
use crate::machine::event::CallKind;
use crate::payload::Payload;
use crate::plan::{self, Action, Plan};
use crate::scenario::play::START;
use crate::teeth::{Bug, awake};
use crate::verify::findings::{Answer, Attempt, Spot, UndoEnd, World};
use crate::verify::sketch::{Member, Sketch};

/// When everything that does not wait for it has come to rest.
pub(super) const LATE: Duration = Duration::from_secs(10 * 24 * 3600);

/// How much later something is that comes after that.
pub(super) const MARGIN: Duration = Duration::from_secs(3600);

/// How often the process dies in a run that is played by chance.
const DEATHS_MAX: u32 = 3;

/// Where the roles come from.
#[derive(Debug)]
pub(super) enum Book {
    /// A course, and what calls come to that it does not tell of.
    Course(BTreeMap<Spot, Role>, Beyond),
    /// Chance.
    Chance(Dice),
}

/// What a call comes to that a course does not tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// Nothing: the course is of this very workflow, and tells of all that matters.
    Nothing,
    /// It goes well, unless the run stops meanwhile: the workflow may be another by now.
    Well,
}

/// Everything the played handlers share.
#[derive(Debug)]
pub(super) struct Troupe {
    sketch: Arc<Sketch>,
    book: Book,
    /// What a member returns when it works.
    outputs: BTreeMap<(usize, usize), Value>,
    /// Which call has which key.
    calls: BTreeMap<String, (Spot, CallKind)>,
    pub(super) services: Services,
    /// The attempts in which somebody is about to die.
    dying: BTreeMap<String, Fate>,
    alone: bool,
    deaths: u32,
    /// What happened although no role wanted it.
    pub(super) unexpected: Vec<String>,
}

/// The name of a handler that returns its input.
const PASS: &str = "core.pass";

impl Troupe {
    /// `alone` says that an attempt which a course cuts off is lost by itself.
    pub(super) fn new(sketch: Arc<Sketch>, alone: bool, book: Book, outputs: BTreeMap<(usize, usize), Value>) -> Self {
        Self {
            sketch,
            book,
            outputs,
            calls: BTreeMap::new(),
            services: Services::default(),
            dying: BTreeMap::new(),
            alone,
            deaths: 0,
            unexpected: Vec::new(),
        }
    }

    fn member(&self, spot: Spot) -> Option<&Member> {
        self.sketch.member((spot.step, spot.member))
    }

    /// Returns what the next attempt of a member comes to, if it is to come to anything, and when.
    fn attempt(&mut self, spot: Spot) -> (Option<Attempt>, Hold, Duration) {
        let may_die = self.deaths < DEATHS_MAX;
        let member = self.member(spot).cloned();
        match &mut self.book {
            Book::Course(roles, beyond) => {
                let Some(role) = roles.get(&spot) else {
                    // The engine begins at once what the course had no time for; it comes to nothing.
                    return (None, Hold::UntilStopped, Duration::ZERO);
                };
                if role.is_left && !awake(Bug::RehearsalLeftItemBegins) {
                    self.unexpected.push(format!("{spot:?} begins, which the course leaves out"));
                    return (None, Hold::UntilStopped, Duration::ZERO);
                }
                let hold = if role.attempts.len() <= 1 { role.hold } else { Hold::No };
                let attempt = role.attempts.front().copied();
                if attempt.is_none() && *beyond == Beyond::Well && !awake(Bug::StoryUntoldFails) {
                    return (Some(Attempt::Succeeded), hold, Duration::ZERO);
                }
                if attempt.is_none() {
                    self.unexpected.push(format!("an attempt of {spot:?} that the course does not have"));
                }
                // A death cuts off whatever else is under way, so the rest of this instant goes first.
                let dies = matches!(attempt, Some(Attempt::CutOff(_)));
                (attempt, hold, if dies { Duration::from_secs(10) } else { Duration::ZERO })
            }
            Book::Chance(dice) => {
                let attempt = member.map_or(Attempt::Succeeded, |member| dice.attempt(&member, may_die));
                (Some(attempt), Hold::No, Duration::from_secs(dice.below(60) as u64))
            }
        }
    }

    /// An attempt comes to what it comes to.
    fn act(&mut self, key: &str, spot: Spot, attempt: Attempt, input: Value) -> Result<Reply, StepError> {
        if let Book::Course(roles, _) = &mut self.book {
            roles.entry(spot).or_default().attempts.pop_front();
        }
        self.land_by_chance();
        let Some(member) = self.member(spot).cloned() else {
            return Err(StepError::unknown("rehearsal.lost", "there is no such member"));
        };
        let world = match attempt {
            Attempt::Succeeded => World::Done,
            Attempt::Failed(_, world) | Attempt::CutOff(world) => world,
        };
        if member.effect.is_some() {
            match world {
                World::Nothing => {}
                World::Done => self.services.act(key, spot, member.repeat),
                World::OnItsWay => self.services.send(key, spot, member.repeat),
            }
        }
        match attempt {
            Attempt::Succeeded | Attempt::CutOff(_) => {
                if attempt != Attempt::Succeeded {
                    let alone = match &mut self.book {
                        Book::Course(..) => self.alone,
                        Book::Chance(dice) => dice.in_100(50),
                    };
                    self.dying.insert(key.to_owned(), if alone { Fate::IsLost } else { Fate::Dies });
                    self.deaths += 1;
                }
                let known = self.outputs.get(&(spot.step, spot.member)).cloned();
                let output = if member.handler == PASS { input } else { known.unwrap_or_default() };
                Ok(Reply::Output(Payload::of(output)))
            }
            Attempt::Failed(ending, _) => {
                let ending = &member.endings[ending];
                let message = "as the rehearsal wants it";
                Err(match (ending.clear, ending.retried) {
                    (true, true) => StepError::retryable(ending.code.as_str(), message),
                    (true, false) => StepError::permanent(ending.code.as_str(), message),
                    (false, _) => StepError::unknown(ending.code.as_str(), message),
                })
            }
        }
    }

    fn confirm(&mut self, spot: Spot, key: &str, blocks_late: bool) -> Result<Reply, StepError> {
        self.land_by_chance();
        let Some(member) = self.member(spot).cloned() else {
            return Err(StepError::unknown("rehearsal.lost", "there is no such member"));
        };
        let wanted = match &mut self.book {
            Book::Course(roles, _) => roles.get(&spot).and_then(|role| role.confirm),
            Book::Chance(dice) => match dice.below(10) {
                0 | 1 => Some(Answer::Unknown),
                2..=5 => Some(Answer::Done),
                _ => Some(Answer::NotDone),
            },
        };
        if wanted == Some(Answer::Unknown) {
            return Ok(Reply::Confirmation(Confirmation::Unknown));
        }
        let done = if member.effect.is_some() {
            self.services.was_done(key, spot, member.repeat, blocks_late)
        } else {
            wanted == Some(Answer::Done)
        };
        // What the course had no time for may be asked after as well.
        if let Book::Course(roles, Beyond::Nothing) = &self.book
            && roles.contains_key(&spot)
            && wanted != Some(if done { Answer::Done } else { Answer::NotDone })
        {
            self.unexpected.push(format!("the confirm of {spot:?} finds done = {done}, the course says {wanted:?}"));
        }
        let known = self.outputs.get(&(spot.step, spot.member)).cloned().unwrap_or_default();
        let done = done.then(|| Payload::of(known));
        Ok(Reply::Confirmation(done.map_or(Confirmation::NotDone, Confirmation::Done)))
    }

    fn goes_well(&self) -> bool {
        matches!(self.book, Book::Course(_, Beyond::Well)) && !awake(Bug::StoryUntoldFails)
    }

    fn undoes_late(&self, spot: Spot) -> bool {
        match &self.book {
            Book::Course(roles, _) => roles.get(&spot).is_some_and(|role| role.undo_is_late),
            Book::Chance(_) => false,
        }
    }

    fn undo(&mut self, spot: Spot, key: &str, contract: &Contract) -> Result<Reply, StepError> {
        self.land_by_chance();
        let failed = || Err(StepError::permanent("rehearsal.not_undone", "as the rehearsal wants it"));
        let Some(member) = self.member(spot).cloned() else { return failed() };
        if let Book::Course(roles, _) = &self.book
            && roles.get(&spot).is_some_and(|role| role.lands_before_undo)
        {
            self.services.land(key);
        }
        let wanted = match &mut self.book {
            Book::Course(roles, beyond) => match roles.get_mut(&spot) {
                Some(role) => role.undos.pop_front().or((*beyond == Beyond::Well).then_some(UndoEnd::Done)),
                None if self.services.knows(key) => Some(UndoEnd::Done),
                // What the course had no time for has done nothing either.
                None => return Ok(Reply::Output(Payload::of(sample_of(contract)?))),
            },
            Book::Chance(dice) => Some(if dice.in_100(12) { UndoEnd::Failed } else { UndoEnd::Done }),
        };
        match wanted {
            None => self.unexpected.push(format!("an undo of {spot:?} that the course does not have")),
            Some(UndoEnd::Failed) => return failed(),
            Some(UndoEnd::Done) => {}
        }
        let absent = contract.undoes.as_ref().map_or(IfAbsent::Ok, |undoes| undoes.if_absent);
        if member.effect.is_some() {
            let undoes = member.undo.as_ref().is_some_and(|undo| undo.undoes);
            let (services, repeat) = (&mut self.services, member.repeat);
            let mut asked = services.clone();
            let does = asked.take_back(key, spot, repeat, absent, contract.blocks_late);
            if !does {
                return failed();
            }
            if undoes {
                *services = asked;
            }
        }
        Ok(Reply::Output(Payload::of(sample_of(contract)?)))
    }

    /// A request that is on its way may arrive at any time.
    fn land_by_chance(&mut self) {
        let Book::Chance(dice) = &mut self.book else { return };
        let forward = self.calls.iter().filter(|(_, (_, kind))| *kind == CallKind::Forward);
        let landing: Vec<String> = forward.filter(|_| dice.in_100(30)).map(|(key, _)| key.clone()).collect();
        landing.iter().for_each(|key| self.services.land(key));
    }
}

fn sample_of(contract: &Contract) -> Result<Value, StepError> {
    super::sample::sample(&contract.output, &[], super::sample::ITEMS)
        .map_err(|why| StepError::unknown("rehearsal.sample", why))
}

/// Returns who plays all handlers.
pub(super) fn player(troupe: &Arc<Mutex<Troupe>>) -> Player {
    let troupe = Arc::clone(troupe);
    Arc::new(move |contract: &Contract, ctx: StepCtx, input: Value| {
        let (troupe, contract) = (Arc::clone(&troupe), contract.clone());
        Box::pin(async move {
            let known = troupe.lock().calls.get(&*ctx.key).copied();
            let Some((spot, kind)) = known else {
                return Err(StepError::unknown("rehearsal.lost", "nobody knows this call"));
            };
            let forward = ctx.key.split('/').next().unwrap_or_default().to_owned();
            match kind {
                CallKind::Confirm => troupe.lock().confirm(spot, &forward, contract.blocks_late),
                CallKind::Undo => {
                    let late = troupe.lock().undoes_late(spot);
                    if late {
                        ctx.clock.sleep_until(START.after(LATE).after(MARGIN)).await;
                    }
                    troupe.lock().undo(spot, &forward, &contract)
                }
                CallKind::Forward | CallKind::Finally => {
                    let (attempt, hold, delay) = troupe.lock().attempt(spot);
                    let late = START.after(LATE);
                    match hold {
                        Hold::No => ctx.sleep(delay).await,
                        Hold::UntilStopped => tokio::select! {
                            () = ctx.cancellation.cancelled() => {}
                            () = ctx.clock.sleep_until(late.after(MARGIN)) => {}
                        },
                        Hold::UntilLate => ctx.clock.sleep_until(late).await,
                    }
                    let well = troupe.lock().goes_well() && !ctx.cancellation.is_cancelled();
                    let Some(attempt) = attempt.or(well.then_some(Attempt::Succeeded)) else {
                        return Err(StepError::permanent("rehearsal.left_out", "the course has nothing of this"));
                    };
                    troupe.lock().act(&ctx.key, spot, attempt, input)
                }
            }
        })
    })
}

/// Returns who tells the played handlers which call is theirs, and lets die who carries them out where a role wants it.
pub(super) fn watch(troupe: &Arc<Mutex<Troupe>>, plan: &Arc<Plan>) -> Watch {
    let (troupe, plan) = (Arc::clone(troupe), Arc::clone(plan));
    Arc::new(move |call: &CallFacts<'_>, moment| {
        let mut troupe = troupe.lock();
        match moment {
            Moment::Before => {
                if let Some(spot) = spot_of(&plan, call) {
                    troupe.calls.insert(call.key.to_owned(), (spot, call.kind));
                }
                Fate::GoesOn
            }
            Moment::After => {
                let fate = troupe.dying.remove(call.key).unwrap_or(Fate::GoesOn);
                if fate == Fate::Dies {
                    troupe.dying.clear();
                }
                fate
            }
            Moment::Fault => Fate::GoesOn,
        }
    })
}

fn spot_of(plan: &Plan, call: &CallFacts<'_>) -> Option<Spot> {
    let step = plan.find(call.step)?;
    let Action::Call(members) = &plan.step(step).action else { return None };
    let member = members.iter().position(|member: &plan::Member| member.name == *call.member)?;
    Some(Spot { step: step.0 as usize, item: call.item, member })
}
