//! Everything that can become of one call of a step, or of one item: a small search of its own that knows nothing of
//! other steps.
//!
//! Other steps see only how it ended, so everything between its begin and its end is looked at here, once for each way
//! in which what it reads can be there or not.

use crate::teeth::{Bug, awake};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::context::Context;
use super::world::{Stands, Trace};
use super::{Cost, Set};
use crate::verify::findings::{Answer, Attempt, MemberCourse, Part, Person, Problem, Reader, UndoEnd, World};
use crate::verify::sketch::{Failing, Member, OnError, Undo};

/// How a step or an item ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// It succeeded by this member.
    By(usize),
    Failed,
    Unknown,
}

/// What a member leaves behind when its step, or item, has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Left {
    pub member: usize,
    pub trace: Trace,
    /// It has to be undone when the run is.
    pub owed: bool,
    /// It succeeded: on the way back its undo can read its output.
    pub succeeded: bool,
    /// It was said not to be done.
    pub denied: bool,
}

/// One way in which a call, or an item, ends.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub verdict: Verdict,
    /// The run was being stopped when it ended.
    pub drained: bool,
    /// What its members leave, in the order in which they were tried.
    pub left: Vec<Left>,
    /// An undo failed: the run ends with a person.
    pub incomplete: bool,
    /// What must not happen and did.
    pub problems: BTreeSet<Problem>,
    pub cost: Cost,
    pub told: Vec<MemberCourse>,
}

/// What tells an end from another: its verdict, whether it was drained or is incomplete, what is left, and the problems.
type Told = (Verdict, bool, bool, Vec<Left>, BTreeSet<Problem>);

/// What one search of a call finds.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends {
    pub ends: Vec<End>,
    pub parts: BTreeSet<Part>,
    /// Parts that are reached only when the run was stopped meanwhile.
    pub drained: BTreeSet<Part>,
    pub persons: BTreeSet<Person>,
}

/// What is to happen next with the member that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Next {
    /// Its call is wanted.
    Call,
    /// An attempt is under way.
    Running,
    /// An attempt failed in this way, and another is to come.
    Between(usize),
    /// It is over.
    Over(Code),
    /// Whether it was done was asked, or need not be.
    Asked(Code),
    /// Its undo is under way; then the next member is called, or the step passes over it.
    Undo(Code, Option<usize>),
}

/// How the last attempt of a member failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Code {
    Ending(usize),
    Refused,
    CutOff,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    member: usize,
    next: Next,
    used: u8,
    trace: Trace,
    /// An attempt gave no clear answer, and nothing has settled it since.
    unclear: bool,
    /// What the confirm answered.
    answer: Option<Answer>,
    undone: bool,
    /// It has cost its fault.
    troubled: bool,
    draining: bool,
    incomplete: bool,
    /// A member before it may have acted and was not undone.
    unsure: bool,
    before: Vec<Left>,
    problems: BTreeSet<Problem>,
}

struct Search<'a> {
    step: usize,
    members: &'a [Member],
    on_error: OnError,
    pivot: bool,
    context: &'a Context,
    found: Ends,
    /// What can be told of the ends that were found.
    ended: Set<Told>,
    /// What is still to be looked at, by its cost; the shorter courses first.
    open: BTreeMap<Cost, VecDeque<(Node, Vec<MemberCourse>)>>,
}

/// Looks at everything that can become of a call of `members`.
pub(super) fn search(step: usize, members: &[Member], on_error: OnError, pivot: bool, context: &Context) -> Ends {
    let mut search = Search {
        step,
        members,
        on_error,
        pivot,
        context,
        found: Ends::default(),
        ended: Set::default(),
        open: BTreeMap::new(),
    };
    let first = search.fresh(0, Vec::new(), false, BTreeSet::new(), false);
    search.go(Cost::NONE, first, vec![told(0)]);
    let mut seen: Set<Node> = Set::default();
    while let Some(mut cheapest) = search.open.first_entry() {
        let cost = *cheapest.key();
        match cheapest.get_mut().pop_front() {
            Some((node, told)) if seen.insert(node.clone()) => search.look(node, told, cost),
            Some(_) => {}
            None => drop(cheapest.remove()),
        }
    }
    search.found
}

fn told(member: usize) -> MemberCourse {
    MemberCourse { member, attempts: Vec::new(), confirm: None, undo: None }
}

impl<'a> Search<'a> {
    fn fresh(
        &self,
        member: usize,
        before: Vec<Left>,
        unsure: bool,
        problems: BTreeSet<Problem>,
        incomplete: bool,
    ) -> Node {
        Node {
            member,
            next: Next::Call,
            used: 0,
            trace: Trace::default(),
            unclear: false,
            answer: None,
            undone: false,
            troubled: false,
            draining: false,
            incomplete,
            unsure,
            before,
            problems,
        }
    }

    fn go(&mut self, cost: Cost, node: Node, told: Vec<MemberCourse>) {
        self.open.entry(cost).or_default().push_back((node, told));
    }

    fn look(&mut self, node: Node, told: Vec<MemberCourse>, cost: Cost) {
        // A run can be stopped whenever something of the call is under way, or between two attempts.
        if !node.draining && !matches!(node.next, Next::Call | Next::Over(_) | Next::Asked(_)) {
            self.go(cost, Node { draining: true, ..node.clone() }, told.clone());
            if self.context.stopped {
                return;
            }
        }
        match node.next {
            Next::Call => self.call(node, told, cost),
            Next::Running => self.attempt(node, told, cost),
            Next::Between(ending) if node.draining => {
                self.go(cost, Node { next: Next::Over(Code::Ending(ending)), ..node }, told);
            }
            Next::Between(_) => {
                self.found.parts.insert(Part::Retry((self.step, node.member)));
                self.go(cost, Node { next: Next::Running, ..node }, told);
            }
            Next::Over(code) => self.over(node, code, told, cost),
            Next::Asked(code) => self.asked(node, code, told, cost),
            Next::Undo(code, to) => self.undo(node, code, to, told, cost),
        }
    }

    fn call(&mut self, node: Node, told: Vec<MemberCourse>, cost: Cost) {
        let ix = (self.step, node.member);
        if node.member > 0 {
            self.found.parts.insert(Part::Fallback(ix));
        }
        let (missing, avoidable) = self.context.missing(&self.members[node.member].reads, Reader::With(ix), false);
        if avoidable {
            self.go(cost, Node { next: Next::Running, ..node.clone() }, told.clone());
        }
        if !missing.is_empty() {
            let problems = node.problems.iter().cloned().chain(missing).collect();
            self.go(cost, Node { next: Next::Over(Code::Refused), problems, ..node }, told);
        }
    }

    /// What an attempt that gave no clear answer may have come to.
    fn worlds(&self, node: &Node) -> &'static [World] {
        match self.members[node.member].effect {
            Some(_) => &[World::Nothing, World::Done, World::OnItsWay],
            None => &[World::Nothing],
        }
    }

    fn attempt(&mut self, node: Node, told: Vec<MemberCourse>, cost: Cost) {
        let member = &self.members[node.member];
        let with = |attempt: Attempt| {
            let mut told = told.clone();
            told.last_mut().expect("a member is told of before its attempts").attempts.push(attempt);
            told
        };
        let is_fault = !node.troubled || awake(Bug::SweepEachAttemptAFault);
        let troubled = cost.and(if is_fault { Cost::FAULT } else { Cost::NONE });
        let done = if member.effect.is_some() { node.trace.after(member.repeat, World::Done) } else { node.trace };
        let succeeded = Node { trace: done, ..node.clone() };
        self.succeed(succeeded, with(Attempt::Succeeded), cost);

        for (nth, failing) in member.endings.iter().enumerate() {
            let worlds = if failing.clear { &[World::Nothing] } else { self.worlds(&node) };
            for world in worlds {
                let used = node.used.saturating_add(1 + u8::from(awake(Bug::SweepAttemptLost)));
                let again = failing.retried && used < member.attempts && !node.draining;
                let failed = Node {
                    next: if again { Next::Between(nth) } else { Next::Over(Code::Ending(nth)) },
                    used,
                    trace: node.trace.after(member.repeat, *world),
                    unclear: (node.unclear && !awake(Bug::SweepUnclearForgotten)) || (!failing.clear && member.acts()),
                    troubled: true,
                    ..node.clone()
                };
                self.go(troubled, failed, with(Attempt::Failed(nth, *world)));
            }
        }
        for world in self.worlds(&node) {
            let cut = Node {
                trace: node.trace.after(member.repeat, *world),
                unclear: node.unclear || (member.acts() && !awake(Bug::SweepCutOffIsClear)),
                troubled: true,
                ..node.clone()
            };
            let repeated = member.repeatable && (!node.draining || awake(Bug::SweepCutOffRepeatedInDrain));
            let next = if repeated { Next::Running } else { Next::Over(Code::CutOff) };
            self.go(troubled.and(Cost::DEATH), Node { next, ..cut }, with(Attempt::CutOff(*world)));
        }
    }

    fn failing(&self, member: usize, code: Code) -> &'a Failing {
        let members: &'a [Member] = self.members;
        let member = &members[member];
        match code {
            Code::Ending(nth) => &member.endings[nth],
            Code::Refused => &member.refused,
            Code::CutOff => &member.cut_off,
        }
    }

    /// Whether nobody knows what became of the member.
    fn is_unknown(&self, node: &Node, code: Code) -> bool {
        if self.members[node.member].acts() { node.unclear } else { !self.failing(node.member, code).clear }
    }

    fn over(&mut self, node: Node, code: Code, told: Vec<MemberCourse>, cost: Cost) {
        let ix = (self.step, node.member);
        let member = &self.members[node.member];
        let Some(confirm) = member.confirm.as_ref().filter(|_| self.is_unknown(&node, code)) else {
            return self.go(cost, Node { next: Next::Asked(code), ..node }, told);
        };
        if node.draining {
            self.found.drained.insert(Part::Confirm(ix));
        } else {
            self.found.parts.insert(Part::Confirm(ix));
        }
        let answered = |answer| {
            let mut told = told.clone();
            told.last_mut().expect("a member is told of before its confirm").confirm = Some(answer);
            told
        };
        // Whoever asks may be stopped meanwhile.
        for draining in [node.draining, true] {
            let node = Node { draining, ..node.clone() };
            let (missing, avoidable) = self.context.missing(&confirm.reads, Reader::Confirm(ix), false);
            if !missing.is_empty() {
                let problems = node.problems.iter().cloned().chain(missing).collect();
                let (next, answer) = (Next::Asked(code), Some(Answer::Unknown));
                self.go(cost, Node { next, answer, problems, ..node.clone() }, answered(Answer::Unknown));
            }
            if !avoidable {
                continue;
            }
            let unanswered = Node { next: Next::Asked(code), answer: Some(Answer::Unknown), ..node.clone() };
            self.go(cost.and(Cost::FAULT), unanswered, answered(Answer::Unknown));
            let worldless = member.effect.is_none();
            let stands = node.trace.stands != Stands::No;
            if worldless || stands {
                self.succeed(node.clone(), answered(Answer::Done), cost);
            }
            if worldless || !stands || awake(Bug::SweepConfirmGuesses) {
                let trace = Trace {
                    coming: node.trace.coming && !confirm.blocks_late && !awake(Bug::SweepConfirmRefusesLate),
                    ..node.trace
                };
                // It is settled that it failed; whether it may still come is another question.
                let (next, answer) = (Next::Asked(code), Some(Answer::NotDone));
                self.go(cost, Node { next, trace, answer, ..node.clone() }, answered(Answer::NotDone));
            }
        }
    }

    fn succeed(&mut self, node: Node, told: Vec<MemberCourse>, cost: Cost) {
        let verdict = Verdict::By(node.member);
        let owed = self.members[node.member].undo.is_some();
        self.end(node, verdict, owed, true, told, cost);
    }

    /// Whether nobody knows what became of the member, after it was asked.
    fn stays_unknown(&self, node: &Node, code: Code) -> bool {
        node.answer != Some(Answer::NotDone) && self.is_unknown(node, code)
    }

    fn asked(&mut self, node: Node, code: Code, told: Vec<MemberCourse>, cost: Cost) {
        let unknown = self.stays_unknown(&node, code);
        let verdict = if unknown || node.unsure || node.incomplete { Verdict::Unknown } else { Verdict::Failed };
        let owed = self.owes(&node);
        if node.draining {
            return self.end(node, verdict, owed, false, told, cost);
        }
        let taken = &self.failing(node.member, code).taken_by;
        let mut later = node.member + 1;
        let mut passes = true;
        while later < self.members.len() {
            let ix = (self.step, later);
            if !taken.contains(&later) {
                later += 1;
                continue;
            }
            let Some(when) = &self.members[later].when else {
                self.fall(&node, code, later, owed, unknown, told.clone(), cost);
                passes = false;
                break;
            };
            let (missing, answers) = self.context.decide(when, Reader::FallbackWhen(ix));
            if !missing.is_empty() {
                let problems = node.problems.iter().cloned().chain(missing).collect();
                let stuck = Node { problems, ..node.clone() };
                self.pass(stuck, code, verdict, owed, told.clone(), cost);
            }
            if answers.contains(&true) {
                self.fall(&node, code, later, owed, unknown, told.clone(), cost);
            }
            if !answers.contains(&false) && !awake(Bug::SweepFallbackAfterFailedWhen) {
                passes = false;
                break;
            }
            later += 1;
        }
        if passes {
            self.pass(node, code, verdict, owed, told, cost);
        }
    }

    /// Whether the member has to be undone before anything else is tried, and when the run is.
    fn owes(&self, node: &Node) -> bool {
        let member = &self.members[node.member];
        let refused = member.confirm.as_ref().is_some_and(|confirm| confirm.blocks_late);
        let denied = node.answer == Some(Answer::NotDone) && (refused || awake(Bug::SweepNotDoneIsOver));
        member.undo.is_some() && node.unclear && !denied && !node.undone && !node.incomplete
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is where the search stands")]
    fn fall(
        &mut self,
        node: &Node,
        code: Code,
        to: usize,
        owed: bool,
        unknown: bool,
        told: Vec<MemberCourse>,
        cost: Cost,
    ) {
        if owed && !awake(Bug::SweepFallbackBeforeUndo) {
            return self.go(cost, Node { next: Next::Undo(code, Some(to)), ..node.clone() }, told);
        }
        self.next(node.clone(), to, unknown, told, cost);
    }

    fn next(&mut self, node: Node, to: usize, unknown: bool, mut told: Vec<MemberCourse>, cost: Cost) {
        let mut before = node.before;
        before.push(Left { member: node.member, trace: node.trace, owed: false, succeeded: false, denied: false });
        let unsure = node.unsure || (unknown && !node.undone);
        let fresh = self.fresh(to, before, unsure, node.problems, node.incomplete);
        told.push(self::told(to));
        self.go(cost, fresh, told);
    }

    /// Ends a member after which nothing else is tried.
    fn pass(&mut self, node: Node, code: Code, verdict: Verdict, owed: bool, told: Vec<MemberCourse>, cost: Cost) {
        if owed && self.on_error == OnError::Continue && !awake(Bug::SweepPassedOverAsItIs) {
            return self.go(cost, Node { next: Next::Undo(code, None), ..node }, told);
        }
        self.end(node, verdict, owed, false, told, cost);
    }

    fn undo(&mut self, node: Node, code: Code, to: Option<usize>, told: Vec<MemberCourse>, cost: Cost) {
        let ix = (self.step, node.member);
        let member = &self.members[node.member];
        let Some(undo) = &member.undo else { return };
        self.found.parts.insert(Part::Undo(ix));
        self.found.persons.insert(Person::UndoFails(ix));
        let unknown = self.stays_unknown(&node, code);
        let with = |end| {
            let mut told = told.clone();
            told.last_mut().expect("a member is told of before its undo").undo = Some(end);
            told
        };
        let denied = node.answer == Some(Answer::NotDone);
        let undone = Undoing { member, undo, ix, own: false, denied };
        for one in undone.outcomes(self.context, node.trace) {
            let problems: BTreeSet<Problem> = node.problems.iter().cloned().chain(one.problems).collect();
            let Some(trace) = one.after else {
                let failed = Node { incomplete: true, problems, ..node.clone() };
                let failed = if one.called { self.pivot_undone(failed, to, true) } else { failed };
                self.end(failed, Verdict::Unknown, false, false, with(UndoEnd::Failed), cost.and(one.cost));
                continue;
            };
            let after = Node { trace, undone: true, problems, ..node.clone() };
            match to.filter(|_| !after.draining) {
                Some(to) => self.next(after, to, unknown, with(UndoEnd::Done), cost),
                None => {
                    let unknown = unknown || after.unsure;
                    let after = self.pivot_undone(after, to, unknown);
                    let verdict = if unknown { Verdict::Unknown } else { Verdict::Failed };
                    self.end(after, verdict, false, false, with(UndoEnd::Done), cost);
                }
            }
        }
    }

    /// Notes that what was passed over was a point of no return.
    fn pivot_undone(&self, mut node: Node, to: Option<usize>, unknown: bool) -> Node {
        if self.pivot && unknown && to.is_none() && !awake(Bug::SweepPivotPassedOver) {
            node.problems.insert(Problem::PivotUndone((self.step, node.member)));
        }
        node
    }

    fn end(&mut self, node: Node, verdict: Verdict, owed: bool, succeeded: bool, told: Vec<MemberCourse>, cost: Cost) {
        let mut left = node.before;
        let denied = node.answer == Some(Answer::NotDone);
        left.push(Left { member: node.member, trace: node.trace, owed, succeeded, denied });
        // The cheapest comes first.
        let end = (verdict, node.draining, node.incomplete, left.clone(), node.problems.clone());
        if self.ended.insert(end) {
            let (drained, incomplete, problems) = (node.draining, node.incomplete, node.problems);
            self.found.ends.push(End { verdict, drained, left, incomplete, problems, cost, told });
        }
    }
}

/// What an undo can come to.
pub(super) struct Undone {
    /// It was called: all that it reads is there.
    pub called: bool,
    /// The world after it; nothing if it failed.
    pub after: Option<Trace>,
    pub cost: Cost,
    pub problems: Vec<Problem>,
}

/// An undo of a member.
pub(super) struct Undoing<'a> {
    pub member: &'a Member,
    pub undo: &'a Undo,
    pub ix: (usize, usize),
    /// The member's output is there to be read.
    pub own: bool,
    /// It was said not to be done.
    pub denied: bool,
}

impl Undoing<'_> {
    /// Returns everything that the undo can come to.
    pub fn outcomes(&self, context: &Context, trace: Trace) -> Vec<Undone> {
        let (missing, avoidable) = context.missing(&self.undo.reads, Reader::Undo(self.ix), self.own);
        let mut all = Vec::new();
        if !missing.is_empty() {
            all.push(Undone { called: false, after: None, cost: Cost::NONE, problems: missing });
        }
        if !avoidable {
            return all;
        }
        // A request that arrives before the undo might as well have arrived at once, but for one that a confirm did not
        // see yet.
        let arrived = trace.landed().filter(|_| self.denied && !awake(Bug::SweepNothingLandsAfterAsking));
        let mut came_to = |after, cost| all.push(Undone { called: true, after, cost, problems: Vec::new() });
        for trace in std::iter::once(trace).chain(arrived) {
            if trace.can_be_undone(self.member, self.undo) || awake(Bug::SweepAbsenceIsFine) {
                came_to(Some(trace.undone(self.undo)), Cost::NONE);
                came_to(None, Cost::FAULT);
            } else {
                came_to(None, Cost::ODD);
            }
        }
        all
    }
}
