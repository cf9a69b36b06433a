//! What is remembered between two steps.

use crate::teeth::{Bug, awake};
use std::collections::BTreeMap;

use super::context::{Look, Seen, looks_of_reads, looks_of_truth};
use super::facts::Facts;
use crate::verify::sketch::{Act, Decision, OnSkip, Sketch};

/// How a run goes, promised at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Mode {
    /// Nothing stops it: it is completed, or rests parked.
    Straight,
    /// A step fails and stops it.
    Fails,
    /// Somebody cancels it, or its deadline passes.
    Cancelled,
    /// Every step ends well enough, and the output cannot be made.
    Output,
}

impl Mode {
    pub const ALL: [Self; 4] = [Self::Straight, Self::Fails, Self::Cancelled, Self::Output];

    /// Whether steps can be cut short, or not begun.
    pub fn stops_midway(self) -> bool {
        matches!(self, Self::Fails | Self::Cancelled)
    }
}

/// What a step that has not had its turn will see of those that have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Fold {
    pub step: usize,
    /// Something that it needs did not end well enough, or not in time.
    pub blocked: bool,
    /// All that it needs and that had its turn was skipped.
    pub skipped: bool,
    /// What it looks at.
    pub seen: Vec<(usize, Seen)>,
}

/// What is remembered of the steps that had their turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub mode: Mode,
    /// The promise of the mode was kept: a step has failed, or something is left for the cancel to stop.
    pub kept: bool,
    /// A run that rests parked is left for a cancel, not for a deadline, which does not go on then.
    pub rests: bool,
    /// A step is parked, and the run will be.
    pub parked: bool,
    /// A point of no return is past.
    pub pivot: bool,
    /// Nothing is said of the end.
    pub unjudged: bool,
    /// The conditions that are decided and asked again.
    pub decided: Vec<(usize, bool)>,
    pub folds: Vec<Fold>,
    /// What the output looks at.
    pub output: Vec<(usize, Seen)>,
    pub facts: Facts,
}

/// Who looks at what.
#[derive(Debug)]
pub(super) struct Readers {
    /// For each step, what it looks at of others.
    pub of: Vec<BTreeMap<usize, Look>>,
    /// For each step, the conditions that it asks.
    pub asks: Vec<Vec<usize>>,
    /// The steps that need each step.
    pub dependents: Vec<Vec<usize>>,
    pub output: BTreeMap<usize, Look>,
    pub output_asks: Vec<usize>,
    /// For each condition, the place in the order after which no step asks it.
    pub last_asked: Vec<Option<usize>>,
}

impl Readers {
    pub fn new(sketch: &Sketch) -> Self {
        let count = sketch.steps.len();
        let mut readers = Self {
            of: vec![BTreeMap::new(); count],
            asks: vec![Vec::new(); count],
            dependents: vec![Vec::new(); count],
            output: BTreeMap::new(),
            output_asks: Vec::new(),
            last_asked: vec![None; sketch.conditions.len()],
        };
        for (place, &s) in sketch.order.iter().enumerate() {
            let step = &sketch.steps[s];
            step.needs.iter().for_each(|need| readers.dependents[*need].push(s));
            let mut looks: BTreeMap<usize, Look> = BTreeMap::new();
            let mut asks = Vec::new();
            let mut look = |step: usize, at: Look| {
                let known = looks.entry(step).or_default();
                *known = known.and(at);
            };
            let mut free = |condition: usize| asks.push(condition);
            let mut decision = |decision: &Decision| {
                looks_of_reads(&decision.reads, &mut look, &mut free);
                looks_of_truth(&decision.truth, &mut look, &mut free);
            };
            step.when.iter().for_each(&mut decision);
            let members = step.members();
            members.iter().filter_map(|member| member.when.as_ref()).for_each(&mut decision);
            let waits = match &step.act {
                Act::Wait(wait) => Some(&wait.reads),
                Act::Call(_) => None,
            };
            let calls = members.iter().flat_map(|member| {
                let confirm = member.confirm.as_ref().map(|confirm| &confirm.reads);
                let undo = member.undo.as_ref().map(|undo| &undo.reads);
                std::iter::once(&member.reads).chain(confirm).chain(undo)
            });
            for reads in step.items.iter().chain(waits).chain(calls) {
                looks_of_reads(reads, &mut look, &mut free);
            }
            asks.sort_unstable();
            asks.dedup();
            asks.iter().for_each(|condition| readers.last_asked[*condition] = Some(place));
            // What a step sees of itself is for its own search.
            looks.remove(&s);
            (readers.of[s], readers.asks[s]) = (looks, asks);
        }
        let (mut looks, mut asks): (BTreeMap<usize, Look>, Vec<usize>) = (BTreeMap::new(), Vec::new());
        let mut look = |step: usize, at: Look| {
            let known = looks.entry(step).or_default();
            *known = known.and(at);
        };
        looks_of_reads(&sketch.output, &mut look, &mut |condition| asks.push(condition));
        asks.sort_unstable();
        asks.dedup();
        (readers.output, readers.output_asks) = (looks, asks);
        readers
    }
}

impl State {
    pub fn begin(mode: Mode, facts: Facts) -> Self {
        Self {
            mode,
            kept: false,
            rests: false,
            parked: false,
            pivot: false,
            unjudged: false,
            decided: Vec::new(),
            folds: Vec::new(),
            output: Vec::new(),
            facts,
        }
    }

    /// Takes out what a step sees whose turn it is.
    pub fn take(&mut self, step: usize) -> Fold {
        match self.folds.iter().position(|fold| fold.step == step) {
            Some(at) => self.folds.remove(at),
            None => Fold { step, blocked: false, skipped: true, seen: Vec::new() },
        }
    }

    /// Shows how `step` ended to those that need it; nothing if it was not begun or did not end in time.
    pub fn show(&mut self, sketch: &Sketch, readers: &Readers, step: usize, seen: Option<(Seen, bool, bool)>) {
        for &dependent in &readers.dependents[step] {
            let fold = match self.folds.iter_mut().position(|fold| fold.step == dependent) {
                Some(at) => &mut self.folds[at],
                None => {
                    // Whether all was skipped is asked only of a step that does not run all the same.
                    let skipped = sketch.steps[dependent].on_skip != Some(OnSkip::Run);
                    self.folds.push(Fold { step: dependent, blocked: false, skipped, seen: Vec::new() });
                    self.folds.last_mut().expect("it was pushed")
                }
            };
            match seen {
                Some((seen, skipped, true)) => {
                    fold.skipped &= skipped;
                    let look = readers.of[dependent].get(&step).copied().unwrap_or_default();
                    if !look.is_nothing() && !fold.blocked {
                        fold.seen.push((step, seen.masked(look)));
                        fold.seen.sort_unstable();
                    }
                }
                Some((.., false)) | None => {
                    (fold.blocked, fold.skipped) = (true, false);
                    fold.seen.clear();
                }
            }
        }
        self.folds.sort_unstable();
        if let (Some(look), Mode::Straight | Mode::Output, false, Some((seen, ..))) =
            (readers.output.get(&step), self.mode, self.parked, seen)
        {
            self.output.push((step, seen.masked(*look)));
            self.output.sort_unstable();
        }
    }

    /// Forgets what cannot matter any more after the step at `place` in the order.
    pub fn forget(&mut self, readers: &Readers, place: usize) {
        let output = matches!(self.mode, Mode::Straight | Mode::Output);
        self.decided.retain(|(condition, _)| {
            readers.last_asked[*condition].is_some_and(|last| last > place && !awake(Bug::SweepConditionForgotten))
                || (output && readers.output_asks.contains(condition))
        });
        if self.parked && self.mode == Mode::Straight {
            self.output.clear();
        }
        if self.unjudged {
            self.facts.iter_mut().for_each(|fact| *fact = 0);
        }
    }
}
