//! The sketch: a workflow as the search for its failures sees it.
//!
//! Of a plan it keeps what decides about the course of a run: who needs whom, what is read where, which endings a call
//! can have and what follows from each, what it leaves in the world and what takes it back. Values are gone; a condition
//! that depends on one is free to be either way, but the same wherever its text stands. It owns these types and says
//! nothing about rules: those are `explore`'s and, written a second time, `sweep`'s.

use std::ops::Range;

pub use crate::check::invariant::{Ending as StepEnding, Fact, Formula};
pub use crate::handlers::contract::{IfAbsent, Repeat};
pub use crate::plan::{OnError, OnSkip};

/// More attempts than this add nothing that so many do not show.
pub const ATTEMPTS_MAX: u32 = 3;

/// A workflow without its values.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    /// The workflow's name.
    pub name: String,
    /// The steps; a step is known by its place here, which is its place in the file.
    pub steps: Vec<Step>,
    /// The steps in an order in which each comes after all it needs.
    pub order: Vec<usize>,
    /// The names of effects, such as `charged`. Several members may have the same.
    pub effects: Vec<String>,
    /// The texts of the free conditions. Each is decided once in a run, either way, before it is first asked.
    pub conditions: Vec<String>,
    /// Whether the run has a deadline, which ends any wait.
    pub deadline: bool,
    /// What the run's `output` reads once every step has ended well enough.
    pub output: Vec<Read>,
    /// The steps of `finally`, which change nothing of how a run ends: no search looks at them.
    pub finally: Vec<Finally>,
    /// What must never be true of a run that has ended.
    pub invariants: Vec<Invariant>,
}

impl Sketch {
    /// Returns the members of all steps, in file order.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.steps.iter().flat_map(Step::members)
    }

    /// Returns a member of a step: by the step's place, then its own.
    #[must_use]
    pub fn member(&self, (step, member): (usize, usize)) -> Option<&Member> {
        self.steps.get(step)?.members().get(member)
    }

    /// Returns the steps that need a step, in file order.
    pub fn dependents(&self, step: usize) -> impl Iterator<Item = usize> {
        (0..self.steps.len()).filter(move |other| self.steps[*other].needs.contains(&step))
    }
}

/// Where something stands in the files of the workflow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// The value's JSON pointer in the document, such as `/steps/charge/compensate/with/key`.
    pub pointer: String,
    /// The bytes inside the value's text that are meant, such as the name in a template; the whole value if absent.
    pub within: Option<(usize, usize)>,
}

impl Site {
    /// A whole value, or the key that leads to it.
    #[must_use]
    pub fn at(pointer: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), within: None }
    }

    /// A part of a value's text.
    #[must_use]
    pub fn within(pointer: impl Into<String>, range: &Range<usize>) -> Self {
        Self { pointer: pointer.into(), within: Some((range.start, range.end)) }
    }
}

/// A step of `finally`.
#[derive(Clone, Debug)]
pub struct Finally {
    /// Its name.
    pub name: String,
    /// What its `with` reads.
    pub reads: Vec<Read>,
}

/// Something that must never be true at the end of a run.
#[derive(Clone, Debug)]
pub struct Invariant {
    /// The text after `never:`.
    pub text: String,
    /// The same, understood. An effect's name means: it happened in at least one place. An undo's name means: it took
    /// something back, and nothing that happened under the effect it undoes is left standing.
    pub formula: Formula,
    /// Where it stands.
    pub site: Site,
}

/// A part of a run that can be missing when a template reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Aspect {
    /// `steps.X.output`: there if the step succeeded (with `foreach` and `on_error: continue` also if items failed).
    Output,
    /// `steps.X.error`: there if it failed or is unknown.
    Error,
    /// `steps.X.via`: there if it succeeded by a call of a handler.
    Via,
    /// `output` inside `compensate` and `confirm`: there if the member concerned succeeded, or its `confirm` found it done.
    OwnOutput,
    /// `error` inside `compensate` and `confirm`: there unless the member concerned succeeded.
    OwnError,
}

/// One read of something that can be missing. Reads with a `default(...)` around them are not listed.
///
/// Every step that is read is among the needs of the step that reads it, written or not, so it has ended by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The step that is read; the reading step itself for [`Aspect::OwnOutput`] and [`Aspect::OwnError`].
    pub step: usize,
    /// What of it.
    pub what: Aspect,
    /// It is read only if this holds: the conditions of `and`, `or`, `if` and `default` before it.
    pub when: Truth,
    /// The name in the template.
    pub site: Site,
}

/// A condition over what flowrun knows when it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Known before the run.
    Const(bool),
    /// A free condition: [`Sketch::conditions`].
    Free(usize),
    /// Either way whenever it is asked: it depends on an item, or on an error.
    Open,
    /// Something is there to be read.
    Has(usize, Aspect),
    /// The step succeeded by this member (0 is the step's own call).
    Via(usize, usize),
    /// The step has ended this way: `steps.X.status` is `succeeded`, `failed`, `unknown` or `skipped`.
    Ended(usize, StepEnding),
    /// The opposite.
    Not(Box<Truth>),
    /// All of them.
    All(Vec<Truth>),
    /// At least one of them.
    Any(Vec<Truth>),
}

/// An expression that is true or false, with what it reads on the way. If a read is missing it fails (`template`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What it comes to.
    pub truth: Truth,
    /// What it reads.
    pub reads: Vec<Read>,
    /// Where it stands.
    pub site: Site,
}

/// A step.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// The steps that must have ended before it.
    pub needs: Vec<usize>,
    /// It is skipped when this is false.
    pub when: Option<Decision>,
    /// What happens when it has needs and all of them were skipped; nothing said means it is skipped.
    pub on_skip: Option<OnSkip>,
    /// What happens when it has failed for good.
    pub on_error: OnError,
    /// Whether it is the point of no return.
    pub pivot: bool,
    /// It runs once per item; what the list reads. There may be any number of items.
    pub items: Option<Vec<Read>>,
    /// How many items may run at once (1, or more).
    pub concurrency: u32,
    /// Its call, or each of its items, has to be let in by a service, in a commit of its own. Otherwise the call begins in the
    /// very commit in which the last of its needs ends well enough, and as many items as may run at once in that in which
    /// they are known, or in which a place is free again.
    pub let_in: bool,
    /// What it does.
    pub act: Act,
    /// Where its name stands.
    pub site: Site,
}

impl Step {
    /// Tells whether a service may keep it from beginning. A list is begun in any case, with or without an item.
    pub fn is_let_in(&self) -> bool {
        self.let_in && self.items.is_none()
    }

    /// Returns the members of a step that calls; a wait has none.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        match &self.act {
            Act::Call(members) => members,
            Act::Wait(_) => &[],
        }
    }

    pub(crate) fn members_mut(&mut self) -> &mut [Member] {
        match &mut self.act {
            Act::Call(members) => members,
            Act::Wait(_) => &mut [],
        }
    }
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Act {
    /// It waits.
    Wait(Wait),
    /// It calls a handler, or one of its fallbacks: at least one member.
    Call(Vec<Member>),
}

/// What a step waits for.
#[derive(Clone, Debug)]
pub struct Wait {
    /// What `until` reads.
    pub reads: Vec<Read>,
    /// It waits for a signal, and fails when its time is over; without a signal the end of its time is its success.
    pub signal: bool,
    /// Its time is limited.
    pub limited: bool,
}

/// One of the ways to a step's result.
#[derive(Clone, Debug)]
pub struct Member {
    /// `primary`, or the fallback's name.
    pub name: String,
    /// The handler.
    pub handler: String,
    /// A fallback is passed over when this is false. Asked only of fallbacks that take the ending.
    pub when: Option<Decision>,
    /// What its `with` reads. If something is missing the call is refused: [`Member::refused`].
    pub reads: Vec<Read>,
    /// What has changed outside when it has worked: [`Sketch::effects`].
    pub effect: Option<usize>,
    /// What calling it twice with the same key does.
    pub repeat: Repeat,
    /// An attempt that was cut off, or gave no clear answer, may be repeated (SPEC 6.5, 6.6).
    pub repeatable: bool,
    /// How many attempts there are, at most 3: more add nothing that three do not show.
    pub attempts: u8,
    /// The ways in which an attempt can fail, all that differ in what follows from them.
    pub endings: Vec<Failing>,
    /// How it fails when its `with` cannot be rendered (`template`); clear, not retried, before the handler was called.
    pub refused: Failing,
    /// How it fails when its own process died during an attempt that may not be repeated (`crashed`); unclear, not retried.
    pub cut_off: Failing,
    /// The call that asks whether it was done.
    pub confirm: Option<Confirm>,
    /// The call that undoes it.
    pub undo: Option<Undo>,
    /// `compensate: { none: .. }`: to leave its effect is harmless.
    pub harmless: bool,
    /// Where it stands.
    pub site: Site,
}

impl Member {
    /// Tells whether an attempt without a clear answer may have left something that has to be looked after.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.effect.is_some() || self.undo.is_some()
    }
}

/// One way in which an attempt can fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// A code that stands for all that have the same consequences.
    pub code: String,
    /// It certainly did not happen (`retryable` and `permanent`); otherwise it may have.
    pub clear: bool,
    /// The policy repeats the attempt if one is left. An unclear one is repeated only if the member is repeatable, which
    /// is settled here already.
    pub retried: bool,
    /// The members of the step, by place, whose `errors` has the code; only those after this one count.
    pub taken_by: Vec<usize>,
}

/// The call that asks whether an attempt was done. It can always come back without an answer.
#[derive(Clone, Debug)]
pub struct Confirm {
    /// The handler.
    pub handler: String,
    /// What its `with` reads.
    pub reads: Vec<Read>,
    /// After "not done" a late original is refused.
    pub blocks_late: bool,
    /// Where it stands.
    pub site: Site,
}

/// The call that undoes a member. It can always fail for good, and a person is needed then.
#[derive(Clone, Debug)]
pub struct Undo {
    /// The handler.
    pub handler: String,
    /// What its `with` reads.
    pub reads: Vec<Read>,
    /// Its handler declares that it undoes the member's effect. Otherwise the effect stays as it is.
    pub undoes: bool,
    /// What its undoing is called, such as `refunded`.
    pub undone: Option<String>,
    /// What it does when there is nothing to undo.
    pub if_absent: IfAbsent,
    /// After it a late original is refused.
    pub blocks_late: bool,
    /// Where it stands.
    pub site: Site,
}
