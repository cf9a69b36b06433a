//! What one move of a run comes to: the next state, its price, and what is worth telling.

use crate::verify::findings::{Answer, Attempt, Part, Person, Problem, Spot, Stop, UndoEnd};

use super::state::State;

/// The price of a run so far: faults first, then steps begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Price {
    /// How many faults it took.
    pub faults: u32,
    /// How many steps have begun.
    pub begun: u32,
}

/// What a move comes to.
#[derive(Clone, Debug)]
pub(super) struct After {
    /// The state after it.
    pub state: State,
    /// What it costs.
    pub price: Price,
    /// What a course tells of it.
    pub told: Vec<Told>,
    /// The problems it shows.
    pub problems: Vec<Problem>,
    /// What makes a person necessary.
    pub persons: Vec<Person>,
    /// What it reaches.
    pub reached: Vec<Part>,
}

/// A sentence of a course.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The step was skipped.
    Skipped(usize),
    /// A template of the step failed before anything was called or waited for.
    Unreadable(usize),
    /// The step began to wait.
    Waits(usize),
    /// What it waited for came.
    Came(usize),
    /// It did not come in time.
    Missed(usize),
    /// The step has so many items.
    Lists(usize),
    /// A member was called.
    Called(Spot),
    /// An attempt ended.
    Tried(Spot, Attempt),
    /// A `confirm` was answered.
    Confirmed(Spot, Answer),
    /// An undo ended on the way forward.
    PutRight(Spot, UndoEnd),
    /// The run stopped.
    Stopped(Stop),
    /// An undo ended on the way back.
    Undone(Spot, UndoEnd),
}

impl After {
    /// Returns a move that has not changed anything yet.
    pub fn from(state: &State) -> Self {
        let (told, problems, persons, reached) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { state: state.clone(), price: Price::default(), told, problems, persons, reached }
    }

    /// Adds a fault.
    pub fn fault(&mut self) {
        self.price.faults += 1;
    }
}
