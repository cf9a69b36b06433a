use super::*;
use crate::verify::explore::state::{Now, Phase, Stage, Verdict};
use crate::verify::findings::{Answer, Attempt, Missing, Reader, Spot, Stop, UndoEnd, World};
use crate::verify::sketch::{OnSkip, StepEnding};

const LEFT: Problem = Problem::LeftByUndone((0, 0));

/// A step that may be asked how the first has ended, and never stops the run.
fn asks(ending: StepEnding) -> Step {
    after(&[0], when(Truth::Ended(0, ending), fine()))
}

/// Tells whether the only member of a step can end it in this way.
fn can_end(member: Member, ending: StepEnding) -> bool {
    let first = on_error(OnError::Continue, one(member));
    run(&sketch(vec![first, asks(ending)])).reached.contains(&Part::When(1, true))
}

#[test]
fn an_attempt_succeeds_or_fails_in_one_of_its_ways() {
    // The step fails only clearly, so that nothing is left but by a cancel before it succeeds.
    let first = Member { endings: vec![clear()], ..charge_by_key() };
    finds(&sketch(vec![one(first)]), &[(LEFT, 1)], &[], &[Part::Step(0)]);
    // An unclear failure is enough.
    let mut second = sketch(vec![one(Member { endings: vec![unclear()], ..charge_by_key() })]);
    second.invariants = vec![never("s0.failed"), never("s0.unknown and charged"), never("s0.unknown and not charged")];
    let unclear = |ix| (Problem::Invariant(ix), 1);
    // By a cancel the attempt may still fail unclearly, and by a death be cut off; nothing of it is a known failure.
    shows(&second, &[(LEFT, 1), unclear(1), unclear(2)]);
}

#[test]
fn a_failed_attempt_is_repeated_as_often_as_there_are_attempts() {
    let of = |attempts| Member { attempts, endings: vec![retried(clear())], ..member() };
    let (step, retry) = (Part::Step(0), Part::Retry((0, 0)));
    finds(&sketch(vec![one(of(1))]), &[], &[], &[step]);
    for attempts in [2, 3] {
        finds(&sketch(vec![one(of(attempts))]), &[], &[], &[step, retry]);
        assert!(can_end(of(attempts), StepEnding::Failed));
    }
    let once = Member { attempts: 2, endings: vec![clear()], ..member() };
    finds(&sketch(vec![one(once)]), &[], &[], &[step]);
    // Attempts that are left are not used in a drain: nothing but the stop can have made this one fail.
    let left = Member { attempts: 3, endings: vec![taken_by(1, retried(clear()))], ..member() };
    let mut cancelled = sketch(vec![call(vec![left, member()])]);
    cancelled.invariants = vec![never("s0.failed")];
    shows(&cancelled, &[(Problem::Invariant(0), 2)]);
}

#[test]
fn whatever_is_unclear_once_stays_unknown_until_it_succeeds() {
    let of = |effect| {
        let endings = vec![retried(unclear()), clear()];
        Member { effect, attempts: 2, endings, harmless: true, ..member() }
    };
    let mut first = sketch(vec![one(of(Some(0)))]);
    // A clear failure without an unclear one before it has charged nobody.
    first.invariants = vec![never("s0.failed and charged"), never("s0.unknown and charged"), never("s0.ok")];
    shows(&first, &[(Problem::Invariant(1), 1), (Problem::Invariant(2), 0)]);
    // Of what does not act only the last attempt counts: after a retry both endings are possible.
    for ending in [StepEnding::Failed, StepEnding::Unknown, StepEnding::Ok] {
        assert!(can_end(of(None), ending));
    }
    let settled = Member { endings: vec![retried(unclear()), clear()], attempts: 1, ..of(None) };
    assert!(can_end(settled, StepEnding::Unknown));
    let forgotten = Member { attempts: 2, endings: vec![retried(unclear())], ..of(None) };
    assert!(!can_end(forgotten, StepEnding::Failed));
}

#[test]
fn a_death_cuts_off_what_is_under_way_and_only_what_may_be_repeated_is() {
    // Cut off, not repeated, unknown: it is undone, and the undo may fail.
    let mut once = sketch(vec![one(Member { harmless: true, ..charge() })]);
    once.invariants = vec![never("s0.unknown and charged"), never("s0.unknown and not charged"), never("s0.failed")];
    shows(&once, &[(Problem::Invariant(0), 1), (Problem::Invariant(1), 1)]);
    // What may be repeated is cut off for good only when the run has stopped.
    let mut keyed = sketch(vec![one(Member { harmless: true, ..charge_by_key() })]);
    keyed.invariants = once.invariants.clone();
    shows(&keyed, &[(Problem::Invariant(0), 2), (Problem::Invariant(1), 2)]);
    // It uses up no attempt, and is no retry.
    finds(&keyed, &[(Problem::Invariant(0), 2), (Problem::Invariant(1), 2)], &[], &[Part::Step(0)]);
    // What does not act leaves no trace, and is unknown if it is not repeated.
    let reads = Member { endings: vec![clear()], ..member() };
    assert!(!can_end(reads, StepEnding::Unknown));
}

#[test]
fn a_death_hits_one_attempt_or_several_at_once() {
    let charge = || one(Member { harmless: true, ..charge() });
    let both = sketch(vec![charge(), charge()]);
    let mut walk = Walk::new(&both);
    let spot = |step| Spot { step, item: None, member: 0 };
    walk.by(&Told::Called(spot(0))).by(&Told::Called(spot(1)));
    let cut = Told::Tried(spot(1), Attempt::CutOff(World::Done));
    let ways: Vec<After> = walk.moves(&cut).collect();
    assert_eq!(ways.len(), 4, "the other goes on, or is cut off too, in any of three worlds");
    for (after, cut) in ways.iter().zip([1, 2, 2, 2]) {
        assert_eq!(after.price.faults, cut, "each of the calls is a fault");
        let cut_off = |step: usize| matches!(after.state.task(step, None).now, Now::CutOff(_));
        assert_eq!((cut_off(0), cut_off(1)), (cut == 2, true));
    }
}

#[test]
fn a_fault_is_counted_once_for_each_call_however_often_it_fails() {
    let never_works = Member { attempts: 3, endings: vec![retried(clear())], ..charge_by_key() };
    let mut sketch = sketch(vec![one(Member { harmless: true, ..never_works })]);
    sketch.invariants = vec![never("s0.failed")];
    shows(&sketch, &[(Problem::Invariant(0), 1)]);
}

#[test]
fn a_copy_on_its_way_lands_at_any_time() {
    // The confirm says "not done" at a fault of one; then the copy lands, and the undo has something to undo.
    let first = Member {
        endings: vec![taken_by(1, unclear())],
        confirm: Some(confirm(false)),
        undo: Some(Undo { if_absent: IfAbsent::Error, ..undo() }),
        ..charge()
    };
    let second = Member { reads: vec![read(0, Aspect::Output)], ..member() };
    let missing = Missing { reader: Reader::With((0, 1)), read: 0, step: 0, what: Aspect::Output };
    shows(&sketch(vec![call(vec![first, second])]), &[(Problem::Missing(missing), 1)]);
}

#[test]
fn a_confirm_says_what_the_world_is_or_nothing() {
    let of = |confirm| {
        let first = Member { endings: vec![unclear()], confirm: Some(confirm), harmless: true, ..charge_by_key() };
        let mut sketch = sketch(vec![one(first)]);
        sketch.invariants = vec![
            never("s0.failed and charged"),
            never("s0.failed and not charged"),
            never("s0.unknown"),
            never("s0.ok and not charged"),
        ];
        sketch
    };
    let broken = |ix, faults| (Problem::Invariant(ix), faults);
    // After "not done" a copy may still come, unless it is refused.
    shows(&of(confirm(false)), &[broken(0, 1), broken(1, 1), broken(2, 2)]);
    shows(&of(confirm(true)), &[broken(1, 1), broken(2, 2)]);
    assert!(run(&of(confirm(true))).reached.contains(&Part::Confirm((0, 0))));
    // Nobody can be asked: unknown, without a further fault.
    let own = read(0, Aspect::OwnOutput);
    let missing = Missing { reader: Reader::Confirm((0, 0)), read: 0, step: 0, what: Aspect::OwnOutput };
    let lost = of(Confirm { reads: vec![own], ..confirm(true) });
    shows(&lost, &[broken(2, 1), (Problem::Missing(missing), 1)]);
}

#[test]
fn a_confirm_of_what_has_no_effect_may_say_anything() {
    let asked = |ending| can_end(Member { endings: vec![unclear()], confirm: Some(confirm(true)), ..member() }, ending);
    assert!([StepEnding::Ok, StepEnding::Failed, StepEnding::Unknown].into_iter().all(asked));
}

#[test]
fn what_was_not_done_is_owed_unless_a_late_original_is_refused() {
    let of = |blocks_late| {
        let first = Member {
            endings: vec![unclear()],
            confirm: Some(confirm(blocks_late)),
            undo: Some(Undo { if_absent: IfAbsent::Error, ..undo() }),
            ..charge_by_key()
        };
        let mut sketch = sketch(vec![one(first)]);
        sketch.invariants = vec![never("s0.failed")];
        sketch
    };
    // It is owed, and there may be nothing to undo: the run is incomplete unless the copy lands.
    shows(&of(true), &[(Problem::Invariant(0), 1)]);
    let owed = run(&of(false));
    assert_eq!(owed.problems[&Problem::Invariant(0)].faults, 1);
    assert_eq!(owed.problems[&Problem::Invariant(0)].undone.len(), 1);
    assert_eq!(run(&of(true)).problems[&Problem::Invariant(0)].undone.len(), 0);
}

#[test]
fn the_next_member_is_the_first_that_takes_the_code_and_whose_condition_holds() {
    let first = Member { endings: vec![Failing { taken_by: vec![2, 3], ..clear() }], ..member() };
    let held = Member { when: Some(decision(Truth::Free(0))), ..member() };
    let members = vec![first, member(), held, member()];
    let tried = |members| run(&sketch(vec![call(members)])).reached;
    let (step, second, third) = (Part::Step(0), Part::Fallback((0, 2)), Part::Fallback((0, 3)));
    assert_eq!(tried(members.clone()), BTreeSet::from([step, second, third]));
    let certain = [members[0].clone(), member(), member(), member()].to_vec();
    assert_eq!(tried(certain), BTreeSet::from([step, second]));
    // The ways in which a call can end without an answer have codes of their own.
    let refused = Member { reads: vec![read(1, Aspect::Output)], refused: taken_by(1, clear()), ..member() };
    let skipped = when(Truth::Const(false), fine());
    let both = sketch(vec![Step { on_skip: Some(OnSkip::Run), ..after(&[1], call(vec![refused, member()])) }, skipped]);
    assert!(run(&both).reached.contains(&Part::Fallback((0, 1))));
    let cut_off = Member { cut_off: taken_by(1, unclear()), harmless: true, ..charge() };
    assert!(tried(vec![cut_off, member()]).contains(&Part::Fallback((0, 1))));
}

#[test]
fn a_fallback_whose_condition_cannot_be_read_ends_the_step() {
    let first = Member { endings: vec![Failing { taken_by: vec![1, 2], ..clear() }], ..member() };
    let lost = Decision { reads: vec![read(1, Aspect::Output)], ..decision(Truth::Const(true)) };
    let members = vec![first, Member { when: Some(lost), ..member() }, member()];
    let reads = Step { on_skip: Some(OnSkip::Run), ..after(&[1], call(members)) };
    let missing = Missing { reader: Reader::FallbackWhen((0, 1)), read: 0, step: 1, what: Aspect::Output };
    let both = sketch(vec![reads, when(Truth::Const(false), fine())]);
    finds(&both, &[(Problem::Missing(missing), 1)], &[], &[Part::When(1, false), Part::Step(0)]);
}

#[test]
fn what_may_have_acted_is_undone_before_a_fallback_runs() {
    let first = |undo| Member { endings: vec![taken_by(1, unclear())], undo: Some(undo), ..charge_by_key() };
    let of = |undo| {
        let mut sketch = sketch(vec![call(vec![first(undo), Member { effect: Some(1), ..member() }])]);
        sketch.steps[0].on_error = OnError::Continue;
        sketch.invariants = vec![never("s0.ok and charged and sent and not refunded"), never("s0.ok and refunded")];
        sketch
    };
    // Where late originals are refused nothing can be left of the first.
    let second_left = (Problem::LeftByUndone((0, 1)), 2);
    shows(&of(undo()), &[second_left.clone(), (Problem::Invariant(1), 1)]);
    let lets_late = Undo { blocks_late: false, ..undo() };
    let late = [(Problem::LeftByCompleted((0, 0)), 1), (LEFT, 2), (Problem::Invariant(0), 1)];
    shows(&of(lets_late), &[&late[..], &[second_left, (Problem::Invariant(1), 1)]].concat());
}

#[test]
fn after_an_undo_that_failed_no_fallback_runs_and_the_step_is_unknown() {
    let cannot = Undo { reads: vec![read(0, Aspect::OwnOutput)], ..undo() };
    let first = Member { endings: vec![taken_by(1, unclear())], undo: Some(cannot), ..charge_by_key() };
    let missing = Missing { reader: Reader::Undo((0, 0)), read: 0, step: 0, what: Aspect::OwnOutput };
    let told = asks(StepEnding::Unknown);
    let both = sketch(vec![on_error(OnError::Continue, call(vec![first, member()])), told]);
    let reached = [Part::Step(0), Part::Undo((0, 0)), Part::When(1, false), Part::When(1, true), Part::Step(1)];
    finds(&both, &[(Problem::Missing(missing), 1)], &[Person::UndoFails((0, 0))], &reached);
}

#[test]
fn what_a_failure_leaves_is_undone_when_it_is_passed_over() {
    let of = |how| {
        let first = Member { endings: vec![unclear()], undo: Some(undo()), ..charge_by_key() };
        let mut sketch = sketch(vec![on_error(how, one(first))]);
        sketch.invariants = vec![never("s0.unknown and refunded"), never("s0.unknown and charged and not refunded")];
        sketch
    };
    for how in [OnError::Continue, OnError::Compensate] {
        shows(&of(how), &[(Problem::Invariant(0), 1)]);
    }
    // A run that is parked undoes when somebody cancels it.
    shows(&of(OnError::Park), &[(Problem::Invariant(0), 2)]);
}

#[test]
fn a_step_is_unknown_if_a_member_is_that_was_not_undone() {
    let of = |undo| {
        let first = Member { endings: vec![taken_by(1, unclear())], undo, harmless: true, ..charge_by_key() };
        let mut sketch = sketch(vec![call(vec![first, Member { endings: vec![clear()], ..member() }])]);
        sketch.invariants = vec![never("s0.failed"), never("s0.unknown")];
        sketch
    };
    // Both members fail; or the run is cancelled while the first is under way, and that fails.
    shows(&of(None), &[(Problem::Invariant(1), 2)]);
    shows(&of(Some(undo())), &[(Problem::Invariant(0), 2), (Problem::Invariant(1), 2)]);
}

/// The place of the only member of the first step.
const SPOT: Spot = Spot { step: 0, item: None, member: 0 };

#[test]
fn only_an_unclear_end_is_asked_about_and_owed() {
    let first =
        Member { endings: vec![clear(), unclear()], confirm: Some(confirm(true)), undo: Some(undo()), ..member() };
    let sketch = sketch(vec![one(first)]);
    let failed = |ending| Told::Tried(SPOT, Attempt::Failed(ending, World::Nothing));
    let mut clearly = Walk::new(&sketch);
    clearly.by(&Told::Called(SPOT)).by(&failed(0)).to(|state| state.phase == Phase::Back);
    clearly.to(|state| state.phase == Phase::Undone);
    let mut unclearly = Walk::new(&sketch);
    unclearly.by(&Told::Called(SPOT)).by(&failed(1));
    // What has no effect may be found to be done or not.
    for answer in [Answer::Done, Answer::NotDone, Answer::Unknown] {
        assert!(unclearly.can(&Told::Confirmed(SPOT, answer)), "{answer:?}");
    }
}

#[test]
fn who_cannot_be_asked_says_nothing() {
    let asked = Confirm { reads: vec![read(0, Aspect::OwnOutput)], ..confirm(true) };
    let first = Member { endings: vec![unclear()], confirm: Some(asked), ..charge_by_key() };
    let sketch = sketch(vec![one(first)]);
    for world in [World::Nothing, World::Done] {
        let mut walk = Walk::new(&sketch);
        walk.by(&Told::Called(SPOT)).by(&Told::Tried(SPOT, Attempt::Failed(0, world)));
        assert!(walk.can(&Told::Confirmed(SPOT, Answer::Unknown)));
        assert!(!walk.can(&Told::Confirmed(SPOT, Answer::Done)) && !walk.can(&Told::Confirmed(SPOT, Answer::NotDone)));
    }
}

#[test]
fn a_stop_between_two_attempts_forgets_no_unclear_one() {
    let endings = vec![retried(unclear()), retried(clear())];
    let mut sketch = sketch(vec![one(Member { attempts: 3, endings, harmless: true, ..charge_by_key() })]);
    sketch.invariants = vec![never("s0.failed and charged"), never("s0.failed")];
    shows(&sketch, &[(Problem::Invariant(1), 1)]);
}

#[test]
fn a_stop_during_an_undo_lets_it_end_and_calls_nobody() {
    let first = Member { endings: vec![taken_by(1, unclear())], undo: Some(undo()), ..charge_by_key() };
    let sketch = sketch(vec![call(vec![first, member()])]);
    let mut walk = Walk::new(&sketch);
    walk.by(&Told::Called(SPOT)).by(&Told::Tried(SPOT, Attempt::Failed(0, World::Done)));
    walk.by(&Told::Stopped(Stop::Cancelled)).by(&Told::PutRight(SPOT, UndoEnd::Done));
    assert_eq!(walk.state.steps[0].stage, Stage::Ended(Verdict::Unknown));
    assert!(!walk.can(&Told::Called(Spot { member: 1, ..SPOT })));
}

/// A second step that misses something if the first is unknown: at so many faults.
fn faults_to_be_unknown(first: Step) -> Option<u32> {
    let misses = one(Member { reads: vec![read(0, Aspect::Via)], ..member() });
    let second = after(&[0], when(Truth::Ended(0, StepEnding::Unknown), misses));
    let sketch = sketch(vec![on_error(OnError::Continue, first), second]);
    let missing = Missing { reader: Reader::With((1, 0)), read: 0, step: 0, what: Aspect::Via };
    problems(&sketch).get(&Problem::Missing(missing)).copied()
}

#[test]
fn an_undo_that_failed_is_a_fault_unless_it_could_not_be_called_and_makes_the_step_unknown() {
    let first =
        |undo, confirm| Member { endings: vec![taken_by(1, unclear())], undo: Some(undo), confirm, ..charge_by_key() };
    assert_eq!(faults_to_be_unknown(call(vec![first(undo(), None), member()])), Some(2));
    let cannot = Undo { reads: vec![read(0, Aspect::OwnOutput)], ..undo() };
    assert_eq!(faults_to_be_unknown(call(vec![first(cannot.clone(), None), member()])), Some(1));
    let minds = Undo { if_absent: IfAbsent::Error, ..undo() };
    assert_eq!(faults_to_be_unknown(call(vec![first(minds, None), member()])), Some(1));
    // Also of what a confirm has found not done, and may still come.
    assert_eq!(faults_to_be_unknown(call(vec![first(cannot, Some(confirm(false))), member()])), Some(1));
    assert_eq!(faults_to_be_unknown(call(vec![first(undo(), Some(confirm(false))), member()])), Some(2));
}
