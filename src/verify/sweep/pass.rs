//! The two passes, and what is found between them.

use crate::teeth::{Bug, awake};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::context::{Choice, Context};
use super::facts::Slots;
use super::layer::{Ahead, Asked, Front, Layer, Move, Turns, WayIx, number};
use super::state::{Fold, Folds, Mode, Readers, State};
use super::step::{At, Effect, Mark, Way, Ways, ways};
use super::{Class, Cost, Lookup, Numbered};
use crate::verify::findings::{Course, Found, LimitReached, Part, Person, Problem, Reader, StepCourse, Stop};
use crate::verify::sketch::{Sketch, Step};

/// Where the best course to a problem leads through.
#[derive(Clone)]
struct Through {
    cost: Cost,
    layer: usize,
    state: usize,
    /// What the step does there; nothing for a problem of the end itself.
    step: Option<(Move, Mark)>,
    /// The conditions that the output decides.
    decides: Vec<Choice>,
    aim: Option<At>,
}

/// What can become of steps, each thing with its number.
#[derive(Default)]
struct Known {
    index: Lookup<(usize, bool, Context, Class), u32>,
    /// With the number of the first of the ways.
    contexts: Vec<(Rc<Ways>, usize)>,
    ways: Vec<Rc<Way>>,
    choices: Numbered<Vec<Choice>>,
}

impl Known {
    fn add(&mut self, found: Ways) -> u32 {
        let found = Rc::new(found);
        self.contexts.push((Rc::clone(&found), self.ways.len()));
        self.ways.extend(found.ways.iter().cloned());
        number(self.contexts.len() - 1)
    }

    fn way(&self, step: &Move) -> Option<&Rc<Way>> {
        step.way.map(|way| &self.ways[way.get() as usize - 1])
    }

    fn cost(&self, step: &Move) -> Cost {
        self.way(step).map_or(Cost::NONE, |way| way.cost)
    }

    fn choice(&mut self, choice: Vec<Choice>) -> u32 {
        number(self.choices.insert_full(choice).0)
    }
}

/// When a step ends, in a run that is stopped by one that fails as soon as it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Before the commit in which the run stops, or after it.
    Before,
    /// With it that commit begins.
    First,
    /// Within it.
    Within,
}

impl Moment {
    /// Returns when a step can end so.
    fn of(state: &State, fold: &Fold, effect: &Effect) -> &'static [Self] {
        if !state.mode.stops_at_once() {
            return &[Self::Before];
        }
        match (fold.stopped, effect.instant) {
            (true, true) => &[Self::Within],
            (false, false) if effect.satisfies && !state.triggered => &[Self::Before, Self::First],
            _ => &[Self::Before],
        }
    }
}

pub(super) struct Pass<'a> {
    sketch: &'a Sketch,
    limit: u64,
    /// How runs go that are looked at.
    modes: &'static [Mode],
    slots: Slots,
    readers: Readers,
    folds: Folds,
    known: Known,
    layers: Vec<Layer>,
    states: u64,
}

impl<'a> Pass<'a> {
    fn new(sketch: &'a Sketch, limit: u64, modes: &'static [Mode]) -> Self {
        let (slots, readers) = (Slots::new(sketch), Readers::new(sketch));
        Self {
            sketch,
            limit,
            modes,
            slots,
            readers,
            folds: Folds::default(),
            known: Known::default(),
            layers: Vec::new(),
            states: 0,
        }
    }

    /// Looks at all runs. That a step fails as soon as it begins takes modes of its own, which are for few workflows.
    pub fn search(sketch: &'a Sketch, limit: u64) -> Result<Found, LimitReached> {
        let mut pass = Self::new(sketch, limit, &Mode::USUAL);
        let mut last = pass.forward()?;
        if pass.known.ways.iter().any(|way| way.effect.stops && way.effect.instant) {
            pass = Self::new(sketch, limit, &Mode::ALL);
            last = pass.forward()?;
        }
        Ok(pass.found(last))
    }

    fn found(mut self, last: Front) -> Found {
        let mut best: BTreeMap<Problem, Through> = BTreeMap::new();
        let mut found = Found::default();
        self.ends(last, &mut best);
        self.backward(&mut best, &mut found);
        found.problems = best.into_iter().map(|(problem, through)| (problem, self.course(&through))).collect();
        found.states = self.states;
        found
    }

    /// Adds a state, or a cheaper way to it, to a layer. Returns its place there.
    fn add(&mut self, layer: &mut Front, state: State, cost: Cost, from: usize) -> Result<u32, LimitReached> {
        let (at, is_new) = layer.add(&state, cost, from);
        self.states += u64::from(is_new);
        if self.states > self.limit { Err(LimitReached { states: self.limit }) } else { Ok(at) }
    }

    /// Goes through all steps, and returns the states at the end.
    fn forward(&mut self) -> Result<Front, LimitReached> {
        let mut front = Front::default();
        for &mode in self.modes {
            if mode == Mode::Output && self.sketch.output.is_empty() {
                continue;
            }
            let cost = if mode == Mode::Cancelled { Cost::FAULT } else { Cost::NONE };
            self.add(&mut front, State::begin(mode, self.slots.none()), cost, 0)?;
        }
        let facts = self.slots.none().len();
        let (mut moves, mut asked) = (Vec::new(), Vec::new());
        for place in 0..self.sketch.order.len() {
            let (mut next, mut turns) = (Front::default(), Turns::default());
            for (at, (state, cost)) in front.states(facts).enumerate() {
                self.turn(place, &state, at, cost, &mut next, (&mut moves, &mut asked))?;
                turns.add(&mut moves, &mut asked);
            }
            self.layers.push(std::mem::replace(&mut front, next).passed(turns));
        }
        Ok(front)
    }

    /// Finds everything that the step at `place` can do in a state, which adds to the next layer; with what is known of it
    /// there, and the conditions that are decided for that.
    fn turn(
        &mut self,
        place: usize,
        state: &State,
        at: usize,
        cost: Cost,
        next: &mut Front,
        (moves, asked): (&mut Vec<Move>, &mut Vec<Asked>),
    ) -> Result<(), LimitReached> {
        let s = self.sketch.order[place];
        let mut rest = state.clone();
        let fold = rest.take(&self.folds, s);
        let kept_out = self.sketch.steps[s].is_let_in() || awake(Bug::SweepBeginsLate);
        if (fold.blocked || (state.mode.stops_midway() && kept_out))
            && let Some(to) = self.not_begun(place, s, &rest, fold.blocked)
        {
            let to = self.add(next, to, cost, at)?;
            moves.push(Move { to, way: None, decides: self.known.choice(Vec::new()) });
        }
        if !fold.blocked {
            for choice in self.decisions(s, &rest, &fold) {
                let ways = self.ways_of(s, state.mode, &fold, &rest, &choice);
                let (known, first) = self.known.contexts[ways as usize].clone();
                let decides = self.known.choice(choice.clone());
                for (nth, way) in known.ways.iter().enumerate() {
                    for moment in Moment::of(state, &fold, &way.effect) {
                        let Some(to) = self.after(place, s, (&rest, &choice), way, *moment) else { continue };
                        let to = self.add(next, to, cost.and(way.cost), at)?;
                        moves.push(Move { to, way: WayIx::new(number(first + nth + 1)), decides });
                    }
                }
                asked.push(Asked { ways, decides });
            }
        }
        Ok(())
    }

    fn not_begun(&mut self, place: usize, s: usize, rest: &State, blocked: bool) -> Option<State> {
        // Where nothing stops the run midway, only a parked step keeps another from beginning.
        if !rest.mode.stops_midway() && !rest.parked {
            return None;
        }
        let mut to = rest.clone();
        to.kept |= to.mode == Mode::Cancelled && !blocked;
        to.show(self.sketch, &self.readers, &mut self.folds, s, None, false);
        to.forget(&self.readers, place);
        Some(to)
    }

    /// Returns the choices for the conditions that a step asks and that are open.
    fn decisions(&self, s: usize, rest: &State, fold: &Fold) -> Vec<Vec<Choice>> {
        let step = &self.sketch.steps[s];
        if self.is_skipped(step, fold) {
            return vec![Vec::new()];
        }
        let open =
            self.readers.asks[s].iter().filter(|asked| !rest.decided.iter().any(|known| known.condition() == **asked));
        choices(open)
    }

    fn is_skipped(&self, step: &Step, fold: &Fold) -> bool {
        fold.skipped && !step.needs.is_empty()
    }

    fn ways_of(&mut self, s: usize, mode: Mode, fold: &Fold, rest: &State, decides: &[Choice]) -> u32 {
        let asks = &self.readers.asks[s];
        let mut decided: Vec<Choice> =
            rest.decided.iter().chain(decides).copied().filter(|known| asks.contains(&known.condition())).collect();
        decided.sort_unstable();
        let context =
            Context { seen: fold.seen.clone(), decided, stopped: fold.stopped && !awake(Bug::SweepBeginsInTime) };
        let class = if mode == Mode::Straight { Class::Completed } else { Class::Undone };
        let skipped = self.is_skipped(&self.sketch.steps[s], fold);
        let key = (s, skipped, context, class);
        if let Some(known) = self.known.index.get(&key) {
            return *known;
        }
        let found = self.known.add(ways(self.sketch, &self.slots, s, skipped, &key.2, class));
        self.known.index.insert(key, found);
        found
    }

    /// Returns the state after a step ended in some way; nothing if that is no run of the state's mode.
    fn after(
        &mut self,
        place: usize,
        s: usize,
        (rest, decides): (&State, &[Choice]),
        way: &Way,
        moment: Moment,
    ) -> Option<State> {
        let effect = &way.effect;
        let mut to = rest.clone();
        match to.mode {
            Mode::Straight if effect.drained || effect.stops => return None,
            Mode::Output if effect.drained || effect.stops || effect.parks => return None,
            Mode::Cancelled => {
                // A step that fails by itself would have stopped the run, and a cancel behind a pivot is refused.
                let refused = effect.pivot_past && !effect.drained && !self.sketch.deadline;
                let refused = refused && !awake(Bug::SweepCancelAfterPivot);
                if effect.stops || refused {
                    return None;
                }
                to.kept |= effect.drained;
                to.rests |= effect.parks;
            }
            Mode::Fails if effect.stops && effect.instant => return None,
            Mode::Fails => to.kept |= effect.stops,
            Mode::FailsAtOnce | Mode::FailsAtFirst => {
                if effect.stops && moment != Moment::Within {
                    return None;
                }
                to.kept |= effect.stops;
                to.triggered |= moment == Moment::First;
            }
            Mode::Straight | Mode::Output => {}
        }
        to.parked |= effect.parks && to.mode == Mode::Straight;
        if to.mode != Mode::Straight {
            to.pivot |= effect.pivot_past && !awake(Bug::SweepPivotIgnored);
        }
        to.unjudged |= (effect.incomplete && !awake(Bug::SweepIncompleteJudged)) || to.parked || to.pivot;
        to.decided.extend(decides);
        to.decided.sort_unstable();
        Slots::add(&mut to.facts, &effect.facts);
        let seen = Some((effect.seen, effect.skipped, effect.satisfies));
        to.show(self.sketch, &self.readers, &mut self.folds, s, seen, moment != Moment::Before);
        to.forget(&self.readers, place);
        Some(to)
    }

    /// Says of each last state which ends it is, and notes the problems of the end itself.
    fn ends(&mut self, last: Front, best: &mut BTreeMap<Problem, Through>) {
        let layer = self.sketch.order.len();
        let mut ahead = Vec::new();
        for (at, (state, cost)) in last.states(self.slots.none().len()).enumerate() {
            let (missing, readable) = self.output(&state);
            let is_end = state.is_end(readable, !missing.is_empty());
            let judged = is_end && !state.unjudged;
            let undone = is_end && state.mode != Mode::Straight && !state.pivot;
            ahead.push(Ahead::end(is_end, judged, undone));
            let through = Through { cost, layer, state: at, step: None, decides: Vec::new(), aim: None };
            if is_end && state.mode == Mode::Output {
                for (problem, decides) in missing {
                    note(best, &problem, through.cost, || Through { decides, ..through.clone() });
                }
            }
            if judged {
                for (nth, invariant) in self.sketch.invariants.iter().enumerate() {
                    if self.slots.holds(self.sketch, &invariant.formula, &state.facts) {
                        note(best, &Problem::Invariant(nth), through.cost, || through.clone());
                    }
                }
            }
        }
        let mut last = last.passed(Turns::default());
        last.lead_on(ahead);
        self.layers.push(last);
    }

    /// Returns what the output may miss, each with the conditions that it takes, and whether it can be made.
    fn output(&self, state: &State) -> (Vec<(Problem, Vec<Choice>)>, bool) {
        if state.mode.stops_midway() || state.parked {
            return (Vec::new(), false);
        }
        // A condition that nobody asked before is decided now, the same way wherever it stands.
        let asks = &self.readers.output_asks;
        let open = asks.iter().filter(|asked| !state.decided.iter().any(|known| known.condition() == **asked));
        let (mut all, mut readable) = (Vec::new(), false);
        for decides in choices(open) {
            let decided = state.decided.iter().chain(&decides).copied().collect();
            let context = Context { seen: state.output.clone(), decided, stopped: false };
            let (missing, avoidable) = context.missing(&self.sketch.output, Reader::Output, false);
            all.extend(missing.into_iter().map(|problem| (problem, decides.clone())));
            readable |= avoidable;
        }
        (all, readable)
    }

    fn backward(&mut self, best: &mut BTreeMap<Problem, Through>, found: &mut Found) {
        for place in (0..self.sketch.order.len()).rev() {
            let layer = &self.layers[place];
            let mut all = Vec::with_capacity(layer.len());
            for at in 0..layer.len() {
                let mut ahead = Ahead::NONE;
                let mut stopped = false;
                for step in layer.moves(at) {
                    let on = self.layers[place + 1].ahead(step.to);
                    let way = self.known.way(step);
                    stopped |= on.to(At::Any).is_some() && way.is_some_and(|way| way.effect.drained);
                    ahead.improve(on, self.known.cost(step));
                    self.look(place, at, step, on, best, found);
                }
                let known = |asked: &Asked| &self.known.contexts[asked.ways as usize].0;
                if ahead.to(At::Any).is_some() {
                    for context in layer.asked(at).iter().map(known) {
                        found.reached.extend(context.parts.iter().copied());
                        if stopped || awake(Bug::SweepDrainedPartsCount) {
                            found.reached.extend(context.drained.iter().copied());
                        }
                        found.persons.extend(context.persons.iter().copied());
                    }
                }
                let for_ever = layer.asked(at).iter().find(|asked| known(asked).for_ever);
                if let Some(asked) = for_ever.filter(|_| !layer.mode(at).stops_at_once()) {
                    self.for_ever(place, at, asked.decides, best);
                }
                all.push(ahead);
            }
            self.layers[place].lead_on(all);
        }
    }

    /// Notes what a move is a part of.
    fn look(
        &self,
        place: usize,
        state: usize,
        step: &Move,
        on: &Ahead,
        best: &mut BTreeMap<Problem, Through>,
        found: &mut Found,
    ) {
        let Some(way) = self.known.way(step) else { return };
        let s = self.sketch.order[place];
        let mode = self.layers[place].mode(state);
        if on.to(At::Any).is_some() {
            if way.effect.parks && mode == Mode::Straight {
                found.persons.insert(Person::Parked(s));
            }
            if way.effect.pivot_past && mode != Mode::Straight {
                found.persons.insert(Person::PastPivot(s));
            }
        }
        if on.to(At::Undone).is_some() {
            found.reached.extend(way.owed.iter().map(|member| Part::Undo(*member)));
            found.persons.extend(way.owed.iter().map(|member| Person::UndoFails(*member)));
        }
        for ((problem, at), mark) in &way.marks {
            let Some(on) = on.to(*at) else { continue };
            let cost = self.layers[place].cost(state).and(mark.cost).and(on);
            note(best, problem, cost, || Through {
                cost,
                layer: place,
                state,
                step: Some((*step, mark.clone())),
                decides: Vec::new(),
                aim: Some(*at),
            });
        }
    }

    fn for_ever(&self, place: usize, state: usize, decides: u32, best: &mut BTreeMap<Problem, Through>) {
        let cost = self.layers[place].cost(state);
        note(best, &Problem::WaitsForEver(self.sketch.order[place]), cost, || {
            let mark = Mark { cost: Cost::STEP, told: StepCourse::Waiting, undos: Vec::new() };
            // It leads nowhere.
            let step = Some((Move { to: u32::MAX, way: None, decides }, mark));
            Through { cost, layer: place, state, step, decides: Vec::new(), aim: None }
        });
    }

    /// Tells the course that leads through a place.
    fn course(&self, through: &Through) -> Course {
        let mut course = Course { faults: through.cost.faults(), ..Course::default() };
        let mut back = Vec::new();
        let (mut layer, mut at) = (through.layer, through.state);
        let mode = self.layers[layer].mode(at);
        while layer > 0 {
            let (cost, from) = (self.layers[layer].cost(at), self.layers[layer].from(at));
            let before = self.layers[layer - 1].cost(from);
            let mut moves = self.layers[layer - 1].moves(from).iter();
            // The way on was noted with the cost of one of these moves, added to what its state had cost; that was never
            // lowered later, because a layer is complete before the next one is made.
            let step = moves.find(|step| step.to as usize == at && before.and(self.known.cost(step)) == cost);
            back.push((layer - 1, step.expect("a state is reached by a move of the state that it came from")));
            (layer, at) = (layer - 1, from);
        }
        for (place, step) in back.into_iter().rev() {
            self.tell(&mut course, place, mode, step, None);
        }
        if let Some((step, mark)) = &through.step {
            self.tell(&mut course, through.layer, mode, step, Some(mark));
        }
        if let (Some((step, _)), Some(aim)) = (&through.step, through.aim) {
            let mut at = step.to as usize;
            for place in through.layer + 1..self.sketch.order.len() {
                let next = &self.layers[place + 1];
                let on = |step: &Move| Some(next.ahead(step.to).to(aim)?.and(self.known.cost(step)));
                let moves = self.layers[place].moves(at).iter();
                let Some(step) = moves.filter(|step| on(step).is_some()).min_by_key(|step| on(step)) else { break };
                self.tell(&mut course, place, mode, step, None);
                at = step.to as usize;
            }
        }
        course.conditions.extend(through.decides.iter().map(|choice| choice.told()));
        course.stop = match mode {
            // Which step stopped it was noted when it was told.
            Mode::Straight | Mode::Fails | Mode::FailsAtOnce | Mode::FailsAtFirst => course.stop,
            Mode::Cancelled => Some(Stop::Cancelled),
            Mode::Output => Some(Stop::Output),
        };
        // What depends on others is undone before them.
        course.undone.reverse();
        course
    }

    fn tell(&self, course: &mut Course, place: usize, mode: Mode, step: &Move, mark: Option<&Mark>) {
        let s = self.sketch.order[place];
        let choice = &self.known.choices[step.decides as usize];
        course.conditions.extend(choice.iter().map(|choice| choice.told()));
        let told = mark.map(|mark| (&mark.told, &mark.undos));
        let way = self.known.way(step);
        let Some((told, undos)) = told.or_else(|| way.map(|way| (&way.told, &way.undos))) else { return };
        course.steps.insert(s, told.clone());
        course.undone.extend(undos.iter().copied());
        if way.is_some_and(|way| way.effect.stops) && mode.stops_midway() && course.stop.is_none() {
            course.stop = Some(Stop::Failed(s));
        }
    }
}

/// Returns every way to decide conditions.
fn choices<'a>(conditions: impl Iterator<Item = &'a usize>) -> Vec<Vec<Choice>> {
    conditions.fold(vec![Vec::new()], |choices, condition| {
        let decided = |choice: Vec<Choice>| {
            [true, false].map(|holds| choice.iter().copied().chain([Choice::new(*condition, holds)]).collect())
        };
        choices.into_iter().flat_map(decided).collect()
    })
}

/// Keeps the cheapest place through which a course to a problem leads.
fn note(best: &mut BTreeMap<Problem, Through>, problem: &Problem, cost: Cost, through: impl FnOnce() -> Through) {
    if best.get(problem).is_none_or(|known| cost < known.cost) {
        best.insert(problem.clone(), through());
    }
}
