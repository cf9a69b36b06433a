use super::*;
use crate::verify::sketch::Repeat;

#[test]
fn a_completed_run_keeps_only_what_its_steps_succeeded_by() {
    let of = |first: Member| {
        let second = Member { effect: Some(1), harmless: true, ..member() };
        sketch(vec![call(vec![Member { endings: vec![taken_by(1, unclear())], ..first }, second])])
    };
    let left = [(Problem::LeftByCompleted((0, 0)), 1), (Problem::LeftByUndone((0, 0)), 1)];
    shows(&of(charge_by_key()), &left);
    shows(&of(Member { harmless: true, ..charge_by_key() }), &[]);
    shows(&of(Member { undo: Some(undo()), ..charge_by_key() }), &[]);
}

#[test]
fn a_run_that_was_undone_keeps_nothing() {
    let both = sketch(vec![one(charge_by_key()), after(&[0], fails())]);
    shows(&both, &[(Problem::LeftByUndone((0, 0)), 1)]);
    let harmless = sketch(vec![one(Member { harmless: true, ..charge_by_key() }), after(&[0], fails())]);
    shows(&harmless, &[]);
}

#[test]
fn a_safe_call_forgets_and_a_keyed_one_does_not() {
    let of = |repeat| {
        let undo = Some(Undo { blocks_late: false, ..undo() });
        let first = Member { repeat, undo, attempts: 2, endings: vec![retried(unclear())], ..charge_by_key() };
        let mut sketch = sketch(vec![one(first), after(&[0], fails())]);
        // The step succeeds at last; an earlier copy may land after the undo.
        sketch.invariants = vec![never("s0.ok and s1.failed and charged and not refunded")];
        sketch
    };
    let left = (Problem::LeftByUndone((0, 0)), 1);
    shows(&of(Repeat::Keyed), std::slice::from_ref(&left));
    shows(&of(Repeat::Safe), &[left, (Problem::Invariant(0), 2)]);
}

#[test]
fn what_may_be_done_only_once_is_done_twice_if_it_is_repeated() {
    let of = |repeat| {
        let first =
            Member { repeat, repeatable: true, attempts: 2, endings: vec![retried(unclear())], ..charge_by_key() };
        let mut sketch = sketch(vec![one(first)]);
        sketch.steps[0].on_error = OnError::Continue;
        sketch
    };
    let left = [(Problem::LeftByCompleted((0, 0)), 1), (Problem::LeftByUndone((0, 0)), 1)];
    let twice = (Problem::Twice((0, 0)), 1);
    for (repeat, expected) in
        [(Repeat::Once, [&left[..], &[twice]].concat()), (Repeat::Safe, left.to_vec()), (Repeat::Keyed, left.to_vec())]
    {
        shows(&of(repeat), &expected);
    }
}

#[test]
fn an_undo_has_happened_if_nothing_of_its_effect_stands() {
    let charged = |undo| one(Member { undo, harmless: true, ..charge_by_key() });
    let mut both = sketch(vec![charged(Some(undo())), charged(None), after(&[0, 1], fails())]);
    both.invariants = vec![never("s2.failed and refunded"), never("s2.failed and not refunded")];
    shows(&both, &[(Problem::Invariant(1), 1)]);
    // Something else that stands is no matter.
    let Act::Call(members) = &mut both.steps[1].act else { unreachable!("it calls") };
    members[0].effect = Some(1);
    shows(&both, &[(Problem::Invariant(0), 1)]);
}

#[test]
fn an_invariant_is_broken_if_it_is_by_some_landing() {
    let first = Member { endings: vec![unclear()], confirm: Some(confirm(false)), harmless: true, ..charge_by_key() };
    let mut late = sketch(vec![one(first)]);
    late.invariants =
        vec![never("s0.failed and charged"), never("s0.failed and not charged"), never("nothing or s9.ok")];
    shows(&late, &[(Problem::Invariant(0), 1), (Problem::Invariant(1), 1)]);
}

#[test]
fn a_run_that_parks_is_not_judged() {
    let parks = on_error(OnError::Park, fails());
    let mut both = sketch(vec![Step { pivot: true, ..one(charge_by_key()) }, after(&[0], parks)]);
    both.invariants = vec![never("s0.ok"), never("s1.failed")];
    // Only the run that works is judged.
    shows(&both, &[(Problem::Invariant(0), 0)]);
}
