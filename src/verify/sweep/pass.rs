//! The two passes, and what is found between them.

use crate::teeth::{Bug, awake};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::context::Context;
use super::facts::Slots;
use super::state::{Fold, Mode, Readers, State};
use super::step::{At, Mark, Way, Ways, ways};
use super::{Class, Cost};
use crate::verify::findings::{Course, Found, LimitReached, Part, Person, Problem, Reader, StepCourse, Stop};
use crate::verify::sketch::{Sketch, Step};

/// The cheapest way on to each kind of end, in the order of [`At`].
type Ahead = [Option<Cost>; 3];

/// Conditions with their answers.
type Decided = Vec<(usize, bool)>;

/// The states between two steps.
#[derive(Default)]
struct Layer {
    index: HashMap<State, usize>,
    states: Vec<State>,
    /// The cheapest way to each, with the state it came from.
    reached: Vec<(Cost, usize)>,
    ahead: Vec<Ahead>,
}

/// What is done with a step on the way from one state to the next.
#[derive(Clone)]
struct Move {
    to: State,
    /// Nothing for a step that is not begun.
    way: Option<Rc<Way>>,
    /// The conditions that it decides.
    decides: Vec<(usize, bool)>,
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

type Known = HashMap<(usize, bool, Context, Class), Rc<Ways>>;

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
        Self { sketch, limit, slots, readers, known: HashMap::new(), layers: Vec::new(), states: 0 }
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

    fn add(&mut self, layer: &mut Layer, state: State, cost: Cost, from: usize) -> Result<(), LimitReached> {
        match layer.index.get(&state) {
            Some(&at) if layer.reached[at].0 <= cost => {}
            Some(&at) => layer.reached[at] = (cost, from),
            None => {
                self.states += 1;
                if self.states > self.limit {
                    return Err(LimitReached { states: self.limit });
                }
                layer.index.insert(state.clone(), layer.states.len());
                layer.states.push(state);
                layer.reached.push((cost, from));
            }
        }
        Ok(())
    }

    fn forward(&mut self) -> Result<(), LimitReached> {
        let mut first = Layer::default();
        for mode in Mode::ALL {
            if mode == Mode::Output && self.sketch.output.is_empty() {
                continue;
            }
            let cost = if mode == Mode::Cancelled { Cost::of(1, false) } else { Cost::NONE };
            self.add(&mut first, State::begin(mode, self.slots.none()), cost, 0)?;
        }
        self.layers.push(first);
        for place in 0..self.sketch.order.len() {
            let mut next = Layer::default();
            for at in 0..self.layers[place].states.len() {
                let state = self.layers[place].states[at].clone();
                let cost = self.layers[place].reached[at].0;
                for step in self.moves(place, &state).0 {
                    let cost = cost.and(step.cost());
                    self.add(&mut next, step.to, cost, at)?;
                }
            }
            self.layers.push(next);
        }
        Ok(())
    }

    /// Returns everything that the step at `place` can do in a state, with what is known of its contexts, and the
    /// conditions that each of them decides.
    fn moves(&mut self, place: usize, state: &State) -> (Vec<Move>, Vec<(Rc<Ways>, Decided)>) {
        let s = self.sketch.order[place];
        let mut rest = state.clone();
        let fold = rest.take(s);
        let mut moves = Vec::new();
        let mut contexts = Vec::new();
        if fold.blocked || state.mode.stops_midway() {
            moves.extend(self.not_begun(place, s, &rest, fold.blocked));
        }
        if !fold.blocked {
            for decides in self.decisions(s, &rest, &fold) {
                let known = self.ways_of(s, state.mode, &fold, &rest, &decides);
                for way in &known.ways {
                    let to = self.after(place, s, &rest, &decides, way);
                    moves.extend(to.map(|to| Move { to, way: Some(Rc::clone(way)), decides: decides.clone() }));
                }
                contexts.push((known, decides));
            }
        }
        (moves, contexts)
    }

    fn not_begun(&self, place: usize, s: usize, rest: &State, blocked: bool) -> Option<Move> {
        // Where nothing stops the run midway, only a parked step keeps another from beginning.
        if !rest.mode.stops_midway() && !rest.parked {
            return None;
        }
        let mut to = rest.clone();
        to.kept |= to.mode == Mode::Cancelled && !blocked;
        to.show(self.sketch, &self.readers, s, None);
        to.forget(&self.readers, place);
        Some(Move { to, way: None, decides: Vec::new() })
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
                    note(best, problem, Through { decides, ..through.clone() });
                }
            }
            if judged {
                for (nth, invariant) in self.sketch.invariants.iter().enumerate() {
                    if self.slots.holds(self.sketch, &invariant.formula, &state.facts) {
                        note(best, Problem::Invariant(nth), through.clone());
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
            let mut all = Vec::with_capacity(self.layers[place].states.len());
            for at in 0..self.layers[place].states.len() {
                let state = self.layers[place].states[at].clone();
                let cost = self.layers[place].reached[at].0;
                let (moves, contexts) = self.moves(place, &state);
                let mut ahead: Ahead = [None; 3];
                let mut stopped = false;
                for step in moves {
                    let on = self.ahead_of(place + 1, &step.to);
                    stopped |= on[0].is_some() && step.way.as_ref().is_some_and(|way| way.effect.drained);
                    for (best, on) in ahead.iter_mut().zip(on) {
                        let Some(on) = on.map(|on| on.and(step.cost())) else { continue };
                        *best = Some(best.map_or(on, |known| known.min(on)));
                    }
                    self.look(place, at, cost, step, on, best, found);
                }
                if ahead[0].is_some() {
                    for (context, _) in &contexts {
                        found.reached.extend(context.parts.iter().copied());
                        if stopped || awake(Bug::SweepDrainedPartsCount) {
                            found.reached.extend(context.drained.iter().copied());
                        }
                        found.persons.extend(context.persons.iter().copied());
                    }
                }
                if let Some((_, decides)) = contexts.into_iter().find(|(context, _)| context.for_ever) {
                    self.for_ever(place, at, cost, decides, best);
                }
                all.push(ahead);
            }
            self.layers[place].ahead = all;
        }
    }

    fn ahead_of(&self, layer: usize, state: &State) -> Ahead {
        let layer = &self.layers[layer];
        layer.index.get(state).map_or([None; 3], |at| layer.ahead[*at])
    }

    /// Notes what a move is a part of.
    #[expect(clippy::too_many_arguments, reason = "a move is judged by what lies before and behind it")]
    fn look(
        &self,
        place: usize,
        state: usize,
        cost: Cost,
        step: Move,
        on: Ahead,
        best: &mut BTreeMap<Problem, Through>,
        found: &mut Found,
    ) {
        let Some(way) = &step.way else { return };
        let s = self.sketch.order[place];
        if on[0].is_some() {
            if way.effect.parks && step.to.mode == Mode::Straight {
                found.persons.insert(Person::Parked(s));
            }
            if way.effect.pivot_past && step.to.mode != Mode::Straight {
                found.persons.insert(Person::PastPivot(s));
            }
        }
        if on[2].is_some() {
            found.reached.extend(way.owed.iter().map(|member| Part::Undo(*member)));
            found.persons.extend(way.owed.iter().map(|member| Person::UndoFails(*member)));
        }
        for ((problem, at), mark) in &way.marks {
            let Some(on) = on[*at as usize] else { continue };
            let through = Through {
                cost: cost.and(mark.cost).and(on),
                layer: place,
                state,
                step: Some((step.clone(), mark.clone())),
                decides: Vec::new(),
                aim: Some(*at),
            };
            note(best, problem.clone(), through);
        }
    }

    fn for_ever(
        &self,
        place: usize,
        state: usize,
        cost: Cost,
        decides: Decided,
        best: &mut BTreeMap<Problem, Through>,
    ) {
        let s = self.sketch.order[place];
        let to = self.layers[place].states[state].clone();
        let mark = Mark { cost: Cost::of(0, true), told: StepCourse::Waiting, undos: Vec::new() };
        let step = Some((Move { to, way: None, decides }, mark));
        let through = Through { cost, layer: place, state, step, decides: Vec::new(), aim: None };
        note(best, Problem::WaitsForEver(s), through);
    }

    /// Tells the course that leads through a place.
    fn course(&mut self, through: &Through) -> Course {
        let mut course = Course { faults: through.cost.faults(), ..Course::default() };
        let mut back = Vec::new();
        let (mut layer, mut at) = (through.layer, through.state);
        let mode = self.layers[layer].states[at].mode;
        while layer > 0 {
            let from = self.layers[layer].reached[at].1;
            back.push((layer - 1, from, self.layers[layer].states[at].clone(), self.layers[layer].reached[at].0));
            (layer, at) = (layer - 1, from);
        }
        for (place, from, to, cost) in back.into_iter().rev() {
            let state = self.layers[place].states[from].clone();
            let before = self.layers[place].reached[from].0;
            let moves = self.moves(place, &state).0;
            let step = moves.into_iter().find(|step| step.to == to && before.and(step.cost()) == cost);
            if let Some(step) = step {
                self.tell(&mut course, place, &step, None);
            }
        }
        if let Some((step, mark)) = &through.step {
            self.tell(&mut course, through.layer, step, Some(mark));
        }
        if let (Some((step, _)), Some(aim)) = (&through.step, through.aim) {
            let mut state = step.to.clone();
            for place in through.layer + 1..self.sketch.order.len() {
                let moves = self.moves(place, &state).0;
                let on = |step: &Move| Some(self.ahead_of(place + 1, &step.to)[aim as usize]?.and(step.cost()));
                let Some(step) = moves.iter().filter(|step| on(step).is_some()).min_by_key(|step| on(step)) else {
                    break;
                };
                let step = step.clone();
                self.tell(&mut course, place, &step, None);
                state = step.to;
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

    fn tell(&self, course: &mut Course, place: usize, step: &Move, mark: Option<&Mark>) {
        let s = self.sketch.order[place];
        course.conditions.extend(step.decides.iter().copied());
        let told = mark.map(|mark| (&mark.told, &mark.undos));
        let way = step.way.as_ref();
        let Some((told, undos)) = told.or_else(|| way.map(|way| (&way.told, &way.undos))) else { return };
        course.steps.insert(s, told.clone());
        course.undone.extend(undos.iter().copied());
        if way.is_some_and(|way| way.effect.stops) && step.to.mode == Mode::Fails && course.stop.is_none() {
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
fn note(best: &mut BTreeMap<Problem, Through>, problem: Problem, through: Through) {
    match best.get(&problem) {
        Some(known) if known.cost <= through.cost => {}
        _ => {
            best.insert(problem, through);
        }
    }
}
