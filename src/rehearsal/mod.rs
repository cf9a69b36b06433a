//! Rehearsals: what a search says can happen, brought about on the real engine.
//!
//! The workflow's own handlers are never called. Every one is played: it does in an outside of its own what a course
//! says, or what chance says, and the engine does the rest, in virtual time, over a store in memory. What comes out is
//! judged by what can be seen, so that a search that is wrong about the engine is found out.
//!
//! Services are not played: a call that the course has not let in is begun all the same, and comes to nothing. A condition
//! over an item is as its made-up value has it.

mod judge;
mod manner;
#[cfg(test)]
mod random;
mod roles;
mod sample;
mod stage;
mod troupe;
mod world;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

use self::manner::{Manner, last_waits};
use self::roles::{Cut, Dice, Hold};
use self::stage::Setting;
pub(crate) use self::troupe::Beyond;
use self::troupe::{Book, LATE, MARGIN, Troupe};
use crate::dsl::document::Document;
use crate::handlers::Registry;
use crate::limits::Limits;
use crate::machine::event::Event;
use crate::plan::{self, Action, Plan, WaitLimit};
use crate::scenario::play::{self, Ending, Script};
use crate::scenario::read::{Case, Deed, Verb};
use crate::template::{Expression, Template};
use crate::verify::findings::{Answer, Course, Problem, StepCourse, Stop};
use crate::verify::sketch::{Act, Sketch};

pub use self::world::{Record, Services};

/// When a process is put down, so long before what is under way ends that it grants it.
const WHEN_DOWN: Duration = LATE.saturating_sub(Duration::from_secs(9));

/// When something comes while no process is there.
const WHILE_DOWN: Duration = LATE.saturating_add(MARGIN);

/// A part of the time that a process which is put down grants its attempts.
const A_MOMENT: Duration = Duration::from_secs(1);

/// Why something cannot be rehearsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unplayable(pub String);

/// What a rehearsed run came to.
#[derive(Clone, Debug)]
pub struct Rehearsed {
    /// The run's status.
    pub status: String,
    /// What became of its undos: `none_needed`, `complete` or `incomplete`.
    pub compensation: String,
    /// Why it failed.
    pub error: Option<String>,
    /// The status of each step.
    pub steps: BTreeMap<String, String>,
    /// What there is outside.
    pub world: Vec<Record>,
    /// Every problem that shows.
    pub problems: BTreeSet<Problem>,
    /// Those of them that show in no other way than the course says.
    pub shown: BTreeSet<Problem>,
    /// The run's events in short.
    pub journal: Vec<String>,
    /// What happened although the course has nothing of it.
    pub unexpected: Vec<String>,
}

impl Rehearsed {
    /// Tells whether the run came to this problem, and in no other way than the course says.
    #[must_use]
    pub fn shows(&self, problem: &Problem) -> bool {
        self.shown.contains(problem)
    }
}

/// A course that was played: all of what the player noted, and what the judge saw in it.
pub(crate) struct Performed {
    pub(crate) ending: Ending,
    /// Every problem that shows, in any manner in which the course was played.
    pub(crate) problems: BTreeSet<Problem>,
    /// Those of them that show in no other way than the course says.
    shown: BTreeSet<Problem>,
    world: Vec<Record>,
    unexpected: Vec<String>,
}

impl Performed {
    /// Adds what shows in another manner. What is told is the one that shows more.
    fn or(self, other: Self) -> Self {
        let (mut told, less) = if self.shown.len() < other.shown.len() { (other, self) } else { (self, other) };
        told.problems.extend(less.problems);
        told.shown.extend(less.shown);
        told
    }

    fn told(mut self) -> Result<Rehearsed, Unplayable> {
        let (report, _) = self.ending.runs.first().ok_or_else(|| Unplayable("there was no run".to_owned()))?;
        let word = serde_json::to_value(report.compensation).ok();
        Ok(Rehearsed {
            status: report.status.clone(),
            compensation: word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default(),
            error: report.error.as_ref().map(|error| format!("{}: {}", error.code, error.message)),
            steps: report.steps.iter().map(|(name, step)| (name.clone(), step.status.clone())).collect(),
            world: self.world,
            problems: self.problems,
            shown: self.shown,
            journal: if self.ending.histories.is_empty() { Vec::new() } else { self.ending.histories.swap_remove(0) },
            unexpected: self.unexpected,
        })
    }
}

/// Brings a course about.
///
/// # Errors
/// Says why it cannot be played: no value fits a schema, or a list has fewer items than the course.
pub fn rehearse(plan: &Plan, document: &Document, sketch: &Sketch, course: &Course) -> Result<Rehearsed, Unplayable> {
    let beyond = if waits_for_ever(course) { Beyond::Well } else { Beyond::Nothing };
    perform(plan, document, sketch, course, beyond)?.told()
}

/// Tells whether a step waits for ever: nothing stops the run then, and whatever else there is goes on meanwhile.
fn waits_for_ever(course: &Course) -> bool {
    course.stop.is_none() && course.steps.values().any(|told| *told == StepCourse::Waiting)
}

/// Brings a course about, with calls that it does not tell of coming to what `beyond` says, in every manner that it leaves
/// open.
pub(crate) fn perform(
    plan: &Plan,
    document: &Document,
    sketch: &Sketch,
    course: &Course,
    beyond: Beyond,
) -> Result<Performed, Unplayable> {
    let mut manners = Manner::all(sketch, course).into_iter();
    let mut best = once(plan, document, sketch, course, beyond, manners.next().unwrap_or_default())?;
    for manner in manners {
        best = best.or(once(plan, document, sketch, course, beyond, manner)?);
    }
    Ok(best)
}

fn once(
    plan: &Plan,
    document: &Document,
    sketch: &Sketch,
    course: &Course,
    beyond: Beyond,
    manner: Manner,
) -> Result<Performed, Unplayable> {
    // What the course never asks is false: values that are made up may be of the wrong kind to be asked.
    let holds = |ix: usize| course.conditions.get(&ix).copied().unwrap_or(false);
    let conditions = sketch.conditions.iter().enumerate().map(|(ix, text)| (text.clone(), holds(ix)));
    let mut setting = Setting { conditions: conditions.collect(), alone: manner.alone, ..Setting::default() };
    let mut signals = Vec::new();
    let last = if manner.down { last_waits(sketch, course) } else { Vec::new() };
    for (&step, told) in &course.steps {
        match told {
            _ if last.contains(&step) => {}
            StepCourse::Listed(list) => {
                let cut = Cut::of(&sketch.steps[step], list);
                setting.items.insert(step, cut.map_or(list.count(), Cut::items));
                setting.places.extend(cut.map(|cut| (step, cut.places)));
            }
            StepCourse::Waited => signals.push((step, after_the_missed(plan, course, step))),
            StepCourse::Waiting
            | StepCourse::Missed
            | StepCourse::Skipped
            | StepCourse::Unreadable
            | StepCourse::Called(_) => {}
        }
    }
    let goes_on = waits_for_ever(course);
    let over = |step: usize| match course.steps.get(&step) {
        Some(StepCourse::Missed) => true,
        Some(StepCourse::Waited) => after_the_missed(plan, course, step).is_zero(),
        Some(_) => false,
        None => goes_on,
    };
    let by_signal = |step: usize| {
        let waits = matches!(&sketch.steps[step].act, Act::Wait(wait) if wait.signal);
        waits && course.steps.get(&step) == Some(&StepCourse::Waited)
    };
    let time = |step: usize| match last.contains(&step) {
        true if by_signal(step) => stage::LONG,
        true => WHEN_DOWN + A_MOMENT,
        false if manner.down && course.stop == Some(Stop::Failed(step)) => WHILE_DOWN + MARGIN,
        false if over(step) => stage::SHORT,
        false => stage::LONG,
    };
    setting.waits = (0..sketch.steps.len()).map(|step| (step, time(step))).collect();
    setting.down = manner.down.then(|| last.iter().copied().filter(|step| by_signal(*step)).collect());
    if goes_on {
        let limited = |step: &usize| matches!(&sketch.steps[*step].act, Act::Wait(wait) if wait.signal && wait.limited);
        let untold = (0..sketch.steps.len()).filter(|step| !course.steps.contains_key(step));
        signals.extend(untold.filter(limited).map(|step| (step, Duration::ZERO)));
    }
    // A course tells no cancel from a deadline; where there is one it passes.
    let late = if manner.down { WHILE_DOWN + MARGIN } else { LATE };
    let stopped = (course.stop == Some(Stop::Cancelled)).then_some(late);
    setting.deadline = stopped.filter(|_| sketch.deadline);
    let cancel = stopped.filter(|_| !sketch.deadline);
    let mut roles = roles::of_course(sketch, course);
    for role in roles.values_mut() {
        role.lands_before_undo = manner.lands && role.confirm == Some(Answer::NotDone);
        if manner.down && role.hold == Hold::UntilStopped {
            // What is under way ends while the process is put down, or is cut off.
            role.hold = Hold::UntilLate;
        }
    }
    let book = Book::Course(roles, beyond);
    let performed = play(plan, document, sketch, &setting, book, &signals, cancel, 1)?;
    too_short(plan, &setting, &performed.ending).map_or(Ok(performed), Err)
}

/// Returns when the signal of a step comes: one that goes to whoever waits for it comes after those who miss it.
fn after_the_missed(plan: &Plan, course: &Course, step: usize) -> Duration {
    let signal = |step: usize| match &plan.steps[step].action {
        Action::Wait(plan::Wait::Signal { name, .. }) => Some(name),
        Action::Wait(_) | Action::Call(_) => None,
    };
    let mut missed = course.steps.iter().filter(|(_, told)| **told == StepCourse::Missed);
    let is_shared = signal(step).is_some() && missed.any(|(other, _)| signal(*other) == signal(step));
    if is_shared { stage::AFTER_SHORT } else { Duration::ZERO }
}

/// Says which list has fewer items than the course: what is made up fits its schema, and a filter may leave less of it.
fn too_short(plan: &Plan, setting: &Setting, ending: &Ending) -> Option<Unplayable> {
    let events = ending.runs.iter().flat_map(|(_, entries)| entries).map(|entry| &entry.event);
    let mut lists = events.filter_map(|event| match event {
        Event::ItemsListed { step, items } => Some((step, items.value().as_array().map_or(0, Vec::len))),
        _ => None,
    });
    lists.find_map(|(step, there)| {
        let wanted = *setting.items.get(&(plan.find(step)?.0 as usize))? as usize;
        let why = format!("the list of `{step}` has {there} items, and the story {wanted}");
        (there < wanted).then_some(Unplayable(why))
    })
}

/// Plays a run in which chance decides how every call ends, when the process dies, whether and when the run is cancelled
/// and signals come, and how free conditions come out.
///
/// # Errors
/// Says why nothing can be played.
pub fn rehearse_by_chance(
    plan: &Plan,
    document: &Document,
    sketch: &Sketch,
    seed: u64,
) -> Result<Rehearsed, Unplayable> {
    let mut dice = Dice::new(seed);
    let conditions = sketch.conditions.iter().map(|text| (text.clone(), dice.in_100(50))).collect();
    let lists: Vec<usize> = (0..sketch.steps.len()).filter(|&ix| sketch.steps[ix].items.is_some()).collect();
    let items = lists.into_iter().map(|ix| (ix, [0, 1, 2][dice.below(3)])).collect();
    let mut signals = Vec::new();
    for ix in 0..sketch.steps.len() {
        if dice.in_100(70) {
            signals.push((ix, Duration::from_secs(dice.below(60) as u64)));
        }
    }
    let cancel = dice.in_100(30).then(|| Duration::from_secs(dice.below(150) as u64));
    let passes = (sketch.deadline && dice.in_100(50)).then(|| Duration::from_secs(dice.below(150) as u64));
    let setting = Setting { conditions, items, deadline: passes, ..Setting::default() };
    play(plan, document, sketch, &setting, Book::Chance(dice), &signals, cancel, seed)?.told()
}

#[expect(clippy::too_many_arguments, reason = "both kinds of rehearsal say all of it, and nothing else does")]
fn play(
    plan: &Plan,
    document: &Document,
    sketch: &Sketch,
    setting: &Setting,
    book: Book,
    signals: &[(usize, Duration)],
    cancel: Option<Duration>,
    seed: u64,
) -> Result<Performed, Unplayable> {
    let limits = Limits::default();
    let workflow = stage::stage(plan, document, setting, &limits)?;
    let paths = Paths::of(plan);
    let items = setting.items.values().map(|count| *count as usize).fold(sample::ITEMS, usize::max);
    let outputs = paths.outputs(plan, items)?;
    let troupe = Arc::new(Mutex::new(Troupe::new(Arc::new(sketch.clone()), setting.alone, book, outputs)));
    let registry = Registry::played(&stage::contracts(plan)?, &troupe::player(&troupe));
    let watch = troupe::watch(&troupe, &workflow.plan);

    let mut case = Case::of(&plan.name, paths.input(plan, items)?);
    case.seed = seed;
    for (step, after) in signals {
        case.then.extend(signal(plan, *step, *after, items)?);
    }
    // A run begins in one of these states; the second cancel changes nothing. A deadline does not pass while it is parked.
    let stopped = cancel.or(setting.deadline);
    for (status, cancel) in [("running", cancel), ("waiting", cancel), ("parked", stopped)] {
        let verb = Verb::Cancel { reason: None, compensate: true };
        case.then.extend(cancel.map(|after| deed_of_run(status, after, verb)));
    }
    if let Some(asked) = &setting.down {
        for status in ["running", "waiting"] {
            case.then.push(deed_of_run(status, WHEN_DOWN, Verb::Restart { down: 4 * MARGIN }));
            for step in asked {
                let sent = news(plan, *step, items, Some(format!("last-{step}")))?;
                case.then.extend(sent.map(|verb| deed_of_run(status, LATE.saturating_sub(A_MOMENT), verb)));
            }
        }
    }
    let secrets = Arc::new(plan.secrets.iter().map(|name| (name.clone(), "a secret".to_owned())).collect());
    let script = Script {
        case: &case,
        workflow: &workflow,
        registry: &registry,
        limits: &limits,
        secrets: Some(&secrets),
        watch: Some(&watch),
    };
    // Each life of the process is an async runtime, and none can be started where another one runs.
    let played = std::thread::scope(|scope| scope.spawn(|| play::play(script, None)).join());
    let mut ending = played.map_err(|_| Unplayable("the rehearsal itself came to grief".to_owned()))?;
    // A cancel is ready for either status in which a run begins, and a signal may find that nobody waits.
    ending.unmet.clear();
    if let Some(problem) = ending.problems.first() {
        return Err(Unplayable(problem.clone()));
    }
    let (report, entries) = ending.runs.first().ok_or_else(|| Unplayable("there was no run".to_owned()))?;
    let troupe = troupe.lock();
    let seen = judge::Seen { sketch, plan: &workflow.plan, report, entries, services: &troupe.services };
    let problems = seen.problems();
    let world = troupe.services.records().cloned().collect();
    let unexpected = troupe.unexpected.clone();
    let shown = if unexpected.is_empty() { problems.clone() } else { BTreeSet::new() };
    Ok(Performed { problems, shown, world, unexpected, ending })
}

/// Makes what is done so long after a run came to a state.
fn deed_of_run(status: &str, after: Duration, verb: Verb) -> Deed {
    Deed { when: format!("run.{status}"), step: None, status: status.to_owned(), after, run: None, verb }
}

/// Makes what is done so long after a step began to wait for a signal: it comes.
fn signal(plan: &Plan, step: usize, after: Duration, items: usize) -> Result<Option<Deed>, Unplayable> {
    let name = &plan.steps[step].name;
    let deed = |verb| Deed {
        when: format!("{name}.waiting"),
        step: Some(name.clone()),
        status: "waiting".to_owned(),
        after,
        run: None,
        verb,
    };
    Ok(news(plan, step, items, None)?.map(deed))
}

/// Makes the signal that a step waits for.
fn news(plan: &Plan, step: usize, items: usize, id: Option<String>) -> Result<Option<Verb>, Unplayable> {
    let step = &plan.steps[step];
    let Action::Wait(plan::Wait::Signal { name, schema, .. }) = &step.action else { return Ok(None) };
    let data = match schema {
        Some(schema) => {
            sample::sample(schema, &[], items).map_err(|why| Unplayable(format!("the signal `{name}`: {why}")))?
        }
        None => sample::skeleton(&Paths::of(plan).of_step(step.name.as_str()), items),
    };
    Ok(Some(Verb::Signal { name: name.clone(), data, id }))
}

/// Everything that the templates of a plan read.
struct Paths(Vec<Vec<String>>);

impl Paths {
    fn of(plan: &Plan) -> Self {
        let mut paths = Vec::new();
        let mut expression = |e: &Expression| paths.extend(e.references().iter().map(|r| r.path.clone()));
        for step in &plan.steps {
            step.when.iter().chain(step.foreach.iter().map(|list| &list.items)).for_each(&mut expression);
            match &step.action {
                Action::Call(members) => members.iter().filter_map(|m| m.when.as_ref()).for_each(&mut expression),
                Action::Wait(plan::Wait::Until(until) | plan::Wait::Signal { limit: WaitLimit::Until(until), .. }) => {
                    expression(until);
                }
                Action::Wait(_) => {}
            }
        }
        let mut template = |own: Option<&str>, t: &Template| {
            for (_, reference) in t.references() {
                match (own, reference.path.split_first()) {
                    (Some(step), Some((first, rest))) if first == "output" => {
                        let head = ["steps", step, "output"].map(str::to_owned).into_iter();
                        paths.push(head.chain(rest.iter().cloned()).collect());
                    }
                    _ => paths.push(reference.path),
                }
            }
        };
        for step in &plan.steps {
            if let Action::Call(members) = &step.action {
                for member in members {
                    template(None, &member.call.with);
                    for call in member.confirm.iter().chain(&member.compensate) {
                        template(Some(step.name.as_str()), &call.with);
                    }
                }
            }
        }
        plan.output.iter().for_each(|output| template(None, output));
        Self(paths)
    }

    /// Returns what is read of a step's output.
    fn of_step(&self, name: &str) -> Vec<Vec<String>> {
        let below = self.0.iter().filter_map(|path| match path.as_slice() {
            [steps, step, output, rest @ ..] if steps == "steps" && step == name && output == "output" => Some(rest),
            _ => None,
        });
        below.map(<[String]>::to_vec).collect()
    }

    fn outputs(&self, plan: &Plan, items: usize) -> Result<BTreeMap<(usize, usize), Value>, Unplayable> {
        let mut outputs = BTreeMap::new();
        for (ix, step) in plan.steps.iter().enumerate() {
            let Action::Call(members) = &step.action else { continue };
            for (m, member) in members.iter().enumerate() {
                let Some(contract) = &member.call.contract else { continue };
                let value = sample::sample(&contract.output, &self.of_step(step.name.as_str()), items)
                    .map_err(|why| Unplayable(format!("the output of `{}`: {why}", contract.name)))?;
                outputs.insert((ix, m), value);
            }
        }
        Ok(outputs)
    }

    fn input(&self, plan: &Plan, items: usize) -> Result<Value, Unplayable> {
        let read = self.0.iter().filter_map(|path| match path.as_slice() {
            [input, rest @ ..] if input == "input" => Some(rest.to_vec()),
            _ => None,
        });
        let read: Vec<Vec<String>> = read.collect();
        match &plan.input_schema {
            Some(schema) => sample::sample(schema, &read, items).map_err(|why| Unplayable(format!("the input: {why}"))),
            None => Ok(sample::skeleton(&read, items)),
        }
    }
}
