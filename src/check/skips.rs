//! Which steps may be skipped or fail without the run failing, and which steps wait for which.

use super::context::Context;
use super::references::{Readings, step_read};
use crate::dsl::document::{OnError, OnSkip};
use crate::plan::graph;

/// How far a chain of certainties is followed.
const CHAIN_MAX: usize = 64;

/// The graph of a workflow, and what may be missing in it.
pub(crate) struct Skips {
    needs: Vec<Vec<usize>>,
    /// Steps with a name among their needs that does not exist, or a template that cannot be understood.
    incomplete: Vec<bool>,
    may_be_skipped: Vec<bool>,
    may_have_failed: Vec<bool>,
    skips_with_needs: Vec<bool>,
    /// The conditions of each step that hold whenever it runs, split at `and`.
    conditions: Vec<Vec<String>>,
}

impl Skips {
    /// Looks at the whole graph once.
    pub fn new(cx: &Context<'_>, readings: &Readings) -> Self {
        let mut needs: Vec<Vec<usize>> = cx
            .steps
            .iter()
            .enumerate()
            .map(|(i, s)| {
                let named = s.step.needs.iter().filter_map(|n| cx.index.get(n.as_str()).copied());
                named.filter(|&n| n != i).collect()
            })
            .collect();
        for (step, read, _) in readings.of_steps(cx) {
            if step != read {
                needs[step].push(read);
            }
        }
        let named_wrong = |i: usize| cx.steps[i].step.needs.iter().any(|n| !cx.index.contains_key(n.as_str()));
        let mut incomplete: Vec<bool> =
            (0..needs.len()).map(|i| readings.broken.contains(&i) || named_wrong(i)).collect();
        for reading in &readings.all {
            if let (Some(step), "steps", None) =
                (reading.step, &*reading.reference.path[0], step_read(cx, &reading.reference))
            {
                incomplete[step] = true;
            }
        }
        for needed in &mut needs {
            needed.sort_unstable();
            needed.dedup();
        }
        let mut may_be_skipped = vec![false; needs.len()];
        for i in graph::order(&needs).sorted {
            let step = cx.steps[i].step;
            let by_when = step.when.as_ref().is_some_and(|when| when.0 != serde_json::Value::Bool(true));
            let by_needs = step.on_skip == Some(OnSkip::Skip)
                && !needs[i].is_empty()
                && needs[i].iter().all(|&n| may_be_skipped[n]);
            may_be_skipped[i] = by_when || by_needs;
        }
        Self {
            may_have_failed: cx.steps.iter().map(|s| s.step.on_error == Some(OnError::Continue)).collect(),
            skips_with_needs: cx.steps.iter().map(|s| s.step.on_skip == Some(OnSkip::Skip)).collect(),
            conditions: cx
                .steps
                .iter()
                .map(|s| s.step.when.as_ref().map(|w| conjuncts(&crate::plan::compile::condition_text(w))))
                .map(Option::unwrap_or_default)
                .collect(),
            needs,
            incomplete,
            may_be_skipped,
        }
    }

    /// Returns the steps that a step waits for, in file order.
    pub fn needs(&self, step: usize) -> &[usize] {
        &self.needs[step]
    }

    /// Returns what every step waits for.
    pub fn graph(&self) -> &[Vec<usize>] {
        &self.needs
    }

    /// Tells whether everything a step waits for may be skipped; not of a step whose needs are not all known.
    pub fn all_needs_may_be_skipped(&self, step: usize) -> bool {
        !self.incomplete[step]
            && !self.needs[step].is_empty()
            && self.needs[step].iter().all(|&n| self.may_be_skipped[n])
    }

    /// Tells whether a step may be skipped.
    pub fn may_be_skipped(&self, step: usize) -> bool {
        self.may_be_skipped[step]
    }

    /// Tells whether a run may go on although the step failed.
    pub fn may_have_failed(&self, step: usize) -> bool {
        self.may_have_failed[step]
    }

    /// Tells whether `other` is certain not to be skipped when `step` runs: the same conditions hold for both, or
    /// `step` is skipped together with it.
    pub fn runs_only_with(&self, step: usize, other: usize) -> bool {
        let mut holding: Vec<&String> = Vec::new();
        let mut at = step;
        for _ in 0..CHAIN_MAX {
            holding.extend(&self.conditions[at]);
            match self.needs[at].as_slice() {
                // With a single need and `on_skip: skip`, a step that runs tells that its need was not skipped.
                [need] if self.skips_with_needs[at] && *need == other => return true,
                [need] if self.skips_with_needs[at] => at = *need,
                _ => break,
            }
        }
        let by_when = &self.conditions[other];
        !by_when.is_empty() && !self.skips_with_needs[other] && by_when.iter().all(|c| holding.contains(&c))
    }
}

/// Splits a condition at its `and`s, as far as that is certain from the text.
fn conjuncts(text: &str) -> Vec<String> {
    let text = text.trim();
    let text = text.strip_prefix("{{").and_then(|t| t.strip_suffix("}}")).unwrap_or(text).trim();
    let words: Vec<&str> = text.split_whitespace().collect();
    let joined = words.join(" ");
    let splittable =
        !words.iter().any(|w| matches!(*w, "or" | "if" | "not")) && !text.contains(['(', '[', '{', '\'', '"', '|']);
    if splittable { joined.split(" and ").map(str::to_owned).collect() } else { vec![joined] }
}

#[cfg(test)]
mod tests {
    use super::conjuncts;

    #[test]
    fn conditions_are_split_only_where_that_is_certain() {
        assert_eq!(conjuncts("a and b.c > 0"), ["a", "b.c > 0"]);
        assert_eq!(conjuncts("{{ a  and b }}"), ["a", "b"]);
        assert_eq!(conjuncts("a and b or c"), ["a and b or c"]);
        assert_eq!(conjuncts("x == 'a and b'"), ["x == 'a and b'"]);
        assert_eq!(conjuncts("not a and b"), ["not a and b"]);
    }
}
