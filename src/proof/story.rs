//! The story of a run: what happens, what flowrun knows of it, and what is so in the world, line by line.

use std::time::Duration;

use super::{Flaw, words};
use crate::plan::duration::delay;
use crate::plan::{Action, Plan};
use crate::verify::findings::{
    Answer, Attempt, Course, MemberCourse, MemberIx, Problem, Spot, StepCourse, Stop, UndoEnd, World,
};
use crate::verify::sketch::{Member, Repeat, Sketch};

/// One line of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The time since the run began; nothing for what comes at an unknown later time.
    pub at: Option<Duration>,
    /// What happens.
    pub what: String,
    /// What flowrun knows by it.
    pub knows: String,
    /// What changes in the world by it.
    pub world: String,
    /// It is a part of what goes wrong.
    pub bad: bool,
}

/// A run that comes to a problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// What has to be so in it, a sentence each: how conditions over values come out.
    pub given: Vec<String>,
    /// Its lines, in the order of time. The last one is how it ends.
    pub rows: Vec<Row>,
    /// How many things go wrong in it.
    pub faults: u32,
}

/// What has become of a member in the world, as far as a story needs it.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    done: bool,
    coming: bool,
    taken_back: bool,
}

impl Standing {
    /// Notes what an attempt came to. A keyed request that comes after one that was done does nothing.
    fn note(&mut self, repeat: Repeat, world: World) {
        match world {
            World::Nothing => {}
            World::Done => {
                self.done = true;
                self.coming &= repeat != Repeat::Keyed;
            }
            World::OnItsWay => self.coming |= repeat != Repeat::Keyed || !self.done,
        }
    }
}

struct Teller<'a> {
    sketch: &'a Sketch,
    plan: &'a Plan,
    flaw: &'a Flaw<'a>,
    course: &'a Course,
    rows: Vec<Row>,
    ends: Vec<Duration>,
    /// What succeeded at once and was not told yet.
    easy: Vec<(Duration, String, Option<String>)>,
    standing: Vec<(Spot, Standing)>,
}

/// Tells the story of a flaw.
pub(super) fn tell(sketch: &Sketch, plan: &Plan, flaw: &Flaw<'_>) -> Story {
    let course = flaw.course;
    let ends = vec![Duration::ZERO; sketch.steps.len()];
    let mut teller =
        Teller { sketch, plan, flaw, course, rows: Vec::new(), ends, easy: Vec::new(), standing: Vec::new() };
    for &step in &sketch.order {
        teller.step(step);
    }
    teller.tell_easy();
    teller.rows.sort_by_key(|row| row.at);
    let last = teller.ends.iter().copied().max().unwrap_or_default();
    teller.stop(last);
    teller.late();
    teller.end(last);
    Story { given: given(sketch, course), rows: teller.rows, faults: course.faults }
}

/// Says how the conditions come out that a course asks.
fn given(sketch: &Sketch, course: &Course) -> Vec<String> {
    let text = |holds: bool| {
        let asked = course.conditions.iter().filter(move |(_, is)| **is == holds);
        asked.map(|(ix, _)| format!("`{}`", sketch.conditions[*ix])).collect::<Vec<_>>().join(", ")
    };
    let said = |holds: bool, word: &str| {
        let all = text(holds);
        (!all.is_empty()).then(|| format!("in a run with {all} {word}"))
    };
    said(true, "true").into_iter().chain(said(false, "false")).collect()
}

impl Teller<'_> {
    fn row(&mut self, at: Duration, what: impl Into<String>, knows: impl Into<String>, world: impl Into<String>) {
        let row = Row { at: Some(at), what: what.into(), knows: knows.into(), world: world.into(), bad: false };
        self.rows.push(row);
    }

    /// Tells of all that went well since the last line that needed a place of its own.
    fn tell_easy(&mut self) {
        let easy = std::mem::take(&mut self.easy);
        let Some(at) = easy.iter().map(|(at, ..)| *at).max() else { return };
        let names: Vec<&str> = easy.iter().map(|(_, name, _)| name.as_str()).collect();
        let effects: Vec<&str> = easy.iter().filter_map(|(.., effect)| effect.as_deref()).collect();
        let shown = match names.as_slice() {
            [first, .., last] if names.len() > 4 => format!("{first} … {last} ({} steps)", names.len()),
            _ => names.join(", "),
        };
        let effects = effects.join(", ");
        self.row(
            at,
            format!("{shown}: ok"),
            if effects.is_empty() { "ok".to_owned() } else { effects.clone() },
            effects,
        );
    }

    fn step(&mut self, step: usize) {
        let begin = self.sketch.steps[step].needs.iter().map(|need| self.ends[*need]).max().unwrap_or_default();
        self.ends[step] = begin;
        let Some(told) = self.course.steps.get(&step) else { return };
        let name = words::step(self.sketch, step).to_owned();
        match told {
            StepCourse::Skipped => {
                self.tell_easy();
                self.row(begin, format!("{name} is skipped"), "skipped", "");
            }
            StepCourse::Unreadable => {
                self.tell_easy();
                self.row(begin, format!("{name} cannot be begun: {}", self.unreadable()), "failed", "");
                self.mark();
            }
            StepCourse::Waited => {
                self.ends[step] = begin + self.wait(step);
                self.tell_easy();
                self.row(self.ends[step], format!("{name}: what it waits for comes"), "ok", "");
            }
            StepCourse::Missed => {
                self.ends[step] = begin + self.wait(step);
                self.tell_easy();
                self.row(self.ends[step], format!("{name}: no signal comes in time"), "failed", "");
            }
            StepCourse::Waiting => {
                self.tell_easy();
                self.row(begin, format!("{name} waits"), "waiting", "");
            }
            StepCourse::Called(_) | StepCourse::Listed(_) => {
                let mut last = begin;
                for (item, members) in told.calls() {
                    let mut at = begin;
                    for (nth, told) in members.iter().enumerate() {
                        let spot = Spot { step, item, member: told.member };
                        at = self.member(spot, told, at, nth + 1 == members.len());
                    }
                    last = last.max(at);
                }
                if matches!(told, StepCourse::Listed(list) if list.count() == 0) {
                    self.easy.push((begin, format!("{name} (no items)"), None));
                }
                self.ends[step] = last;
            }
        }
    }

    /// How long a wait takes that comes to its end; a moment where no plan knows.
    fn wait(&self, step: usize) -> Duration {
        crate::plan::duration::worst_case(&self.plan.steps[step])
    }

    /// Tells of a call of a member, and returns when it was over.
    fn member(&mut self, spot: Spot, told: &MemberCourse, begin: Duration, last: bool) -> Duration {
        let ix = (spot.step, spot.member);
        let (Some(sketched), Action::Call(members)) = (self.sketch.member(ix), &self.plan.steps[spot.step].action)
        else {
            return begin;
        };
        let call = &members[spot.member].call;
        let name = self.name(spot);
        let mut standing = Standing::default();
        let mut at = begin;
        if told.attempts.is_empty() {
            self.tell_easy();
            self.row(at, format!("{name} cannot be called: {}", self.unreadable()), "failed", "");
            self.mark();
        }
        if let [Attempt::Succeeded] = told.attempts.as_slice() {
            standing.note(sketched.repeat, World::Done);
            let effect = sketched.effect.and_then(|effect| self.sketch.effects.get(effect)).cloned();
            let fell = spot.member > 0;
            if fell || self.concerns(ix) {
                self.tell_easy();
                let what = if fell { format!("fallback {name}: ok") } else { format!("{name}: ok") };
                let world = self.effect(ix);
                self.row(at, what, effect.unwrap_or_else(|| "ok".to_owned()), world);
            } else {
                self.easy.push((at, name, effect));
            }
            self.standing.push((spot, standing));
            return at;
        }
        self.tell_easy();
        let mut failed = 0;
        for (nth, attempt) in told.attempts.iter().enumerate() {
            let label = if nth == 0 { name.clone() } else { format!("{name}, attempt {}", nth + 1) };
            match attempt {
                Attempt::Succeeded => {
                    standing.note(sketched.repeat, World::Done);
                    let world = self.effect(ix);
                    self.row(at, format!("{label}: ok"), "ok", world);
                }
                Attempt::Failed(ending, world) => {
                    failed += 1;
                    at = self.failed(ix, sketched, &label, *ending, *world, at, call.timeout);
                    standing.note(sketched.repeat, *world);
                    if nth + 1 < told.attempts.len() {
                        at += delay(&call.retry, failed);
                    }
                }
                Attempt::CutOff(world) => {
                    standing.note(sketched.repeat, *world);
                    self.row(
                        at,
                        format!("flowrun dies during {label}"),
                        "started",
                        words::world(self.sketch, ix, *world),
                    );
                    let knows = if nth + 1 < told.attempts.len() { "started" } else { "UNKNOWN" };
                    self.row(at, "flowrun starts again", knows, "");
                }
            }
        }
        let unclear = told.attempts.iter().any(|attempt| match attempt {
            Attempt::Failed(ending, _) => sketched.endings.get(*ending).is_some_and(|failing| !failing.clear),
            Attempt::CutOff(_) => true,
            Attempt::Succeeded => false,
        });
        let succeeded = matches!(told.attempts.last(), Some(Attempt::Succeeded));
        if !succeeded && !told.attempts.is_empty() && last && told.confirm.is_none() && told.undo.is_none() {
            let knows = if unclear && sketched.acts() { "outcome UNKNOWN" } else { "failed" };
            if let Some(row) = self.rows.last_mut() {
                row.knows = knows.to_owned();
            }
        }
        if let Some(answer) = told.confirm {
            let handler = sketched.confirm.as_ref().map_or("confirm", |confirm| confirm.handler.as_str()).to_owned();
            let (said, knows) = match answer {
                Answer::Done => ("it was", "done"),
                Answer::NotDone => ("it was not", "not done"),
                Answer::Unknown => ("no answer", "outcome UNKNOWN"),
            };
            if answer == Answer::NotDone && sketched.confirm.as_ref().is_some_and(|confirm| confirm.blocks_late) {
                standing.coming = false;
            }
            self.row(at, format!("{handler}: was {name} done? {said}"), knows, "");
        }
        self.standing.push((spot, standing));
        if let Some(end) = told.undo {
            self.undo(spot, end, at);
        }
        at
    }

    #[expect(clippy::too_many_arguments, reason = "one line of a table needs all of its cells")]
    fn failed(
        &mut self,
        ix: MemberIx,
        sketched: &Member,
        label: &str,
        ending: usize,
        world: World,
        at: Duration,
        timeout: Duration,
    ) -> Duration {
        let Some(failing) = sketched.endings.get(ending) else { return at };
        let shown = words::world(self.sketch, ix, world);
        if failing.clear {
            self.row(at, format!("{label} fails: {}", failing.code), "failed", "");
            return at;
        }
        if failing.code == "timeout" {
            if !shown.is_empty() {
                self.row(at, format!("{label} is sent"), "started", shown);
            }
            let text = crate::plan::draw::time_text(timeout);
            self.row(at + timeout, format!("{label}: no answer in {text}"), "unclear", "");
            return at + timeout;
        }
        self.row(at, format!("{label} ends unclearly: {}", failing.code), "unclear", shown);
        at
    }

    fn undo(&mut self, spot: Spot, end: UndoEnd, at: Duration) {
        let ix = (spot.step, spot.member);
        let Some(undo) = self.sketch.member(ix).and_then(|member| member.undo.as_ref()) else { return };
        let what = format!("undo {} ({})", self.name(spot), undo.handler);
        if end == UndoEnd::Failed {
            let unread =
                matches!(&self.flaw.problem, Problem::Missing(missing) if missing.reader == super::Reader::Undo(ix));
            let why =
                if unread { format!(" cannot be called: {}", self.unreadable()) } else { " fails for good".to_owned() };
            self.row(at, format!("{what}{why}"), "NOT undone", "");
            self.mark();
            return;
        }
        let mut world = String::new();
        let mut knows = undo.undone.clone().unwrap_or_else(|| "undone".to_owned());
        if let Some((_, standing)) = self.standing.iter_mut().rfind(|(known, _)| *known == spot) {
            if undo.undoes && standing.done {
                world = knows.clone();
                (standing.done, standing.taken_back) = (false, true);
            } else if undo.undoes && !standing.taken_back {
                world = "nothing to undo".to_owned();
            }
            if undo.undoes && undo.blocks_late {
                standing.coming = false;
            }
        }
        if !undo.undoes {
            knows = "undone".to_owned();
            world = "as before".to_owned();
        }
        self.row(at, format!("{what}: ok"), knows, world);
    }

    fn stop(&mut self, at: Duration) {
        match self.course.stop {
            None => return,
            Some(Stop::Failed(step)) => {
                let name = words::step(self.sketch, step).to_owned();
                self.row(at, format!("the run stops, because {name} failed"), "failing", "");
            }
            Some(Stop::Output) => self.row(at, "the run's output cannot be made", "failing", ""),
            Some(Stop::Cancelled) => {
                self.row(at, "somebody cancels the run, or its deadline passes", "stopping", "");
            }
        }
        self.left(at);
        for (spot, end) in self.course.undone.clone() {
            self.undo(spot, end, at);
        }
    }

    /// Tells of items for which there was no room before the run stopped, so that their lists are cut short.
    fn left(&mut self, at: Duration) {
        for (&step, told) in &self.course.steps {
            let StepCourse::Listed(list) = told else { continue };
            if list.left {
                let well = list.items.iter().all(|members| members.last().is_some_and(MemberCourse::worked));
                let name = words::step(self.sketch, step);
                let what = format!("{name}[{}] had not begun, and never does: {name} is cut short", list.items.len());
                self.row(at, what, if well { "failed" } else { "not begun" }, "");
            }
        }
    }

    /// Tells of requests that are done after everything else.
    fn late(&mut self) {
        let coming: Vec<Spot> = self.standing.iter().filter(|(_, s)| s.coming).map(|(spot, _)| *spot).collect();
        for spot in coming {
            let ix = (spot.step, spot.member);
            if self.sketch.member(ix).is_none_or(|member| member.effect.is_none()) {
                continue;
            }
            let what = format!("the request of {} that was on its way is done", self.name(spot));
            let world = words::effect(self.sketch, ix).to_uppercase();
            self.rows.push(Row { at: None, what, knows: String::new(), world, bad: true });
            if let Some((_, standing)) = self.standing.iter_mut().rfind(|(known, _)| *known == spot) {
                standing.done = true;
            }
        }
    }

    fn end(&mut self, at: Duration) {
        let waits = matches!(self.flaw.problem, Problem::WaitsForEver(_));
        let incomplete = self.course.undone.iter().any(|(_, end)| *end == UndoEnd::Failed);
        let ended = match (&self.course.stop, incomplete) {
            _ if waits => "waits, and nothing ends it",
            (_, true) => "ends, and a person is needed",
            (None, _) => "is completed",
            (Some(Stop::Cancelled), _) => "is stopped, and its compensation is complete",
            (Some(_), _) => "has failed, and its compensation is complete",
        };
        let mut standing: Vec<String> = Vec::new();
        for (spot, state) in &self.standing {
            let ix = (spot.step, spot.member);
            let effect = self.sketch.member(ix).and_then(|member| self.sketch.effects.get(member.effect?));
            if let (Some(effect), true) = (effect, state.done) {
                let word = if self.concerns(ix) { effect.to_uppercase() } else { effect.clone() };
                if !standing.contains(&word) {
                    standing.push(word);
                }
            }
        }
        let knows = if waits {
            "waiting"
        } else if self.course.stop.is_none() {
            "completed"
        } else if self.course.undone.is_empty() {
            "nothing to undo"
        } else {
            "undone"
        };
        let last = self.rows.last().map_or(Some(at), |row| row.at);
        let world = if standing.is_empty() { "nothing left".to_owned() } else { standing.join(", ") };
        let knows = if incomplete { "incomplete" } else { knows };
        self.rows.push(Row { at: last, what: format!("the run {ended}"), knows: knows.to_owned(), world, bad: true });
    }

    fn name(&self, spot: Spot) -> String {
        let name = words::call(self.sketch, (spot.step, spot.member));
        spot.item.map_or(name.clone(), |item| format!("{name}[{item}]"))
    }

    /// What the member leaves, in capitals if the story is about it.
    fn effect(&self, ix: MemberIx) -> String {
        let effect = self.sketch.member(ix).and_then(|member| self.sketch.effects.get(member.effect?));
        effect.map_or_else(String::new, |e| if self.concerns(ix) { e.to_uppercase() } else { e.clone() })
    }

    /// Tells whether the story is about what this member does.
    fn concerns(&self, ix: MemberIx) -> bool {
        match self.flaw.problem {
            Problem::LeftByCompleted(m) | Problem::LeftByUndone(m) | Problem::Twice(m) | Problem::PivotUndone(m) => {
                *m == ix
            }
            Problem::Invariant(i) => self.sketch.invariants.get(*i).is_some_and(|stated| {
                stated.formula.facts().iter().any(|(fact, _)| match fact {
                    crate::verify::sketch::Fact::Happened(name) => name == words::effect(self.sketch, ix),
                    crate::verify::sketch::Fact::Step { step, .. } => step == words::step(self.sketch, ix.0),
                })
            }),
            Problem::Missing(_) | Problem::UndoOrder(..) | Problem::WaitsForEver(_) => false,
        }
    }

    /// What cannot be read in a story about a missing read.
    fn unreadable(&self) -> String {
        match self.flaw.problem {
            Problem::Missing(missing) => {
                format!("`{}` is not there", words::read(self.sketch, missing.step, missing.what))
            }
            _ => "something it reads is not there".to_owned(),
        }
    }

    fn mark(&mut self) {
        if let Some(row) = self.rows.last_mut() {
            row.bad = true;
        }
    }
}
