//! What can run but is probably not meant: values that may be missing, what is never used, a deadline too short.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::context::Context;
use super::policies::has_error;
use super::references::{Reading, Readings, step_read};
use super::skips::Skips;
use crate::diag::{Finding, FindingCode};
use crate::dsl::tree::join;
use crate::plan::calls::{MemberAt, Role};
use crate::plan::draw::time_text;
use crate::plan::duration::worst_case;
use crate::plan::{Plan, Timing};

/// Warns of what may be missing where it is read.
pub(crate) fn missing(cx: &Context<'_>, readings: &Readings, skips: &Skips, findings: &mut Vec<Finding>) {
    let guards = Guards::new(cx, readings);
    for reading in &readings.all {
        if reading.reference.guarded {
            continue;
        }
        let path = &reading.reference.path;
        if reading.finally && path.starts_with(&["run".to_owned(), "error".to_owned()]) {
            if !guards.in_text(reading, "run") {
                let span = cx.tree.inside(&reading.pointer, reading.reference.ranges[1].clone());
                let finding = Finding::warning(
                    FindingCode::MayBeMissing,
                    span,
                    "`run.error` is missing when the run has completed",
                );
                findings.push(finding.help("Write `run.error | default(none)`."));
            }
            continue;
        }
        let (Some(read), Some(field)) = (step_read(cx, &reading.reference), path.get(2)) else { continue };
        if reading.step == Some(read) {
            continue;
        }
        let name = cx.steps[read].name;
        let why = match field.as_str() {
            "output" | "via" if reading.finally => "the run may have ended before it succeeded",
            "output" | "via" => {
                let skipped =
                    skips.may_be_skipped(read) && !reading.step.is_some_and(|s| skips.runs_only_with(s, read));
                match (skipped, skips.may_have_failed(read)) {
                    (true, true) => "the step may be skipped or fail",
                    (true, false) => "the step may be skipped",
                    (false, true) => "the step may fail and the run go on",
                    (false, false) => continue,
                }
            }
            "error" => "it exists only when the step has failed",
            _ => continue,
        };
        if guards.in_text(reading, name) || guards.of_step(reading.step, read) {
            continue;
        }
        let range = reading.reference.ranges[0].start..reading.reference.ranges[2].end;
        let message = format!("`steps.{name}.{field}` may be missing: {why}");
        let finding = Finding::warning(FindingCode::MayBeMissing, cx.tree.inside(&reading.pointer, range), message);
        let status = if field == "error" { "failed" } else { "succeeded" };
        findings.push(
            finding.help(format!("Give it a `default(...)`, or guard it by `steps.{name}.status == \"{status}\"`.")),
        );
    }
}

/// Where it is asked whether something exists.
struct Guards<'r> {
    /// The JSON pointers of texts that ask, with the step asked about, or `run`.
    texts: HashSet<(&'r str, &'r str)>,
    /// The steps whose `when` asks, with the step asked about.
    steps: HashSet<(usize, usize)>,
}

impl<'r> Guards<'r> {
    fn new(cx: &Context<'_>, readings: &'r Readings) -> Self {
        let mut guards = Self { texts: HashSet::new(), steps: HashSet::new() };
        for reading in &readings.all {
            let path = &reading.reference.path;
            let asks = match path.as_slice() {
                [steps, _, field, ..] if steps == "steps" => {
                    reading.reference.guarded || matches!(field.as_str(), "status" | "via")
                }
                [run, field, ..] if run == "run" => reading.reference.guarded || field == "status",
                _ => false,
            };
            if !asks {
                continue;
            }
            let about = if path[0] == "run" { "run" } else { path[1].as_str() };
            guards.texts.insert((&reading.pointer, about));
            if let (Some(step), Some(read)) = (reading.step, step_read(cx, &reading.reference))
                && reading.pointer == join(&cx.steps[step].at, "when")
            {
                guards.steps.insert((step, read));
            }
        }
        guards
    }

    fn in_text(&self, reading: &Reading, about: &str) -> bool {
        self.texts.contains(&(reading.pointer.as_str(), about))
            && reading.reference.path.get(2).is_none_or(|f| f != "via")
    }

    fn of_step(&self, step: Option<usize>, read: usize) -> bool {
        step.is_some_and(|step| self.steps.contains(&(step, read)))
    }
}

/// Warns of what is declared and never used.
pub(crate) fn unused(cx: &Context<'_>, readings: &Readings, findings: &mut Vec<Finding>) {
    // A name that was mistyped is unused as well; one finding for one mistake.
    let hiding = [FindingCode::TemplateSyntax, FindingCode::UnknownVariable, FindingCode::UnknownKey];
    if cx.partial || has_error(findings, &hiding) {
        return;
    }
    let document = cx.document;
    if !has_error(findings, &[FindingCode::UnknownRetry]) {
        let mut used: HashSet<&str> = cx.calls().filter_map(|c| c.retry.as_ref()?.value.use_.as_deref()).collect();
        used.extend(document.retries.values().filter_map(|r| r.use_.as_deref()));
        used.extend(document.defaults.values().filter_map(|d| d.retry.as_ref()?.use_.as_deref()));
        for name in document.retries.keys().filter(|name| !used.contains(name.as_str())) {
            let span = cx.key(&join("/retries", name));
            findings.push(never_used(FindingCode::UnusedRetry, span, &format!("the retry policy `{name}`")));
        }
    }
    if !has_error(findings, &[FindingCode::UnknownService]) {
        let mut used: HashSet<&str> = cx.calls().filter_map(|c| Some(c.service.as_ref()?.value)).collect();
        used.extend(document.defaults.values().filter_map(|d| d.service.as_deref()));
        // A wait must not name one, which is an error of its own; the service is not useless for that.
        used.extend(document.steps.values().filter_map(|s| s.service.as_deref()));
        for name in document.services.keys().filter(|name| !used.contains(name.as_str())) {
            let span = cx.key(&join("/services", name));
            findings.push(never_used(FindingCode::UnusedService, span, &format!("the service `{name}`")));
        }
    }
    if !has_error(findings, &[FindingCode::UnknownSecret, FindingCode::SecretMisused]) {
        let used: HashSet<&str> = paths(readings, "secrets").filter_map(|p| Some(p.get(1)?.as_str())).collect();
        for (i, name) in document.secrets.iter().enumerate().filter(|(_, name)| !used.contains(name.as_str())) {
            let span = cx.value(&format!("/secrets/{i}"));
            findings.push(never_used(FindingCode::UnusedSecret, span, &format!("the secret `{name}`")));
        }
    }
    if !has_error(findings, &[FindingCode::UnknownConfig]) {
        let mut used = Used::default();
        for path in paths(readings, "config") {
            used.add(&path[1..]);
        }
        unused_config(cx, &document.config, &used, "/config", "", findings);
    }
}

fn paths<'r>(readings: &'r Readings, first: &'r str) -> impl Iterator<Item = &'r [String]> {
    readings.all.iter().map(|r| r.reference.path.as_slice()).filter(move |p| p[0] == first)
}

fn never_used(code: FindingCode, span: crate::diag::Span, what: &str) -> Finding {
    Finding::warning(code, span, format!("{what} is never used")).help("Remove it, or use it.")
}

/// The configuration paths that are read, as a tree.
#[derive(Default)]
struct Used {
    whole: bool,
    parts: std::collections::HashMap<String, Used>,
}

impl Used {
    fn add(&mut self, path: &[String]) {
        match path {
            [] => self.whole = true,
            [first, rest @ ..] => self.parts.entry(first.clone()).or_default().add(rest),
        }
    }
}

fn unused_config(
    cx: &Context<'_>,
    map: &Map<String, Value>,
    used: &Used,
    pointer: &str,
    prefix: &str,
    findings: &mut Vec<Finding>,
) {
    if used.whole {
        return;
    }
    for (key, value) in map {
        let at = join(pointer, key);
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (used.parts.get(key), value) {
            (None, _) => {
                let what = format!("the configuration `{path}`");
                findings.push(never_used(FindingCode::UnusedConfig, cx.key(&at), &what));
            }
            (Some(part), Value::Object(inner)) => unused_config(cx, inner, part, &at, &path, findings),
            (Some(_), _) => {}
        }
    }
}

/// Warns of undos that have nothing to undo.
pub(crate) fn undos(cx: &Context<'_>, findings: &mut Vec<Finding>) {
    for member in cx.steps.iter().flat_map(|s| &s.members) {
        let MemberAt { call, compensate: Some(undo), .. } = member else { continue };
        debug_assert!(undo.role == Role::Compensate, "only an undo stands in `compensate`");
        let Some(contract) = cx.contract(call.uses) else { continue };
        if contract.effect.is_none() && contract.undoes.is_none() {
            let message = format!("`{}` declares no effect that could be undone", call.uses);
            let finding = Finding::warning(FindingCode::NothingToUndo, cx.key(&undo.at), message);
            findings.push(finding.help("Remove `compensate`, or let the handler declare its effect."));
        }
    }
}

/// Warns of `/` between whole numbers.
pub(crate) fn divisions(readings: &Readings, findings: &mut Vec<Finding>) {
    for span in &readings.divisions {
        let finding =
            Finding::warning(FindingCode::FloatDivision, *span, "`/` gives a fraction, also of whole numbers");
        findings.push(finding.help("Use `//` to divide whole numbers; amounts of money stay exact then."));
    }
}

/// Warns of a deadline that a run may miss although nothing is wrong.
pub(crate) fn deadline(cx: &Context<'_>, plan: &Plan, findings: &mut Vec<Finding>) {
    let Some((message, slowest)) = Timing::of(plan).late(plan) else { return };
    let finding = Finding::warning(FindingCode::DeadlineTooShort, cx.value("/deadline"), message).related(
        cx.key(&join("/steps", slowest.name.as_str())),
        format!("up to {} of it", time_text(worst_case(slowest))),
    );
    findings.push(finding.help("Raise the deadline, or lower timeouts and attempts."));
}
