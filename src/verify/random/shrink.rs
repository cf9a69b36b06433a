//! Makes a workflow smaller while something stays true of it, so that a failing comparison can be read.

use crate::teeth::{Bug, awake};
use crate::verify::sketch::{Act, Member, OnError, Read, Sketch, Step, Truth};

/// Drops steps, members, reads and policies as long as `fails` is still true of what is left.
pub fn shrink(sketch: &Sketch, fails: &dyn Fn(&Sketch) -> bool) -> Sketch {
    let mut least = sketch.clone();
    while let Some(next) = smaller(&least)
        .into_iter()
        .find(|next| weight(next) < weight(&least) && (fails(next) || awake(Bug::ShrunkToAnything)))
    {
        least = next;
    }
    least
}

/// Returns how much there is to read in a workflow.
#[must_use]
pub fn weight(sketch: &Sketch) -> usize {
    let mut sketch = sketch.clone();
    let mut weight = sketch.invariants.len() + usize::from(sketch.deadline);
    reads(&mut sketch, &mut |reads| weight += 2 * reads.len());
    truths(&mut sketch, &mut |truth| weight += size(truth));
    for step in &sketch.steps {
        let flags = [
            step.pivot,
            step.on_skip.is_some(),
            step.on_error != OnError::Compensate,
            step.concurrency > 1,
            step.let_in,
        ];
        weight += 20 + step.needs.len() + 2 * usize::from(step.when.is_some()) + 2 * usize::from(step.items.is_some());
        weight += flags.into_iter().filter(|is| *is).count();
        let Act::Call(members) = &step.act else { continue };
        for member in members {
            let taken = member.endings.iter().map(|failing| 2 + failing.taken_by.len() + usize::from(failing.retried));
            weight += 9 + taken.sum::<usize>() + usize::from(member.attempts) + member.cut_off.taken_by.len();
            weight += member.refused.taken_by.len() + 2 * usize::from(member.effect.is_some());
            weight += 3 * usize::from(member.undo.is_some()) + 3 * usize::from(member.confirm.is_some());
            weight += 2 * usize::from(member.when.is_some());
        }
    }
    weight
}

fn size(truth: &Truth) -> usize {
    match truth {
        Truth::Const(true) => 0,
        Truth::Const(false) => 1,
        Truth::Free(_) | Truth::Open | Truth::Has(..) | Truth::Via(..) | Truth::Ended(..) => 2,
        Truth::Not(inner) => 1 + size(inner),
        Truth::All(parts) | Truth::Any(parts) => 1 + parts.iter().map(size).sum::<usize>(),
    }
}

/// Returns workflows that are a little smaller, those that lose most first.
fn smaller(sketch: &Sketch) -> Vec<Sketch> {
    let mut found = Vec::new();
    let mut with = |change: &dyn Fn(&mut Sketch)| {
        let mut next = sketch.clone();
        change(&mut next);
        found.push(next);
    };
    for ix in 0..sketch.steps.len() {
        if sketch.steps.len() > 1 {
            with(&|s| drop_step(s, ix));
        }
    }
    for (ix, step) in sketch.steps.iter().enumerate() {
        if let Act::Call(members) = &step.act {
            for m in 1..members.len() {
                with(&|s| drop_member(s, ix, m));
            }
            for (m, member) in members.iter().enumerate() {
                for change in MEMBER {
                    with(&|s| s.steps[ix].act = changed(&s.steps[ix].act, m, &change));
                }
                for ending in 0..member.endings.len() {
                    let gone = |member: &mut Member| drop(member.endings.remove(ending));
                    with(&|s| s.steps[ix].act = changed(&s.steps[ix].act, m, &gone));
                    let plain = |member: &mut Member| {
                        (member.endings[ending].retried, member.endings[ending].taken_by) = (false, Vec::new());
                    };
                    with(&|s| s.steps[ix].act = changed(&s.steps[ix].act, m, &plain));
                }
            }
        }
        for change in STEP {
            with(&|s| change(&mut s.steps[ix]));
        }
        for need in &step.needs {
            with(&|s| s.steps[ix].needs.retain(|other| other != need));
        }
    }
    let (mut lists, mut conditions) = (0, 0);
    reads(&mut sketch.clone(), &mut |_| lists += 1);
    truths(&mut sketch.clone(), &mut |_| conditions += 1);
    for nth in 0..lists {
        with(&|s| at(nth, |change| reads(s, change), Vec::clear));
    }
    for nth in 0..conditions {
        with(&|s| at(nth, |change| truths(s, change), |truth| *truth = Truth::Const(true)));
        with(&|s| at(nth, |change| truths(s, change), |truth| *truth = Truth::Const(false)));
        with(&|s| at(nth, |change| truths(s, change), halve));
    }
    for ix in 0..sketch.invariants.len() {
        with(&|s| drop(s.invariants.remove(ix)));
    }
    with(&|s| s.deadline = false);
    found
}

/// What can be left out of a member.
const MEMBER: [fn(&mut Member); 8] = [
    |member| member.confirm = None,
    |member| member.undo = None,
    |member| member.effect = None,
    |member| member.when = None,
    |member| member.attempts = 1.max(member.attempts - 1),
    |member| member.cut_off.taken_by.clear(),
    |member| member.refused.taken_by.clear(),
    |member| (member.effect, member.undo, member.confirm) = (None, None, None),
];

/// What can be left out of a step.
const STEP: [fn(&mut Step); 7] = [
    |step| step.when = None,
    |step| step.items = None,
    |step| step.pivot = false,
    |step| step.on_skip = None,
    |step| step.on_error = OnError::Compensate,
    |step| step.concurrency = 1,
    |step| step.let_in = false,
];

fn changed(act: &Act, member: usize, change: &dyn Fn(&mut Member)) -> Act {
    let mut act = act.clone();
    if let Act::Call(members) = &mut act {
        change(&mut members[member]);
    }
    act
}

/// Replaces a condition by its first part.
fn halve(truth: &mut Truth) {
    let first = match truth {
        Truth::Not(inner) => (**inner).clone(),
        Truth::All(parts) | Truth::Any(parts) => parts.first().cloned().unwrap_or(Truth::Const(true)),
        _ => return,
    };
    *truth = first;
}

/// Changes the `nth` of what `each` visits.
fn at<T>(nth: usize, each: impl FnOnce(&mut dyn FnMut(&mut T)), change: impl Fn(&mut T)) {
    let mut left = nth;
    each(&mut |value| {
        if left == 0 {
            change(value);
        }
        left = left.wrapping_sub(1);
    });
}

/// Drops a step; what reads it reads nothing any more, and what asks about it hears no.
fn drop_step(sketch: &mut Sketch, ix: usize) {
    let moved = |step: usize| if step > ix { step - 1 } else { step };
    let needs = sketch.steps.remove(ix).needs;
    sketch.order.retain(|step| *step != ix);
    sketch.order.iter_mut().for_each(|step| *step = moved(*step));
    for step in &mut sketch.steps {
        if step.needs.contains(&ix) {
            // What depended on it depends on what it depended on.
            step.needs.extend(&needs);
            step.needs.retain(|need| *need != ix);
            step.needs.sort_unstable();
            step.needs.dedup();
        }
        step.needs.iter_mut().for_each(|need| *need = moved(*need));
    }
    reads(sketch, &mut |reads| {
        reads.retain(|read| read.step != ix);
        reads.iter_mut().for_each(|read| read.step = moved(read.step));
    });
    truths(sketch, &mut |truth| {
        replace(truth, &|of| match of {
            Truth::Has(step, _) | Truth::Via(step, _) | Truth::Ended(step, _) if *step == ix => Truth::Const(false),
            Truth::Has(step, what) => Truth::Has(moved(*step), *what),
            Truth::Via(step, member) => Truth::Via(moved(*step), *member),
            Truth::Ended(step, ending) => Truth::Ended(moved(*step), *ending),
            other => other.clone(),
        });
    });
}

/// Drops a fallback.
fn drop_member(sketch: &mut Sketch, ix: usize, gone: usize) {
    let moved = |member: usize| if member > gone { member - 1 } else { member };
    let taken_without = |taken_by: &mut Vec<usize>| {
        taken_by.retain(|member| *member != gone);
        taken_by.iter_mut().for_each(|member| *member = moved(*member));
    };
    if let Act::Call(members) = &mut sketch.steps[ix].act {
        members.remove(gone);
        for member in members {
            member.endings.iter_mut().for_each(|failing| taken_without(&mut failing.taken_by));
            taken_without(&mut member.refused.taken_by);
            taken_without(&mut member.cut_off.taken_by);
        }
    }
    truths(sketch, &mut |truth| {
        replace(truth, &|of| match of {
            Truth::Via(step, member) if *step == ix && *member == gone => Truth::Const(false),
            Truth::Via(step, member) if *step == ix => Truth::Via(*step, moved(*member)),
            other => other.clone(),
        });
    });
}

/// Replaces the parts of a truth that have no parts.
fn replace(truth: &mut Truth, by: &dyn Fn(&Truth) -> Truth) {
    match truth {
        Truth::Not(inner) => replace(inner, by),
        Truth::All(parts) | Truth::Any(parts) => parts.iter_mut().for_each(|part| replace(part, by)),
        plain => *plain = by(plain),
    }
}

/// Visits every list of reads.
fn reads(sketch: &mut Sketch, visit: &mut dyn FnMut(&mut Vec<Read>)) {
    visit(&mut sketch.output);
    for step in &mut sketch.steps {
        step.when.iter_mut().for_each(|when| visit(&mut when.reads));
        step.items.iter_mut().for_each(&mut *visit);
        match &mut step.act {
            Act::Wait(wait) => visit(&mut wait.reads),
            Act::Call(members) => {
                for member in members {
                    visit(&mut member.reads);
                    member.when.iter_mut().for_each(|when| visit(&mut when.reads));
                    member.confirm.iter_mut().for_each(|confirm| visit(&mut confirm.reads));
                    member.undo.iter_mut().for_each(|undo| visit(&mut undo.reads));
                }
            }
        }
    }
}

/// Visits every condition.
fn truths(sketch: &mut Sketch, visit: &mut dyn FnMut(&mut Truth)) {
    reads(sketch, &mut |reads| reads.iter_mut().for_each(|read| visit(&mut read.when)));
    for step in &mut sketch.steps {
        step.when.iter_mut().for_each(|when| visit(&mut when.truth));
        if let Act::Call(members) = &mut step.act {
            members.iter_mut().filter_map(|member| member.when.as_mut()).for_each(|when| visit(&mut when.truth));
        }
    }
}
