//! A moment of a run: what flowrun has recorded, and beside it the world, of which flowrun knows nothing.
//!
//! It owns the types and the questions that a state answers by itself; what may follow from a state is for the rules.

use std::rc::Rc;

use crate::verify::findings::{Spot, UndoEnd};
use crate::verify::sketch::Sketch;

/// A moment of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// Which way the run goes.
    pub phase: Phase,
    /// The free conditions, as far as they were asked.
    pub conditions: Vec<Option<bool>>,
    /// The steps. They are shared between the states in which they are the same.
    pub steps: Vec<Rc<Step>>,
}

/// Which way a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Forward.
    Forward,
    /// It has stopped, and lets end what is under way.
    Drain,
    /// It undoes.
    Back,
    /// It is completed, and nothing is owed.
    Completed,
    /// It has failed or was cancelled, and nothing is owed.
    Undone,
    /// It has ended, and an undo has failed for good.
    Incomplete,
    /// It has stopped behind a pivot.
    PastPivot,
}

/// A step in a moment of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Step {
    /// How far it is.
    pub stage: Stage,
    /// How many items it has; 1 for a step without.
    pub items: usize,
    /// How the first item ended that ended badly.
    pub bad: Option<Verdict>,
    /// Its items that have begun; the first and only one is the step itself where it has none.
    pub tasks: Vec<Task>,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// It has not begun.
    Pending,
    /// It was skipped.
    Skipped,
    /// It waits.
    Waiting,
    /// Its call, or some of its items, are under way.
    Calling,
    /// It has ended.
    Ended(Verdict),
}

/// How a step, or an item of one, has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Verdict {
    /// It succeeded: by this member, or, without one, by waiting or by its items.
    Succeeded(Option<usize>),
    /// It failed.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// What a step does for one item, or for itself where it has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Task {
    /// What is under way.
    pub now: Now,
    /// What its members came to.
    pub members: Vec<Tried>,
}

/// What is under way for an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Now {
    /// An attempt.
    Attempt(Attempts),
    /// An attempt was, when the process died; nobody has looked at it since.
    CutOff(Attempts),
    /// Nothing: the attempt failed in this way, and the next has to wait for its time.
    Between(Attempts, usize),
    /// The question whether a member has worked, which ended with this code.
    Asked(usize, Code),
    /// The undo of the first member, before the second is called or, without one, before it is passed over.
    Undo(usize, Option<usize>),
    /// It has ended.
    Ended(Verdict),
}

/// The attempts of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempts {
    /// The member.
    pub member: usize,
    /// Which of its attempts is the last; one that was cut off is not counted.
    pub number: u8,
    /// An earlier one may have acted.
    pub unclear: bool,
    /// An earlier one did not succeed, so that the fault is counted.
    pub marred: bool,
}

/// What ended a member's call; each has its own consequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Code {
    /// An attempt failed in this way.
    Ending(usize),
    /// Its `with` could not be rendered.
    Refused,
    /// The process died, and the attempt is not repeated.
    CutOff,
}

/// What a member came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tried {
    /// How its call ended, as flowrun knows it.
    pub end: Option<CallEnd>,
    /// It may have acted though it did not succeed.
    pub may_have_acted: bool,
    /// How its undo ended.
    pub undo: Option<UndoEnd>,
    /// What the world is, which flowrun does not know. It stays [`Standing::No`] for a member without an effect.
    pub standing: Standing,
}

/// How the call of a member ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CallEnd {
    /// It succeeded, or `confirm` found it done.
    Succeeded,
    /// It failed.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// What the effect of a member is in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    /// It did not happen.
    No,
    /// It did not, but a request is on its way and may be done at any later time.
    Coming,
    /// It happened.
    Done,
    /// It happened, and a further request is on its way.
    DoneComing,
    /// It happened twice.
    Twice,
    /// It happened and was taken back.
    Gone,
    /// It was taken back, and a further request is on its way.
    GoneComing,
}

impl State {
    /// Returns a run that has just begun.
    pub fn new(sketch: &Sketch) -> Self {
        let pending = Rc::new(Step { stage: Stage::Pending, items: 1, bad: None, tasks: Vec::new() });
        Self {
            phase: Phase::Forward,
            conditions: vec![None; sketch.conditions.len()],
            steps: vec![pending; sketch.steps.len()],
        }
    }

    /// Returns a step to be changed.
    pub fn step_mut(&mut self, step: usize) -> &mut Step {
        Rc::make_mut(&mut self.steps[step])
    }

    /// Returns what is done for an item.
    pub fn task(&self, step: usize, item: Option<u32>) -> &Task {
        &self.steps[step].tasks[place(item)]
    }

    /// Returns what is done for an item, to be changed.
    pub fn task_mut(&mut self, step: usize, item: Option<u32>) -> &mut Task {
        &mut self.step_mut(step).tasks[place(item)]
    }

    /// Returns what a member came to.
    pub fn tried(&self, spot: Spot) -> &Tried {
        &self.task(spot.step, spot.item).members[spot.member]
    }

    /// Returns what a member came to, to be changed.
    pub fn tried_mut(&mut self, spot: Spot) -> &mut Tried {
        &mut self.task_mut(spot.step, spot.item).members[spot.member]
    }

    /// Returns the items that have begun, each with its step.
    pub fn begun(&self, sketch: &Sketch) -> Vec<(usize, Option<u32>)> {
        let of_step = |(ix, step): (usize, &Rc<Step>)| {
            let listed = sketch.steps[ix].items.is_some();
            let item = move |at: usize| listed.then(|| u32::try_from(at).expect("a list is short"));
            (0..step.tasks.len()).map(move |at| (ix, item(at))).collect::<Vec<_>>()
        };
        self.steps.iter().enumerate().flat_map(of_step).collect()
    }

    /// Returns every place where a member was called or may still be.
    pub fn spots(&self, sketch: &Sketch) -> Vec<Spot> {
        let begun = self.begun(sketch).into_iter();
        begun
            .flat_map(|(step, item)| {
                let members = 0..self.task(step, item).members.len();
                members.map(move |member| Spot { step, item, member })
            })
            .collect()
    }
}

/// Returns the place of an item among the tasks of its step.
fn place(item: Option<u32>) -> usize {
    item.map_or(0, |item| item as usize)
}

impl Task {
    /// Returns an item of which nothing was tried yet.
    pub fn new(attempt: Attempts, members: usize) -> Self {
        let untried = Tried { end: None, may_have_acted: false, undo: None, standing: Standing::No };
        Self { now: Now::Attempt(attempt), members: vec![untried; members] }
    }

    /// Returns how the item ended.
    pub fn verdict(&self) -> Option<Verdict> {
        if let Now::Ended(verdict) = self.now { Some(verdict) } else { None }
    }
}

impl Attempts {
    /// Returns the first attempt of a member.
    pub fn first(member: usize) -> Self {
        Self { member, number: 1, unclear: false, marred: false }
    }
}

impl Step {
    /// Tells whether the step has begun and not ended.
    pub fn under_way(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Calling)
    }

    /// Returns how many items are under way.
    pub fn running(&self) -> usize {
        self.tasks.iter().filter(|task| task.verdict().is_none()).count()
    }
}
