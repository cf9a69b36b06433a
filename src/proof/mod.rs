//! The proof of a workflow: every possible run is looked at before the first one is started.
//!
//! It takes what [`crate::verify`] finds and makes of it what a person can use: flaws with their place, the shortest
//! story that shows each, why it is so, and an edit that was itself verified. It never runs anything, and has no rule of
//! its own about what can happen.

mod edit;
mod repair;
mod story;
mod words;

use std::collections::BTreeSet;

pub use repair::{Fix, repair};
pub use story::{Row, Story};
pub(crate) use words::{about, title};

use crate::definition::Loaded;
use crate::diag::{Finding, FindingCode, Span};
use crate::dsl::{Part as YamlPart, Tree};
use crate::plan::{Plan, Timing};
use crate::verify::findings::{Course, Found, LimitReached, Part, Person, Problem, Reader};
use crate::verify::sketch::{Act, Member, OnError, Read, Site, Sketch, Step, Truth};
use crate::verify::sweep::sweep;

/// What is known of every possible run of a workflow.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The workflow as it was searched.
    pub sketch: Sketch,
    /// What the search found, unless it reached its limit.
    pub found: Result<Found, LimitReached>,
    /// How long a run can take.
    pub timing: Timing,
}

/// What a proof comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No run comes to anything that it must not.
    Proved,
    /// Some run does.
    Flawed,
    /// The search reached its limit; nothing is known.
    LimitReached,
}

/// One way in which a workflow can go wrong.
#[derive(Clone, Debug)]
pub struct Flaw<'a> {
    /// What it comes to.
    pub problem: &'a Problem,
    /// Where the file is at fault.
    pub site: Site,
    /// What it comes to, as a fragment.
    pub title: String,
    /// Why, in one sentence.
    pub why: String,
    /// The run that shows it.
    pub course: &'a Course,
}

/// Something that does no harm and is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What kind of remark it is.
    pub code: FindingCode,
    /// Where it stands.
    pub site: Site,
    /// What was noticed, as a fragment.
    pub title: String,
    /// Why it is so, or what comes of it, as a sentence.
    pub why: String,
    /// What can be done about it, as a sentence.
    pub help: String,
}

impl Proof {
    /// Looks at every possible run of a workflow, in at most `limit` states.
    #[must_use]
    pub fn of(loaded: &Loaded, plan: &Plan, limit: u64) -> Self {
        let sketch = Sketch::of(plan, &loaded.parsed.document);
        let found = sweep(&sketch, limit);
        let timing = Timing::of(plan);
        Self { sketch, found, timing }
    }

    /// Says what the proof comes to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &self.found {
            Err(_) => Verdict::LimitReached,
            Ok(found) if found.problems.is_empty() => Verdict::Proved,
            Ok(_) => Verdict::Flawed,
        }
    }

    /// Returns the ways in which the workflow can go wrong: what costs most first, then in file order.
    #[must_use]
    pub fn flaws(&self) -> Vec<Flaw<'_>> {
        let Ok(found) = &self.found else { return Vec::new() };
        let flaw = |(problem, course)| Flaw {
            problem,
            site: words::site(&self.sketch, problem),
            title: words::title(&self.sketch, problem),
            why: words::why(&self.sketch, problem, course),
            course,
        };
        found.problems.iter().map(flaw).collect()
    }

    /// Returns the story of a course.
    #[must_use]
    pub fn story(&self, plan: &Plan, flaw: &Flaw<'_>) -> Story {
        story::tell(&self.sketch, plan, flaw)
    }

    /// Returns what is dead, takes too long, or undoes more than it is worth.
    #[must_use]
    pub fn remarks(&self, plan: &Plan) -> Vec<Remark> {
        let mut remarks = Vec::new();
        if let Ok(found) = &self.found {
            remarks.extend(dead(&self.sketch, &found.reached).into_iter().map(|part| words::dead(&self.sketch, part)));
        }
        remarks.extend(unread(&self.sketch).map(|(name, read)| words::unread(&self.sketch, name, read)));
        remarks.extend(words::late(&self.timing, plan));
        remarks.extend(costly(&self.sketch).into_iter().map(|step| words::costly(&self.sketch, step)));
        remarks
    }

    /// Returns flaws and remarks as warnings about the file.
    #[must_use]
    pub fn findings(&self, plan: &Plan, tree: &Tree) -> Vec<Finding> {
        let flaws = self.flaws();
        let flaws = flaws.iter().map(|flaw| {
            Finding::warning(words::code(flaw.problem), span(tree, &flaw.site), flaw.title.clone())
                .help(format!("{} `flowrun verify` tells the story.", flaw.why))
        });
        let remarks = self.remarks(plan).into_iter().map(|remark| {
            let help = format!("{} {}", remark.why, remark.help);
            Finding::warning(remark.code, span(tree, &remark.site), remark.title).help(help)
        });
        flaws.chain(remarks).collect()
    }

    /// Returns what makes a person necessary, in plain words.
    #[must_use]
    pub fn persons(&self) -> Vec<(Person, String)> {
        let Ok(found) = &self.found else { return Vec::new() };
        found.persons.iter().map(|person| (*person, words::person(&self.sketch, *person))).collect()
    }

    /// Returns the handlers whose declarations the proof rests on, each with what is taken on trust.
    #[must_use]
    pub fn trusted(&self) -> Vec<(String, String)> {
        words::trusted(&self.sketch)
    }
}

/// Returns the place of a site in the file.
#[must_use]
pub fn span(tree: &Tree, site: &Site) -> Span {
    match site.within {
        Some((start, end)) => tree.inside(&site.pointer, start..end),
        None => tree.span(&site.pointer, YamlPart::Key),
    }
}

/// Returns every place that reads something, with what it reads.
pub(crate) fn reads(sketch: &Sketch, reader: Reader) -> &[Read] {
    let step = |s: usize| &sketch.steps[s];
    let member = |m| sketch.member(m);
    match reader {
        Reader::When(s) => step(s).when.as_ref().map_or(&[], |when| &when.reads),
        Reader::Items(s) => step(s).items.as_deref().unwrap_or_default(),
        Reader::Until(s) => match &step(s).act {
            Act::Wait(wait) => &wait.reads,
            Act::Call(_) => &[],
        },
        Reader::FallbackWhen(m) => member(m).and_then(|m| m.when.as_ref()).map_or(&[], |when| &when.reads),
        Reader::With(m) => member(m).map_or(&[], |m| &m.reads),
        Reader::Confirm(m) => member(m).and_then(|m| m.confirm.as_ref()).map_or(&[], |confirm| &confirm.reads),
        Reader::Undo(m) => member(m).and_then(|m| m.undo.as_ref()).map_or(&[], |undo| &undo.reads),
        Reader::Output => &sketch.output,
    }
}

/// Returns the parts that no run reaches, in file order.
fn dead(sketch: &Sketch, reached: &BTreeSet<Part>) -> Vec<Part> {
    let mut all = Vec::new();
    for (s, step) in sketch.steps.iter().enumerate() {
        all.push(Part::Step(s));
        if step.when.is_some() {
            all.extend([Part::When(s, true), Part::When(s, false)]);
        }
        for (m, member) in step.members().iter().enumerate() {
            if m > 0 {
                all.push(Part::Fallback((s, m)));
            }
            all.extend(member.confirm.as_ref().map(|_| Part::Confirm((s, m))));
            all.extend(member.undo.as_ref().map(|_| Part::Undo((s, m))));
            if member.attempts > 1 {
                all.push(Part::Retry((s, m)));
            }
        }
    }
    // What hangs on a dead step or fallback is dead with it, and is not said again.
    let lives = |part: &Part| reached.contains(part);
    let cause = |part: &Part| match *part {
        Part::Step(s) => sketch.steps[s].when.as_ref().map(|_| Part::When(s, true)),
        Part::When(_, _) => None,
        Part::Fallback((s, _)) => Some(Part::Step(s)),
        Part::Undo((s, m)) | Part::Confirm((s, m)) | Part::Retry((s, m)) => {
            Some(if m > 0 { Part::Fallback((s, m)) } else { Part::Step(s) })
        }
    };
    all.retain(|part| !lives(part));
    let off = switched_off(sketch);
    let dead: BTreeSet<Part> = all.iter().copied().collect();
    all.retain(|part| !std::iter::successors(cause(part), cause).any(|of| dead.contains(&of)));
    // What the configuration switches off, or on, is meant to be.
    all.retain(|part| match *part {
        Part::When(s, _) => sketch.steps[s].when.as_ref().is_none_or(|when| constant(&when.truth).is_none()),
        Part::Fallback(m) => {
            let when = sketch.member(m).and_then(|member| member.when.as_ref());
            when.is_none_or(|when| constant(&when.truth) != Some(false))
        }
        _ => true,
    });
    all.retain(|part| !off[place(part)]);
    all
}

fn place(part: &Part) -> usize {
    match *part {
        Part::Step(s) | Part::When(s, _) => s,
        Part::Fallback((s, _)) | Part::Undo((s, _)) | Part::Confirm((s, _)) | Part::Retry((s, _)) => s,
    }
}

/// Tells of each step whether the configuration has it skipped, or all that it needs.
fn switched_off(sketch: &Sketch) -> Vec<bool> {
    let mut off = vec![false; sketch.steps.len()];
    for &s in &sketch.order {
        let step = &sketch.steps[s];
        let itself = step.when.as_ref().is_some_and(|when| constant(&when.truth) == Some(false));
        off[s] = itself || (!step.needs.is_empty() && step.needs.iter().all(|need| off[*need]));
    }
    off
}

/// Returns what a condition is in every run, whatever comes.
fn constant(truth: &Truth) -> Option<bool> {
    match truth {
        Truth::Const(holds) => Some(*holds),
        Truth::Not(inner) => constant(inner).map(|holds| !holds),
        Truth::All(parts) if parts.iter().any(|part| constant(part) == Some(false)) => Some(false),
        Truth::Any(parts) if parts.iter().any(|part| constant(part) == Some(true)) => Some(true),
        Truth::All(parts) | Truth::Any(parts) => {
            let all: Option<Vec<bool>> = parts.iter().map(constant).collect();
            all.map(|all| matches!(truth, Truth::All(_)) || all.contains(&true))
        }
        Truth::Free(_) | Truth::Open | Truth::Has(..) | Truth::Via(..) | Truth::Ended(..) => None,
    }
}

/// Returns what steps of `finally` read that is not there when a run is cancelled before its first step has begun.
///
/// Such a run is the one in which least is there, so what is not guarded by how a step ended is among it.
fn unread(sketch: &Sketch) -> impl Iterator<Item = (&str, &Read)> {
    let reads = sketch.finally.iter().flat_map(|step| step.reads.iter().map(|read| (step.name.as_str(), read)));
    reads.filter(|(_, read)| at_rest(&read.when) != Some(false))
}

/// Returns what a condition is before any step has begun; nothing if it depends on values.
fn at_rest(truth: &Truth) -> Option<bool> {
    let joined = |parts: &[Truth], decides: bool| {
        let parts: Vec<Option<bool>> = parts.iter().map(at_rest).collect();
        if parts.contains(&Some(decides)) {
            return Some(decides);
        }
        parts.iter().all(Option::is_some).then_some(!decides)
    };
    match truth {
        Truth::Const(holds) => Some(*holds),
        Truth::Free(_) | Truth::Open => None,
        Truth::Has(..) | Truth::Via(..) | Truth::Ended(..) => Some(false),
        Truth::Not(inner) => at_rest(inner).map(|holds| !holds),
        Truth::All(parts) => joined(parts, false),
        Truth::Any(parts) => joined(parts, true),
    }
}

/// Returns the steps that leave nothing that matters, that nobody reads, and whose failure undoes what others did.
fn costly(sketch: &Sketch) -> Vec<usize> {
    let needed: BTreeSet<usize> = sketch.steps.iter().flat_map(|step| &step.needs).copied().collect();
    let read: BTreeSet<usize> = sketch.output.iter().map(|read| read.step).collect();
    let undone = |step: &Step| step.members().iter().any(|member| member.undo.is_some() && member.effect.is_some());
    let is_light = |member: &Member| member.effect.is_some() && member.harmless;
    let light = |step: &Step| !step.members().is_empty() && step.members().iter().all(is_light);
    let ends = |s: &usize| {
        let step = &sketch.steps[*s];
        step.on_error == OnError::Compensate && !needed.contains(s) && !read.contains(s) && light(step)
    };
    let others = |s: &usize| sketch.steps.iter().enumerate().any(|(other, step)| other != *s && undone(step));
    (0..sketch.steps.len()).filter(ends).filter(others).collect()
}
