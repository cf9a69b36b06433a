//! The ways in which an attempt can fail, one for all that have the same consequences.

use std::collections::BTreeSet;

use crate::failure::ErrorKind;
use crate::names::Code;
use crate::plan::{Action, Call, Member, Plan};
use crate::teeth::{Bug, awake};
use crate::verify::sketch::Failing;

/// A code that no policy names, for a handler that may report any.
const UNNAMED: &str = "other.error";

/// Codes after which nothing is tried again, whatever the policy says (SPEC 4, 6.14).
const NEVER_AGAIN: [&str; 4] = ["template", "limit", "breaker_open", "bad_input"];

/// The codes that any call can end with and that say that it may have happened (SPEC 6.4). `crashed` is not among them:
/// that is the end of the process, and not an answer.
const UNCLEAR: [&str; 4] = ["timeout", "bad_output", "handler.error", "panic"];

/// Returns the ways in which an attempt of the `m`th member can fail.
///
/// Those that are alike in what follows from them are one: told by a code that the handler declares if there is one,
/// otherwise by `timeout`.
pub(super) fn endings(plan: &Plan, members: &[Member], m: usize) -> Vec<Failing> {
    let mut endings: Vec<Failing> = Vec::new();
    for (code, kind) in codes(plan, members, m) {
        let failing = of_code(members, m, code, kind);
        let same = |known: &Failing| {
            (known.clear, known.retried, &known.taken_by) == (failing.clear, failing.retried, &failing.taken_by)
        };
        if !endings.iter().any(same) {
            endings.push(failing);
        }
    }
    endings
}

/// Returns the way in which an attempt of a member fails with a code of this kind, of the first that it can have if no
/// kind is wanted; nothing if it cannot.
pub(crate) fn ending_of(
    plan: &Plan,
    (step, m): (usize, usize),
    code: &str,
    wanted: Option<ErrorKind>,
) -> Option<Failing> {
    let Action::Call(members) = &plan.steps.get(step)?.action else { return None };
    members.get(m)?;
    let fits = |(known, kind): &(String, ErrorKind)| known == code && wanted.is_none_or(|wanted| wanted == *kind);
    let (code, kind) = codes(plan, members, m).into_iter().find(fits)?;
    Some(of_code(members, m, code, kind))
}

fn of_code(members: &[Member], m: usize, code: String, kind: ErrorKind) -> Failing {
    Failing {
        clear: kind != ErrorKind::Unknown || awake(Bug::OutlineUnclearIsClear),
        retried: is_retried(&members[m].call, &code, kind),
        taken_by: takers(members, m, &code),
        code,
    }
}

/// Returns the failure with a code of the engine's after which nothing is tried again.
pub(super) fn engine(members: &[Member], m: usize, code: &str, clear: bool) -> Failing {
    Failing { code: code.to_owned(), clear, retried: false, taken_by: takers(members, m, code) }
}

/// Returns every code with its kind, those first that are to stand for others.
fn codes(plan: &Plan, members: &[Member], m: usize) -> Vec<(String, ErrorKind)> {
    const ALL: [ErrorKind; 3] = [ErrorKind::Retryable, ErrorKind::Permanent, ErrorKind::Unknown];
    let call = &members[m].call;
    let mut codes = Vec::new();
    let contract = call.contract.as_deref();
    for (code, kind) in contract.iter().flat_map(|c| &c.errors) {
        match kind {
            Some(kind) => codes.push((code.to_string(), *kind)),
            None => codes.extend(ALL.map(|kind| (code.to_string(), kind))),
        }
    }
    codes.extend(UNCLEAR.map(|code| (code.to_owned(), ErrorKind::Unknown)));
    // Of a handler that is not known nothing is known.
    if contract.is_none_or(|c| c.any_error) {
        let is_engine = |code: &str| UNCLEAR.contains(&code) || NEVER_AGAIN.contains(&code) || code == "crashed";
        let mut open = named(members, m);
        open.retain(|code| !is_engine(code));
        open.insert(UNNAMED.to_owned());
        codes.extend(open.into_iter().flat_map(|code| ALL.map(|kind| (code.clone(), kind))));
    }
    codes.push(("bad_input".to_owned(), ErrorKind::Permanent));
    let service = call.service.as_ref().and_then(|name| plan.services.get(name));
    if service.is_some_and(|service| service.breaker.is_some()) {
        codes.push(("breaker_open".to_owned(), ErrorKind::Permanent));
    }
    codes.extend(["limit", "template"].map(|code| (code.to_owned(), ErrorKind::Permanent)));
    codes
}

/// Returns the codes that a policy about this member's errors names.
fn named(members: &[Member], m: usize) -> BTreeSet<String> {
    let retry = &members[m].call.retry;
    let of_fallbacks = members[m + 1..].iter().flat_map(|later| later.errors.iter().flatten());
    of_fallbacks.chain(retry.errors.iter().flatten()).chain(&retry.except).map(Code::to_string).collect()
}

fn takers(members: &[Member], m: usize, code: &str) -> Vec<usize> {
    let takes = |member: &Member| member.errors.as_ref().is_none_or(|codes| codes.iter().any(|known| *known == code));
    let takes = |later: &usize| takes(&members[*later]) || awake(Bug::OutlineAnyFallbackTakes);
    (m + 1..members.len()).filter(takes).collect()
}

fn is_retried(call: &Call, code: &str, kind: ErrorKind) -> bool {
    let allowed = match kind {
        ErrorKind::Retryable => true,
        ErrorKind::Permanent => false,
        ErrorKind::Unknown => call.repeatable(),
    };
    let retry = &call.retry;
    let listed = |codes: &[Code]| codes.iter().any(|known| *known == code);
    allowed
        && retry.attempts > 1
        && !NEVER_AGAIN.contains(&code)
        && !listed(&retry.except)
        && retry.errors.as_deref().is_none_or(listed)
}
