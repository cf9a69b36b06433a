//! The states between two steps: those that are being gathered, and what is kept of them once their step had its turn.
//!
//! A search has millions of states, so this is what it needs memory for. What a state remembers is compared with others only
//! until the next layer is complete, and is dropped then; how it was reached and what its step can do in it stays, in lists
//! of plain numbers. What a number means is for the pass to know.

use super::state::{Mode, Packed, State};
use super::step::At;
use super::{Cost, Numbered};

/// The cheapest way on to each kind of end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead([Cost; 3]);

impl Ahead {
    /// No end is ahead.
    pub const NONE: Self = Self([Cost::NEVER; 3]);

    /// An end, of the kinds that it is.
    pub fn end(is_end: bool, judged: bool, undone: bool) -> Self {
        Self([is_end, judged, undone].map(|is| if is { Cost::NONE } else { Cost::NEVER }))
    }

    /// Returns what the way on costs; nothing if there is none.
    pub fn to(&self, end: At) -> Option<Cost> {
        let cost = self.0[end as usize];
        (cost != Cost::NEVER).then_some(cost)
    }

    /// Takes over the ways on of a later state, behind a move of this cost, where they are cheaper.
    pub fn improve(&mut self, later: &Self, cost: Cost) {
        for (best, on) in self.0.iter_mut().zip(later.0) {
            if on != Cost::NEVER {
                *best = (*best).min(on.and(cost));
            }
        }
    }
}

/// What is done with a step on the way from one state to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    /// The state that it leads to, by its place in the next layer.
    pub to: u32,
    /// The way in which the step ends, by its number; nothing for a step that is not begun.
    pub way: Option<WayIx>,
    /// The conditions that it decides, by the number of their choice.
    pub decides: u32,
}

/// The number of a way, plus one.
pub(super) type WayIx = std::num::NonZeroU32;

/// What is known of a step in a state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// All that can become of it, by its number.
    pub ways: u32,
    /// The conditions that were decided for that.
    pub decides: u32,
}

/// Lists of different lengths, one for each state, in one piece.
#[derive(Debug)]
struct Rows<T> {
    all: Vec<T>,
    ends: Vec<usize>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { all: Vec::new(), ends: Vec::new() }
    }
}

impl<T> Rows<T> {
    fn of(&self, state: usize) -> &[T] {
        let begin = if state == 0 { 0 } else { self.ends[state - 1] };
        &self.all[begin..self.ends[state]]
    }

    fn push(&mut self, row: impl IntoIterator<Item = T>) {
        self.all.extend(row);
        self.ends.push(self.all.len());
    }
}

/// The states between two steps while they are gathered.
#[derive(Default)]
pub(super) struct Front {
    states: Numbered<Packed>,
    /// The cheapest way to each, with the state of the layer before that it came from.
    costs: Vec<Cost>,
    from: Vec<u32>,
}

impl Front {
    /// Adds a state, or a cheaper way to it. Returns its place, and whether it is new.
    pub fn add(&mut self, state: &State, cost: Cost, from: usize) -> (u32, bool) {
        let (at, is_new) = self.states.insert_full(Packed::of(state));
        if is_new {
            self.costs.push(cost);
            self.from.push(number(from));
        } else if cost < self.costs[at] {
            (self.costs[at], self.from[at]) = (cost, number(from));
        }
        (number(at), is_new)
    }

    /// Returns the states, which have so many facts, with the costs of the cheapest ways to them.
    pub fn states(&self, facts: usize) -> impl Iterator<Item = (State, Cost)> {
        self.states.iter().map(move |state| state.state(facts)).zip(self.costs.iter().copied())
    }

    /// Keeps what is needed of the states after their step had its turn.
    pub fn passed(self, turns: Turns) -> Layer {
        let modes = self.states.iter().map(Packed::mode).collect();
        let Self { mut costs, mut from, .. } = self;
        costs.shrink_to_fit();
        from.shrink_to_fit();
        let Turns { mut moves, mut asked } = turns;
        moves.all.shrink_to_fit();
        asked.all.shrink_to_fit();
        Layer { modes, costs, from, moves, asked, ahead: Vec::new() }
    }
}

/// What a step can do in the states of a layer, state by state.
#[derive(Default)]
pub(super) struct Turns {
    moves: Rows<Move>,
    asked: Rows<Asked>,
}

impl Turns {
    /// Adds what the step can do in the next state, and what is known of it there; empties both.
    pub fn add(&mut self, moves: &mut Vec<Move>, asked: &mut Vec<Asked>) {
        self.moves.push(moves.drain(..));
        self.asked.push(asked.drain(..));
    }
}

/// What is kept of the states between two steps.
pub(super) struct Layer {
    modes: Vec<Mode>,
    costs: Vec<Cost>,
    from: Vec<u32>,
    moves: Rows<Move>,
    asked: Rows<Asked>,
    ahead: Vec<Ahead>,
}

impl Layer {
    /// Returns how many states there are.
    pub fn len(&self) -> usize {
        self.modes.len()
    }

    /// Says what the ways on from each state are.
    pub fn lead_on(&mut self, ahead: Vec<Ahead>) {
        self.ahead = ahead;
    }

    /// Returns the ways on from a state, once they are known.
    pub fn ahead(&self, state: u32) -> &Ahead {
        &self.ahead[state as usize]
    }

    /// Returns how a run goes that is in a state.
    pub fn mode(&self, state: usize) -> Mode {
        self.modes[state]
    }

    /// Returns the cost of the cheapest way to a state.
    pub fn cost(&self, state: usize) -> Cost {
        self.costs[state]
    }

    /// Returns the state of the layer before that the cheapest way comes from.
    pub fn from(&self, state: usize) -> usize {
        self.from[state] as usize
    }

    /// Returns what the step can do in a state.
    pub fn moves(&self, state: usize) -> &[Move] {
        self.moves.of(state)
    }

    /// Returns what is known of the step in a state.
    pub fn asked(&self, state: usize) -> &[Asked] {
        self.asked.of(state)
    }
}

/// Returns a place as it is kept.
pub(super) fn number(place: usize) -> u32 {
    u32::try_from(place).expect("no search has that many states, ways or choices: there is no memory for them")
}
