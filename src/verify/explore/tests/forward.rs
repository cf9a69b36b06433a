use super::*;
use crate::verify::explore::after::Told;
use crate::verify::explore::rules::Rules;
use crate::verify::explore::state::{Phase, Stage, State, Verdict};
use crate::verify::findings::{Attempt, Missing, Reader, Spot, Stop, World};
use crate::verify::sketch::{OnSkip, StepEnding};

fn missing(reader: Reader, step: usize, what: Aspect) -> Problem {
    Problem::Missing(Missing { reader, read: 0, step, what })
}

#[test]
fn a_step_begins_when_its_needs_have_succeeded_or_are_passed_over() {
    let of = |how| sketch(vec![on_error(how, fails()), after(&[0], when(Truth::Has(0, Aspect::Error), fine()))]);
    let (first, second) = (Part::Step(0), Part::Step(1));
    finds(&of(OnError::Continue), &[], &[], &[first, Part::When(1, false), Part::When(1, true), second]);
    // A failure that stops or parks the run satisfies nobody.
    finds(&of(OnError::Compensate), &[], &[], &[first, Part::When(1, false)]);
    finds(&of(OnError::Park), &[], &[Person::Parked(0)], &[first, Part::When(1, false)]);
}

#[test]
fn a_step_is_skipped_with_all_that_it_needs_before_it_is_asked() {
    let of = |on_skip| {
        let skipped = || when(Truth::Const(false), fine());
        let last = after(&[0, 1], when(Truth::Free(0), fine()));
        sketch(vec![skipped(), skipped(), Step { on_skip, ..last }])
    };
    let skipped = [Part::When(0, false), Part::When(1, false)];
    finds(&of(None), &[], &[], &skipped);
    finds(&of(Some(OnSkip::Skip)), &[], &[], &skipped);
    let asked = [Part::When(2, false), Part::When(2, true), Part::Step(2)];
    finds(&of(Some(OnSkip::Run)), &[], &[], &[skipped[0], skipped[1], asked[0], asked[1], asked[2]]);
    // One that was not skipped is enough.
    let mut one_ran = of(None);
    one_ran.steps[1].when = None;
    finds(&one_ran, &[], &[], &[skipped[0], Part::Step(1), asked[0], asked[1], asked[2]]);
}

#[test]
fn a_free_condition_is_the_same_wherever_it_stands() {
    let of = |truth| {
        let reader = one(Member { reads: vec![read(0, Aspect::Output)], ..member() });
        let second = Step { on_skip: Some(OnSkip::Run), ..after(&[0], when(truth, reader)) };
        sketch(vec![when(Truth::Free(0), fine()), second])
    };
    shows(&of(Truth::Free(0)), &[]);
    let missed = (missing(Reader::With((1, 0)), 0, Aspect::Output), 0);
    shows(&of(Truth::Free(1)), std::slice::from_ref(&missed));
    shows(&of(Truth::Not(Box::new(Truth::Free(0)))), std::slice::from_ref(&missed));
    shows(&of(Truth::Open), std::slice::from_ref(&missed));
    shows(&of(Truth::All(vec![Truth::Free(1), Truth::Free(0)])), &[]);
    shows(&of(Truth::Any(vec![Truth::Free(1), Truth::Free(0)])), &[missed]);
}

#[test]
fn what_is_there_follows_from_how_a_step_ended() {
    let parts = [
        (Truth::Has(0, Aspect::Output), [true, false, false, false]),
        (Truth::Has(0, Aspect::Error), [false, true, true, false]),
        (Truth::Has(0, Aspect::Via), [true, false, false, false]),
        (Truth::Via(0, 0), [true, false, false, false]),
        (Truth::Via(0, 1), [false; 4]),
        (Truth::Ended(0, StepEnding::Ok), [true, false, false, false]),
        (Truth::Ended(0, StepEnding::Failed), [false, true, false, false]),
        (Truth::Ended(0, StepEnding::Unknown), [false, false, true, false]),
        (Truth::Ended(0, StepEnding::Skipped), [false, false, false, true]),
    ];
    for (truth, expected) in parts {
        let of = |first: Step| {
            let second = Step { on_skip: Some(OnSkip::Run), ..after(&[0], when(truth.clone(), fine())) };
            let reached = run(&sketch(vec![on_error(OnError::Continue, first), second])).reached;
            (reached.contains(&Part::When(1, true)), reached.contains(&Part::When(1, false)))
        };
        // Whoever can fail can also succeed, so what may be is the union of both.
        let [ok, failed, unknown, skipped] = expected;
        assert_eq!(of(fine()), (ok, !ok), "{truth:?}");
        let fails_so = |ending| one(Member { endings: vec![ending], ..member() });
        assert_eq!(of(fails_so(clear())), (ok || failed, !ok || !failed), "{truth:?}");
        assert_eq!(of(fails_so(unclear())), (ok || unknown, !ok || !unknown), "{truth:?}");
        assert_eq!(of(when(Truth::Const(false), fine())), (skipped, !skipped), "{truth:?}");
    }
    // Nobody was called by a wait, and nobody in particular by a list.
    let list = Step { items: Some(Vec::new()), ..fine() };
    for first in [waits(false, true), list] {
        let by = when(Truth::Has(0, Aspect::Via), fine());
        let got = when(Truth::Has(0, Aspect::Output), fine());
        let reached = run(&sketch(vec![first, after(&[0], by), after(&[0], got)])).reached;
        assert!(reached.contains(&Part::When(1, false)) && !reached.contains(&Part::When(1, true)));
        assert!(reached.contains(&Part::When(2, true)) && !reached.contains(&Part::When(2, false)));
    }
}

#[test]
fn a_template_that_reads_what_is_missing_fails_its_step() {
    let lost = || vec![read(0, Aspect::Output), read(0, Aspect::Error)];
    let first = || when(Truth::Const(false), fine());
    let second = |step| Step { on_skip: Some(OnSkip::Run), ..after(&[0], on_error(OnError::Continue, step)) };
    let both = |reader| {
        let of = |read, what| (Problem::Missing(Missing { reader, read, step: 0, what }), 0);
        vec![of(0, Aspect::Output), of(1, Aspect::Error)]
    };
    let told = after(&[1], when(Truth::Ended(1, StepEnding::Failed), fine()));
    let end = [Part::When(0, false), Part::When(2, true), Part::Step(2)];

    let asks = Step { when: Some(Decision { reads: lost(), ..decision(Truth::Free(0)) }), ..fine() };
    finds(&sketch(vec![first(), second(asks), told.clone()]), &both(Reader::When(1)), &[], &end);
    let lists = Step { items: Some(lost()), ..fine() };
    finds(&sketch(vec![first(), second(lists), told.clone()]), &both(Reader::Items(1)), &[], &end);
    let until = step(Act::Wait(Wait { reads: lost(), signal: false, limited: true }));
    finds(&sketch(vec![first(), second(until), told.clone()]), &both(Reader::Until(1)), &[], &end);
    // A call that is refused is requested, and a fallback may take it.
    let calls = call(vec![
        Member { reads: lost(), effect: Some(0), refused: taken_by(1, clear()), ..member() },
        Member { endings: vec![clear()], ..member() },
    ]);
    let reached = [end[0], end[1], end[2], Part::When(2, false), Part::Step(1), Part::Fallback((1, 1))];
    finds(&sketch(vec![first(), second(calls), told]), &both(Reader::With((1, 0))), &[], &reached);
}

#[test]
fn a_read_counts_only_where_its_guard_holds() {
    let of = |guard| {
        let reads = vec![Read { when: guard, ..read(0, Aspect::Output) }];
        let second = after(&[0], one(Member { reads, ..member() }));
        sketch(vec![on_error(OnError::Continue, fails()), second])
    };
    let missed = |faults| [(missing(Reader::With((1, 0)), 0, Aspect::Output), faults)];
    shows(&of(Truth::Const(true)), &missed(1));
    shows(&of(Truth::Const(false)), &[]);
    shows(&of(Truth::Has(0, Aspect::Output)), &[]);
    shows(&of(Truth::Has(0, Aspect::Error)), &missed(1));
    shows(&of(Truth::Free(0)), &missed(1));
}

#[test]
fn what_may_begin_begins_before_the_run_can_stop() {
    let of = |first: Step, second: Step, invariant: &str| {
        let mut both = sketch(vec![first, second, fails()]);
        both.invariants = vec![never(invariant)];
        problems(&both).get(&Problem::Invariant(0)).copied()
    };
    let none = "s2.failed and not s1.ok and not s1.failed and not s1.unknown";
    // A step that needs nothing, or whose needs are over before the run stops.
    assert_eq!(of(fine(), fine(), none), None);
    assert_eq!(of(fails(), after(&[0], fine()), &format!("{none} and not s0.ok")), Some(2), "both fail");
    assert_eq!(of(fine(), after(&[0], fine()), &format!("{none} and s0.ok")), Some(1), "s0 ends in the drain");
    let skipped = || when(Truth::Free(0), fine());
    let passes = |step| Step { on_skip: Some(OnSkip::Run), ..after(&[0], step) };
    assert_eq!(of(skipped(), passes(fine()), &format!("{none} and s0.skipped")), None);
    // One that has to be let in may be kept out.
    let let_in = Step { let_in: true, ..fine() };
    assert_eq!(of(fine(), let_in.clone(), none), Some(1));
    assert_eq!(of(skipped(), passes(let_in.clone()), &format!("{none} and s0.skipped")), Some(1));
    let list = Step { items: Some(Vec::new()), ..let_in };
    assert_eq!(of(fine(), list, none), None, "a list is begun without an item, and has failed");
}

#[test]
fn others_begin_though_a_step_fails_as_soon_as_it_begins() {
    let reads = || one(Member { reads: vec![read(0, Aspect::Output)], ..member() });
    let skipped = when(Truth::Const(false), fine());
    let passes = |step| Step { on_skip: Some(OnSkip::Run), ..after(&[0], step) };
    // Two that fail at once, a third that may begin with them, and a fourth with what it needs.
    let mut at_once = sketch(vec![skipped, passes(reads()), passes(reads()), passes(fine()), passes(fine())]);
    at_once.steps.push(after(&[4], fine()));
    at_once.order.push(5);
    let begun = |step: usize| format!("(s{step}.ok or s{step}.failed or s{step}.unknown)");
    at_once.invariants = vec![
        never(&format!("s1.failed and not {}", begun(2))),
        never(&format!("s1.failed and not {}", begun(3))),
        never(&format!("s1.failed and s4.ok and {}", begun(5))),
    ];
    let missed = |step| (missing(Reader::With((step, 0)), 0, Aspect::Output), 0);
    shows(&at_once, &[missed(1), missed(2)]);
}

#[test]
fn a_wait_may_be_over_in_the_moment_in_which_the_run_stops() {
    let of = |wait: Step, invariant: &str| {
        let mut all = sketch(vec![wait, after(&[0], fine()), fails()]);
        all.invariants = vec![never(&format!("{invariant} and s2.failed and not s1.ok and not s1.failed"))];
        problems(&all).get(&Problem::Invariant(0)).copied()
    };
    assert_eq!(of(waits(false, true), "s0.ok"), Some(1));
    assert_eq!(of(waits(true, true), "s0.ok"), Some(1));
    // Under way, and without a fault of its own.
    assert_eq!(of(waits(true, true), "s0.failed"), Some(1));
    let passed = on_error(OnError::Continue, waits(true, true));
    let missed = |wait: Step| {
        let told = |told: &Told| *told == Told::Missed(0);
        let workflow = sketch(vec![wait, fails()]);
        let mut walk = Walk::new(&workflow);
        let failed = Told::Tried(Spot { step: 1, item: None, member: 0 }, Attempt::Failed(0, World::Nothing));
        walk.by(&Told::Waits(0)).to(|state| state.steps[1].under_way()).by(&failed);
        assert_eq!(walk.state.phase, Phase::Drain);
        walk.all_moves().any(|after| after.told.iter().any(told))
    };
    assert!(missed(passed) && !missed(waits(true, true)), "one that stops the run did so before");
    // A cancel is refused behind a point of no return.
    assert_eq!(of(Step { pivot: true, ..waits(true, true) }, "s0.ok"), None);
}

#[test]
fn a_wait_ends_well_by_itself_and_a_signal_may_not_come() {
    let of = |wait: Step| {
        sketch(vec![on_error(OnError::Continue, wait), after(&[0], when(Truth::Has(0, Aspect::Error), fine()))])
    };
    let came = [Part::Step(0), Part::When(1, false)];
    let missed = [Part::Step(0), Part::When(1, false), Part::When(1, true), Part::Step(1)];
    finds(&of(waits(false, true)), &[], &[], &came);
    finds(&of(waits(false, false)), &[], &[], &came);
    finds(&of(waits(true, true)), &[], &[], &missed);
    finds(&of(waits(true, false)), &[(Problem::WaitsForEver(0), 0)], &[], &came);
    finds(&Sketch { deadline: true, ..of(waits(true, false)) }, &[], &[], &came);
}

#[test]
fn a_signal_that_does_not_come_is_a_fault() {
    let mut sketch = sketch(vec![waits(true, true)]);
    sketch.invariants = vec![never("s0.failed"), never("s0.ok")];
    shows(&sketch, &[(Problem::Invariant(0), 1), (Problem::Invariant(1), 0)]);
}

/// Returns a list of steps that do nothing and may fail, on its way with two items.
fn two_items(how: OnError, concurrency: u32) -> Sketch {
    sketch(vec![on_error(how, Step { items: Some(Vec::new()), concurrency, let_in: true, ..fails() })])
}

fn stage(state: &State) -> Stage {
    state.steps[0].stage
}

const FIRST: Spot = Spot { step: 0, item: Some(0), member: 0 };
const SECOND: Spot = Spot { step: 0, item: Some(1), member: 0 };
const OK: Attempt = Attempt::Succeeded;
const BAD: Attempt = Attempt::Failed(0, World::Nothing);

#[test]
fn a_list_has_none_or_some_items() {
    let list = two_items(OnError::Compensate, 16);
    let rules = Rules::new(&list, ITEMS);
    let begun = rules.own_moves(&State::new(&list));
    let many: Vec<(Stage, usize)> =
        begun.iter().map(|after| (stage(&after.state), after.state.steps[0].items)).collect();
    let done = Stage::Ended(Verdict::Succeeded(None));
    assert_eq!(many, [(done, 0), (Stage::Calling, 1), (Stage::Calling, 2), (Stage::Calling, 3)]);
}

#[test]
fn as_many_items_are_under_way_as_may_be_at_once() {
    for (concurrency, most) in [(1, 1), (16, 2)] {
        let list = two_items(OnError::Compensate, concurrency);
        let mut walk = Walk::new(&list);
        walk.to(|state| state.steps[0].items == 2);
        walk.by(&Told::Called(FIRST));
        assert_eq!(walk.can(&Told::Called(SECOND)), most == 2);
        walk.by(&Told::Tried(FIRST, OK)).by(&Told::Called(SECOND)).by(&Told::Tried(SECOND, OK));
        assert_eq!(stage(&walk.state), Stage::Ended(Verdict::Succeeded(None)));
    }
}

#[test]
fn an_item_that_failed_stops_the_list_unless_it_is_passed_over() {
    for how in [OnError::Compensate, OnError::Park] {
        let list = two_items(how, 1);
        let mut walk = Walk::new(&list);
        walk.to(|state| state.steps[0].items == 2);
        walk.by(&Told::Called(FIRST)).by(&Told::Tried(FIRST, BAD));
        assert_eq!(stage(&walk.state), Stage::Ended(Verdict::Failed));
    }
    // Those that run end, and the step ends as the first that failed.
    let list = two_items(OnError::Compensate, 16);
    let mut walk = Walk::new(&list);
    walk.to(|state| state.steps[0].items == 2);
    walk.by(&Told::Called(FIRST)).by(&Told::Called(SECOND)).by(&Told::Tried(SECOND, BAD));
    assert_eq!((stage(&walk.state), walk.state.phase), (Stage::Calling, Phase::Forward));
    walk.by(&Told::Tried(FIRST, OK));
    assert_eq!((stage(&walk.state), walk.state.phase), (Stage::Ended(Verdict::Failed), Phase::Drain));
    let mut either = list.clone();
    let Act::Call(members) = &mut either.steps[0].act else { unreachable!("it calls") };
    members[0].endings.push(unclear());
    let mut walk = Walk::new(&either);
    walk.to(|state| state.steps[0].items == 2);
    walk.by(&Told::Called(FIRST)).by(&Told::Called(SECOND)).by(&Told::Tried(SECOND, BAD));
    walk.by(&Told::Tried(FIRST, Attempt::Failed(1, World::Nothing)));
    assert_eq!(stage(&walk.state), Stage::Ended(Verdict::Failed));
    // What is passed over is no failure of the list.
    let list = two_items(OnError::Continue, 1);
    let mut walk = Walk::new(&list);
    walk.to(|state| state.steps[0].items == 2);
    walk.by(&Told::Called(FIRST)).by(&Told::Tried(FIRST, BAD)).by(&Told::Called(SECOND)).by(&Told::Tried(SECOND, BAD));
    assert_eq!(stage(&walk.state), Stage::Ended(Verdict::Succeeded(None)));
}

#[test]
fn a_list_that_is_cut_short_by_a_stop_has_failed() {
    let list = Step { items: Some(Vec::new()), concurrency: 1, on_error: OnError::Continue, ..fine() };
    let mut sketch = sketch(vec![list]);
    sketch.invariants = vec![never("s0.failed"), never("s0.unknown")];
    // What is cut off in the drain is unknown, and one more fault.
    shows(&sketch, &[(Problem::Invariant(0), 1), (Problem::Invariant(1), 2)]);
}

#[test]
fn a_run_that_is_done_is_not_cancelled_any_more() {
    let done = Sketch { deadline: true, ..sketch(vec![fine()]) };
    let spot = Spot { item: None, ..FIRST };
    let mut walk = Walk::new(&done);
    walk.by(&Told::Called(spot));
    assert!(walk.can(&Told::Stopped(Stop::Cancelled)));
    walk.by(&Told::Tried(spot, OK));
    assert!(!walk.can(&Told::Stopped(Stop::Cancelled)));
}

#[test]
fn the_output_of_a_run_is_made_at_its_end_and_its_failure_is_the_runs() {
    let first = on_error(OnError::Continue, fails());
    let second = one(Member { undo: Some(undo()), ..charge_by_key() });
    let mut sketch = sketch(vec![first, second]);
    sketch.output = vec![read(0, Aspect::Output)];
    sketch.invariants = vec![never("s0.failed and s1.ok and not refunded")];
    let missed = (missing(Reader::Output, 0, Aspect::Output), 1);
    let reached = [Part::Step(0), Part::Step(1), Part::Undo((1, 0))];
    finds(&sketch, &[missed], &[Person::UndoFails((1, 0))], &reached);
}
