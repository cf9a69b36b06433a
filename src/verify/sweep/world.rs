//! What has become of one call in the world: done or not, and whether a request is still on its way.

use crate::teeth::{Bug, awake};
use crate::verify::findings::World;
use crate::verify::sketch::{IfAbsent, Member, Repeat, Undo};

/// How often it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Stands {
    #[default]
    No,
    Once,
    Twice,
}

/// The world of one call of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Trace {
    pub stands: Stands,
    /// A request is on its way, and may be done at any later time.
    pub coming: bool,
    /// It was done and taken back.
    pub gone: bool,
}

impl Trace {
    /// After an attempt that came to `world`.
    pub fn after(self, repeat: Repeat, world: World) -> Self {
        match world {
            World::Nothing => self,
            World::Done => self.done(repeat),
            World::OnItsWay => self.sent(repeat),
        }
    }

    fn done(self, repeat: Repeat) -> Self {
        match (repeat, self.stands, self.coming) {
            // The key is remembered, so what is still on its way does nothing any more.
            (Repeat::Keyed, ..) => Self { stands: Stands::Once, coming: false, ..self },
            (Repeat::Safe, ..) => {
                Self { stands: Stands::Once, coming: self.coming && !awake(Bug::SweepSafeRemembers), ..self }
            }
            (Repeat::Once, Stands::No, false) => Self { stands: Stands::Once, ..self },
            (Repeat::Once, ..) => Self { stands: Stands::Twice, coming: false, ..self },
        }
    }

    fn sent(self, repeat: Repeat) -> Self {
        match (repeat, self.stands) {
            (_, Stands::No) | (Repeat::Safe, _) => Self { coming: true, ..self },
            (Repeat::Keyed, _) => self,
            (Repeat::Once, _) => Self { stands: Stands::Twice, ..self },
        }
    }

    /// After the request that is on its way was done, if there is one.
    pub fn landed(self) -> Option<Self> {
        self.coming.then_some(Self { stands: self.stands.max(Stands::Once), coming: false, gone: false })
    }

    /// Whether it stands, or may come to.
    pub fn is_left(self) -> bool {
        self.stands != Stands::No || (self.coming && !awake(Bug::SweepCopiesNeverLand))
    }

    /// Whether an undo can succeed now.
    pub fn can_be_undone(self, member: &Member, undo: &Undo) -> bool {
        member.effect.is_none() || undo.if_absent == IfAbsent::Ok || self.stands != Stands::No
    }

    /// After an undo that succeeded.
    pub fn undone(self, undo: &Undo) -> Self {
        if !undo.undoes {
            return self;
        }
        let gone = self.gone || self.stands != Stands::No;
        Self { stands: Stands::No, coming: self.coming && !undo.blocks_late && !awake(Bug::SweepUndoRefusesLate), gone }
    }
}
