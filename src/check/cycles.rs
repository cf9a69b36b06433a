//! Steps that wait for each other.

use std::collections::HashMap;

use super::context::Context;
use super::references::Readings;
use super::skips::Skips;
use crate::diag::{Finding, FindingCode, Span};
use crate::plan::graph;

/// Reports the shortest cycle of every knot, at the `needs` entry or reference of its first step in the file.
pub(crate) fn check(cx: &Context<'_>, readings: &Readings, skips: &Skips, findings: &mut Vec<Finding>) {
    let cycles = graph::cycles(skips.graph());
    if cycles.is_empty() {
        return;
    }
    let mut read_at: HashMap<(usize, usize), Span> = HashMap::new();
    for (step, read, reading) in readings.of_steps(cx) {
        read_at
            .entry((step, read))
            .or_insert_with(|| cx.tree.inside(&reading.pointer, reading.reference.ranges[1].clone()));
    }
    let place = |step: usize, needed: usize| {
        let name = cx.steps[needed].name;
        let listed = cx.steps[step].step.needs.iter().position(|n| n == name);
        match listed {
            Some(n) => cx.value(&format!("{}/needs/{n}", cx.steps[step].at)),
            None => read_at.get(&(step, needed)).copied().unwrap_or_else(|| cx.key(&cx.steps[step].at)),
        }
    };
    for cycle in cycles {
        let [first, second, ..] = cycle.as_slice() else { continue };
        let names: Vec<&str> = cycle.iter().chain([first]).map(|&i| cx.steps[i].name).collect();
        let message = format!("these steps wait for each other: {}", path_text(&names));
        let label = format!("`{}` needs `{}`", names[0], names[1]);
        let mut finding = Finding::error(FindingCode::Cycle, place(*first, *second), message).label(label);
        for (n, &step) in cycle.iter().enumerate().skip(1).take(8) {
            let next = cycle[(n + 1) % cycle.len()];
            let label = format!("`{}` needs `{}`", cx.steps[step].name, cx.steps[next].name);
            finding = finding.related(place(step, next), label);
        }
        findings.push(finding.help("Remove one of these needs or references, so that one of the steps can start."));
    }
}

/// Writes a path; of a very long one both ends.
fn path_text(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    if names.len() <= SHOWN {
        return names.join(" -> ");
    }
    let (head, tail) = (&names[..SHOWN - 3], &names[names.len() - 2..]);
    format!("{} -> ({} more) -> {}", head.join(" -> "), names.len() - head.len() - tail.len(), tail.join(" -> "))
}
