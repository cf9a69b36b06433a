//! What a step knows when its turn comes: how the steps that it reads have ended, and the conditions decided so far.

use crate::verify::findings::{Missing, Problem, Reader};
use crate::verify::sketch::{Aspect, Decision, Read, StepEnding, Truth};

/// How a step has ended, as others can see it, in bits that can be masked to what is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Seen(u32);

const OUTPUT: u32 = 1;
const ERROR: u32 = 2;
const VIA: u32 = 4;
const ENDING_AT: u32 = 3;
const ENDING: u32 = 0b111 << ENDING_AT;
const MEMBER_AT: u32 = 6;
const MEMBER: u32 = u32::MAX << MEMBER_AT;

fn ending_code(ending: StepEnding) -> u32 {
    match ending {
        StepEnding::Ok => 1,
        StepEnding::Failed => 2,
        StepEnding::Unknown => 3,
        StepEnding::Skipped => 4,
    }
}

impl Seen {
    /// A step that ended, by a member if it called one and has no items.
    pub fn ended(ending: StepEnding, via: Option<usize>) -> Self {
        let mut bits = ending_code(ending) << ENDING_AT;
        match ending {
            StepEnding::Ok => bits |= OUTPUT,
            StepEnding::Failed | StepEnding::Unknown => bits |= ERROR,
            StepEnding::Skipped => {}
        }
        if let (StepEnding::Ok, Some(member)) = (ending, via) {
            let member = u32::try_from(member).unwrap_or(u32::MAX >> (MEMBER_AT + 1));
            bits |= VIA | ((member + 1) << MEMBER_AT);
        }
        Self(bits)
    }

    pub fn of_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub fn bits(self) -> u32 {
        self.0
    }

    fn has(self, what: Aspect) -> bool {
        match what {
            Aspect::Output => self.0 & OUTPUT != 0,
            Aspect::Error => self.0 & ERROR != 0,
            Aspect::Via => self.0 & VIA != 0,
            // These are the reader's own: [`Context::is_there`].
            Aspect::OwnOutput | Aspect::OwnError => false,
        }
    }

    fn is_ended(self, ending: StepEnding) -> bool {
        (self.0 & ENDING) >> ENDING_AT == ending_code(ending)
    }

    fn is_by(self, member: usize) -> bool {
        (self.0 & MEMBER) >> MEMBER_AT == u32::try_from(member).map_or(0, |member| member + 1)
    }

    /// Keeps what `look` looks at.
    pub fn masked(self, look: Look) -> Self {
        Self(self.0 & look.0)
    }
}

/// What is looked at of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look(u32);

impl Look {
    pub fn is_nothing(self) -> bool {
        self.0 == 0
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn at(what: Aspect) -> Self {
        match what {
            Aspect::Output => Self(OUTPUT),
            Aspect::Error => Self(ERROR),
            Aspect::Via => Self(VIA),
            Aspect::OwnOutput | Aspect::OwnError => Self(0),
        }
    }
}

/// Calls `look` with each step that a condition looks at and what it looks at, and `free` with each free condition.
pub(super) fn looks_of_truth(truth: &Truth, look: &mut impl FnMut(usize, Look), free: &mut impl FnMut(usize)) {
    match truth {
        Truth::Const(_) | Truth::Open => {}
        Truth::Free(condition) => free(*condition),
        Truth::Has(step, what) => look(*step, Look::at(*what)),
        Truth::Via(step, _) => look(*step, Look(MEMBER)),
        Truth::Ended(step, _) => look(*step, Look(ENDING)),
        Truth::Not(inner) => looks_of_truth(inner, look, free),
        Truth::All(parts) | Truth::Any(parts) => parts.iter().for_each(|part| looks_of_truth(part, look, free)),
    }
}

/// The same for what is read.
pub(super) fn looks_of_reads(reads: &[Read], look: &mut impl FnMut(usize, Look), free: &mut impl FnMut(usize)) {
    for read in reads {
        look(read.step, Look::at(read.what));
        looks_of_truth(&read.when, look, free);
    }
}

/// Whether something holds: certainly, certainly not, or either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    No,
    Either,
}

/// A condition with how it comes out. A state remembers many of them, so both are in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Choice(u32);

impl Choice {
    pub fn new(condition: usize, holds: bool) -> Self {
        let condition = u32::try_from(condition).expect("a definition has no room for so many conditions");
        Self((condition << 1) | u32::from(holds))
    }

    pub fn condition(self) -> usize {
        self.told().0
    }

    pub fn of_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub fn bits(self) -> u32 {
        self.0
    }

    /// Returns the condition, and whether it holds.
    pub fn told(self) -> (usize, bool) {
        ((self.0 >> 1) as usize, self.0 & 1 == 1)
    }
}

/// What is known when something is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Context {
    /// How the steps that are looked at have ended.
    pub seen: Vec<(usize, Seen)>,
    /// The conditions that are decided.
    pub decided: Vec<Choice>,
    /// The run stops in the very commit in which the step begins, because another fails as soon as it begins.
    pub stopped: bool,
}

impl Context {
    fn of(&self, step: usize) -> Seen {
        self.seen.iter().find(|(known, _)| *known == step).map_or_else(Seen::default, |(_, seen)| *seen)
    }

    /// Tells whether something of a step is there. `own` says whether the reader's own output is; if not, it has an error.
    fn is_there(&self, step: usize, what: Aspect, own: bool) -> bool {
        match what {
            Aspect::OwnOutput => own,
            Aspect::OwnError => !own,
            Aspect::Output | Aspect::Error | Aspect::Via => self.of(step).has(what),
        }
    }

    fn holds(&self, truth: &Truth, own: bool) -> Holds {
        let certain = |holds: bool| if holds { Holds::Yes } else { Holds::No };
        match truth {
            Truth::Const(holds) => certain(*holds),
            Truth::Open => Holds::Either,
            Truth::Free(condition) => {
                let known = self.decided.iter().find(|known| known.condition() == *condition);
                known.map_or(Holds::Either, |known| certain(known.told().1))
            }
            Truth::Has(step, what) => certain(self.is_there(*step, *what, own)),
            Truth::Via(step, member) => certain(self.of(*step).is_by(*member)),
            Truth::Ended(step, ending) => certain(self.of(*step).is_ended(*ending)),
            Truth::Not(inner) => match self.holds(inner, own) {
                Holds::Yes => Holds::No,
                Holds::No => Holds::Yes,
                Holds::Either => Holds::Either,
            },
            Truth::All(parts) => self.joined(parts, own, Holds::No, Holds::Yes),
            Truth::Any(parts) => self.joined(parts, own, Holds::Yes, Holds::No),
        }
    }

    fn joined(&self, parts: &[Truth], own: bool, decides: Holds, otherwise: Holds) -> Holds {
        let mut whole = otherwise;
        for part in parts {
            match self.holds(part, own) {
                part if part == decides => return decides,
                Holds::Either => whole = Holds::Either,
                Holds::Yes | Holds::No => {}
            }
        }
        whole
    }

    /// Returns the reads that find nothing, and whether all of them may also not be read at all. `own` says whether the
    /// reader's own output is there.
    pub fn missing(&self, reads: &[Read], reader: Reader, own: bool) -> (Vec<Problem>, bool) {
        let mut missing = Vec::new();
        let mut avoidable = true;
        for (nth, read) in reads.iter().enumerate() {
            let there = self.is_there(read.step, read.what, own);
            let asked = self.holds(&read.when, own);
            if there || asked == Holds::No {
                continue;
            }
            avoidable &= asked == Holds::Either;
            missing.push(Problem::Missing(Missing { reader, read: nth, step: read.step, what: read.what }));
        }
        (missing, avoidable)
    }

    /// Returns what a decision can come to: nothing if it cannot be read (with what is missing), else true or false.
    pub fn decide(&self, decision: &Decision, reader: Reader) -> (Vec<Problem>, Vec<bool>) {
        let (missing, avoidable) = self.missing(&decision.reads, reader, false);
        if !avoidable {
            return (missing, Vec::new());
        }
        let answers = match self.holds(&decision.truth, false) {
            Holds::Yes => vec![true],
            Holds::No => vec![false],
            Holds::Either => vec![true, false],
        };
        (missing, answers)
    }
}
