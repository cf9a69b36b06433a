//! Small workflows by chance, for holding the searches against each other: made from a number, and made smaller.
//!
//! It owns what is drawn and how often. It goes for every combination that a sketch can hold and not for likely
//! workflows, and it knows no rule.

use crate::check::invariant;
use crate::dice::Dice;
use crate::teeth::{Bug, awake};

use super::sketch::{
    Act, Aspect, Confirm, Decision, Failing, IfAbsent, Invariant, Member, OnError, OnSkip, Read, Repeat, Site, Sketch,
    Step, StepEnding, Truth, Undo, Wait,
};

mod shrink;
mod tests;

pub use self::shrink::shrink;

/// The effects that members have; a few, so that several share one.
const EFFECTS: [&str; 3] = ["charged", "booked", "sent"];

/// What the undoing of each is called.
const UNDONE: [&str; 3] = ["refunded", "cancelled", "recalled"];

/// The free conditions.
const CONDITIONS: [&str; 2] = ["input.a > 0", "input.b"];

/// Makes the workflow of a seed.
#[must_use]
pub fn sketch(seed: u64) -> Sketch {
    Maker { dice: Draws(Dice(seed.wrapping_mul(0x5851_f42d_4c95_7f2d))), steps: Vec::new() }.sketch(seed)
}

/// What a maker draws.
struct Draws(Dice);

impl Draws {
    /// Returns a number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0.place(end)
    }

    /// Is true so many times in a hundred.
    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Returns the place of one of the weights, as often as it weighs.
    fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut at = self.below(weights.iter().sum());
        for (ix, weight) in weights.iter().enumerate() {
            if at < *weight {
                return ix;
            }
            at -= weight;
        }
        unreachable!("it is below the sum of all weights")
    }
}

struct Maker {
    dice: Draws,
    /// For each step, by its place, the number of its members (none for a wait) and whether it has items.
    steps: Vec<(usize, bool)>,
}

impl Maker {
    fn sketch(mut self, seed: u64) -> Sketch {
        let many = [2, 2, 2, 3, 3, 3, 4, 4, 5][self.dice.below(9)];
        let mut order: Vec<usize> = (0..many).collect();
        for at in 1..many {
            order.swap(at, self.dice.below(at + 1));
        }
        self.steps = vec![(0, false); many];
        let mut steps: Vec<Option<Step>> = vec![None; many];
        for at in 0..many {
            steps[order[at]] = Some(self.step(order[at], &order[..at], many));
        }
        let deadline = self.dice.percent(30);
        let (some, all) = (self.dice.percent(35), (0..many).collect::<Vec<_>>());
        let output = if some { self.reads("/output", &all, None) } else { Vec::new() };
        let invariants = (0..self.dice.weighted(&[50, 30, 20])).map(|ix| self.invariant(ix)).collect();
        Sketch {
            name: format!("by-chance-{seed}"),
            steps: steps.into_iter().map(|step| step.expect("each step stands in the order once")).collect(),
            order,
            effects: EFFECTS.map(str::to_owned).to_vec(),
            conditions: CONDITIONS.map(str::to_owned).to_vec(),
            deadline,
            output,
            finally: Vec::new(),
            invariants,
        }
    }

    /// Makes a step that comes after others. The more steps there are the simpler each is, or nobody could look at all runs.
    fn step(&mut self, ix: usize, before: &[usize], many: usize) -> Step {
        let name = format!("s{ix}");
        let at = format!("/steps/{name}");
        let mut needs: Vec<usize> = Vec::new();
        if let Some(last) = before.last()
            && self.dice.percent(75)
        {
            needs.push(*last);
        }
        for other in before {
            if !needs.contains(other) && self.dice.percent(25) {
                needs.push(*other);
            }
        }
        needs.sort_unstable();
        let when = self.dice.percent(30).then(|| self.decision(&format!("{at}/when"), &needs));
        let wait = self.dice.percent(14);
        let listed = !wait && many <= 3 && self.dice.percent(18);
        let act = if wait {
            let (signal, reads) = (self.dice.percent(75), self.reads(&format!("{at}/wait/until"), &needs, None));
            let limited = self.dice.percent(55) || awake(Bug::RandomWaitsAllEnd);
            let reads = if limited || !signal { reads } else { Vec::new() };
            Act::Wait(Wait { reads, signal, limited: limited || !signal })
        } else {
            Act::Call(self.members(ix, &needs, many, listed))
        };
        self.steps[ix] = (if let Act::Call(members) = &act { members.len() } else { 0 }, listed);
        let items = listed.then(|| self.reads(&format!("{at}/foreach"), &needs, None));
        Step {
            name,
            needs,
            when,
            on_skip: self.dice.pick(&[None, Some(OnSkip::Run), Some(OnSkip::Skip)]),
            on_error: [OnError::Compensate, OnError::Continue, OnError::Park][self.dice.weighted(&[50, 35, 15])],
            pivot: self.dice.percent(18),
            items,
            // The explorer has a few items, and more places would never leave one over.
            concurrency: if self.dice.percent(50) { 1 } else { 2 },
            let_in: !wait && self.dice.percent(30),
            act,
            site: Site::at(at),
        }
    }

    fn members(&mut self, step: usize, needs: &[usize], many: usize, listed: bool) -> Vec<Member> {
        let count =
            1 + if listed || many > 3 { self.dice.weighted(&[75, 25]) } else { self.dice.weighted(&[55, 33, 12]) };
        let simple = listed || many > 3;
        (0..count).map(|ix| self.member(step, ix, count, needs, simple)).collect()
    }

    fn member(&mut self, step: usize, ix: usize, count: usize, needs: &[usize], simple: bool) -> Member {
        let (name, at) = if ix == 0 {
            ("primary".to_owned(), format!("/steps/s{step}"))
        } else {
            (format!("f{ix}"), format!("/steps/s{step}/fallback/{}", ix - 1))
        };
        let effect = self.dice.percent(75).then(|| self.dice.below(EFFECTS.len()));
        let repeat = self.dice.pick(&[Repeat::Once, Repeat::Safe, Repeat::Keyed]);
        // What may be done only once is not repeated in any workflow that is accepted; what comes of it is a rule all the
        // same, and the only way to something that happens twice.
        let repeatable = effect.is_none() || repeat != Repeat::Once || self.dice.percent(25);
        let attempts =
            if simple { [1, 2][self.dice.weighted(&[80, 20])] } else { [1, 2, 3][self.dice.weighted(&[58, 32, 10])] };
        let undo =
            self.dice.percent(if effect.is_some() { 65 } else { 15 }).then(|| self.undo(step, &at, effect, needs));
        Member {
            name,
            handler: format!("by.chance{ix}"),
            when: (ix > 0 && self.dice.percent(50)).then(|| self.decision(&format!("{at}/when"), needs)),
            reads: self.reads(&format!("{at}/with"), needs, None),
            effect,
            repeat,
            repeatable,
            attempts,
            endings: self.endings(ix, count, attempts, repeatable, simple),
            refused: self.failing("template", true, false, ix, count),
            cut_off: self.failing("crashed", false, false, ix, count),
            confirm: self.dice.percent(25).then(|| self.confirm(step, &at, needs)),
            harmless: effect.is_some() && undo.is_none() && self.dice.percent(30),
            undo,
            site: Site::at(at),
        }
    }

    fn endings(&mut self, ix: usize, count: usize, attempts: u8, repeatable: bool, simple: bool) -> Vec<Failing> {
        let most = if simple { 2 } else { 3 };
        let mut endings: Vec<Failing> = Vec::new();
        for n in 0..1 + self.dice.below(most) {
            let clear = self.dice.percent(50);
            let may_retry = clear || repeatable || awake(Bug::RandomRetriesAnything);
            let retried = attempts > 1 && may_retry && self.dice.percent(60);
            let failing = self.failing(&format!("by.chance{n}"), clear, retried, ix, count);
            let same = |other: &Failing| {
                (other.clear, other.retried, &other.taken_by) == (failing.clear, failing.retried, &failing.taken_by)
            };
            if !endings.iter().any(same) {
                endings.push(failing);
            }
        }
        endings
    }

    fn failing(&mut self, code: &str, clear: bool, retried: bool, ix: usize, count: usize) -> Failing {
        let taken_by = (ix + 1..count).filter(|_| self.dice.percent(70)).collect();
        Failing { code: code.to_owned(), clear, retried, taken_by }
    }

    fn undo(&mut self, step: usize, at: &str, effect: Option<usize>, needs: &[usize]) -> Undo {
        let at = format!("{at}/compensate");
        let undoes = effect.is_some() && self.dice.percent(85);
        Undo {
            handler: "by.chance_undo".to_owned(),
            reads: self.reads(&format!("{at}/with"), needs, Some(step)),
            undoes,
            undone: effect.filter(|_| undoes).map(|effect| UNDONE[effect].to_owned()),
            if_absent: if self.dice.percent(65) { IfAbsent::Ok } else { IfAbsent::Error },
            blocks_late: self.dice.percent(55),
            site: Site::at(at),
        }
    }

    fn confirm(&mut self, step: usize, at: &str, needs: &[usize]) -> Confirm {
        let at = format!("{at}/confirm");
        let reads =
            if self.dice.percent(30) { self.reads(&format!("{at}/with"), needs, Some(step)) } else { Vec::new() };
        Confirm {
            handler: "by.chance_confirm".to_owned(),
            reads,
            blocks_late: self.dice.percent(50),
            site: Site::at(at),
        }
    }

    /// Makes what a template reads of the steps before; with `own` also the output of the member concerned.
    fn reads(&mut self, at: &str, steps: &[usize], own: Option<usize>) -> Vec<Read> {
        let mut reads = Vec::new();
        for n in 0..self.dice.weighted(&[62, 29, 9]) {
            let site = Site::within(at, &(n * 10..n * 10 + 5));
            if let Some(step) = own.filter(|_| self.dice.percent(50)) {
                let what = [Aspect::OwnOutput, Aspect::OwnError][self.dice.weighted(&[70, 30])];
                reads.push(Read { step, what, when: self.guard(step, what, steps), site });
            } else if !steps.is_empty() {
                let step = self.dice.pick(steps);
                let what = [Aspect::Output, Aspect::Error, Aspect::Via][self.dice.weighted(&[75, 12, 13])];
                reads.push(Read { step, what, when: self.guard(step, what, steps), site });
            }
        }
        reads
    }

    /// Makes what guards a read: often nothing, often the right thing.
    fn guard(&mut self, step: usize, what: Aspect, steps: &[usize]) -> Truth {
        let own = matches!(what, Aspect::OwnOutput | Aspect::OwnError);
        match self.dice.weighted(&[45, 40, 15]) {
            0 => Truth::Const(true),
            1 => Truth::Has(step, what),
            _ if own && self.dice.percent(50) => {
                let had = Truth::Has(step, [Aspect::OwnOutput, Aspect::OwnError][self.dice.below(2)]);
                if self.dice.percent(50) { had } else { Truth::Not(Box::new(had)) }
            }
            _ => self.truth(steps, 1),
        }
    }

    fn decision(&mut self, at: &str, steps: &[usize]) -> Decision {
        let truth = self.truth(steps, 2);
        let reads = if self.dice.percent(75) { self.reads(at, steps, None) } else { Vec::new() };
        Decision { truth, reads, site: Site::at(at) }
    }

    fn truth(&mut self, steps: &[usize], depth: usize) -> Truth {
        let free = Truth::Free(self.dice.below(CONDITIONS.len()));
        let known = [45, 5, 8, 14, 14, 14];
        let parts = if depth > 0 { [14, 8, 8] } else { [0; 3] };
        let two = |maker: &mut Self| vec![maker.truth(steps, depth - 1), maker.truth(steps, depth - 1)];
        let draw = self.dice.weighted(&[&known[..], &parts[..]].concat());
        if steps.is_empty() && matches!(draw, 3..=5) {
            return free;
        }
        match draw {
            0 => free,
            1 => Truth::Const(self.dice.percent(50)),
            2 => Truth::Open,
            3 => {
                let step = self.dice.pick(steps);
                Truth::Has(step, self.dice.pick(&[Aspect::Output, Aspect::Error, Aspect::Via]))
            }
            4 => {
                let step = self.dice.pick(steps);
                Truth::Via(step, self.dice.below(self.steps[step].0.max(1)))
            }
            5 => {
                let endings = [StepEnding::Ok, StepEnding::Failed, StepEnding::Unknown, StepEnding::Skipped];
                Truth::Ended(self.dice.pick(steps), self.dice.pick(&endings))
            }
            6 => Truth::Not(Box::new(self.truth(steps, depth - 1))),
            7 => Truth::All(two(self)),
            _ => Truth::Any(two(self)),
        }
    }

    fn invariant(&mut self, ix: usize) -> Invariant {
        let fact = |maker: &mut Self| {
            let fact = match maker.dice.below(4) {
                0 | 1 => maker.dice.pick(&EFFECTS).to_owned(),
                2 => maker.dice.pick(&UNDONE).to_owned(),
                _ => {
                    let ending = maker.dice.pick(&["ok", "failed", "unknown", "skipped"]);
                    format!("s{}.{ending}", maker.dice.below(maker.steps.len()))
                }
            };
            if maker.dice.percent(35) { format!("not {fact}") } else { fact }
        };
        let (a, b, c) = (fact(self), fact(self), fact(self));
        let text = match self.dice.below(4) {
            0 => a,
            1 => format!("{a} and {b}"),
            2 => format!("{a} and ({b} or {c})"),
            _ => format!("{a} and {b} and {c}"),
        };
        let formula = invariant::parse(&text).expect("facts joined by words are an invariant");
        Invariant { text, formula, site: Site::at(format!("/invariants/{ix}/never")) }
    }
}
