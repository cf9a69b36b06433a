//! The words for what a search finds: problems, who is needed, what was reached, and the shortest course that shows it.
//!
//! Both searches speak them, so that their answers can be compared; no rule is here.

use std::collections::{BTreeMap, BTreeSet};

use super::sketch::Aspect;

/// A member of a step: step, then member, by their places in the sketch.
pub type MemberIx = (usize, usize);

/// Something that a workflow must not be able to come to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Problem {
    /// A run is completed, and something may stand in the world that no result speaks for: the member's step did not
    /// succeed by it.
    LeftByCompleted(MemberIx),
    /// A run has failed or was cancelled, its compensation is complete or not needed, and something may stand in the world,
    /// or may still come.
    LeftByUndone(MemberIx),
    /// Something may have happened twice.
    Twice(MemberIx),
    /// Something is read that is not there on this path.
    Missing(Missing),
    /// A pivot that succeeded or may have is undone.
    PivotUndone(MemberIx),
    /// The second step is undone before the first, which depends on it.
    UndoOrder(usize, usize),
    /// The step can wait for ever.
    WaitsForEver(usize),
    /// An invariant of the file is broken: its place in the list.
    Invariant(usize),
}

/// A read that finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Missing {
    /// Where it is read.
    pub reader: Reader,
    /// Which of the reads there, by its place in the list.
    pub read: usize,
    /// The step that is read.
    pub step: usize,
    /// What of it.
    pub what: Aspect,
}

/// A place where something is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reader {
    /// `when` of a step.
    When(usize),
    /// `foreach` of a step.
    Items(usize),
    /// `until` of a wait.
    Until(usize),
    /// `when` of a fallback.
    FallbackWhen(MemberIx),
    /// `with` of a member.
    With(MemberIx),
    /// `with` of a confirm.
    Confirm(MemberIx),
    /// `with` of an undo.
    Undo(MemberIx),
    /// The run's `output`.
    Output,
}

/// What makes a person necessary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Person {
    /// The undo of a member fails for good: the run is `incomplete`.
    UndoFails(MemberIx),
    /// The step has failed and says `on_error: park`.
    Parked(usize),
    /// A run fails, or its deadline passes, after this pivot: it is parked.
    PastPivot(usize),
}

/// A part of a workflow that some run reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The step begins (with `foreach`: for at least one item).
    Step(usize),
    /// The step's `when` is true, or false.
    When(usize, bool),
    /// The fallback is tried.
    Fallback(MemberIx),
    /// The member is undone.
    Undo(MemberIx),
    /// The confirm is asked.
    Confirm(MemberIx),
    /// A failed attempt of the member is repeated.
    Retry(MemberIx),
}

/// What a search came to.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Every problem that some run comes to, with a course that takes the fewest faults to it, and of these few steps.
    pub problems: BTreeMap<Problem, Course>,
    /// What makes a person necessary in some run.
    pub persons: BTreeSet<Person>,
    /// What some run reaches.
    pub reached: BTreeSet<Part>,
    /// How many states were looked at.
    pub states: u64,
}

/// A search that reached its limit. Nothing is proved then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReached {
    /// How many states were looked at.
    pub states: u64,
}

/// One run, told by what each step came to. Whatever is not told did not happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// How many faults it takes: calls of members that were not answered with a success at once, deaths of the process,
    /// undos and confirms that failed, a cancel or deadline, a signal that did not come. A condition is no fault.
    pub faults: u32,
    /// The free conditions that were asked, with their answers.
    pub conditions: BTreeMap<usize, bool>,
    /// What each step came to, by its place in the sketch; a step that is not here was not begun.
    pub steps: BTreeMap<usize, StepCourse>,
    /// What ended the way forward; nothing for a run in which every step ended well enough.
    pub stop: Option<Stop>,
    /// The undos on the way back, in an order that the rules allow.
    pub undone: Vec<(Spot, UndoEnd)>,
}

/// A member of a step, for one item where the step has items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spot {
    /// The step.
    pub step: usize,
    /// The item, counted from 0.
    pub item: Option<u32>,
    /// The member.
    pub member: usize,
}

/// What ended the way forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stop {
    /// A step failed.
    Failed(usize),
    /// The run's output could not be made.
    Output,
    /// Somebody cancelled it, or its deadline passed. Steps that were under way came to what is told of them.
    Cancelled,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepCourse {
    /// It was skipped.
    Skipped,
    /// A template of it failed before anything was called or waited for.
    Unreadable,
    /// It waited; the signal came, or the time was over for a wait without one.
    Waited,
    /// It waited for a signal that did not come.
    Missed,
    /// It was waiting when the run was stopped, or it waits for ever.
    Waiting,
    /// It called: its members, in the order in which they were tried.
    Called(Vec<MemberCourse>),
    /// It called for the items of its list.
    Listed(List),
}

impl StepCourse {
    /// Returns the calls that were made: one for a step without items, otherwise one for each item that began.
    pub fn calls(&self) -> impl Iterator<Item = (Option<u32>, &[MemberCourse])> {
        let (one, items): (Option<&[MemberCourse]>, &[Vec<MemberCourse>]) = match self {
            Self::Called(members) => (Some(members), &[]),
            Self::Listed(list) => (None, &list.items),
            Self::Skipped | Self::Unreadable | Self::Waited | Self::Missed | Self::Waiting => (None, &[]),
        };
        let one = one.into_iter().map(|members| (None, members));
        one.chain((0..).zip(items).map(|(item, members)| (Some(item), members.as_slice())))
    }
}

/// What a list came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// The items that began, each with its members in the order in which they were tried.
    pub items: Vec<Vec<MemberCourse>>,
    /// There was at least one item more, which never began: the run was stopped, or an item ended badly, before there
    /// was room for it.
    pub left: bool,
}

impl List {
    /// Returns how many items the list has at least, with one that is left.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.items.len()).unwrap_or(u32::MAX).saturating_add(u32::from(self.left))
    }
}

/// What a member came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberCourse {
    /// The member.
    pub member: usize,
    /// Its attempts, in order; none if its `with` could not be rendered.
    pub attempts: Vec<Attempt>,
    /// What `confirm` answered, if it was asked.
    pub confirm: Option<Answer>,
    /// How its undo before the next member, or before the step was passed over, ended.
    pub undo: Option<UndoEnd>,
}

impl MemberCourse {
    /// Tells whether it did what it is for: an attempt succeeded, or it was confirmed.
    #[must_use]
    pub fn worked(&self) -> bool {
        self.attempts.last() == Some(&Attempt::Succeeded) || self.confirm == Some(Answer::Done)
    }
}

/// How an attempt ended, and what became of it in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attempt {
    /// It succeeded.
    Succeeded,
    /// It failed in this way (a place in `endings`); an unclear one came to something in the world.
    Failed(usize, World),
    /// The process died during it.
    CutOff(World),
}

/// What became of an attempt in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum World {
    /// It was not done and never will be.
    Nothing,
    /// It was done.
    Done,
    /// It is still on its way, and may be done at any later time.
    OnItsWay,
}

/// What a confirm answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// It was done.
    Done,
    /// It was not.
    NotDone,
    /// Nobody knows.
    Unknown,
}

/// How an undo ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UndoEnd {
    /// It worked.
    Done,
    /// It failed for good.
    Failed,
}
