//! How long a run can take, and whether that fits its deadline.

use std::time::Duration;

use super::draw::time_text;
use super::duration::worst_case;
use super::node::{Action, Plan, Step, Wait, WaitLimit};

/// How long a run can take on its way forward when everything that can be waited for is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The longest way through the steps; a wait whose end no plan knows counts as nothing.
    pub longest: Duration,
    /// The steps whose length is not known before the run: waits until a computed time or for ever, and lists.
    pub open: Vec<String>,
    /// The step that takes most of the longest way.
    pub slowest: Option<usize>,
    /// The run's deadline.
    pub deadline: Option<Duration>,
}

impl Timing {
    /// Adds up a plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let mut ends = vec![(Duration::ZERO, None); plan.steps.len()];
        for ix in &plan.order {
            let step = plan.step(*ix);
            let before = step.needs.iter().map(|need| need.0 as usize).max_by_key(|&need| ends[need].0);
            let start = before.map_or(Duration::ZERO, |need| ends[need].0);
            ends[ix.0 as usize] = (start.saturating_add(worst_case(step)), before);
        }
        let last = (0..ends.len()).max_by_key(|&step| ends[step].0);
        let way = std::iter::successors(last, |&step| ends[step].1);
        let open = |step: &&Step| {
            let computed = |limit: &WaitLimit| !matches!(limit, WaitLimit::For(_));
            step.foreach.is_some()
                || match &step.action {
                    Action::Wait(Wait::Until(_)) => true,
                    Action::Wait(Wait::Signal { limit, .. }) => computed(limit),
                    Action::Wait(Wait::For(_)) | Action::Call(_) => false,
                }
        };
        Self {
            longest: last.map_or(Duration::ZERO, |step| ends[step].0),
            open: plan.steps.iter().filter(open).map(|step| step.name.to_string()).collect(),
            slowest: way.max_by_key(|&step| worst_case(&plan.steps[step])),
            deadline: plan.deadline,
        }
    }

    /// Says that a run may miss its deadline although nothing but time goes wrong, and which step takes most of it.
    #[must_use]
    pub fn late<'p>(&self, plan: &'p Plan) -> Option<(String, &'p Step)> {
        let deadline = self.deadline.filter(|deadline| self.longest > *deadline)?;
        let slowest = plan.steps.get(self.slowest?)?;
        let message = format!(
            "a run may take {} when attempts time out, longer than its deadline of {}",
            time_text(self.longest),
            time_text(deadline)
        );
        Some((message, slowest))
    }
}
