//! In which manners a course can be played: what it does not tell, and what may be either way.

use crate::teeth::{Bug, awake};
use crate::verify::findings::{Answer, Attempt, Course, StepCourse, Stop, World};
use crate::verify::sketch::Sketch;

/// What a course does not tell, and what it may be played with either way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// A request that a confirm did not find arrives before the undo, and not after it.
    pub(super) lands: bool,
    /// An attempt that is cut off is lost by itself, as on a cluster when one worker of many dies, and not with the process
    /// and all that is under way in it.
    pub(super) alone: bool,
    /// The process is put down just before the run stops, so that nothing follows from what ends then or while it is away.
    pub(super) down: bool,
}

/// Makes a manner another one.
type Choice = fn(&mut Manner);

impl Manner {
    /// Returns every manner that makes a difference, the usual one first.
    pub(super) fn all(sketch: &Sketch, course: &Course) -> Vec<Self> {
        let cut_off = |attempt: &Attempt| matches!(attempt, Attempt::CutOff(_));
        let mut members = course.steps.values().flat_map(StepCourse::calls).flat_map(|(_, members)| members);
        let dies = course.steps.len() > 1 && members.any(|member| member.attempts.iter().any(cut_off));
        let lands = course.steps.values().any(may_be_late);
        let down = !last_waits(sketch, course).is_empty();
        let choices: [(bool, Choice); 3] = [
            (lands, |manner| manner.lands = true),
            (dies && !awake(Bug::RehearsalDeathTakesAll), |manner| manner.alone = true),
            (down && !awake(Bug::RehearsalNeverPutDown), |manner| manner.down = true),
        ];
        let mut all = vec![Self::default()];
        for (_, choose) in choices.iter().filter(|(matters, _)| *matters) {
            let mut others = all.clone();
            others.iter_mut().for_each(choose);
            all.extend(others);
        }
        all
    }
}

/// Returns the waits that are over in the moment in which the run stops: steps need them, and none followed.
pub(super) fn last_waits(sketch: &Sketch, course: &Course) -> Vec<usize> {
    if !matches!(course.stop, Some(Stop::Failed(_) | Stop::Cancelled)) {
        return Vec::new();
    }
    let is_last = |step: &usize| {
        let mut dependents = sketch.dependents(*step).peekable();
        course.stop != Some(Stop::Failed(*step))
            && dependents.peek().is_some()
            && !dependents.any(|other| course.steps.contains_key(&other))
    };
    let is_over = |told: &StepCourse| matches!(told, StepCourse::Waited | StepCourse::Missed);
    course.steps.iter().filter(|(_, told)| is_over(told)).map(|(step, _)| *step).filter(is_last).collect()
}

/// Tells whether a request of a step is on its way when a confirm says that it was not done.
fn may_be_late(told: &StepCourse) -> bool {
    let on_its_way =
        |attempt: &Attempt| matches!(attempt, Attempt::Failed(_, World::OnItsWay) | Attempt::CutOff(World::OnItsWay));
    let mut members = told.calls().flat_map(|(_, members)| members);
    members.any(|told| told.confirm == Some(Answer::NotDone) && told.attempts.iter().any(on_its_way))
}
