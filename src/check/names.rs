//! Whether the handlers, steps, services and retries that are named exist.

use std::collections::HashSet;

use super::context::Context;
use super::invariant::{self, Ending, Fact};
use super::suggest;
use crate::diag::{Finding, FindingCode};
use crate::dsl::tree::{FINDINGS_MAX, join};
use crate::plan::calls::MemberAt;

/// Names that templates know already, and that an item therefore cannot have.
const RESERVED: &[&str] = &["input", "config", "run", "steps", "secrets", "index", "output", "error", "key", "loop"];

/// Checks every name outside templates.
pub(crate) fn check(cx: &Context<'_>, findings: &mut Vec<Finding>) {
    handlers(cx, findings);
    needs(cx, findings);
    services_and_retries(cx, findings);
    items(cx, findings);
    facts(cx, findings);
}

fn handlers(cx: &Context<'_>, findings: &mut Vec<Finding>) {
    let named = cx.calls().map(|call| (call.uses, cx.value(&join(&call.at, "uses"))));
    let defaults = cx.document.defaults.keys().map(|name| (name.as_str(), cx.key(&join("/defaults", name))));
    for (name, span) in named.chain(defaults) {
        if !cx.contracts.contains_key(name) {
            let help = match cx.suggestions.nearest(name, cx.contracts.keys().map(|n| n.as_str())) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => "`flowrun handlers` lists the handlers there are.".to_owned(),
            };
            findings.push(
                Finding::error(FindingCode::UnknownHandler, span, format!("unknown handler `{name}`")).help(help),
            );
        }
    }
    for call in cx.steps.iter().flat_map(|s| &s.members).filter_map(|m| m.confirm.as_ref()) {
        if cx.contract(call.uses).is_some_and(|c| !c.confirms) {
            let span = cx.value(&join(&call.at, "uses"));
            let message = format!("handler `{}` cannot tell whether a call was done", call.uses);
            let finding = Finding::error(FindingCode::NotAConfirm, span, message);
            let able: Vec<String> =
                cx.contracts.values().filter(|c| c.confirms).map(|c| format!("`{}`", c.name)).collect();
            findings.push(finding.help(match able.as_slice() {
                [] => "A handler in `confirm` returns `Confirmation`; none of this program does.".to_owned(),
                _ => format!("A handler in `confirm` returns `Confirmation`, as does {}.", suggest::list(&able)),
            }));
        }
    }
}

fn needs(cx: &Context<'_>, findings: &mut Vec<Finding>) {
    for (i, step) in cx.steps.iter().enumerate() {
        let mut seen = HashSet::new();
        for (n, need) in step.step.needs.iter().enumerate() {
            let span = || cx.value(&format!("{}/needs/{n}", step.at));
            // What is beyond is not shown, and need not be kept.
            if findings.len() > FINDINGS_MAX {
                return;
            }
            match cx.index.get(need.as_str()) {
                None if cx.left_out(&join("/steps", need)) => {}
                None => {
                    let finding = Finding::error(FindingCode::UnknownStep, span(), format!("unknown step `{need}`"));
                    findings.push(finding.help(cx.suggestions.help(need, "steps", cx.steps.iter().map(|s| s.name))));
                }
                Some(&other) if other == i => {
                    let finding =
                        Finding::error(FindingCode::NeedsItself, span(), format!("step `{need}` needs itself"));
                    findings.push(finding.help("Remove it from `needs`."));
                }
                Some(_) if !seen.insert(need) => {
                    let finding =
                        Finding::error(FindingCode::DuplicateName, span(), format!("`{need}` stands in `needs` twice"));
                    findings.push(finding.help("Remove one of them."));
                }
                Some(_) => {}
            }
        }
    }
}

fn services_and_retries(cx: &Context<'_>, findings: &mut Vec<Finding>) {
    let services = || cx.document.services.keys().map(String::as_str);
    let retries = || cx.document.retries.keys().map(String::as_str);
    let mut used = Vec::new();
    let mut uses = Vec::new();
    for call in cx.calls() {
        used.extend(call.service.as_ref().map(|at| (at.value, at.pointer.clone())));
        uses.extend(call.retry.as_ref().and_then(|at| Some((at.value.use_.as_deref()?, join(&at.pointer, "use")))));
    }
    for (handler, policies) in &cx.document.defaults {
        let at = join("/defaults", handler);
        used.extend(policies.service.as_deref().map(|name| (name, join(&at, "service"))));
        let retry = policies.retry.as_ref().and_then(|r| r.use_.as_deref());
        uses.extend(retry.map(|name| (name, format!("{at}/retry/use"))));
    }
    for (name, retry) in &cx.document.retries {
        uses.extend(retry.use_.as_deref().map(|to| (to, join(&join("/retries", name), "use"))));
    }
    for (name, pointer) in used {
        if !cx.document.services.contains_key(name) && !cx.left_out(&join("/services", name)) {
            let finding =
                Finding::error(FindingCode::UnknownService, cx.value(&pointer), format!("unknown service `{name}`"));
            findings.push(finding.help(cx.suggestions.help(name, "services", services())));
        }
    }
    for (name, pointer) in uses {
        if !cx.document.retries.contains_key(name) && !cx.left_out(&join("/retries", name)) {
            let finding =
                Finding::error(FindingCode::UnknownRetry, cx.value(&pointer), format!("unknown retry policy `{name}`"));
            findings.push(finding.help(cx.suggestions.help(name, "retry policies", retries())));
        }
    }
    circles(cx, findings);
}

/// Named retries that start from each other and never begin. Each has one successor, so a walk marks every name once.
fn circles(cx: &Context<'_>, findings: &mut Vec<Finding>) {
    let mut done: HashSet<&str> = HashSet::new();
    for start in cx.document.retries.keys() {
        let mut way: Vec<&str> = Vec::new();
        let mut next = Some(start.as_str());
        while let Some(name) = next.filter(|name| !done.contains(name)) {
            if let Some(begin) = way.iter().position(|n| *n == name) {
                let circle = [&way[begin..], &[name]].concat().join(" -> ");
                let span = cx.value(&join(&join("/retries", name), "use"));
                let message = format!("retry policies start from each other: {circle}");
                findings.push(Finding::error(FindingCode::RetryCircle, span, message).help("Remove one `use`."));
                break;
            }
            way.push(name);
            next = cx.document.retries.get(name).and_then(|r| r.use_.as_deref());
        }
        done.extend(way);
    }
}

/// The names that steps give their items.
fn items(cx: &Context<'_>, findings: &mut Vec<Finding>) {
    for step in &cx.steps {
        if let Some(item) = step.step.as_.as_deref().filter(|item| RESERVED.contains(item)) {
            let span = cx.value(&join(&step.at, "as"));
            let message = format!("`{item}` already means something in templates");
            findings.push(Finding::error(FindingCode::NameTaken, span, message).help("Give the item another name."));
        }
    }
}

/// The facts that invariants speak of.
fn facts(cx: &Context<'_>, findings: &mut Vec<Finding>) {
    if cx.document.invariants.is_empty() {
        return;
    }
    let contracts = || cx.calls().filter_map(|call| cx.contract(call.uses));
    let mut happen: Vec<&str> = Vec::new();
    for contract in contracts() {
        happen.extend(contract.effect.as_deref());
        happen.extend(contract.undoes.as_ref().map(|u| u.as_.as_str()));
    }
    happen.sort_unstable();
    happen.dedup();
    // A handler that is not known may have any effect; it is reported itself.
    let complete = cx.steps.iter().flat_map(|s| s.members.iter().flat_map(MemberAt::calls)).chain(&cx.finally);
    let complete = complete.into_iter().all(|call| cx.contract(call.uses).is_some());
    for (i, stated) in cx.document.invariants.iter().enumerate() {
        let pointer = format!("/invariants/{i}/never");
        let formula = match invariant::parse(&stated.never) {
            Ok(formula) => formula,
            Err(error) => {
                let span = cx.tree.inside(&pointer, error.range);
                findings.push(Finding::error(FindingCode::InvariantSyntax, span, error.message).help_if(error.help));
                continue;
            }
        };
        for (fact, range) in formula.facts() {
            let finding = match fact {
                Fact::Happened(name) if complete && !happen.contains(&name.as_str()) => {
                    let span = cx.tree.inside(&pointer, range);
                    let help = if cx.index.contains_key(name.as_str()) {
                        let ways: Vec<String> = Ending::WORDS.iter().map(|w| format!("`{name}.{w}`")).collect();
                        format!("It is a step: write how it ended, {}.", ways.join(", "))
                    } else {
                        cx.suggestions.help(name, "effects and undos of this workflow", happen.iter().copied())
                    };
                    let message = format!("no handler of this workflow has the effect or undo `{name}`");
                    Finding::error(FindingCode::UnknownFact, span, message).help(help)
                }
                Fact::Step { step, .. }
                    if !cx.index.contains_key(step.as_str()) && !cx.left_out(&join("/steps", step)) =>
                {
                    let span = cx.tree.inside(&pointer, range.start..range.start + step.len());
                    Finding::error(FindingCode::UnknownStep, span, format!("unknown step `{step}`"))
                        .help(cx.suggestions.help(step, "steps", cx.steps.iter().map(|s| s.name)))
                }
                Fact::Happened(_) | Fact::Step { .. } => continue,
            };
            findings.push(finding);
        }
    }
}
