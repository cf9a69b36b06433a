//! What a proof says, in plain words. No word of the search is used here: no state, no transition, no formula.

use super::Remark;
use crate::diag::FindingCode;
use crate::handlers::contract::IfAbsent;
use crate::plan::draw::time_text;
use crate::plan::duration::worst_case;
use crate::plan::{Plan, Timing};
use crate::verify::findings::{
    Answer, Course, MemberCourse, Missing, Part, Person, Problem, Reader, StepCourse, World,
};
use crate::verify::sketch::{Aspect, Member, OnError, Read, Repeat, Site, Sketch};

/// Returns the name of a step.
pub(super) fn step(sketch: &Sketch, step: usize) -> &str {
    sketch.steps.get(step).map_or("?", |step| step.name.as_str())
}

/// Returns how a member is called: by its step, and by its own name if it is a fallback.
pub(super) fn call(sketch: &Sketch, (s, m): (usize, usize)) -> String {
    match sketch.member((s, m)) {
        Some(member) if m > 0 => format!("{}.{}", step(sketch, s), member.name),
        _ => step(sketch, s).to_owned(),
    }
}

/// Returns the name of what a member leaves in the world.
pub(super) fn effect(sketch: &Sketch, m: (usize, usize)) -> &str {
    let named = sketch.member(m).and_then(|member| sketch.effects.get(member.effect?));
    named.map_or("something", String::as_str)
}

/// Returns the text of a read, as it stands in a template.
pub(super) fn read(sketch: &Sketch, step_read: usize, what: Aspect) -> String {
    let name = step(sketch, step_read);
    match what {
        Aspect::Output => format!("steps.{name}.output"),
        Aspect::Error => format!("steps.{name}.error"),
        Aspect::Via => format!("steps.{name}.via"),
        Aspect::OwnOutput => "output".to_owned(),
        Aspect::OwnError => "error".to_owned(),
    }
}

/// Returns the place in the file that is at fault.
pub(super) fn site(sketch: &Sketch, problem: &Problem) -> Site {
    let of_step = |s: usize| sketch.steps.get(s).map_or_else(Site::default, |step| step.site.clone());
    let of_member = |m: (usize, usize)| sketch.member(m).map_or_else(|| of_step(m.0), |member| member.site.clone());
    match problem {
        Problem::LeftByCompleted(m) | Problem::LeftByUndone(m) => {
            let undo = sketch.member(*m).and_then(|member| member.undo.as_ref());
            undo.map_or_else(|| of_member(*m), |undo| undo.site.clone())
        }
        Problem::Twice(m) | Problem::PivotUndone(m) => of_member(*m),
        Problem::Missing(missing) => {
            super::reads(sketch, missing.reader).get(missing.read).map_or_else(Site::default, |read| read.site.clone())
        }
        Problem::UndoOrder(s, _) | Problem::WaitsForEver(s) => of_step(*s),
        Problem::Invariant(i) => sketch.invariants.get(*i).map_or_else(Site::default, |stated| stated.site.clone()),
    }
}

/// Returns the name of the step that a problem is about, and of its fallback; nothing if it is about no single one.
pub(crate) fn about(sketch: &Sketch, problem: &Problem) -> Option<String> {
    let member = |m| Some(call(sketch, m).replace('.', "_"));
    let of_step = |s| Some(step(sketch, s).to_owned());
    match problem {
        Problem::LeftByCompleted(m) | Problem::LeftByUndone(m) | Problem::Twice(m) | Problem::PivotUndone(m) => {
            member(*m)
        }
        Problem::Missing(missing) => match missing.reader {
            Reader::When(s) | Reader::Items(s) | Reader::Until(s) => of_step(s),
            Reader::FallbackWhen(m) | Reader::With(m) | Reader::Confirm(m) | Reader::Undo(m) => member(m),
            Reader::Output => Some("output".to_owned()),
        },
        Problem::UndoOrder(_, s) | Problem::WaitsForEver(s) => of_step(*s),
        Problem::Invariant(_) => None,
    }
}

/// Returns the code of a problem as a finding.
pub(super) fn code(problem: &Problem) -> FindingCode {
    match problem {
        Problem::LeftByCompleted(_) | Problem::LeftByUndone(_) => FindingCode::LeftBehind,
        Problem::Twice(_) => FindingCode::HappensTwice,
        Problem::Missing(_) => FindingCode::MissingInput,
        Problem::PivotUndone(_) => FindingCode::PivotUndone,
        Problem::UndoOrder(..) => FindingCode::UndoOrder,
        Problem::WaitsForEver(_) => FindingCode::WaitsForEver,
        Problem::Invariant(_) => FindingCode::InvariantBroken,
    }
}

/// Returns what a problem comes to, as a fragment.
pub(crate) fn title(sketch: &Sketch, problem: &Problem) -> String {
    match problem {
        Problem::LeftByCompleted(m) => {
            format!("`{}` can be left behind by a run that completes without it", effect(sketch, *m))
        }
        Problem::LeftByUndone(m) => format!("`{}` can be left behind by a run that was undone", effect(sketch, *m)),
        Problem::Twice(m) => format!("`{}` can happen twice", effect(sketch, *m)),
        Problem::Missing(missing) => {
            let what = read(sketch, missing.step, missing.what);
            format!("{} reads `{what}`, which may not be there", reader(sketch, missing.reader))
        }
        Problem::PivotUndone(m) => format!("`{}` is a point of no return, and can be undone", call(sketch, *m)),
        Problem::UndoOrder(first, second) => {
            format!("`{}` can be undone before `{}`, which depends on it", step(sketch, *second), step(sketch, *first))
        }
        Problem::WaitsForEver(s) => format!("`{}` can wait for ever", step(sketch, *s)),
        Problem::Invariant(i) => {
            let text = sketch.invariants.get(*i).map_or("", |stated| stated.text.as_str());
            format!("this can come true: {text}")
        }
    }
}

fn reader(sketch: &Sketch, reader: Reader) -> String {
    match reader {
        Reader::When(s) => format!("`when` of `{}`", step(sketch, s)),
        Reader::Items(s) => format!("`foreach` of `{}`", step(sketch, s)),
        Reader::Until(s) => format!("`until` of `{}`", step(sketch, s)),
        Reader::FallbackWhen(m) => format!("`when` of `{}`", call(sketch, m)),
        Reader::With(m) => format!("`{}`", call(sketch, m)),
        Reader::Confirm(m) => format!("`confirm` of `{}`", call(sketch, m)),
        Reader::Undo(m) => format!("the undo of `{}`", call(sketch, m)),
        Reader::Output => "the output of the run".to_owned(),
    }
}

/// Returns why it comes to that, in one sentence.
pub(super) fn why(sketch: &Sketch, problem: &Problem, course: &Course) -> String {
    match problem {
        Problem::LeftByCompleted(m) | Problem::LeftByUndone(m) => why_left(sketch, problem, *m, course),
        Problem::Twice(m) => format!(
            "Calling `{}` twice does it twice, and an attempt that gave no clear answer is repeated.",
            sketch.member(*m).map_or("", |member| member.handler.as_str())
        ),
        Problem::Missing(missing) => why_missing(sketch, *missing, course),
        Problem::PivotUndone(m) => {
            format!("When nobody knows whether `{}` was done, the run goes on and undoes it.", call(sketch, *m))
        }
        Problem::UndoOrder(first, second) => {
            format!("`{}` depends on `{}` and must be undone first.", step(sketch, *first), step(sketch, *second))
        }
        Problem::WaitsForEver(s) => {
            let name = step(sketch, *s);
            format!("`{name}` has no `timeout`, the run has no `deadline`, and nothing else ends the wait.")
        }
        Problem::Invariant(_) => "The story ends with all of it true at once.".to_owned(),
    }
}

/// Returns what the course tells of a member, of the last item that tells of it.
fn told(course: &Course, (s, m): (usize, usize)) -> Option<&MemberCourse> {
    course.steps.get(&s)?.calls().flat_map(|(_, members)| members).filter(|told| told.member == m).last()
}

fn why_left(sketch: &Sketch, problem: &Problem, m: (usize, usize), course: &Course) -> String {
    let (Some(member), Some(told)) = (sketch.member(m), told(course, m)) else {
        return "Nothing takes it back.".to_owned();
    };
    let name = call(sketch, m);
    let succeeded = told.worked();
    let done = if succeeded {
        format!("`{name}` was done")
    } else if told.confirm == Some(Answer::NotDone) {
        format!("`{}` was asked too early, and `{name}` may still be done", confirmer(member))
    } else {
        format!("`{name}` gave no clear answer and may have been done")
    };
    let Some(undo) = &member.undo else {
        let goes_on = match (problem, sketch.steps[m.0].on_error) {
            (Problem::LeftByCompleted(_), OnError::Continue) => "the run goes on without it",
            (Problem::LeftByCompleted(_), _) => "a fallback takes its place",
            _ => "the run is undone",
        };
        return format!("{done}, it has no `compensate`, and {goes_on}.");
    };
    if !undo.undoes {
        let effect = effect(sketch, m);
        return format!("{done}, and `{}` does not declare that it undoes `{effect}`.", undo.handler);
    }
    format!(
        "A request that is still on its way when the undo comes is done after it: `{}` does not refuse what comes late.",
        undo.handler
    )
}

fn confirmer(member: &Member) -> &str {
    member.confirm.as_ref().map_or("confirm", |confirm| confirm.handler.as_str())
}

fn why_missing(sketch: &Sketch, missing: Missing, course: &Course) -> String {
    let name = step(sketch, missing.step);
    if missing.what == Aspect::OwnOutput {
        return match missing.reader {
            Reader::Confirm(_) => {
                "It is asked just when no answer came, so there is no answer it could read.".to_owned()
            }
            _ => "An undo also runs when no answer ever came, so it cannot depend on the answer.".to_owned(),
        };
    }
    if missing.what == Aspect::OwnError {
        return "An undo also runs when the call has worked, and then there is no error.".to_owned();
    }
    match (course.steps.get(&missing.step), missing.what) {
        (Some(StepCourse::Skipped), _) => format!("`{name}` was skipped, and a step that was skipped has none."),
        (_, Aspect::Error) => format!("`{name}` has an error only when it has failed."),
        (None, _) => format!("`{name}` had not run yet."),
        _ => format!("`{name}` did not succeed, and a step that did not has none."),
    }
}

/// Returns why a person is necessary.
pub(super) fn person(sketch: &Sketch, person: Person) -> String {
    match person {
        Person::UndoFails(m) => {
            let undo = sketch.member(m).and_then(|member| member.undo.as_ref());
            let handler = undo.map_or("the undo", |undo| undo.handler.as_str());
            format!("{handler} fails for good (undo of {})", call(sketch, m))
        }
        Person::Parked(s) => format!("{} fails for good (on_error: park)", step(sketch, s)),
        Person::PastPivot(s) => format!("something fails after {} (pivot)", step(sketch, s)),
    }
}

/// Returns what is to be said of a part that no run reaches.
pub(super) fn dead(sketch: &Sketch, part: Part) -> Remark {
    let when = |s: usize| sketch.steps[s].when.as_ref().map(|when| &when.site);
    let undo = |m| sketch.member(m).and_then(|member| member.undo.as_ref()).map(|undo| &undo.site);
    let confirm = |m| sketch.member(m).and_then(|member| member.confirm.as_ref()).map(|confirm| &confirm.site);
    let fallback = |m| sketch.member(m).map(|member| &member.site);
    let (site, title, help) = match part {
        Part::Step(s) => {
            let title = format!("no run begins `{}`", step(sketch, s));
            (Some(&sketch.steps[s].site), title, "Leave it out, or mend what leads to it.")
        }
        Part::When(s, true) => {
            let title = format!("`when` of `{}` is never true", step(sketch, s));
            (when(s), title, "Leave the step out, or mend its `when`.")
        }
        Part::When(s, false) => {
            let title = format!("`when` of `{}` is never false", step(sketch, s));
            (when(s), title, "Leave the `when` out, or mend it.")
        }
        Part::Fallback(m) => {
            let title = format!("no run tries the fallback `{}`", call(sketch, m));
            (fallback(m), title, "Leave it out, or mend its `errors` and `when`.")
        }
        Part::Undo(m) => {
            let title = format!("no run undoes `{}`", call(sketch, m));
            (undo(m), title, "Leave the `compensate` out, or mend what leads to it.")
        }
        Part::Confirm(m) => {
            let title = format!("no run asks whether `{}` was done", call(sketch, m));
            (confirm(m), title, "Leave the `confirm` out, or mend what leads to it.")
        }
        Part::Retry(m) => return never_retried(sketch, m),
    };
    // A part that is dead is there.
    let site = site.cloned().unwrap_or_default();
    let why = "No run comes to it, whatever succeeds and whatever fails.".to_owned();
    Remark { code: FindingCode::NeverReached, site, title, why, help: help.to_owned() }
}

fn never_retried(sketch: &Sketch, m: (usize, usize)) -> Remark {
    let site = sketch.member(m).map_or_else(Site::default, |member| member.site.clone());
    let title = format!("no failed attempt of `{}` is ever repeated", call(sketch, m));
    let (why, help) = match sketch.member(m) {
        Some(member) if member.effect.is_some() && !member.repeatable => (
            format!(
                "Calling `{}` twice does it twice, so after an unclear answer it is not called again, and it has no clear \
                 error that the retry takes.",
                member.handler
            ),
            "If its service knows the idempotency key, use it in the handler and declare `.keyed()`; otherwise leave the \
             retry out.",
        ),
        _ => ("It has no error that the retry takes.".to_owned(), "Leave the retry out, or mend its `errors`."),
    };
    Remark { code: FindingCode::NeverReached, site, title, why, help: help.to_owned() }
}

/// Returns what is to be said of a read of a `finally` step that finds nothing in some run.
pub(super) fn unread(sketch: &Sketch, name: &str, of: &Read) -> Remark {
    let text = read(sketch, of.step, of.what);
    Remark {
        code: FindingCode::MissingInput,
        site: of.site.clone(),
        title: format!("`{name}` in `finally` reads `{text}`, which may not be there"),
        why: format!(
            "A run that is cancelled before `{}` has none, and then `{name}` is not called.",
            step(sketch, of.step)
        ),
        help: "Give it a `default(...)`.".to_owned(),
    }
}

/// Returns what is to be said of a step whose failure costs more than it is worth.
pub(super) fn costly(sketch: &Sketch, s: usize) -> Remark {
    let name = step(sketch, s);
    let others = sketch.steps.iter().enumerate().filter(|(other, _)| *other != s);
    let undone = others.flat_map(|(_, step)| step.members()).filter(|member| member.undo.is_some());
    let mut words: Vec<String> = Vec::new();
    for effect in undone.filter_map(|member| sketch.effects.get(member.effect?)) {
        let word = format!("`{effect}`");
        if !words.contains(&word) {
            words.push(word);
        }
    }
    Remark {
        code: FindingCode::CostlyFailure,
        site: sketch.steps[s].site.clone(),
        title: format!("a failure of `{name}` undoes {}", words.join(", ")),
        why: format!(
            "When `{name}` fails the run fails, and takes back all that was done before, though nothing depends on `{name}` and \
             to leave what it does is harmless."
        ),
        help: format!("If the rest is worth keeping without `{name}`, say `on_error: continue`."),
    }
}

/// Returns the handlers with an effect or an undo, and what is taken on trust of each.
pub(super) fn trusted(sketch: &Sketch) -> Vec<(String, String)> {
    let mut trusted: Vec<(String, String)> = Vec::new();
    let mut add = |handler: &str, what: Vec<String>| {
        if !what.is_empty() && !trusted.iter().any(|(known, _)| known == handler) {
            trusted.push((handler.to_owned(), what.join(", ")));
        }
    };
    for member in sketch.members() {
        if let Some(effect) = member.effect.and_then(|effect| sketch.effects.get(effect)) {
            let repeat = match member.repeat {
                Repeat::Once => "called twice it is done twice",
                Repeat::Safe => "called twice it leaves the same state",
                Repeat::Keyed => "done once for each key",
            };
            let clear = member.endings.iter().filter(|failing| failing.clear).count();
            let mut what = vec![effect.clone(), repeat.to_owned()];
            if clear > 0 {
                what.push("its clear errors mean that it was not done".to_owned());
            }
            add(&member.handler, what);
        }
        if let Some(confirm) = &member.confirm {
            let mut what = vec!["knows whether a call was done".to_owned()];
            if confirm.blocks_late {
                what.push("refuses late calls after `not done`".to_owned());
            }
            add(&confirm.handler, what);
        }
        if let Some(undo) = member.undo.as_ref().filter(|undo| undo.undoes) {
            let mut what = vec![undo.undone.clone().unwrap_or_else(|| "undoes".to_owned())];
            if undo.if_absent == IfAbsent::Ok {
                what.push("fine with nothing to undo".to_owned());
            }
            if undo.blocks_late {
                what.push("refuses late calls".to_owned());
            }
            add(&undo.handler, what);
        }
    }
    trusted
}

/// Says how an unclear attempt ended in the world.
pub(super) fn world(sketch: &Sketch, m: (usize, usize), world: World) -> String {
    match (sketch.member(m).and_then(|member| member.effect), world) {
        (None, _) | (_, World::Nothing) => String::new(),
        (Some(_), World::Done) => effect(sketch, m).to_uppercase(),
        (Some(_), World::OnItsWay) => "on its way".to_owned(),
    }
}

/// Returns what is to be said of a deadline that a run may miss although nothing but time goes wrong.
pub(super) fn late(timing: &Timing, plan: &Plan) -> Option<Remark> {
    let (late, slowest) = timing.late(plan)?;
    Some(Remark {
        code: FindingCode::DeadlineTooShort,
        site: Site::at("/deadline"),
        title: late,
        why: format!(
            "`{}` alone may take {}. When the deadline passes the run stops, whatever attempts are left, and what was done is \
             undone.",
            slowest.name,
            time_text(worst_case(slowest))
        ),
        help: format!("Raise the deadline, or lower the timeouts and attempts of `{}`.", slowest.name),
    })
}
