use super::*;
use crate::verify::explore::state::Phase;
use crate::verify::findings::{Attempt, Missing, Reader, Spot, Stop, UndoEnd, World};

#[test]
fn a_cancel_stops_a_run_at_any_moment_but_not_behind_a_pivot() {
    let charged = || one(Member { undo: Some(undo()), ..charge_by_key() });
    let mut plain = sketch(vec![charged(), after(&[0], fine())]);
    plain.invariants = vec![never("refunded")];
    shows(&plain, &[(Problem::Invariant(0), 1)]);
    assert_eq!(persons(&plain), BTreeSet::from([Person::UndoFails((0, 0))]));
    // The first is the pivot: a cancel before its end is accepted, and what shows in the drain forbids the undo.
    plain.steps[0].pivot = true;
    finds(&plain, &[], &[Person::PastPivot(0)], &[Part::Step(0), Part::Step(1)]);
}

#[test]
fn a_pivot_is_past_with_its_first_item_and_the_first_cause_is_kept() {
    let items = Step { pivot: true, items: Some(Vec::new()), concurrency: 1, ..fails() };
    let list = sketch(vec![items, fails()]);
    let mut walk = Walk::new(&list);
    let item = |item| Spot { step: 0, item: Some(item), member: 0 };
    let other = Spot { step: 1, item: None, member: 0 };
    walk.to(|state| state.steps[0].items == 2).by(&Told::Called(item(0))).by(&Told::Called(other));
    assert!(walk.can(&Told::Stopped(Stop::Cancelled)));
    walk.by(&Told::Tried(item(0), Attempt::Succeeded)).by(&Told::Called(item(1)));
    assert!(!walk.can(&Told::Stopped(Stop::Cancelled)));
    let failed = |spot| Told::Tried(spot, Attempt::Failed(0, World::Nothing));
    walk.by(&failed(item(1)));
    assert_eq!(walk.state.phase, Phase::Drain);
    let last = walk.moves(&failed(other)).next().expect("it ends");
    assert_eq!(last.told, [failed(other)], "a second failure stops nothing any more");
}

#[test]
fn a_deadline_parks_a_run_behind_a_pivot() {
    let mut late = sketch(vec![Step { pivot: true, ..waits(false, true) }, after(&[0], fine())]);
    assert_eq!(persons(&late), BTreeSet::new());
    late.deadline = true;
    assert_eq!(persons(&late), BTreeSet::from([Person::PastPivot(0)]));
}

#[test]
fn a_failure_behind_a_pivot_parks_and_nothing_is_undone() {
    let first = one(Member { undo: Some(undo()), ..charge_by_key() });
    let mut both = sketch(vec![first, after(&[0], Step { pivot: true, ..fine() }), after(&[1], fails())]);
    let reached = [Part::Step(0), Part::Step(1), Part::Step(2), Part::Undo((0, 0))];
    finds(&both, &[], &[Person::PastPivot(1), Person::UndoFails((0, 0))], &reached);
    // Where the pivot comes first there is nothing that could be undone.
    both.steps.swap(0, 1);
    (both.steps[0].needs, both.steps[1].needs) = (Vec::new(), vec![0]);
    finds(&both, &[], &[Person::PastPivot(0)], &reached[..3]);
}

#[test]
fn steps_are_undone_after_those_that_depend_on_them() {
    let charged = || one(Member { undo: Some(undo()), ..charge_by_key() });
    // The second owes nothing, and the third depends on the first through it.
    let chain = sketch(vec![charged(), after(&[0], fine()), after(&[1], charged()), after(&[2], fails())]);
    let mut chain = chain;
    chain.invariants = vec![never("s3.failed")];
    let found = run(&chain);
    let failed = &found.problems[&Problem::Invariant(0)];
    let spot = |step| Spot { step, item: None, member: 0 };
    assert_eq!(failed.undone, [(spot(2), UndoEnd::Done), (spot(0), UndoEnd::Done)]);
    assert_eq!((failed.faults, failed.stop), (1, Some(Stop::Failed(3))));
    shows(&chain, &[(Problem::Invariant(0), 1)]);
}

#[test]
fn independent_undos_come_in_any_order_and_a_failed_one_stops_no_other() {
    let charged = || one(Member { undo: Some(undo()), ..charge_by_key() });
    let mut both = sketch(vec![charged(), charged(), after(&[0, 1], fails())]);
    both.invariants = vec![never("s2.failed and refunded")];
    let mut walk = Walk::new(&both);
    let spot = |step| Spot { step, item: None, member: 0 };
    walk.by(&Told::Called(spot(0))).by(&Told::Called(spot(1)));
    walk.by(&Told::Tried(spot(0), Attempt::Succeeded)).by(&Told::Tried(spot(1), Attempt::Succeeded));
    walk.by(&Told::Called(spot(2))).by(&Told::Stopped(Stop::Failed(2))).to(|state| state.phase == Phase::Back);
    assert!(walk.can(&Told::Undone(spot(0), UndoEnd::Done)) && walk.can(&Told::Undone(spot(1), UndoEnd::Done)));
    walk.by(&Told::Undone(spot(1), UndoEnd::Failed)).by(&Told::Undone(spot(0), UndoEnd::Done));
    walk.to(|state| state.phase == Phase::Incomplete);
    assert!(walk.rules.judge(&walk.state).is_empty(), "what is incomplete is left to a person");
}

#[test]
fn an_undo_that_finds_nothing_fails_if_it_minds() {
    // The only failure is unclear, and it never did anything or has not yet.
    let of = |if_absent, blocks_late| {
        let undo = Undo { if_absent, blocks_late, ..undo() };
        let mut sketch = sketch(vec![one(Member { undo: Some(undo), ..charge() })]);
        sketch.invariants = vec![never("s0.unknown and not charged"), never("s0.unknown and refunded")];
        sketch
    };
    let (nothing, taken_back) = ((Problem::Invariant(0), 1), (Problem::Invariant(1), 1));
    let late = (Problem::LeftByUndone((0, 0)), 1);
    shows(&of(IfAbsent::Ok, true), &[nothing.clone(), taken_back.clone()]);
    shows(&of(IfAbsent::Ok, false), &[nothing, taken_back.clone(), late]);
    shows(&of(IfAbsent::Error, true), std::slice::from_ref(&taken_back));
    shows(&of(IfAbsent::Error, false), &[taken_back]);
}

#[test]
fn an_undo_without_an_effect_finds_what_it_undoes() {
    let minds = Undo { if_absent: IfAbsent::Error, ..undo() };
    let first = one(Member { undo: Some(minds), ..member() });
    let mut both = sketch(vec![first, after(&[0], fails())]);
    both.invariants = vec![never("s1.failed")];
    shows(&both, &[(Problem::Invariant(0), 1)]);
}

#[test]
fn an_undo_of_something_else_leaves_the_effect() {
    let undo = Undo { undoes: false, undone: None, ..undo() };
    let left = sketch(vec![one(Member { undo: Some(undo), ..charge_by_key() })]);
    shows(&left, &[(Problem::LeftByUndone((0, 0)), 1)]);
}

#[test]
fn an_undo_reads_the_output_only_of_what_succeeded() {
    let undo = Undo { reads: vec![read(0, Aspect::OwnOutput)], ..undo() };
    let of = |confirm| {
        let undo = undo.clone();
        let first = Member { endings: vec![unclear()], undo: Some(undo), confirm, ..charge_by_key() };
        sketch(vec![one(first), after(&[0], fine())])
    };
    let missing = Missing { reader: Reader::Undo((0, 0)), read: 0, step: 0, what: Aspect::OwnOutput };
    shows(&of(None), &[(Problem::Missing(missing), 1)]);
    // Who is asked and has no answer misses it too, at one more fault.
    shows(&of(Some(confirm(true))), &[(Problem::Missing(missing), 2)]);
}

#[test]
fn an_undo_that_fails_needs_a_person_and_nothing_is_judged() {
    let cannot = Undo { reads: vec![read(0, Aspect::Error)], ..undo() };
    let first = one(Member { undo: Some(cannot), ..charge_by_key() });
    let missing = Missing { reader: Reader::Undo((0, 0)), read: 0, step: 0, what: Aspect::Error };
    let both = sketch(vec![first, after(&[0], fails())]);
    let reached = [Part::Step(0), Part::Step(1), Part::Undo((0, 0))];
    finds(&both, &[(Problem::Missing(missing), 1)], &[Person::UndoFails((0, 0))], &reached);
}

#[test]
fn others_go_on_beside_a_step_that_parks() {
    let parks = on_error(OnError::Park, fails());
    let both = sketch(vec![parks, fails(), after(&[0], fine())]);
    let reached = [Part::Step(0), Part::Step(1), Part::Step(2)];
    finds(&both, &[], &[Person::Parked(0)], &reached);
}

#[test]
fn a_pivot_that_is_undone_when_it_is_passed_over_is_a_problem() {
    let of = |ending| {
        let first = Member { endings: vec![ending], undo: Some(undo()), ..charge_by_key() };
        sketch(vec![Step { pivot: true, ..on_error(OnError::Continue, one(first)) }])
    };
    shows(&of(unclear()), &[(Problem::PivotUndone((0, 0)), 1)]);
    // A death before the clear failure makes it unclear all the same.
    shows(&of(clear()), &[(Problem::PivotUndone((0, 0)), 1)]);
    let mut compensates = of(unclear());
    compensates.steps[0].on_error = OnError::Compensate;
    finds(&compensates, &[], &[Person::PastPivot(0)], &[Part::Step(0)]);
    // What a confirm found not done has failed, whatever is undone after it.
    let mut asked = of(unclear());
    let Act::Call(members) = &mut asked.steps[0].act else { unreachable!("it calls") };
    members[0].confirm = Some(confirm(false));
    shows(&asked, &[(Problem::PivotUndone((0, 0)), 2)]);
    // An undo that cannot be called undoes nothing.
    let mut uncalled = of(unclear());
    let Act::Call(members) = &mut uncalled.steps[0].act else { unreachable!("it calls") };
    members[0].undo = Some(Undo { reads: vec![read(0, Aspect::OwnOutput)], ..undo() });
    let missing = Missing { reader: Reader::Undo((0, 0)), read: 0, step: 0, what: Aspect::OwnOutput };
    shows(&uncalled, &[(Problem::Missing(missing), 1)]);
    // Before its own fallback it may be undone.
    let mut own = of(taken_by(1, unclear()));
    let Act::Call(members) = &mut own.steps[0].act else { unreachable!("it calls") };
    members.push(member());
    shows(&own, &[]);
}
