//! Everything that can become of a step, as far as others can tell: what is seen of it, what it leaves, what it costs.
//!
//! Ends that nobody can tell apart become one way with the cheapest of them; what is wrong with one of them is kept as
//! a mark at the way.

use crate::teeth::{Bug, awake};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::context::{Context, Seen};
use super::facts::{Facts, Slots};
use super::list;
use super::spot::{self, End, Left, Undoing, Verdict};
use super::world::Stands;
use super::{Class, Cost, Lookup};
use crate::verify::findings::{MemberCourse, MemberIx, Part, Person, Problem, Reader, Spot, StepCourse, UndoEnd};
use crate::verify::sketch::{Act, OnError, OnSkip, Sketch, Step, StepEnding};

/// How a step ended, with all that its members left.
struct StepEnd {
    ending: StepEnding,
    via: Option<usize>,
    drained: bool,
    /// How its call ended, if it made one.
    call: Option<End>,
    /// What a template of it missed before anything was called or waited for.
    unreadable: Vec<Problem>,
    cost: Cost,
    told: StepCourse,
}

/// What others can tell of the end of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Effect {
    pub seen: Seen,
    pub skipped: bool,
    /// What needs it may begin.
    pub satisfies: bool,
    pub drained: bool,
    /// It has ended as soon as it began: it was skipped, had no items, or failed before anything was called.
    pub instant: bool,
    /// It has failed, and that stops the run.
    pub stops: bool,
    pub parks: bool,
    pub pivot_past: bool,
    /// An undo of it fails, so that nothing is said of the end.
    pub incomplete: bool,
    /// What it adds to the facts of the invariants.
    pub facts: Facts,
}

/// A way in which a step can end, and the cheapest course of it.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub effect: Effect,
    pub cost: Cost,
    pub told: StepCourse,
    /// The undos of it on the way back.
    pub undos: Vec<(Spot, UndoEnd)>,
    /// Members that are undone on the way back.
    pub owed: BTreeSet<MemberIx>,
    pub marks: BTreeMap<(Problem, At), Mark>,
}

/// On which runs a mark is a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    /// On any.
    Any,
    /// On those whose end is judged.
    Judged,
    /// On those that are undone.
    Undone,
}

/// A course that shows a problem.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub cost: Cost,
    pub told: StepCourse,
    pub undos: Vec<(Spot, UndoEnd)>,
}

/// Everything that can become of a step in one context.
#[derive(Clone, Debug, Default)]
pub(super) struct Ways {
    pub ways: Vec<Rc<Way>>,
    pub parts: BTreeSet<Part>,
    /// Parts that are reached only when the run was stopped meanwhile.
    pub drained: BTreeSet<Part>,
    pub persons: BTreeSet<Person>,
    /// It can wait for ever.
    pub for_ever: bool,
}

/// Returns everything that can become of step `s` in a run of the class, when its needs have ended well.
pub(super) fn ways(sketch: &Sketch, slots: &Slots, s: usize, skipped: bool, context: &Context, class: Class) -> Ways {
    let mut found = Ways::default();
    let step = &sketch.steps[s];
    let (ends, items) = ends(sketch, s, skipped, context, &mut found);
    let mut merged = Merged::default();
    for end in &ends {
        let cost = if begins(&end.told) { end.cost.and(Cost::STEP) } else { end.cost };
        let settled = match &end.call {
            Some(call) => settle(sketch, slots, s, call, context, class),
            None => vec![Settled { facts: slots.none(), ..Settled::default() }],
        };
        let instant = match &end.told {
            StepCourse::Skipped | StepCourse::Unreadable => true,
            StepCourse::Called(members) => is_instant(members),
            StepCourse::Waited | StepCourse::Missed | StepCourse::Waiting | StepCourse::Listed(_) => false,
        };
        let ending = Ended { ending: end.ending, via: end.via, drained: end.drained, instant, pivot_past: false };
        for one in settled {
            let mark = || Mark { cost, told: end.told.clone(), undos: one.undos.clone() };
            let read_in_vain = end.unreadable.iter().map(|problem| ((problem.clone(), At::Any), mark()));
            let marks = one.problems.iter().map(|problem| (problem.clone(), mark())).chain(read_in_vain).collect();
            merged.add(Way {
                effect: effect(slots, s, step, ending, one.incomplete, &one.facts),
                cost,
                told: end.told.clone(),
                undos: one.undos.clone(),
                owed: one.owed,
                marks,
            });
        }
    }
    for way in items.iter().flat_map(|items| list::ways(sketch, slots, s, items, context, class)) {
        merged.add(way);
    }
    found.ways = merged.ways.into_iter().map(Rc::new).collect();
    found
}

/// Ways that differ for somebody; those that nobody can tell apart are one.
#[derive(Default)]
struct Merged {
    index: Lookup<Effect, usize>,
    ways: Vec<Way>,
}

impl Merged {
    fn add(&mut self, way: Way) {
        let Some(&known) = self.index.get(&way.effect) else {
            self.index.insert(way.effect.clone(), self.ways.len());
            return self.ways.push(way);
        };
        let known = &mut self.ways[known];
        known.owed.extend(way.owed);
        for (problem, mark) in way.marks {
            match known.marks.get(&problem) {
                Some(known) if known.cost <= mark.cost => {}
                _ => drop(known.marks.insert(problem, mark)),
            }
        }
        if way.cost < known.cost {
            (known.cost, known.told, known.undos) = (way.cost, way.told, way.undos);
        }
    }
}

/// Tells whether nothing was called: what each member reads is missing.
pub(super) fn is_instant(members: &[MemberCourse]) -> bool {
    members.iter().all(|member| member.attempts.is_empty())
}

fn begins(told: &StepCourse) -> bool {
    !matches!(told, StepCourse::Skipped)
}

/// Returns the ends of a step, and those of its items if it has any.
fn ends(
    sketch: &Sketch,
    s: usize,
    skipped: bool,
    context: &Context,
    found: &mut Ways,
) -> (Vec<StepEnd>, Option<Vec<End>>) {
    let step = &sketch.steps[s];
    if context.stopped && step.is_let_in() {
        return (Vec::new(), None);
    }
    let plain = |ending, told| StepEnd {
        ending,
        via: None,
        drained: false,
        call: None,
        unreadable: Vec::new(),
        cost: Cost::NONE,
        told,
    };
    let unreadable =
        |missing: Vec<Problem>| StepEnd { unreadable: missing, ..plain(StepEnding::Failed, StepCourse::Unreadable) };
    if skipped && !awake(Bug::SweepSkipNotPassedOn) && !step.needs.is_empty() && step.on_skip != Some(OnSkip::Run) {
        return (vec![plain(StepEnding::Skipped, StepCourse::Skipped)], None);
    }
    let mut ends = Vec::new();
    if let Some(when) = &step.when {
        let (missing, answers) = context.decide(when, Reader::When(s));
        if !missing.is_empty() {
            ends.push(unreadable(missing));
        }
        found.parts.extend(answers.iter().map(|answer| Part::When(s, *answer)));
        if answers.contains(&false) {
            ends.push(plain(StepEnding::Skipped, StepCourse::Skipped));
        }
        if !answers.contains(&true) {
            return (ends, None);
        }
    }
    match &step.act {
        Act::Wait(wait) => {
            let (missing, avoidable) = context.missing(&wait.reads, Reader::Until(s), false);
            if !missing.is_empty() {
                ends.push(unreadable(missing));
            }
            if avoidable {
                found.parts.insert(Part::Step(s));
                let missed = || StepEnd { cost: Cost::FAULT, ..plain(StepEnding::Failed, StepCourse::Missed) };
                let may_miss = wait.signal && wait.limited;
                if !context.stopped {
                    ends.push(plain(StepEnding::Ok, StepCourse::Waited));
                    ends.extend(may_miss.then(missed));
                }
                // It may be over in the moment in which the run stops.
                if !step.pivot && !awake(Bug::SweepNoWaitOverBefore) {
                    let late = |end: StepEnd| StepEnd { drained: true, cost: end.cost.and(Cost::ODD), ..end };
                    ends.push(late(plain(StepEnding::Ok, StepCourse::Waited)));
                    let passes = may_miss && step.on_error != OnError::Compensate;
                    ends.extend(passes.then(|| late(missed())));
                }
                let ends_some_time = wait.limited || (sketch.deadline && !awake(Bug::SweepDeadlineEndsNoWait));
                found.for_ever = wait.signal && !ends_some_time && !context.stopped;
                ends.push(StepEnd { drained: true, ..plain(StepEnding::Failed, StepCourse::Waiting) });
            }
            (ends, None)
        }
        Act::Call(members) => {
            let listed = step.items.as_ref().map(|reads| context.missing(reads, Reader::Items(s), false));
            if let Some((missing, avoidable)) = listed {
                if !missing.is_empty() {
                    ends.push(unreadable(missing));
                }
                if !avoidable {
                    return (ends, None);
                }
            }
            if context.stopped && step.let_in {
                // No item is let in before the run stops.
                return (ends, Some(Vec::new()));
            }
            found.parts.insert(Part::Step(s));
            let searched = spot::search(s, members, step.on_error, step.pivot, context);
            found.parts.extend(searched.parts);
            found.drained = searched.drained;
            found.persons.extend(searched.persons);
            if step.items.is_some() {
                return (ends, Some(searched.ends));
            }
            ends.extend(searched.ends.into_iter().map(single));
            (ends, None)
        }
    }
}

pub(super) fn ending_of(verdict: Verdict) -> StepEnding {
    match verdict {
        Verdict::By(_) => StepEnding::Ok,
        Verdict::Failed => StepEnding::Failed,
        Verdict::Unknown => StepEnding::Unknown,
    }
}

/// Whether a point of no return that ended so is past.
pub(super) fn may_have_happened(ending: StepEnding) -> bool {
    matches!(ending, StepEnding::Ok | StepEnding::Unknown)
}

fn single(end: End) -> StepEnd {
    let via = match end.verdict {
        Verdict::By(member) => Some(member),
        Verdict::Failed | Verdict::Unknown => None,
    };
    StepEnd {
        ending: ending_of(end.verdict),
        via,
        drained: end.drained,
        unreadable: Vec::new(),
        cost: end.cost,
        told: StepCourse::Called(end.told.clone()),
        call: Some(end),
    }
}

/// What becomes of a call that has ended when the run ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Settled {
    /// What it adds to the facts of the invariants.
    pub facts: Facts,
    /// An undo of it fails, so that nothing is said of the end.
    pub incomplete: bool,
    pub problems: Vec<(Problem, At)>,
    pub undos: Vec<(Spot, UndoEnd)>,
    pub owed: BTreeSet<MemberIx>,
}

/// Returns everything that can become of a call when a run of the class ends.
pub(super) fn settle(
    sketch: &Sketch,
    slots: &Slots,
    s: usize,
    call: &End,
    context: &Context,
    class: Class,
) -> Vec<Settled> {
    let members = sketch.steps[s].members();
    let problems = call.problems.iter().map(|problem| (problem.clone(), At::Any)).collect();
    let first = Settled { facts: slots.none(), incomplete: call.incomplete, problems, ..Settled::default() };
    let mut all: Vec<(Settled, Vec<Left>)> = vec![(first, Vec::new())];
    for left in &call.left {
        let (Class::Undone, true, Some(undo)) = (class, left.owed, &members[left.member].undo) else {
            all.iter_mut().for_each(|(_, finals)| finals.push(*left));
            continue;
        };
        let ix = (s, left.member);
        let at = Spot { step: s, item: None, member: left.member };
        let undoing = Undoing { member: &members[left.member], undo, ix, own: left.succeeded, denied: left.denied };
        let mut more = Vec::new();
        for outcome in undoing.outcomes(context, left.trace) {
            // A failure that need not be is a run like this one that ends with a person.
            if outcome.after.is_none() && outcome.cost >= Cost::FAULT {
                continue;
            }
            for (settled, finals) in &all {
                let (mut settled, mut finals) = (settled.clone(), finals.clone());
                settled.owed.insert(ix);
                settled.problems.extend(outcome.problems.iter().map(|problem| (problem.clone(), At::Undone)));
                settled.incomplete |= outcome.after.is_none();
                settled.undos.push((at, if outcome.after.is_some() { UndoEnd::Done } else { UndoEnd::Failed }));
                finals.push(Left { trace: outcome.after.unwrap_or(left.trace), ..*left });
                more.push((settled, finals));
            }
        }
        all = more;
    }
    let judged = all.into_iter().map(|(mut settled, finals)| {
        for left in finals {
            let by = call.verdict == Verdict::By(left.member)
                || (matches!(call.verdict, Verdict::By(_)) && awake(Bug::SweepKeptByAnyMember));
            judge(sketch, slots, s, by, left, class, &mut settled);
        }
        if settled.incomplete {
            settled.facts = slots.none();
        }
        settled
    });
    judged.collect()
}

/// Notes what stands of a member at the end of the run, by which its step succeeded or not.
fn judge(sketch: &Sketch, slots: &Slots, s: usize, by: bool, left: Left, class: Class, settled: &mut Settled) {
    let member = &sketch.steps[s].members()[left.member];
    let ix = (s, left.member);
    let Some(effect) = member.effect else { return };
    let undone = member.undo.as_ref().and_then(|undo| undo.undone.as_deref());
    slots.note(&mut settled.facts, effect, undone, left.trace);
    if member.harmless {
        return;
    }
    if left.trace.stands == Stands::Twice {
        settled.problems.push((Problem::Twice(ix), At::Judged));
    }
    match class {
        Class::Completed if left.trace.is_left() && !by => {
            settled.problems.push((Problem::LeftByCompleted(ix), At::Judged));
        }
        Class::Undone if left.trace.is_left() => settled.problems.push((Problem::LeftByUndone(ix), At::Judged)),
        Class::Completed | Class::Undone => {}
    }
}

/// How a step ended, for others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub ending: StepEnding,
    pub via: Option<usize>,
    pub drained: bool,
    pub instant: bool,
    /// An item of it is past, whatever the step came to.
    pub pivot_past: bool,
}

/// Returns what others can tell of the end of a step.
pub(super) fn effect(slots: &Slots, s: usize, step: &Step, end: Ended, incomplete: bool, of_calls: &Facts) -> Effect {
    let bad = matches!(end.ending, StepEnding::Failed | StepEnding::Unknown);
    let mut facts = slots.none();
    if !incomplete {
        slots.note_step(&mut facts, s, end.ending);
        Slots::add(&mut facts, of_calls);
    }
    Effect {
        seen: if end.drained { Seen::default() } else { Seen::ended(end.ending, end.via) },
        skipped: end.ending == StepEnding::Skipped,
        satisfies: !end.drained && (!bad || step.on_error == OnError::Continue),
        drained: end.drained,
        // A service keeps a call waiting for some time, whatever it comes to.
        instant: end.instant && !step.is_let_in(),
        stops: bad && !end.drained && step.on_error == OnError::Compensate,
        parks: bad && !end.drained && step.on_error == OnError::Park,
        pivot_past: step.pivot && (end.pivot_past || may_have_happened(end.ending)),
        incomplete,
        facts,
    }
}
