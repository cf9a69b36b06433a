//! Everything that can become of a step with items, however many there are.
//!
//! One item is added after the other, in the order in which they end, until nothing new comes of another. What is told
//! apart of a list does not grow with it: how its first bad item ended, what has happened in at least one item, whether
//! the run's stop met it, and how many items were under way then. So this ends, and covers every number of
//! items; a bound such as two or three would not: three facts of an invariant may need three items, and a fourth that
//! is left over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use indexmap::IndexMap;
use indexmap::map::Entry;

use super::context::Context;
use super::facts::{Facts, Slots};
use super::spot::End;
use super::step::{At, Ended, Mark, Way, effect, ending_of, is_instant, may_have_happened, settle};
use super::{Class, Cost};
use crate::teeth::{Bug, awake};
use crate::verify::findings::{List, MemberCourse, MemberIx, Problem, Spot, StepCourse, UndoEnd};
use crate::verify::sketch::{OnError, Sketch, Step, StepEnding};

/// More items than this side by side come to nothing that so many do not come to: each further one can end as one of them.
const PLACES: u32 = 2;

/// So many side by side are counted where each may cost a fault of its own: those under way when the run stops before the
/// rest has begun. It is what a list has that does not say how many.
const COUNTED: u32 = 16;

/// What is told apart of an item.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    ending: StepEnding,
    drained: bool,
    /// Nothing was called.
    instant: bool,
    incomplete: bool,
    facts: Facts,
}

/// What is told apart of a list, of which some items have ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Listed {
    /// How the first ended that ended badly.
    bad: Option<StepEnding>,
    /// No further one begins since.
    over: bool,
    /// One ended after the run was stopped.
    drained: bool,
    /// For none of them anything was called.
    instant: bool,
    /// How many were under way at once at the end: from the first that is not passed over, or from the stop of the run.
    busy: u32,
    /// A point of no return is past.
    past: bool,
    incomplete: bool,
    facts: Facts,
}

/// What an item is told by.
#[derive(Debug)]
struct Told {
    members: Vec<MemberCourse>,
    undos: Vec<(Spot, UndoEnd)>,
    drained: bool,
}

/// The items of a list, the last first.
#[derive(Clone, Debug)]
struct Chain(Option<Rc<(Rc<Told>, Chain)>>);

/// The cheapest course to something, and to each problem on the way.
#[derive(Clone, Debug)]
struct Courses<T> {
    cost: Cost,
    told: T,
    owed: BTreeSet<MemberIx>,
    marks: BTreeMap<(Problem, At), (Cost, T)>,
}

impl<T> Courses<T> {
    /// Takes over what is cheaper, and tells whether anything was.
    fn improve(&mut self, by: Self) -> bool {
        let mut better = by.cost < self.cost;
        if better {
            (self.cost, self.told) = (by.cost, by.told);
        }
        let owed = self.owed.len();
        self.owed.extend(by.owed);
        better |= self.owed.len() > owed;
        for (problem, mark) in by.marks {
            if self.marks.get(&problem).is_none_or(|known| mark.0 < known.0) {
                self.marks.insert(problem, mark);
                better = true;
            }
        }
        better
    }
}

/// Returns everything that can become of a list whose items end so.
pub(super) fn ways(
    sketch: &Sketch,
    slots: &Slots,
    s: usize,
    ends: &[End],
    context: &Context,
    class: Class,
) -> Vec<Way> {
    let step = &sketch.steps[s];
    let kinds = kinds(sketch, slots, s, ends, context, class);
    let empty = Listed {
        bad: None,
        over: false,
        drained: false,
        instant: true,
        busy: 0,
        past: false,
        incomplete: false,
        facts: slots.none(),
    };
    let nothing = Courses { cost: Cost::STEP, told: Chain(None), owed: BTreeSet::new(), marks: BTreeMap::new() };
    let mut lists = IndexMap::from([(empty, nothing)]);
    let mut open = VecDeque::from([0]);
    while let Some(at) = open.pop_front() {
        for (kind, item) in &kinds {
            let (list, courses) = lists.get_index(at).expect("what is open was inserted");
            let Some(longer) = with(step, list, kind, slots) else { continue };
            let courses = after(courses, item);
            match lists.entry(longer) {
                Entry::Occupied(mut known) => {
                    let at = known.index();
                    if known.get_mut().improve(courses) && !open.contains(&at) {
                        open.push_back(at);
                    }
                }
                Entry::Vacant(new) => {
                    open.push_back(new.index());
                    new.insert(courses);
                }
            }
        }
    }
    let mut ways = Vec::new();
    for (list, courses) in &lists {
        for Over { ending, drained, left } in endings(step, list) {
            let end = Ended { ending, via: None, drained, instant: list.instant, pivot_past: list.past };
            let mark = |(cost, told): &(Cost, Chain)| {
                let (told, undos) = told.in_order(step, left);
                Mark { cost: *cost, told, undos }
            };
            let (told, undos) = courses.told.in_order(step, left);
            ways.push(Way {
                effect: effect(slots, s, step, end, list.incomplete, &list.facts),
                cost: courses.cost,
                told,
                undos,
                owed: courses.owed.clone(),
                marks: courses.marks.iter().map(|(problem, course)| (problem.clone(), mark(course))).collect(),
            });
        }
    }
    ways
}

/// Returns what is told apart of the ends of items, each with the cheapest course.
fn kinds(
    sketch: &Sketch,
    slots: &Slots,
    s: usize,
    ends: &[End],
    context: &Context,
    class: Class,
) -> IndexMap<Kind, Courses<Rc<Told>>> {
    let mut kinds: IndexMap<Kind, Courses<Rc<Told>>> = IndexMap::new();
    for end in ends {
        let cost = end.cost.and(Cost::STEP);
        for one in settle(sketch, slots, s, end, context, class) {
            let told = Rc::new(Told { members: end.told.clone(), undos: one.undos, drained: end.drained });
            let marks = one.problems.into_iter().map(|problem| (problem, (cost, Rc::clone(&told)))).collect();
            let courses = Courses { cost, told, owed: one.owed, marks };
            let ending = ending_of(end.verdict);
            let instant = !sketch.steps[s].let_in && is_instant(&end.told);
            let kind = Kind { ending, drained: end.drained, instant, incomplete: one.incomplete, facts: one.facts };
            match kinds.entry(kind) {
                Entry::Occupied(mut known) => drop(known.get_mut().improve(courses)),
                Entry::Vacant(new) => drop(new.insert(courses)),
            }
        }
    }
    kinds
}

/// Returns the list with one item more, which ends after the others; nothing if none can end so there.
fn with(step: &Step, list: &Listed, item: &Kind, slots: &Slots) -> Option<Listed> {
    let bad = item.ending != StepEnding::Ok;
    let stops = bad && step.on_error != OnError::Continue;
    // What ended well before the stop might as well have ended before the first that did not.
    if !item.drained && (list.drained || (list.over && !stops)) {
        return None;
    }
    let busy = list.busy + u32::from(item.drained || stops);
    let counted = counted(step);
    if step.concurrency <= counted && busy > step.concurrency {
        return None;
    }
    let incomplete = list.incomplete || item.incomplete;
    let mut facts = list.facts.clone();
    Slots::add(&mut facts, &item.facts);
    Some(Listed {
        bad: list.bad.or(bad.then_some(item.ending)),
        over: list.over || (stops && !item.drained),
        drained: list.drained || item.drained,
        instant: list.instant && item.instant,
        busy: busy.min(counted),
        past: list.past || (step.pivot && may_have_happened(item.ending) && !awake(Bug::SweepPivotItemIgnored)),
        incomplete,
        facts: if incomplete { slots.none() } else { facts },
    })
}

/// Returns up to which number it matters how many items are under way at once.
fn counted(step: &Step) -> u32 {
    if step.let_in || awake(Bug::SweepTwoPlacesCounted) { PLACES } else { COUNTED }
}

/// How a list ends.
struct Over {
    ending: StepEnding,
    drained: bool,
    /// There is an item more, which never began.
    left: bool,
}

/// Returns how a list ends of which these items have begun: it has no more, or the run was stopped before the others
/// began. These begin as soon as there is room, unless a service has to let them in; so as many as there are places are
/// under way then.
fn endings(step: &Step, list: &Listed) -> Vec<Over> {
    let whole = if step.on_error == OnError::Continue { StepEnding::Ok } else { list.bad.unwrap_or(StepEnding::Ok) };
    let mut endings = vec![Over { ending: whole, drained: list.drained, left: false }];
    let full = list.drained && (list.busy == step.concurrency.min(counted(step)) || awake(Bug::SweepPlaceLeftEmpty));
    if !list.over && (full || step.let_in || awake(Bug::SweepStoppedBeforeItems)) && !awake(Bug::SweepNoItemLeft) {
        let left = !awake(Bug::SweepLeftItemNotTold);
        endings.push(Over { ending: list.bad.unwrap_or(StepEnding::Failed), drained: true, left });
    }
    endings
}

fn after(courses: &Courses<Chain>, item: &Courses<Rc<Told>>) -> Courses<Chain> {
    let told = |before: &Chain, item: &Rc<Told>| Chain(Some(Rc::new((Rc::clone(item), before.clone()))));
    let mut longer = Courses {
        cost: courses.cost.and(item.cost),
        told: told(&courses.told, &item.told),
        owed: courses.owed.clone(),
        marks: BTreeMap::new(),
    };
    longer.owed.extend(&item.owed);
    let before = courses.marks.iter();
    let before = before.map(|(problem, (cost, chain))| (problem, (cost.and(item.cost), told(chain, &item.told))));
    let now = item.marks.iter();
    let now = now.map(|(problem, (cost, of))| (problem, (courses.cost.and(*cost), told(&courses.told, of))));
    for (problem, mark) in before.chain(now) {
        if longer.marks.get(problem).is_none_or(|known| mark.0 < known.0) {
            longer.marks.insert(problem.clone(), mark);
        }
    }
    longer
}

impl Chain {
    /// Tells the items, the first first, of a list with or without an item that is left.
    fn in_order(&self, step: &Step, left: bool) -> (StepCourse, Vec<(Spot, UndoEnd)>) {
        let mut items = Vec::new();
        let mut at = self;
        while let Some(link) = &at.0 {
            items.push(&link.0);
            at = &link.1;
        }
        items.reverse();
        // What is left waits for a place, so each has somebody in it: those that were not counted end as the last did.
        if let (true, false, Some(last)) = (left, step.let_in, items.last().copied()) {
            let busy = items.iter().filter(|item| item.drained).count();
            items.extend(std::iter::repeat_n(last, (step.concurrency as usize).saturating_sub(busy)));
        }
        let numbered = |(item, told): (u32, &&Rc<Told>)| {
            let of_item = |(spot, end): &(Spot, UndoEnd)| (Spot { item: Some(item), ..*spot }, *end);
            told.undos.iter().map(of_item).collect::<Vec<_>>()
        };
        let undos = (0..).zip(&items).flat_map(numbered).collect();
        let items = items.iter().map(|item| item.members.clone()).collect();
        (StepCourse::Listed(List { items, left }), undos)
    }
}
