use std::collections::BTreeSet;

use super::*;
use crate::verify::explore::explore;
use crate::verify::findings::{Missing, Part, Person, Problem, Reader};

/// Returns the name of a value's variant.
fn kind(value: &dyn std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split(['(', ' ']).next().unwrap_or_default().to_owned()
}

#[test]
fn a_number_makes_the_same_workflow_every_time() {
    let text = |seed| format!("{:?}", sketch(seed));
    assert_eq!(text(7), text(7));
    let all: BTreeSet<String> = (0..50).map(text).collect();
    assert_eq!(all.len(), 50);
}

#[test]
fn what_is_made_holds_together() {
    for seed in 0..300 {
        let sketch = sketch(seed);
        let place = |step: &usize| sketch.order.iter().position(|ix| ix == step).expect("each step is in the order");
        for (ix, step) in sketch.steps.iter().enumerate() {
            assert!(step.needs.iter().all(|need| place(need) < place(&ix)), "{seed}: a step comes after what it needs");
            let own = |read: &Read| read.step == ix && matches!(read.what, Aspect::OwnOutput | Aspect::OwnError);
            let known = |reads: &[Read]| reads.iter().all(|read| step.needs.contains(&read.step) || own(read));
            let Act::Call(members) = &step.act else { continue };
            for (m, member) in members.iter().enumerate() {
                let undo = member.undo.as_ref().map_or(&[][..], |undo| &undo.reads);
                assert!(known(&member.reads) && known(undo), "{seed}: a step needs what it reads");
                let later = |failing: &Failing| failing.taken_by.iter().all(|by| *by > m && *by < members.len());
                assert!(member.endings.iter().all(later) && later(&member.refused) && later(&member.cut_off), "{seed}");
                let may_retry = |e: &Failing| !e.retried || (member.attempts > 1 && (e.clear || member.repeatable));
                assert!(member.endings.iter().all(may_retry), "{seed}: what may not be repeated is not");
            }
        }
    }
}

#[test]
fn everything_that_can_be_found_is_found_in_a_few() {
    let mut found = BTreeSet::new();
    let mut readers = BTreeSet::new();
    for seed in 0..200 {
        let Ok(all) = explore(&sketch(seed), 1_000) else { continue };
        found.extend(all.problems.keys().map(|problem| kind(problem)));
        readers.extend(all.problems.keys().filter_map(|problem| match problem {
            Problem::Missing(Missing { reader, .. }) => Some(kind(reader)),
            _ => None,
        }));
        found.extend(all.persons.iter().map(|person| kind(person)));
        found.extend(all.reached.iter().map(|part| kind(part)));
    }
    let at = (0, 0);
    let missing = Missing { reader: Reader::Output, read: 0, step: 0, what: Aspect::Output };
    let problems = [
        Problem::LeftByCompleted(at),
        Problem::LeftByUndone(at),
        Problem::Twice(at),
        Problem::Missing(missing),
        Problem::PivotUndone(at),
        Problem::WaitsForEver(0),
        Problem::Invariant(0),
    ];
    let persons = [Person::UndoFails(at), Person::Parked(0), Person::PastPivot(0)];
    let parts =
        [Part::Step(0), Part::When(0, true), Part::Fallback(at), Part::Undo(at), Part::Confirm(at), Part::Retry(at)];
    let kinds =
        problems.iter().map(|p| kind(p)).chain(persons.iter().map(|p| kind(p))).chain(parts.iter().map(|p| kind(p)));
    assert_eq!(found, kinds.collect(), "and the order of undos is never wrong");
    let often = [Reader::When(0), Reader::With(at), Reader::Undo(at), Reader::Output].map(|reader| kind(&reader));
    assert!(often.iter().all(|reader| readers.contains(reader)), "{readers:?}");
}

#[test]
fn what_fails_is_made_smaller_and_still_fails() {
    let leaves = |sketch: &Sketch| {
        explore(sketch, 2_000).is_ok_and(|found| found.problems.keys().any(|p| matches!(p, Problem::LeftByUndone(_))))
    };
    let large = (0..).map(sketch).find(|sketch| sketch.steps.len() > 2 && leaves(sketch)).expect("there is one");
    let small = shrink(&large, &leaves);
    assert!(leaves(&small) && small.steps.len() == 1, "{small:?}");
    let Act::Call(members) = &small.steps[0].act else { unreachable!("a wait leaves nothing") };
    assert!(members.len() == 1 && members[0].effect.is_some() && members[0].attempts == 1, "{small:?}");
    assert!(
        small.invariants.is_empty() && small.steps[0].needs.is_empty() && small.steps[0].when.is_none(),
        "{small:?}"
    );
}
