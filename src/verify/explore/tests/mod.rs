//! Each rule on the smallest workflow that shows it, with everything that must be found.

mod attempts;
mod backward;
mod forward;
mod judge;
mod lists;
mod search;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use crate::check::invariant;
use crate::verify::findings::{Found, Part, Person, Problem};
use crate::verify::sketch::{
    Act, Aspect, Confirm, Decision, Failing, IfAbsent, Invariant, Member, OnError, Read, Repeat, Site, Sketch, Step,
    Truth, Undo, Wait,
};
use crate::verify::sweep::sweep;

use super::after::{After, Told};
use super::rules::Rules;
use super::state::State;
use super::{ITEMS, explore};

/// A workflow of these steps, each after those it needs: `s0`, `s1`, ...
fn sketch(steps: Vec<Step>) -> Sketch {
    let named = |(ix, step)| Step { name: format!("s{ix}"), ..step };
    Sketch {
        order: (0..steps.len()).collect(),
        steps: steps.into_iter().enumerate().map(named).collect(),
        effects: ["charged", "sent"].map(str::to_owned).to_vec(),
        conditions: ["input.a", "input.b"].map(str::to_owned).to_vec(),
        ..Sketch::default()
    }
}

fn step(act: Act) -> Step {
    Step {
        name: String::new(),
        needs: Vec::new(),
        when: None,
        on_skip: None,
        on_error: OnError::Compensate,
        pivot: false,
        items: None,
        concurrency: 16,
        let_in: false,
        act,
        site: Site::default(),
    }
}

/// A step that calls its own member, then these fallbacks.
fn call(members: Vec<Member>) -> Step {
    step(Act::Call(members))
}

/// A step that calls one member.
fn one(member: Member) -> Step {
    call(vec![member])
}

/// A step that always succeeds and does nothing.
fn fine() -> Step {
    one(member())
}

/// A step that does nothing, and can fail.
fn fails() -> Step {
    one(Member { endings: vec![clear()], ..member() })
}

fn after(needs: &[usize], step: Step) -> Step {
    Step { needs: needs.to_vec(), ..step }
}

fn waits(signal: bool, limited: bool) -> Step {
    step(Act::Wait(Wait { reads: Vec::new(), signal, limited }))
}

/// A member that always succeeds and does nothing.
fn member() -> Member {
    Member {
        name: "primary".to_owned(),
        handler: "a.handler".to_owned(),
        when: None,
        reads: Vec::new(),
        effect: None,
        repeat: Repeat::Keyed,
        repeatable: true,
        attempts: 1,
        endings: Vec::new(),
        refused: clear(),
        cut_off: unclear(),
        confirm: None,
        undo: None,
        harmless: false,
        site: Site::default(),
    }
}

/// A member that charges, once, and always succeeds unless the process dies.
fn charge() -> Member {
    Member { effect: Some(0), repeat: Repeat::Once, repeatable: false, ..member() }
}

/// A member that charges under a key, and always succeeds.
fn charge_by_key() -> Member {
    Member { effect: Some(0), ..member() }
}

fn clear() -> Failing {
    Failing { code: "declined".to_owned(), clear: true, retried: false, taken_by: Vec::new() }
}

fn unclear() -> Failing {
    Failing { clear: false, code: "timeout".to_owned(), ..clear() }
}

fn taken_by(member: usize, failing: Failing) -> Failing {
    Failing { taken_by: vec![member], ..failing }
}

fn retried(failing: Failing) -> Failing {
    Failing { retried: true, ..failing }
}

/// An undo that takes the effect back, does not mind its absence, and refuses late originals.
fn undo() -> Undo {
    Undo {
        handler: "an.undo".to_owned(),
        reads: Vec::new(),
        undoes: true,
        undone: Some("refunded".to_owned()),
        if_absent: IfAbsent::Ok,
        blocks_late: true,
        site: Site::default(),
    }
}

fn confirm(blocks_late: bool) -> Confirm {
    Confirm { handler: "a.lookup".to_owned(), reads: Vec::new(), blocks_late, site: Site::default() }
}

fn read(step: usize, what: Aspect) -> Read {
    Read { step, what, when: Truth::Const(true), site: Site::default() }
}

fn decision(truth: Truth) -> Decision {
    Decision { truth, reads: Vec::new(), site: Site::default() }
}

fn when(truth: Truth, step: Step) -> Step {
    Step { when: Some(decision(truth)), ..step }
}

fn on_error(on_error: OnError, step: Step) -> Step {
    Step { on_error, ..step }
}

fn never(text: &str) -> Invariant {
    let formula = invariant::parse(text).expect("it is an invariant");
    Invariant { text: text.to_owned(), formula, site: Site::default() }
}

/// Explores a workflow; the sweep must find the same.
#[track_caller]
fn run(sketch: &Sketch) -> Found {
    let found = explore(sketch, 100_000).expect("it is small");
    let swept = sweep(sketch, 100_000).expect("it is small");
    let faults = |found: &Found| -> BTreeMap<Problem, u32> {
        found.problems.iter().map(|(problem, course)| (problem.clone(), course.faults)).collect()
    };
    assert_eq!(faults(&swept), faults(&found), "problems, by the sweep and by the explorer");
    assert_eq!(swept.persons, found.persons, "persons, by the sweep and by the explorer");
    assert_eq!(swept.reached, found.reached, "parts, by the sweep and by the explorer");
    found
}

/// Returns the problems with the faults that each takes.
#[track_caller]
fn problems(sketch: &Sketch) -> BTreeMap<Problem, u32> {
    run(sketch).problems.into_iter().map(|(problem, course)| (problem, course.faults)).collect()
}

#[track_caller]
fn persons(sketch: &Sketch) -> BTreeSet<Person> {
    run(sketch).persons
}

/// Demands exactly these findings.
#[track_caller]
fn finds(sketch: &Sketch, problems: &[(Problem, u32)], persons: &[Person], reached: &[Part]) {
    let found = run(sketch);
    let faults: BTreeMap<Problem, u32> = found.problems.iter().map(|(p, course)| (p.clone(), course.faults)).collect();
    assert_eq!(faults, problems.iter().cloned().collect(), "problems");
    assert_eq!(found.persons, persons.iter().copied().collect(), "persons");
    assert_eq!(found.reached, reached.iter().copied().collect(), "reached");
}

/// Demands exactly these problems, with the faults that each takes.
#[track_caller]
fn shows(sketch: &Sketch, expected: &[(Problem, u32)]) {
    assert_eq!(problems(sketch), expected.iter().cloned().collect());
}

/// One run of a workflow, move by move.
struct Walk<'s> {
    rules: Rules<'s>,
    state: State,
}

impl<'s> Walk<'s> {
    fn new(sketch: &'s Sketch) -> Self {
        Self { rules: Rules::new(sketch, ITEMS), state: State::new(sketch) }
    }

    /// Makes the first move of which this is told.
    #[track_caller]
    fn by(&mut self, told: &Told) -> &mut Self {
        let after = self.moves(told).next().expect("the move is possible");
        self.state = after.state;
        self
    }

    /// Tells whether there is a move of which this is told.
    fn can(&self, told: &Told) -> bool {
        self.moves(told).next().is_some()
    }

    fn moves(&self, told: &Told) -> impl Iterator<Item = After> {
        self.all_moves().filter(move |after| after.told.contains(told))
    }

    /// Makes the first move that comes to such a state.
    #[track_caller]
    fn to(&mut self, is: impl Fn(&State) -> bool) -> &mut Self {
        let after = self.all_moves().find(|after| is(&after.state)).expect("the state is possible");
        self.state = after.state;
        self
    }

    fn all_moves(&self) -> impl Iterator<Item = After> {
        let own = self.rules.own_moves(&self.state);
        let outer = self.rules.outer_moves(&self.state, own.is_empty());
        own.into_iter().chain(outer)
    }
}
