//! What a rehearsed run came to: what its journal and the outside show of every kind of problem.
//!
//! It looks at what happened and knows neither how a run goes nor how one is searched for.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{Record, Services};
use crate::engine::report::RunReport;
use crate::machine::event::{Answer, CallId, CallKind, Cause, Compensation, Entry, Event, Outcome, Place};
use crate::plan::Plan;
use crate::teeth::{Bug, awake};
use crate::verify::findings::{Missing, Problem, Reader, Spot};
use crate::verify::sketch::{Act, Aspect, Fact, Member, Read, Sketch, StepEnding};

/// Everything there is to see of a run.
pub(super) struct Seen<'a> {
    pub sketch: &'a Sketch,
    pub plan: &'a Plan,
    pub report: &'a RunReport,
    pub entries: &'a [Entry],
    pub services: &'a Services,
}

impl Seen<'_> {
    /// Returns every problem that shows.
    pub(super) fn problems(&self) -> BTreeSet<Problem> {
        let mut problems = BTreeSet::new();
        self.missing(&mut problems);
        self.undos(&mut problems);
        self.passed_over(&mut problems);
        self.waits(&mut problems);
        let ended = matches!(self.report.status.as_str(), "completed" | "failed" | "cancelled");
        if ended && self.report.compensation != Compensation::Incomplete {
            self.left(&mut problems);
            self.invariants(&mut problems);
        }
        problems
    }

    fn member(&self, spot: Spot) -> Option<&Member> {
        self.sketch.member((spot.step, spot.member))
    }

    fn step(&self, name: &str) -> Option<usize> {
        self.sketch.steps.iter().position(|step| step.name == name)
    }

    fn spot(&self, call: &CallId) -> Option<Spot> {
        let step = self.step(call.place.step.as_str())?;
        Some(Spot { step, item: call.place.item, member: usize::from(call.member) })
    }

    /// Effects that stand, or may come to, with nothing that speaks for them; and what stands twice.
    fn left(&self, problems: &mut BTreeSet<Problem>) {
        let by: BTreeSet<Spot> = self.succeeded().collect();
        for record in self.services.records() {
            let Some(member) = self.member(record.spot) else { continue };
            if member.harmless {
                continue;
            }
            let place = (record.spot.step, record.spot.member);
            if record.may_stand_twice() {
                problems.insert(Problem::Twice(place));
            }
            if !record.may_stand() {
                continue;
            }
            if self.report.status != "completed" {
                problems.insert(Problem::LeftByUndone(place));
            } else if !by.contains(&record.spot) {
                problems.insert(Problem::LeftByCompleted(place));
            }
        }
    }

    /// The members by which steps and items succeeded.
    fn succeeded(&self) -> impl Iterator<Item = Spot> {
        self.entries.iter().filter_map(|entry| match &entry.event {
            Event::CallSucceeded { call, .. } if call.kind == CallKind::Forward => self.spot(call),
            Event::Confirmed { call, answer: Answer::Done, .. } => self.spot(call),
            _ => None,
        })
    }

    fn invariants(&self, problems: &mut BTreeSet<Problem>) {
        let records: Vec<&Record> = self.services.records().collect();
        let late: Vec<usize> = (0..records.len()).filter(|&i| records[i].on_the_way > 0).collect();
        let choices = 1_u32 << late.len().min(12);
        for choice in 0..choices {
            let outside: Vec<Record> = (0..records.len())
                .map(|i| match late.iter().position(|&l| l == i) {
                    Some(bit) if choice & (1 << bit.min(12)) != 0 => records[i].landed(),
                    _ => records[i].clone(),
                })
                .collect();
            for (i, invariant) in self.sketch.invariants.iter().enumerate() {
                if invariant.formula.holds(&|fact| self.fact(fact, &outside)) {
                    problems.insert(Problem::Invariant(i));
                }
            }
        }
    }

    fn fact(&self, fact: &Fact, outside: &[Record]) -> bool {
        match fact {
            Fact::Step { step, ending } => {
                let word = match ending {
                    StepEnding::Ok => "succeeded",
                    StepEnding::Failed => "failed",
                    StepEnding::Unknown => "unknown",
                    StepEnding::Skipped => "skipped",
                };
                self.ended(step) == Some(word)
            }
            Fact::Happened(name) => match self.sketch.effects.iter().position(|effect| effect == name) {
                Some(effect) => {
                    let is_of = |record: &&Record| self.member(record.spot).is_some_and(|m| m.effect == Some(effect));
                    outside.iter().filter(is_of).any(|record| record.happened)
                }
                None => self.undoing(name, outside),
            },
        }
    }

    /// Something was taken back under this name, and nothing stands of what it takes back.
    fn undoing(&self, name: &str, outside: &[Record]) -> bool {
        let undo = |spot| self.member(spot).and_then(|m| m.undo.as_ref()).filter(|u| u.undoes);
        let called = |record: &&Record| undo(record.spot).is_some_and(|u| u.undone.as_deref() == Some(name));
        let undone: BTreeSet<usize> = self
            .sketch
            .members()
            .filter(|m| m.undo.as_ref().is_some_and(|u| u.undoes && u.undone.as_deref() == Some(name)))
            .filter_map(|m| m.effect)
            .collect();
        let effect =
            |record: &&Record| self.member(record.spot).and_then(|m| m.effect).is_some_and(|e| undone.contains(&e));
        outside.iter().filter(called).any(|record| record.taken_back)
            && !outside.iter().filter(effect).any(|record| record.standing > 0)
    }

    /// Returns how a step ended, whatever was done to it later.
    fn ended(&self, name: &str) -> Option<&'static str> {
        let mut ended = None;
        for entry in self.entries {
            match &entry.event {
                Event::StepSkipped { step, .. } if *step == *name => ended = Some("skipped"),
                Event::CallSucceeded { call, .. }
                    if call.kind == CallKind::Forward && call.place.item.is_none() && call.place.step == *name =>
                {
                    ended = Some("succeeded");
                }
                Event::Settled { place: Place { step, item: None }, outcome } if *step == *name => {
                    ended = Some(match outcome {
                        Outcome::Succeeded { .. } => "succeeded",
                        Outcome::Failed { .. } => "failed",
                        Outcome::Unknown { .. } => "unknown",
                    });
                }
                _ => {}
            }
        }
        ended
    }

    fn waits(&self, problems: &mut BTreeSet<Problem>) {
        if self.sketch.deadline || self.report.status != "waiting" {
            return;
        }
        for (ix, step) in self.sketch.steps.iter().enumerate() {
            let Act::Wait(wait) = &step.act else { continue };
            let waiting = self.report.steps.get(&step.name).is_some_and(|step| step.status == "waiting");
            if waiting && wait.signal && !wait.limited {
                problems.insert(Problem::WaitsForEver(ix));
            }
        }
    }

    /// Templates that found something missing, which their errors name.
    fn missing(&self, problems: &mut BTreeSet<Problem>) {
        for entry in self.entries {
            let (reader, message) = match &entry.event {
                Event::CallFailed { call, attempt: 0, error, .. } if error.code == "template" => {
                    let Some(spot) = self.spot(call) else { continue };
                    let member = (spot.step, spot.member);
                    let reader = match call.kind {
                        CallKind::Forward => Reader::With(member),
                        CallKind::Confirm => Reader::Confirm(member),
                        CallKind::Undo => Reader::Undo(member),
                        CallKind::Finally => continue,
                    };
                    (reader, &error.message)
                }
                Event::Settled { place, outcome: Outcome::Failed { error } | Outcome::Unknown { error } } => {
                    let Some(step) = self.step(place.step.as_str()) else { continue };
                    let reader = match error.message.split(':').next() {
                        Some("when") => Reader::When(step),
                        Some("foreach") => Reader::Items(step),
                        Some("until") => Reader::Until(step),
                        Some(other) if other.starts_with("`when` of fallback") => {
                            let Act::Call(members) = &self.sketch.steps[step].act else { continue };
                            let named = |m: &Member| other.ends_with(&format!("`{}`", m.name));
                            let Some(member) = members.iter().position(named) else { continue };
                            Reader::FallbackWhen((step, member))
                        }
                        _ => continue,
                    };
                    (reader, &error.message)
                }
                Event::DrainStarted { cause: Cause::Failed { place: None, error } } if error.code == "template" => {
                    (Reader::Output, &error.message)
                }
                _ => continue,
            };
            for (read, at) in self.reads(reader).iter().enumerate() {
                let name = match at.what {
                    Aspect::Output => format!("`steps.{}.output", self.sketch.steps[at.step].name),
                    Aspect::Error => format!("`steps.{}.error", self.sketch.steps[at.step].name),
                    Aspect::Via => format!("`steps.{}.via", self.sketch.steps[at.step].name),
                    Aspect::OwnOutput => "`output".to_owned(),
                    Aspect::OwnError => "`error".to_owned(),
                };
                if message.contains(&name) {
                    problems.insert(Problem::Missing(Missing { reader, read, step: at.step, what: at.what }));
                }
            }
        }
    }

    fn reads(&self, reader: Reader) -> &[Read] {
        let step = |step: usize| &self.sketch.steps[step];
        let member = |(step, member): (usize, usize)| self.member(Spot { step, item: None, member });
        let reads = match reader {
            Reader::When(at) => step(at).when.as_ref().map(|when| &when.reads),
            Reader::Items(at) => step(at).items.as_ref(),
            Reader::Until(at) => match &step(at).act {
                Act::Wait(wait) => Some(&wait.reads),
                Act::Call(_) => None,
            },
            Reader::FallbackWhen(at) => member(at).and_then(|m| m.when.as_ref()).map(|when| &when.reads),
            Reader::With(at) => member(at).map(|m| &m.reads),
            Reader::Confirm(at) => member(at).and_then(|m| m.confirm.as_ref()).map(|confirm| &confirm.reads),
            Reader::Undo(at) => member(at).and_then(|m| m.undo.as_ref()).map(|undo| &undo.reads),
            Reader::Output => Some(&self.sketch.output),
        };
        reads.map_or(&[], Vec::as_slice)
    }

    /// Undos in the wrong order, and undos of what must stay.
    fn undos(&self, problems: &mut BTreeSet<Problem>) {
        let way_back = self.entries.iter().position(|entry| matches!(entry.event, Event::UndoStarted));
        let Some(way_back) = way_back else { return };
        let undo = |event: &Event| match event {
            Event::CallStarted { call, attempt: 1, .. } if call.kind == CallKind::Undo => self.spot(call),
            _ => None,
        };
        let past = self
            .sketch
            .steps
            .iter()
            .any(|step| step.pivot && matches!(self.ended(&step.name), Some("succeeded" | "unknown")));
        let ends: BTreeMap<Spot, usize> = self
            .entries
            .iter()
            .enumerate()
            .filter_map(|(at, entry)| match &entry.event {
                Event::CallSucceeded { call, .. } | Event::CallFailed { call, retry_at: None, .. }
                    if call.kind == CallKind::Undo =>
                {
                    Some((self.spot(call)?, at))
                }
                _ => None,
            })
            .collect();
        for (at, spot) in
            self.entries.iter().enumerate().skip(way_back).filter_map(|(at, e)| Some((at, undo(&e.event)?)))
        {
            if past {
                problems.insert(Problem::PivotUndone((spot.step, spot.member)));
            }
            for (later, end) in &ends {
                if *end > at && later.step != spot.step && self.depends(later.step, spot.step) {
                    problems.insert(Problem::UndoOrder(later.step, spot.step));
                }
            }
        }
    }

    /// Pivots that are undone because the run goes on without them, though nobody knows whether they were done.
    fn passed_over(&self, problems: &mut BTreeSet<Problem>) {
        let way_back = self.entries.iter().position(|entry| matches!(entry.event, Event::UndoStarted));
        let ahead = &self.entries[..way_back.unwrap_or(self.entries.len())];
        let started = |kind: CallKind| {
            ahead.iter().enumerate().filter_map(move |(at, entry)| match &entry.event {
                Event::CallStarted { call, attempt: 1, .. } if call.kind == kind => Some((at, self.spot(call)?)),
                _ => None,
            })
        };
        for (at, spot) in started(CallKind::Undo).filter(|(_, spot)| self.sketch.steps[spot.step].pivot) {
            // What is undone for a fallback is not passed over, whether the fallback is still called or not.
            let code = ahead[..at].iter().rev().find_map(|entry| match &entry.event {
                Event::CallFailed { call, error, .. }
                    if call.kind == CallKind::Forward && self.spot(call) == Some(spot) =>
                {
                    Some(error.code.as_str())
                }
                Event::CallCutOff { call, .. } if call.kind == CallKind::Forward && self.spot(call) == Some(spot) => {
                    Some("crashed")
                }
                _ => None,
            });
            let endings = self.member(spot).into_iter().flat_map(|m| m.endings.iter().chain([&m.cut_off]));
            let another =
                endings.filter(|ending| Some(ending.code.as_str()) == code).any(|ending| !ending.taken_by.is_empty());
            let settled = self.entries.iter().position(|entry| match &entry.event {
                Event::Settled { place, outcome: Outcome::Unknown { .. } } => {
                    self.step(place.step.as_str()) == Some(spot.step) && place.item == spot.item
                }
                _ => false,
            });
            let Some(end) = settled else { continue };
            let another = another && !self.is_left_without_fallback(spot, end);
            if !another && !awake(Bug::RehearsalPivotNotSeen) {
                problems.insert(Problem::PivotUndone((spot.step, spot.member)));
            }
        }
    }

    /// Tells whether no fallback was wanted after a member whose step, or item, ended there: its undo worked, nothing stopped
    /// the run, and yet none was called, so that the condition of each did not hold.
    fn is_left_without_fallback(&self, spot: Spot, end: usize) -> bool {
        let later = |other: Spot| (other.step, other.item) == (spot.step, spot.item) && other.member > spot.member;
        !self.entries[..end].iter().any(|entry| match &entry.event {
            Event::DrainStarted { .. } => true,
            Event::CallFailed { call, retry_at: None, .. } if call.kind == CallKind::Undo => {
                self.spot(call) == Some(spot)
            }
            Event::CallStarted { call, .. } | Event::CallFailed { call, .. } => {
                call.kind == CallKind::Forward && self.spot(call).is_some_and(later)
            }
            _ => false,
        })
    }

    /// Tells whether a step depends on another, directly or through others.
    fn depends(&self, step: usize, on: usize) -> bool {
        let mut open = vec![step];
        let mut seen = BTreeSet::new();
        while let Some(at) = open.pop() {
            for need in &self.plan.steps[at].needs {
                let need = need.0 as usize;
                if need == on {
                    return true;
                }
                if seen.insert(need) {
                    open.push(need);
                }
            }
        }
        false
    }
}
