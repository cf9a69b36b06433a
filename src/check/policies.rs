//! Whether policies can do what they say: values that fit, error codes that can occur, skipping that is decided.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::context::Context;
use super::skips::Skips;
use super::suggest;
use crate::diag::{Finding, FindingCode, Severity};
use crate::dsl::document::Retry;
use crate::dsl::tree::join;
use crate::failure::ErrorKind;
use crate::handlers::contract::Contract;
use crate::plan;
use crate::plan::calls::{self, At, CallAt, MemberAt};
use crate::plan::draw::time_text;
use crate::plan::settings::Settings;

/// Codes that the engine may end any call with.
const ENGINE: &[&str] =
    &["timeout", "panic", "crashed", "bad_output", "bad_input", "handler.error", "breaker_open", "template", "limit"];

/// Checks the policies.
pub(crate) fn check(cx: &Context<'_>, skips: &Skips, findings: &mut Vec<Finding>) {
    retry_codes(cx, findings);
    delays(cx, findings);
    for step in &cx.steps {
        fallbacks(cx, &step.members, findings);
    }
    undecided_skips(cx, skips, findings);
}

/// What the users of one entry of an `errors` list say of it. A list under `retries` is shared by handlers with
/// different errors, so an entry is wrong only if it is wrong for all.
#[derive(Default)]
struct Verdicts(BTreeMap<String, Option<Finding>>);

impl Verdicts {
    fn add(&mut self, pointer: String, verdict: impl FnOnce(&str) -> Option<Finding>) {
        let shared = pointer.starts_with("/retries/");
        match self.0.get(&pointer) {
            Some(None) if shared => {}
            Some(Some(_)) if !shared => {}
            _ => {
                let found = verdict(&pointer);
                self.0.insert(pointer, found);
            }
        }
    }
}

fn retry_codes(cx: &Context<'_>, findings: &mut Vec<Finding>) {
    let mut verdicts = Verdicts::default();
    let mut judge = |handler: &str, retry: &At<'_, Retry>| {
        let Some(contract) = cx.contract(handler) else { return };
        let merged = calls::retry(cx.document, retry);
        for (i, code) in merged.errors.iter().flat_map(|at| at.value.iter().enumerate()) {
            let pointer = format!("{}/{i}", merged.errors.as_ref().map_or("", |at| &at.pointer));
            verdicts.add(pointer, |at| retried_code(cx, contract, code, at));
        }
        for (i, code) in merged.except.iter().flat_map(|at| at.value.iter().enumerate()) {
            let pointer = format!("{}/{i}", merged.except.as_ref().map_or("", |at| &at.pointer));
            verdicts.add(pointer, |at| {
                let known = codes_of(contract);
                (!contract.any_error && !known.contains(code.as_str())).then(|| not_returned(cx, contract, code, at))
            });
        }
    };
    for call in cx.calls() {
        if let Some(retry) = &call.retry {
            judge(call.uses, retry);
        }
    }
    for (handler, policies) in &cx.document.defaults {
        if let Some(retry) = &policies.retry {
            judge(handler, &At { value: retry, pointer: join(&join("/defaults", handler), "retry") });
        }
    }
    findings.extend(verdicts.0.into_values().flatten());
}

/// A first delay above the longest one would be cut to it without a word.
fn delays(cx: &Context<'_>, findings: &mut Vec<Finding>) {
    let settings = Settings::new(Arc::new(cx.config.clone()));
    let default = plan::Retry::default().max_delay;
    // An entry of `retries` is judged where it is used, because its users may add what it lacks.
    let in_calls = cx.calls().filter_map(|call| call.retry.clone());
    let in_defaults = cx.document.defaults.iter().filter_map(|(handler, policies)| {
        let pointer = join(&join("/defaults", handler), "retry");
        Some(At { value: policies.retry.as_ref()?, pointer })
    });
    let mut judged = HashSet::new();
    for retry in in_calls.chain(in_defaults) {
        let merged = calls::retry(cx.document, &retry);
        let Some(delay) = merged.delay else { continue };
        let Ok(first) = settings.duration(delay.value) else { continue };
        let written = delay.value.0.as_str().filter(|text| !text.contains("{{"));
        let shown = written.map_or_else(|| time_text(first), str::to_owned);
        match merged.max_delay {
            Some(longest) => {
                let Ok(most) = settings.duration(longest.value) else { continue };
                if first > most && judged.insert((delay.pointer.clone(), longest.pointer.clone())) {
                    let message =
                        format!("the first delay of {shown} is longer than the longest of {}", time_text(most));
                    findings.push(
                        Finding::error(FindingCode::SettingMisfit, cx.value(&delay.pointer), message)
                            .related(cx.value(&longest.pointer), "the longest delay")
                            .help("Raise `max_delay`, or lower `delay`."),
                    );
                }
            }
            None if first > default
                && !cx.left_out(&join(&retry.pointer, "max_delay"))
                && judged.insert((delay.pointer.clone(), String::new())) =>
            {
                let message = format!("this delay is cut to {}, the default of `max_delay`", time_text(default));
                findings.push(
                    Finding::warning(FindingCode::DelayCutShort, cx.value(&delay.pointer), message)
                        .help(format!("Write `max_delay: {shown}` beside it, or more if delays are to grow.")),
                );
            }
            None => {}
        }
    }
}

/// Returns what is wrong with an error code that a retry names.
fn retried_code(cx: &Context<'_>, contract: &Contract, code: &str, at: &str) -> Option<Finding> {
    let why = match code {
        "template" => "a template gives the same result every time",
        "limit" => "a value that is too large stays too large",
        "breaker_open" => "a breaker that is open is not asked again; the next fallback is tried",
        "bad_input" => "the input does not change",
        _ if contract.errors.get(code).is_some_and(|kind| *kind == Some(ErrorKind::Permanent)) => {
            let message = format!("`{code}` is permanent and never tried again");
            let finding = Finding::error(FindingCode::NotRetryable, cx.value(at), message);
            return Some(finding.help(format!("Handle it by a fallback: `errors: [{code}]`.")));
        }
        _ if contract.any_error || codes_of(contract).contains(code) => return None,
        _ => return Some(not_returned(cx, contract, code, at)),
    };
    let message = format!("`{code}` is never tried again");
    Some(Finding::error(FindingCode::NotRetryable, cx.value(at), message).help(format!("Leave it out: {why}.")))
}

fn not_returned(cx: &Context<'_>, contract: &Contract, code: &str, at: &str) -> Finding {
    let message = if at.starts_with("/retries/") {
        format!("no handler that uses this policy can return the error `{code}`")
    } else {
        format!("`{}` cannot return the error `{code}`", contract.name)
    };
    let own: Vec<&str> = contract.errors.keys().map(crate::names::Code::as_str).collect();
    Finding::error(FindingCode::UnknownErrorCode, cx.value(at), message).help(code_help(cx, code, &own))
}

/// Returns a help that names the nearest code, the handlers' own before those of the engine.
fn code_help(cx: &Context<'_>, code: &str, own: &[&str]) -> String {
    let all = || own.iter().chain(ENGINE).copied();
    match cx.suggestions.nearest(code, all()) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => {
            let words: Vec<String> = all().map(|c| format!("`{c}`")).collect();
            format!("The errors here are {}.", suggest::list(&words))
        }
    }
}

/// Returns every code that a call of the handler can end with.
fn codes_of(contract: &Contract) -> BTreeSet<&str> {
    contract.errors.keys().map(crate::names::Code::as_str).chain(ENGINE.iter().copied()).collect()
}

/// Follows the codes that members can end with through the fallbacks of a step.
fn fallbacks(cx: &Context<'_>, members: &[MemberAt<'_>], findings: &mut Vec<Finding>) {
    let Some((first, rest)) = members.split_first() else { return };
    // The codes with which the member that was tried last can have ended when a fallback's turn comes.
    let Some(mut pending) = end_codes(cx, &first.call) else { return };
    // The codes that any earlier member can end with, breakers aside.
    let mut earlier = cx.contract(first.call.uses).map(codes_of).unwrap_or_default();
    for fallback in rest {
        let mut all_wrong = false;
        if let Some(errors) = &fallback.errors {
            let mut wrong = 0;
            for (i, code) in errors.value.iter().enumerate() {
                if !earlier.contains(code.as_str()) {
                    wrong += 1;
                    let at = format!("{}/{i}", errors.pointer);
                    let message = format!("no call before this fallback can end with the error `{code}`");
                    let own: Vec<&str> = earlier.iter().copied().filter(|c| !ENGINE.contains(c)).collect();
                    let finding = Finding::error(FindingCode::UnknownErrorCode, cx.value(&at), message);
                    findings.push(finding.help(code_help(cx, code, &own)));
                }
            }
            all_wrong = wrong == errors.value.len() && wrong > 0;
        }
        let takes = |code: &str| fallback.errors.as_ref().is_none_or(|e| e.value.iter().any(|c| c == code));
        let never = fallback.when.as_ref().is_some_and(|when| when.value.0 == serde_json::Value::Bool(false));
        let reached = pending.iter().any(|code| takes(code));
        if (never || !reached) && !all_wrong {
            let finding = Finding::warning(
                FindingCode::FallbackNeverUsed,
                cx.value(&format!("{}/name", fallback.call.at)),
                format!("the fallback `{}` can never be used", fallback.name),
            );
            findings.push(finding.help(if never {
                "Its `when` is always false."
            } else {
                "No member before it can end with one of its `errors` and leave it to this one."
            }));
        }
        let Some(own) = end_codes(cx, &fallback.call) else { return };
        if reached && !never {
            // Where `when` may be false the codes go on to the next fallback as well.
            if fallback.when.is_none() {
                pending.retain(|code| !takes(code));
            }
            pending.extend(own);
        }
        earlier.extend(cx.contract(fallback.call.uses).map(codes_of).unwrap_or_default());
    }
}

/// Returns the codes that a call can end with under its policies; nothing if its handler may return any.
fn end_codes<'c>(cx: &'c Context<'_>, call: &CallAt<'_>) -> Option<BTreeSet<&'c str>> {
    let contract = cx.contract(call.uses).filter(|c| !c.any_error)?;
    let mut codes = codes_of(contract);
    let service = call.service.as_ref().and_then(|at| cx.document.services.get(at.value));
    if service.is_none_or(|s| s.breaker.is_none()) {
        codes.remove("breaker_open");
    }
    Some(codes)
}

/// A step all of whose needs may be skipped must say what it does then.
fn undecided_skips(cx: &Context<'_>, skips: &Skips, findings: &mut Vec<Finding>) {
    for (i, step) in cx.steps.iter().enumerate() {
        if step.step.on_skip.is_some() || cx.left_out(&join(&step.at, "on_skip")) || !skips.all_needs_may_be_skipped(i)
        {
            continue;
        }
        let names: Vec<String> = skips.needs(i).iter().map(|&n| format!("`{}`", cx.steps[n].name)).collect();
        let message = match names.as_slice() {
            [one] => format!("`{}` needs only {one}, which may be skipped", step.name),
            _ => format!("all that `{}` needs may be skipped: {}", step.name, suggest::list(&names)),
        };
        findings.push(Finding::error(FindingCode::SkipUndecided, cx.key(&step.at), message).help(
            "Say `on_skip: run` if it is to run all the same then, or `on_skip: skip` if it is to be skipped too.",
        ));
    }
}

/// Returns whether any finding is an error of one of these kinds.
pub(crate) fn has_error(findings: &[Finding], codes: &[FindingCode]) -> bool {
    let codes: HashSet<_> = codes.iter().collect();
    findings.iter().any(|f| f.severity == Severity::Error && codes.contains(&f.code))
}
