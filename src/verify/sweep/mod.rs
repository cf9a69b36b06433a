//! The sweep: one pass over the steps in their order, which forgets what nobody can observe any more.
//!
//! A run that stops lets what is under way end before it undoes anything. So the order in which steps happened does not
//! matter at its end: every way of ending each step that fits its needs is a run, and the only thing that joins the steps
//! is what those that come later can see. A state is that, and no more; a pass forward finds the cheapest way to each, a
//! pass backward the cheapest way on to each kind of end, and a mark between the two is a problem if a run leads through.

mod context;
mod facts;
mod layer;
mod list;
mod pass;
mod spot;
mod state;
mod step;
mod world;

use super::findings::{Found, LimitReached};
use super::sketch::Sketch;

/// Looks at every run that a workflow can have, in at most `limit` states.
///
/// # Errors
/// When the limit is reached; nothing is known then.
pub fn sweep(sketch: &Sketch, limit: u64) -> Result<Found, LimitReached> {
    pass::Pass::search(sketch, limit)
}

/// A table that is only asked, never listed, so that nothing found depends on its order. It hashes quickly: nobody can choose
/// keys to fill it badly but who writes the workflow.
type Lookup<K, V> = std::collections::HashMap<K, V, foldhash::fast::FixedState>;

/// The same without values.
type Set<K> = std::collections::HashSet<K, foldhash::fast::FixedState>;

/// Things that are numbered as they come.
type Numbered<T> = indexmap::IndexSet<T, foldhash::fast::FixedState>;

/// What is said of a run at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Class {
    /// It is completed.
    Completed,
    /// It is undone.
    Undone,
}

/// What a course costs: its faults first, then how often an attempt dies with whoever carries it out, then the steps that it
/// begins and what in it is seldom so: 24, 20 and 20 bits. A death may cut off whatever is under way, and many a course can
/// be told with an unclear answer instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Cost(u64);

impl Cost {
    const NONE: Self = Self(0);
    /// More than any course costs: there is none.
    const NEVER: Self = Self(u64::MAX);

    const FAULT: Self = Self(1 << 40);
    const DEATH: Self = Self(1 << 20);
    const STEP: Self = Self(1);
    /// What is seldom so, where something usual does as well.
    const ODD: Self = Self(1);

    fn and(self, more: Self) -> Self {
        Self(self.0 + more.0)
    }

    fn faults(self) -> u32 {
        u32::try_from(self.0 >> 40).expect("it has 24 bits")
    }
}
