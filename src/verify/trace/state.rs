//! What the model remembers of a run.

use crate::failure::Failure;
use crate::machine::event::{Answer, CallId, CallKind, Place};
use crate::payload::Payload;
use crate::plan::{self, Action, OnError};
use crate::time::Timestamp;

use super::{Model, Violation, wrong};

/// Which way a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is recorded yet.
    New,
    /// Steps are done.
    Forward,
    /// What runs ends.
    Drain,
    /// What was done is undone.
    Undo,
    /// The `finally` steps run.
    Ending,
    /// It is over.
    Final,
}

/// How a step or item ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Succeeded,
    Failed,
    Unknown,
}

/// What a member has done outside, as far as anyone here can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Done {
    /// Nothing.
    #[default]
    No,
    /// Perhaps something: an attempt was unclear.
    Unclear,
    /// It was denied, but it may still come.
    MayCome,
    /// It has worked.
    Yes,
}

/// What became of the undo of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Undone {
    #[default]
    No,
    Yes,
    /// The undo failed for good.
    Failed,
}

/// How far the attempts of a call are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Try {
    /// None was made.
    #[default]
    None,
    /// One is under way, in the process with this number.
    Running { until: Timestamp, life: u32 },
    /// The next one comes at this time.
    Backoff(Timestamp),
    /// The last one was cut off and is repeated.
    CutOff,
    /// There is no further one.
    Over,
}

/// The attempts of one call.
#[derive(Clone, Debug, Default)]
pub(super) struct Tries {
    pub now: Try,
    /// The number of the last one.
    pub last: u32,
    /// How many have failed; what a crash cut off is not counted.
    pub failed: u32,
    /// When the first began.
    pub first_at: Option<Timestamp>,
    /// Whether the input is recorded.
    pub input: bool,
    /// Which attempts were given up, whose answers may still come. A number is there twice if two began with it.
    pub given_up: Vec<u32>,
}

impl Tries {
    /// Returns the same call with all its attempts before it.
    pub fn afresh(&self) -> Self {
        Self { input: self.input, given_up: self.given_up.clone(), ..Self::default() }
    }
}

/// A member of an item.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    pub generation: u32,
    pub forward: Tries,
    pub confirm: Tries,
    pub answer: Option<Answer>,
    pub undo: Tries,
    pub done: Done,
    pub undone: Undone,
    /// The last attempt's error.
    pub error: Option<Failure>,
}

impl Member {
    /// Tells whether it may have acted without having worked.
    pub fn may_have_acted(&self) -> bool {
        matches!(self.done, Done::Unclear | Done::MayCome)
    }
}

/// One item of a step, or all there is of a step without `foreach`.
#[derive(Clone, Debug, Default)]
pub(super) struct Item {
    /// The member tried last; nothing before the first.
    pub current: Option<usize>,
    pub members: Vec<Member>,
    pub verdict: Option<Verdict>,
}

impl Item {
    pub fn new(members: usize) -> Self {
        Self { members: vec![Member::default(); members], ..Self::default() }
    }

    /// Tells whether it has begun and not ended.
    pub fn under_way(&self) -> bool {
        self.current.is_some() && self.verdict.is_none()
    }

    pub fn is_bad(&self) -> bool {
        matches!(self.verdict, Some(Verdict::Failed | Verdict::Unknown))
    }
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Pending,
    Skipped,
    /// It waits until a time, since a time.
    Waiting {
        until: Option<Timestamp>,
        since: Timestamp,
    },
    /// Its items are under way.
    Active,
    Ended(Verdict),
}

/// A step.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub way: Way,
    pub items: Vec<Item>,
    /// The error with which it ended.
    pub error: Option<Failure>,
    /// It ended while the run stopped; nobody passed over it.
    pub drained: bool,
    /// Which end of a step it was, counted over the run: the first cause is the lowest.
    pub ended: u64,
    /// When that was.
    pub ended_at: Timestamp,
    /// The item that failed first.
    pub culprit: Option<u32>,
    /// It has failed, and an operator let the run go on without it.
    pub waived: bool,
    /// The data of the signal that it took.
    pub data: Option<Payload>,
}

impl Step {
    pub fn new(step: &plan::Step) -> Self {
        let items = match (&step.action, &step.foreach) {
            (Action::Call(members), None) => vec![Item::new(members.len())],
            _ => Vec::new(),
        };
        Self {
            way: Way::Pending,
            items,
            error: None,
            drained: false,
            ended: 0,
            ended_at: Timestamp(i64::MIN),
            culprit: None,
            waived: false,
            data: None,
        }
    }

    pub fn is_bad(&self) -> bool {
        matches!(self.way, Way::Ended(Verdict::Failed | Verdict::Unknown))
    }

    /// Tells whether those that need it may begin.
    pub fn satisfies(&self, plan: &plan::Step) -> bool {
        match self.way {
            Way::Skipped | Way::Ended(Verdict::Succeeded) => true,
            // What only the drain ended was not passed over.
            Way::Ended(_) => plan.on_error == OnError::Continue && !self.drained,
            _ => false,
        }
    }
}

/// A signal that arrived.
#[derive(Clone, Debug)]
pub(super) struct Signal {
    pub id: Option<String>,
    pub name: String,
    pub data: Payload,
    pub at: Timestamp,
    pub taken: bool,
}

impl Model {
    /// Returns the index of a step by its name.
    pub(super) fn step_ix(&self, name: &crate::names::StepName) -> Result<usize, Violation> {
        self.plan.find(name).map(|ix| ix.0 as usize).ok_or_else(|| Violation("no such step".into()))
    }

    /// Returns the index of the step and of the item that a place names.
    pub(super) fn place_ix(&self, place: &Place) -> Result<(usize, usize), Violation> {
        let step = self.step_ix(&place.step)?;
        let foreach = self.plan.steps[step].foreach.is_some();
        match place.item {
            Some(item) if foreach && (item as usize) < self.steps[step].items.len() => Ok((step, item as usize)),
            None if !foreach && !self.steps[step].items.is_empty() => Ok((step, 0)),
            _ => wrong("no such item"),
        }
    }

    /// Returns the member that a call belongs to.
    pub(super) fn member_of(&self, call: &CallId) -> Option<&Member> {
        let (step, item) = self.place_ix(&call.place).ok()?;
        self.steps[step].items[item].members.get(usize::from(call.member))
    }

    /// Returns the member that a call belongs to, to change it; no `finally` step has one.
    pub(super) fn member_mut(&mut self, call: &CallId) -> Result<&mut Member, Violation> {
        let (step, item) = self.place_ix(&call.place)?;
        let member = self.steps[step].items[item].members.get_mut(usize::from(call.member));
        member.ok_or_else(|| Violation("no such member".into()))
    }

    /// Returns the attempts of a call.
    pub(super) fn tries(&mut self, call: &CallId) -> Result<&mut Tries, Violation> {
        if call.kind == CallKind::Finally {
            let step = self.plan.finally.iter().position(|step| step.name == call.place.step);
            return step.map(|ix| &mut self.finally[ix]).ok_or_else(|| Violation("no such `finally` step".into()));
        }
        let kind = call.kind;
        let member = self.member_mut(call)?;
        Ok(match kind {
            CallKind::Confirm => &mut member.confirm,
            CallKind::Undo => &mut member.undo,
            CallKind::Forward | CallKind::Finally => &mut member.forward,
        })
    }

    /// Returns the attempts of all calls.
    pub(super) fn all_tries(&self) -> impl Iterator<Item = &Tries> {
        let members = self.steps.iter().flat_map(|step| &step.items).flat_map(|item| &item.members);
        members.flat_map(|m| [&m.forward, &m.confirm, &m.undo]).chain(&self.finally)
    }
}
