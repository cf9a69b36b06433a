//! What becomes of an effect in the world: by an attempt, by a request that lands late, by an undo.
//!
//! It knows what handlers promise by their contracts, and nothing of flowrun.

use crate::teeth::{Bug, awake};
use crate::verify::findings::World;
use crate::verify::sketch::{IfAbsent, Repeat, Undo};

use super::state::Standing;

impl Standing {
    /// Returns what is there after a call has come to this in the world.
    pub fn after(self, came_to: World, repeat: Repeat) -> Self {
        match came_to {
            World::Nothing => self,
            World::Done => self.after_done(repeat),
            World::OnItsWay => self.after_sent(repeat),
        }
    }

    /// A call was done. A key makes copies on their way into nothing; without one they may still land.
    fn after_done(self, repeat: Repeat) -> Self {
        match (repeat, self) {
            (Repeat::Keyed, _) => Self::Done,
            (Repeat::Safe, _) if awake(Bug::ExploreSafeRemembers) => Self::Done,
            (Repeat::Safe, Self::Coming | Self::DoneComing | Self::GoneComing) => Self::DoneComing,
            (Repeat::Safe, _) => Self::Done,
            (Repeat::Once, Self::No) => Self::Done,
            (Repeat::Once, _) => Self::Twice,
        }
    }

    /// A call is on its way. What can be done only once may come to be done twice.
    fn after_sent(self, repeat: Repeat) -> Self {
        match (repeat, self) {
            (_, Self::No | Self::Coming) => Self::Coming,
            (Repeat::Safe, Self::Done) => Self::DoneComing,
            (Repeat::Once, Self::Done) => Self::Twice,
            (_, same) => same,
        }
    }

    /// Returns what is there after a request on its way has landed; nothing if none is.
    pub fn landed(self) -> Option<Self> {
        match self {
            Self::Coming | Self::DoneComing | Self::GoneComing => Some(Self::Done),
            Self::No | Self::Done | Self::Twice | Self::Gone => None,
        }
    }

    /// Tells whether an undo finds nothing to undo, so that it cannot succeed.
    pub fn defies(self, undo: &Undo) -> bool {
        let absent = matches!(self, Self::No | Self::Coming);
        absent && undo.if_absent == IfAbsent::Error && !awake(Bug::ExploreAbsenceIsFine)
    }

    /// Returns what is there after an undo has worked.
    pub fn undone(self, undo: &Undo) -> Self {
        match self {
            same if !undo.undoes => same,
            Self::No => Self::No,
            Self::Done | Self::Twice => Self::Gone,
            Self::Coming if undo.blocks_late || awake(Bug::ExploreUndoRefusesLate) => Self::No,
            Self::Coming => Self::Coming,
            Self::DoneComing if undo.blocks_late => Self::Gone,
            Self::DoneComing => Self::GoneComing,
            same @ (Self::Gone | Self::GoneComing) => same,
        }
    }

    /// Returns what is there after a `confirm` said "not done" and refuses a late original from now on.
    pub fn refused_late(self) -> Self {
        if self == Self::Coming { Self::No } else { self }
    }

    /// Tells whether a `confirm` can find it done.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Done | Self::DoneComing | Self::Twice)
    }

    /// Tells whether it is there, or may still come.
    pub fn may_be_left(self) -> bool {
        matches!(self, Self::Coming | Self::Done | Self::DoneComing | Self::Twice | Self::GoneComing)
    }

    /// Tells whether it has ever happened.
    pub fn happened(self) -> bool {
        !matches!(self, Self::No | Self::Coming)
    }

    /// Tells whether it was taken back.
    pub fn taken_back(self) -> bool {
        matches!(self, Self::Gone | Self::GoneComing)
    }
}
