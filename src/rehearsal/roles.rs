//! What each played call does: as a course tells it, or by chance.

use std::collections::{BTreeMap, VecDeque};

use crate::plan::OnError;
use crate::teeth::{Bug, awake};
use crate::verify::findings::{Answer, Attempt, Course, List, MemberCourse, Spot, StepCourse, Stop, UndoEnd, World};
use crate::verify::sketch::{Member, Sketch, Step};

/// When an attempt comes to what it comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Hold {
    /// At once.
    #[default]
    No,
    /// Once the run has stopped going forward.
    UntilStopped,
    /// When everything else has come to rest.
    UntilLate,
}

/// What a course wants of the calls of a member.
#[derive(Clone, Debug, Default)]
pub(super) struct Role {
    pub(super) attempts: VecDeque<Attempt>,
    pub(super) confirm: Option<Answer>,
    pub(super) undos: VecDeque<UndoEnd>,
    /// For the last attempt.
    pub(super) hold: Hold,
    /// What is on its way when the call is undone arrives just before.
    pub(super) lands_before_undo: bool,
    /// The undo on the way forward ends after the run has stopped.
    pub(super) undo_is_late: bool,
    /// The item is one that is left: it never begins.
    pub(super) is_left: bool,
}

/// Returns what a course wants of every call.
pub(super) fn of_course(sketch: &Sketch, course: &Course) -> BTreeMap<Spot, Role> {
    let mut roles: BTreeMap<Spot, Role> = BTreeMap::new();
    for (&step, told) in &course.steps {
        let cut = if let StepCourse::Listed(list) = told { Cut::of(&sketch.steps[step], list) } else { None };
        // A course tells the items in the order in which they end.
        let held = cut.map_or(1, |cut| cut.places as usize);
        let ends_before = told.calls().count().saturating_sub(held);
        for (nth, (item, members)) in told.calls().enumerate() {
            for (place, member) in members.iter().enumerate() {
                let role = roles.entry(Spot { step, item, member: member.member }).or_default();
                role.attempts = member.attempts.iter().copied().collect();
                role.confirm = member.confirm;
                role.undos.extend(member.undo);
                if place + 1 == members.len() && nth >= ends_before {
                    (role.hold, role.undo_is_late) = hold(sketch, course, step, member, cut.is_some());
                }
            }
        }
        if let Some(cut) = cut {
            let spot = Spot { step, item: Some(cut.begun), member: 0 };
            roles.insert(spot, Role { is_left: true, ..Role::default() });
        }
    }
    for (spot, end) in &course.undone {
        roles.entry(*spot).or_default().undos.push_back(*end);
    }
    roles
}

/// How a list is played of which an item is left: those that are under way when the run stops have all the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// How many items begin; the next one is left.
    pub(super) begun: u32,
    /// How many may be under way at once.
    pub(super) places: u32,
}

impl Cut {
    /// Returns how a list is played; nothing if no item is left.
    ///
    /// No service is played. What it does not let in has no place here either, and where it lets nothing in at all an item
    /// begins and comes to nothing, like a step that a course has no time for.
    pub(super) fn of(step: &Step, list: &List) -> Option<Self> {
        let begun = u32::try_from(list.items.len()).unwrap_or(u32::MAX);
        let cut = match step.let_in {
            true => Self { begun: begun.max(1), places: begun.clamp(1, step.concurrency) },
            false => Self { begun, places: step.concurrency },
        };
        list.left.then_some(cut)
    }

    /// Returns how many items the engine is given.
    pub(super) fn items(self) -> u32 {
        self.begun.saturating_add(u32::from(!awake(Bug::RehearsalLeftItemNotGiven)))
    }
}

/// Tells when the last attempt of a step has to end, so that the run stops where the course says, and whether it is its
/// undo instead that has to end late. `keeps_place` says that something begins as soon as it has ended on the way forward.
fn hold(sketch: &Sketch, course: &Course, step: usize, last: &MemberCourse, keeps_place: bool) -> (Hold, bool) {
    match course.stop {
        None | Some(Stop::Output) => return (Hold::No, false),
        Some(Stop::Failed(culprit)) if culprit == step => return (Hold::UntilLate, false),
        Some(Stop::Failed(_) | Stop::Cancelled) => {}
    }
    let stops_at_once =
        |(ix, told): &(usize, &StepCourse)| course.stop == Some(Stop::Failed(*ix)) && fails_at_once(told);
    let mut began_after = sketch.dependents(step).filter_map(|ix| Some((ix, course.steps.get(&ix)?))).peekable();
    if began_after.peek().is_some() {
        let hold = if began_after.any(|next| stops_at_once(&next)) { Hold::UntilLate } else { Hold::No };
        return (hold, false);
    }
    // After the last step the run is over, and cannot be cancelled any more.
    let leads_on = sketch.dependents(step).next().is_some() || course.stop == Some(Stop::Cancelled);
    let would_stop = !last.worked() && sketch.steps[step].on_error == OnError::Compensate;
    let would_go_on = !last.worked() && goes_on(sketch, step, last);
    let late = keeps_place || leads_on || would_stop || would_go_on;
    match last.undo {
        Some(_) => (Hold::No, late),
        None if late => (Hold::UntilStopped, false),
        None => (Hold::No, false),
    }
}

/// Tells whether a step fails as soon as it may begin, because what it reads is missing.
fn fails_at_once(told: &StepCourse) -> bool {
    match told {
        StepCourse::Unreadable => true,
        StepCourse::Called(members) => matches!(members.as_slice(), [one] if one.attempts.is_empty()),
        _ => false,
    }
}

/// Tells whether on the way forward something would have followed after the last attempt: another one, or a fallback.
fn goes_on(sketch: &Sketch, step: usize, last: &MemberCourse) -> bool {
    let Some(member) = sketch.member((step, last.member)) else { return false };
    match last.attempts.last() {
        Some(Attempt::Failed(ending, _)) => {
            let ending = &member.endings[*ending];
            let counted = last.attempts.iter().filter(|attempt| !matches!(attempt, Attempt::CutOff(_))).count();
            (ending.retried && counted < usize::from(member.attempts)) || !ending.taken_by.is_empty()
        }
        Some(Attempt::CutOff(_)) => !member.cut_off.taken_by.is_empty(),
        Some(Attempt::Succeeded) | None => false,
    }
}

/// Chance that is the same for the same seed.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66_D1CE_4E5B)
    }

    /// Returns a number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound.max(1)
    }

    /// Returns true so many times in a hundred.
    pub(super) fn in_100(&mut self, times: usize) -> bool {
        self.below(100) < times
    }

    fn world(&mut self) -> World {
        [World::Nothing, World::Done, World::OnItsWay][self.below(3)]
    }

    /// Returns what an attempt comes to.
    pub(super) fn attempt(&mut self, member: &Member, may_die: bool) -> Attempt {
        match self.below(100) {
            0..55 => Attempt::Succeeded,
            55..62 if may_die => Attempt::CutOff(self.world()),
            _ if member.endings.is_empty() => Attempt::Succeeded,
            _ => {
                let ending = self.below(member.endings.len());
                let world = if member.endings[ending].clear { World::Nothing } else { self.world() };
                Attempt::Failed(ending, world)
            }
        }
    }
}
