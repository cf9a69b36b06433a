//! The two passes, and what is found between them.

use crate::teeth::{Bug, awake};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::context::Context;
use super::facts::Slots;
use super::state::{Fold, Mode, Readers, State};
use super::step::{At, Mark, Way, Ways, ways};
use super::{Class, Cost, Lookup};
use crate::verify::findings::{Course, Found, LimitReached, Part, Person, Problem, Reader, StepCourse, Stop};
use crate::verify::sketch::{Sketch, Step};

/// The cheapest way on to each kind of end, in the order of [`At`].
type Ahead = [Option<Cost>; 3];

/// Conditions with their answers.
type Decided = Vec<(usize, bool)>;

/// The states between two steps.
#[derive(Default)]
struct Layer {
    index: Lookup<State, usize>,
    states: Vec<State>,
    /// The cheapest way to each, with the state it came from.
    reached: Vec<(Cost, usize)>,
    /// What the next step can do in each, and what is known of it there.
    moves: Vec<(Vec<Move>, Contexts)>,
    ahead: Vec<Ahead>,
}

/// What is known of a step, with the conditions that it decides for that.
type Contexts = Vec<(Rc<Ways>, Rc<Decided>)>;

/// What is done with a step on the way from one state to the next.
#[derive(Clone)]
struct Move {
    /// The state that it leads to, by its place in the next layer.
    to: usize,
    /// Nothing for a step that is not begun.
    way: Option<Rc<Way>>,
    /// The conditions that it decides.
    decides: Rc<Decided>,
}

impl Move {
    fn cost(&self) -> Cost {
        self.way.as_ref().map_or(Cost::NONE, |way| way.cost)
    }
}

/// Where the best course to a problem leads through.
#[derive(Clone)]
struct Through {
    cost: Cost,
    layer: usize,
    state: usize,
    /// What the step does there; nothing for a problem of the end itself.
    step: Option<(Move, Mark)>,
    /// The conditions that the output decides.
    decides: Decided,
    aim: Option<At>,
}

type Known = Lookup<(usize, bool, Context, Class), Rc<Ways>>;

pub(super) struct Pass<'a> {
    sketch: &'a Sketch,
    limit: u64,
    slots: Slots,
    readers: Readers,
    known: Known,
    layers: Vec<Layer>,
    states: u64,
}

impl<'a> Pass<'a> {
    pub fn new(sketch: &'a Sketch, limit: u64) -> Self {
        let (slots, readers) = (Slots::new(sketch), Readers::new(sketch));
        Self { sketch, limit, slots, readers, known: Known::default(), layers: Vec::new(), states: 0 }
    }

    pub fn run(mut self) -> Result<Found, LimitReached> {
        self.forward()?;
        let mut best: BTreeMap<Problem, Through> = BTreeMap::new();
        let mut found = Found::default();
        self.ends(&mut best);
        self.backward(&mut best, &mut found);
        found.problems = best.into_iter().map(|(problem, through)| (problem, self.course(&through))).collect();
        found.states = self.states;
        Ok(found)
    }

    /// Adds a state, or a cheaper way to it, to a layer. Returns its place there.
    fn add(&mut self, layer: &mut Layer, state: State, cost: Cost, from: usize) -> Result<usize, LimitReached> {
        if let Some(&at) = layer.index.get(&state) {
            if cost < layer.reached[at].0 {
                layer.reached[at] = (cost, from);
            }
            return Ok(at);
        }
        self.states += 1;
        if self.states > self.limit {
            return Err(LimitReached { states: self.limit });
        }
        let at = layer.states.len();
        layer.index.insert(state.clone(), at);
        layer.states.push(state);
        layer.reached.push((cost, from));
        Ok(at)
    }

    fn forward(&mut self) -> Result<(), LimitReached> {
        let mut layer = Layer::default();
        for mode in Mode::ALL {
            if mode == Mode::Output && self.sketch.output.is_empty() {
                continue;
            }
            let cost = if mode == Mode::Cancelled { Cost::of(1, false) } else { Cost::NONE };
            self.add(&mut layer, State::begin(mode, self.slots.none()), cost, 0)?;
        }
        for place in 0..self.sketch.order.len() {
            let mut next = Layer::default();
            let mut all = Vec::with_capacity(layer.states.len());
            for (at, state) in layer.states.iter().enumerate() {
                all.push(self.moves(place, state, at, layer.reached[at].0, &mut next)?);
            }
            // No state is added to it any more, so none is looked for.
            (layer.moves, layer.index) = (all, Lookup::default());
            self.layers.push(std::mem::replace(&mut layer, next));
        }
        self.layers.push(layer);
        Ok(())
    }

    /// Returns everything that the step at `place` can do in a state, which adds to the next layer; with what is known of
    /// its contexts, and the conditions that each of them decides.
    fn moves(
        &mut self,
        place: usize,
        state: &State,
        at: usize,
        cost: Cost,
        next: &mut Layer,
    ) -> Result<(Vec<Move>, Contexts), LimitReached> {
        let s = self.sketch.order[place];
        let mut rest = state.clone();
        let fold = rest.take(s);
        let mut moves = Vec::new();
        let mut contexts = Vec::new();
        if (fold.blocked || state.mode.stops_midway())
            && let Some(to) = self.not_begun(place, s, &rest, fold.blocked)
        {
            let to = self.add(next, to, cost, at)?;
            moves.push(Move { to, way: None, decides: Rc::default() });
        }
        if !fold.blocked {
            for decides in self.decisions(s, &rest, &fold) {
                let known = self.ways_of(s, state.mode, &fold, &rest, &decides);
                let decides = Rc::new(decides);
                for way in &known.ways {
                    let Some(to) = self.after(place, s, &rest, &decides, way) else { continue };
                    let to = self.add(next, to, cost.and(way.cost), at)?;
                    moves.push(Move { to, way: Some(Rc::clone(way)), decides: Rc::clone(&decides) });
                }
                contexts.push((known, decides));
            }
        }
        Ok((moves, contexts))
    }

    fn not_begun(&self, place: usize, s: usize, rest: &State, blocked: bool) -> Option<State> {
        // Where nothing stops the run midway, only a parked step keeps another from beginning.
        if !rest.mode.stops_midway() && !rest.parked {
            return None;
        }
        let mut to = rest.clone();
        to.kept |= to.mode == Mode::Cancelled && !blocked;
        to.show(self.sketch, &self.readers, s, None);
        to.forget(&self.readers, place);
        Some(to)
    }

    /// Returns the choices for the conditions that a step asks and that are open.
    fn decisions(&self, s: usize, rest: &State, fold: &Fold) -> Vec<Vec<(usize, bool)>> {
        let step = &self.sketch.steps[s];
        if self.is_skipped(step, fold) {
            return vec![Vec::new()];
        }
        let open = self.readers.asks[s].iter().filter(|asked| !rest.decided.iter().any(|(known, _)| known == *asked));
        choices(open)
    }

    fn is_skipped(&self, step: &Step, fold: &Fold) -> bool {
        fold.skipped && !step.needs.is_empty()
    }

    fn ways_of(&mut self, s: usize, mode: Mode, fold: &Fold, rest: &State, decides: &[(usize, bool)]) -> Rc<Ways> {
        let asks = &self.readers.asks[s];
        let mut decided: Vec<(usize, bool)> =
            rest.decided.iter().chain(decides).copied().filter(|(condition, _)| asks.contains(condition)).collect();
        decided.sort_unstable();
        let context = Context { seen: fold.seen.clone(), decided };
        let class = if mode == Mode::Straight { Class::Completed } else { Class::Undone };
        let skipped = self.is_skipped(&self.sketch.steps[s], fold);
        let key = (s, skipped, context, class);
        if let Some(known) = self.known.get(&key) {
            return Rc::clone(known);
        }
        let found = Rc::new(ways(self.sketch, &self.slots, s, skipped, &key.2, class));
        self.known.insert(key, Rc::clone(&found));
        found
    }

    /// Returns the state after a step ended in some way; nothing if that is no run of the state's mode.
    fn after(&self, place: usize, s: usize, rest: &State, decides: &[(usize, bool)], way: &Way) -> Option<State> {
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
            Mode::Fails => to.kept |= effect.stops,
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
        to.show(self.sketch, &self.readers, s, Some((effect.seen, effect.skipped, effect.satisfies)));
        to.forget(&self.readers, place);
        Some(to)
    }

    /// Says of each last state which ends it is, and notes the problems of the end itself.
    fn ends(&mut self, best: &mut BTreeMap<Problem, Through>) {
        let layer = self.sketch.order.len();
        let last = &self.layers[layer];
        let mut ahead = Vec::with_capacity(last.states.len());
        for (at, state) in last.states.iter().enumerate() {
            let (missing, readable) = self.output(state);
            let is_end = match state.mode {
                Mode::Straight => state.parked || readable,
                Mode::Fails => state.kept,
                Mode::Cancelled => state.kept || (state.rests && !state.pivot),
                Mode::Output => !missing.is_empty(),
            };
            let judged = is_end && !state.unjudged;
            let undone = is_end && state.mode != Mode::Straight && !state.pivot;
            ahead.push([is_end, judged, undone].map(|is| is.then_some(Cost::NONE)));
            let through =
                Through { cost: last.reached[at].0, layer, state: at, step: None, decides: Vec::new(), aim: None };
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
        self.layers[layer].ahead = ahead;
    }

    /// Returns what the output may miss, each with the conditions that it takes, and whether it can be made.
    fn output(&self, state: &State) -> (Vec<(Problem, Decided)>, bool) {
        if state.mode.stops_midway() || state.parked {
            return (Vec::new(), false);
        }
        // A condition that nobody asked before is decided now, the same way wherever it stands.
        let asks = &self.readers.output_asks;
        let open = asks.iter().filter(|asked| !state.decided.iter().any(|(known, _)| known == *asked));
        let (mut all, mut readable) = (Vec::new(), false);
        for decides in choices(open) {
            let decided = state.decided.iter().chain(&decides).copied().collect();
            let context = Context { seen: state.output.clone(), decided };
            let (missing, avoidable) = context.missing(&self.sketch.output, Reader::Output, false);
            all.extend(missing.into_iter().map(|problem| (problem, decides.clone())));
            readable |= avoidable;
        }
        (all, readable)
    }

    fn backward(&mut self, best: &mut BTreeMap<Problem, Through>, found: &mut Found) {
        for place in (0..self.sketch.order.len()).rev() {
            let layer = &self.layers[place];
            let mut all = Vec::with_capacity(layer.states.len());
            for (at, (moves, contexts)) in layer.moves.iter().enumerate() {
                let mut ahead: Ahead = [None; 3];
                let mut stopped = false;
                for step in moves {
                    let on = self.layers[place + 1].ahead[step.to];
                    stopped |= on[0].is_some() && step.way.as_ref().is_some_and(|way| way.effect.drained);
                    for (best, on) in ahead.iter_mut().zip(on) {
                        let Some(on) = on.map(|on| on.and(step.cost())) else { continue };
                        *best = Some(best.map_or(on, |known| known.min(on)));
                    }
                    self.look(place, at, step, on, best, found);
                }
                if ahead[0].is_some() {
                    for (context, _) in contexts {
                        found.reached.extend(context.parts.iter().copied());
                        if stopped || awake(Bug::SweepDrainedPartsCount) {
                            found.reached.extend(context.drained.iter().copied());
                        }
                        found.persons.extend(context.persons.iter().copied());
                    }
                }
                if let Some((_, decides)) = contexts.iter().find(|(context, _)| context.for_ever) {
                    self.for_ever(place, at, decides, best);
                }
                all.push(ahead);
            }
            self.layers[place].ahead = all;
        }
    }

    /// Notes what a move is a part of.
    fn look(
        &self,
        place: usize,
        state: usize,
        step: &Move,
        on: Ahead,
        best: &mut BTreeMap<Problem, Through>,
        found: &mut Found,
    ) {
        let Some(way) = &step.way else { return };
        let s = self.sketch.order[place];
        let mode = self.layers[place].states[state].mode;
        if on[0].is_some() {
            if way.effect.parks && mode == Mode::Straight {
                found.persons.insert(Person::Parked(s));
            }
            if way.effect.pivot_past && mode != Mode::Straight {
                found.persons.insert(Person::PastPivot(s));
            }
        }
        if on[2].is_some() {
            found.reached.extend(way.owed.iter().map(|member| Part::Undo(*member)));
            found.persons.extend(way.owed.iter().map(|member| Person::UndoFails(*member)));
        }
        for ((problem, at), mark) in &way.marks {
            let Some(on) = on[*at as usize] else { continue };
            let cost = self.layers[place].reached[state].0.and(mark.cost).and(on);
            note(best, problem, cost, || Through {
                cost,
                layer: place,
                state,
                step: Some((step.clone(), mark.clone())),
                decides: Vec::new(),
                aim: Some(*at),
            });
        }
    }

    fn for_ever(&self, place: usize, state: usize, decides: &Rc<Decided>, best: &mut BTreeMap<Problem, Through>) {
        let cost = self.layers[place].reached[state].0;
        note(best, &Problem::WaitsForEver(self.sketch.order[place]), cost, || {
            let mark = Mark { cost: Cost::of(0, true), told: StepCourse::Waiting, undos: Vec::new() };
            // It leads nowhere.
            let step = Some((Move { to: usize::MAX, way: None, decides: Rc::clone(decides) }, mark));
            Through { cost, layer: place, state, step, decides: Vec::new(), aim: None }
        });
    }

    /// Tells the course that leads through a place.
    fn course(&self, through: &Through) -> Course {
        let mut course = Course { faults: through.cost.faults(), ..Course::default() };
        let mut back = Vec::new();
        let (mut layer, mut at) = (through.layer, through.state);
        let mode = self.layers[layer].states[at].mode;
        while layer > 0 {
            let (cost, from) = self.layers[layer].reached[at];
            let before = self.layers[layer - 1].reached[from].0;
            let mut moves = self.layers[layer - 1].moves[from].0.iter();
            // The way on was noted with the cost of one of these moves, added to what its state had cost; that was never
            // lowered later, because a layer is complete before the next one is made.
            let step = moves.find(|step| step.to == at && before.and(step.cost()) == cost);
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
            let mut at = step.to;
            for place in through.layer + 1..self.sketch.order.len() {
                let on = |step: &Move| Some(self.layers[place + 1].ahead[step.to][aim as usize]?.and(step.cost()));
                let moves = self.layers[place].moves[at].0.iter();
                let Some(step) = moves.filter(|step| on(step).is_some()).min_by_key(|step| on(step)) else { break };
                self.tell(&mut course, place, mode, step, None);
                at = step.to;
            }
        }
        course.conditions.extend(through.decides.iter().copied());
        course.stop = match mode {
            // Which step stopped it was noted when it was told.
            Mode::Straight | Mode::Fails => course.stop,
            Mode::Cancelled => Some(Stop::Cancelled),
            Mode::Output => Some(Stop::Output),
        };
        // What depends on others is undone before them.
        course.undone.reverse();
        course
    }

    fn tell(&self, course: &mut Course, place: usize, mode: Mode, step: &Move, mark: Option<&Mark>) {
        let s = self.sketch.order[place];
        course.conditions.extend(step.decides.iter().copied());
        let told = mark.map(|mark| (&mark.told, &mark.undos));
        let way = step.way.as_ref();
        let Some((told, undos)) = told.or_else(|| way.map(|way| (&way.told, &way.undos))) else { return };
        course.steps.insert(s, told.clone());
        course.undone.extend(undos.iter().copied());
        if way.is_some_and(|way| way.effect.stops) && mode == Mode::Fails && course.stop.is_none() {
            course.stop = Some(Stop::Failed(s));
        }
    }
}

/// Returns every way to decide conditions.
fn choices<'a>(conditions: impl Iterator<Item = &'a usize>) -> Vec<Vec<(usize, bool)>> {
    conditions.fold(vec![Vec::new()], |choices, condition| {
        let decided = |choice: Vec<(usize, bool)>| {
            [true, false].map(|answer| choice.iter().copied().chain([(*condition, answer)]).collect())
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
