//! What is remembered between two steps.

use crate::teeth::{Bug, awake};
use std::collections::BTreeMap;

use super::Numbered;
use super::context::{Choice, Look, Seen, looks_of_reads, looks_of_truth};
use super::facts::Facts;
use super::layer::number;
use crate::verify::sketch::{Act, Decision, OnSkip, Sketch};

/// How a run goes, promised at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Mode {
    /// Nothing stops it: it is completed, or rests parked.
    Straight,
    /// A step fails and stops it, some time after it has begun.
    Fails,
    /// A step fails as soon as it begins, and stops it in the commit in which the last of its needs ends.
    FailsAtOnce,
    /// The same in the run's first commit.
    FailsAtFirst,
    /// Somebody cancels it, or its deadline passes.
    Cancelled,
    /// Every step ends well enough, and the output cannot be made.
    Output,
}

impl Mode {
    /// Those of a workflow in which no step can stop the run as soon as it begins.
    pub const USUAL: [Self; 4] = [Self::Straight, Self::Fails, Self::Cancelled, Self::Output];

    pub const ALL: [Self; 6] =
        [Self::Straight, Self::Fails, Self::FailsAtOnce, Self::FailsAtFirst, Self::Cancelled, Self::Output];

    /// Whether steps can be cut short, or not begun.
    pub fn stops_midway(self) -> bool {
        self.stops_at_once() || matches!(self, Self::Fails | Self::Cancelled)
    }

    /// Whether a step fails as soon as it begins, so that what begins with it ends in the drain.
    pub fn stops_at_once(self) -> bool {
        matches!(self, Self::FailsAtOnce | Self::FailsAtFirst)
    }
}

/// What a step that has not had its turn will see of those that have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Fold {
    pub step: usize,
    /// Something that it needs did not end well enough, or not in time.
    pub blocked: bool,
    /// It begins in the commit in which the run stops.
    pub stopped: bool,
    /// All that it needs and that had its turn was skipped.
    pub skipped: bool,
    /// What it looks at.
    pub seen: Vec<(usize, Seen)>,
}

/// A fold by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FoldIx(u32);

/// Every fold that some state has. There are few, and a state has many, so that a state has their numbers.
#[derive(Debug, Default)]
pub(super) struct Folds(Numbered<Fold>);

impl Folds {
    fn get(&self, ix: FoldIx) -> &Fold {
        &self.0[ix.0 as usize]
    }

    fn add(&mut self, fold: Fold) -> FoldIx {
        FoldIx(number(self.0.insert_full(fold).0))
    }
}

/// What is remembered of the steps that had their turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub mode: Mode,
    /// The promise of the mode was kept: a step has failed, or something is left for the cancel to stop.
    pub kept: bool,
    /// The step has ended with which the commit begins in which the run stops.
    pub triggered: bool,
    /// A run that rests parked is left for a cancel, not for a deadline, which does not go on then.
    pub rests: bool,
    /// A step is parked, and the run will be.
    pub parked: bool,
    /// A point of no return is past.
    pub pivot: bool,
    /// Nothing is said of the end.
    pub unjudged: bool,
    /// The conditions that are decided and asked again.
    pub decided: Vec<Choice>,
    /// Those of steps that have not had their turn, in the order of their steps.
    pub folds: Vec<FoldIx>,
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
            triggered: mode == Mode::FailsAtFirst,
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
    pub fn take(&mut self, folds: &Folds, step: usize) -> Fold {
        match self.folds.iter().position(|fold| folds.get(*fold).step == step) {
            Some(at) => folds.get(self.folds.remove(at)).clone(),
            None => {
                let stopped = self.mode == Mode::FailsAtFirst;
                Fold { step, blocked: false, stopped, skipped: true, seen: Vec::new() }
            }
        }
    }

    /// Shows how `step` ended to those that need it; nothing if it was not begun or did not end in time. `last` says that the
    /// run stops in the commit in which it did.
    pub fn show(
        &mut self,
        sketch: &Sketch,
        readers: &Readers,
        folds: &mut Folds,
        step: usize,
        seen: Option<(Seen, bool, bool)>,
        last: bool,
    ) {
        for &dependent in &readers.dependents[step] {
            let at = self.folds.partition_point(|fold| folds.get(*fold).step < dependent);
            let known = self.folds.get(at).map(|fold| folds.get(*fold)).filter(|fold| fold.step == dependent);
            let is_new = known.is_none();
            // Whether all was skipped is asked only of a step that does not run all the same.
            let skipped = sketch.steps[dependent].on_skip != Some(OnSkip::Run);
            let fresh = || Fold { step: dependent, blocked: false, stopped: false, skipped, seen: Vec::new() };
            let mut fold = known.cloned().unwrap_or_else(fresh);
            match seen {
                Some((seen, skipped, true)) => {
                    fold.skipped &= skipped;
                    fold.stopped |= last && !fold.blocked;
                    let look = readers.of[dependent].get(&step).copied().unwrap_or_default();
                    if !look.is_nothing() && !fold.blocked {
                        fold.seen.push((step, seen.masked(look)));
                        fold.seen.sort_unstable();
                    }
                }
                Some((.., false)) | None => {
                    (fold.blocked, fold.stopped, fold.skipped) = (true, false, false);
                    fold.seen.clear();
                }
            }
            let fold = folds.add(fold);
            if is_new {
                self.folds.insert(at, fold);
            } else {
                self.folds[at] = fold;
            }
        }
        if let (Some(look), Mode::Straight | Mode::Output, false, Some((seen, ..))) =
            (readers.output.get(&step), self.mode, self.parked, seen)
        {
            self.output.push((step, seen.masked(*look)));
            self.output.sort_unstable();
        }
    }

    /// Tells whether a run ends so that is in this state after its last step, and whose output can be read, or can miss
    /// something.
    pub fn is_end(&self, readable: bool, misses: bool) -> bool {
        match self.mode {
            Mode::Straight => self.parked || readable,
            Mode::Fails | Mode::FailsAtOnce | Mode::FailsAtFirst => self.kept,
            // Where nothing was left to stop, the run rests parked. A cancel can end it, but not behind a pivot; and the
            // deadline, which could, does not go on while it rests. Nothing new would be found if it did: what shows in
            // such a run shows in the one that rests, and the deadline may have come before the parked step began or, if
            // that is the pivot, while it was under way. So the rule is here because it is true, and is tested here.
            Mode::Cancelled => self.kept || (self.rests && (!self.pivot || awake(Bug::SweepDeadlineWhileParked))),
            Mode::Output => misses,
        }
    }

    /// Forgets what cannot matter any more after the step at `place` in the order.
    pub fn forget(&mut self, readers: &Readers, place: usize) {
        let output = matches!(self.mode, Mode::Straight | Mode::Output);
        self.decided.retain(|known| {
            let condition = known.condition();
            readers.last_asked[condition].is_some_and(|last| last > place && !awake(Bug::SweepConditionForgotten))
                || (output && readers.output_asks.contains(&condition))
        });
        if self.parked && self.mode == Mode::Straight {
            self.output.clear();
        }
        if self.unjudged {
            self.facts.iter_mut().for_each(|fact| *fact = 0);
        }
    }
}

/// A state as it is kept: some numbers in one piece.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Packed(Box<[u32]>);

/// How many bits of a number say the mode.
const MODE_BITS: usize = 3;

/// How many facts are in a number.
const FACTS: usize = 4;

impl Packed {
    pub fn of(state: &State) -> Self {
        let State { mode, kept, triggered, rests, parked, pivot, unjudged, decided, folds, output, facts } = state;
        let flags = [kept, triggered, rests, parked, pivot, unjudged];
        let flags = flags.into_iter().enumerate().fold(0, |bits, (at, is)| bits | (u32::from(*is) << (MODE_BITS + at)));
        let length = 3 + decided.len() + folds.len() + 2 * output.len() + facts.len().div_ceil(FACTS);
        let mut words = Vec::with_capacity(length);
        words.extend([*mode as u32 | flags, number(decided.len()), number(folds.len())]);
        words.extend(decided.iter().map(|choice| choice.bits()));
        words.extend(folds.iter().map(|fold| fold.0));
        words.extend(output.iter().flat_map(|(step, seen)| [number(*step), seen.bits()]));
        words.extend(facts.chunks(FACTS).map(|some| some.iter().fold(0, |word, fact| (word << 8) | u32::from(*fact))));
        Self(words.into_boxed_slice())
    }

    pub fn mode(&self) -> Mode {
        Mode::ALL[(self.0[0] & ((1 << MODE_BITS) - 1)) as usize]
    }

    /// Returns the state again, which has so many facts.
    pub fn state(&self, facts: usize) -> State {
        let is = |at: usize| self.0[0] & (1 << (MODE_BITS + at)) != 0;
        let rest = &self.0[3..];
        let (decided, rest) = rest.split_at(self.0[1] as usize);
        let (folds, rest) = rest.split_at(self.0[2] as usize);
        let (output, packed) = rest.split_at(rest.len() - facts.div_ceil(FACTS));
        let mut all = Facts::with_capacity(facts);
        for (nth, word) in packed.iter().enumerate() {
            let here = FACTS.min(facts - nth * FACTS);
            all.extend(&word.to_be_bytes()[FACTS - here..]);
        }
        State {
            mode: self.mode(),
            kept: is(0),
            triggered: is(1),
            rests: is(2),
            parked: is(3),
            pivot: is(4),
            unjudged: is(5),
            decided: decided.iter().map(|bits| Choice::of_bits(*bits)).collect(),
            folds: folds.iter().map(|ix| FoldIx(*ix)).collect(),
            output: output.chunks_exact(2).map(|seen| (seen[0] as usize, Seen::of_bits(seen[1]))).collect(),
            facts: all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::sketch::StepEnding;

    #[test]
    fn a_run_that_rests_parked_is_stopped_by_a_cancel_and_not_by_a_deadline() {
        let rests = State { rests: true, ..State::begin(Mode::Cancelled, Facts::new()) };
        assert!(rests.is_end(false, false));
        // Behind a pivot a cancel is refused.
        let behind = State { pivot: true, ..rests };
        assert!(!behind.is_end(false, false));
        assert!(State { kept: true, ..behind }.is_end(false, false), "something was left to stop");
    }

    #[test]
    fn a_state_that_is_kept_is_the_same_again() {
        for (nth, mode) in Mode::ALL.into_iter().enumerate() {
            for facts in 0..10_u8 {
                let is = |bit: usize| (nth + usize::from(facts)) >> bit & 1 == 1;
                let seen = Seen::ended(StepEnding::Ok, Some(nth));
                let state = State {
                    mode,
                    kept: is(0),
                    triggered: !is(1),
                    rests: is(1),
                    parked: is(2),
                    pivot: is(3),
                    unjudged: !is(0),
                    decided: (0..nth).map(|condition| Choice::new(condition * 70_000, is(condition))).collect(),
                    folds: (0..u32::from(facts)).map(FoldIx).collect(),
                    output: (0..nth).map(|step| (step, seen)).collect(),
                    facts: (0..facts).map(|fact| 250 - fact).collect(),
                };
                assert_eq!(Packed::of(&state).state(usize::from(facts)), state);
                assert_eq!(Packed::of(&state).mode(), mode);
            }
        }
    }
}
