//! Which calls a workflow makes, and which policy of which place in the file each of them has.
//!
//! This is where `defaults` and `retries` are merged in, key by key. Every value keeps the JSON pointer of the place
//! where it was written, so that a finding can point at a default as well as at the step. No value is looked into.

use std::collections::HashSet;

use serde_json::Value;

use crate::dsl::document::{Backoff, Call, Compensate, Document, Fallback, Finally, Jitter, Policies, Retry, Step};
use crate::dsl::setting::{Condition, Count, Duration, Factor};
use crate::dsl::tree::join;
use crate::names::PRIMARY;

/// A value of the document and where it was written.
#[derive(Debug)]
pub(crate) struct At<'d, T: ?Sized> {
    /// The value.
    pub value: &'d T,
    /// Its JSON pointer.
    pub pointer: String,
}

impl<T: ?Sized> Clone for At<'_, T> {
    fn clone(&self) -> Self {
        Self { value: self.value, pointer: self.pointer.clone() }
    }
}

/// Why a handler is called, as far as it matters to what its templates can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// As a step's own call.
    Primary,
    /// As one of its fallbacks.
    Fallback,
    /// To ask whether a call was done.
    Confirm,
    /// To undo one.
    Compensate,
    /// At the end of the run.
    Finally,
}

/// A call of a handler with the policies that hold for it.
#[derive(Clone, Debug)]
pub(crate) struct CallAt<'d> {
    /// Why it is called.
    pub role: Role,
    /// The JSON pointer of the object that has `uses`.
    pub at: String,
    /// The handler.
    pub uses: &'d str,
    /// Its input.
    pub with: Option<At<'d, Value>>,
    /// The service it calls.
    pub service: Option<At<'d, str>>,
    /// The longest time of one attempt.
    pub timeout: Option<At<'d, Duration>>,
    /// When a failed attempt is repeated.
    pub retry: Option<At<'d, Retry>>,
}

/// One of the ways to a step's result.
#[derive(Clone, Debug)]
pub(crate) struct MemberAt<'d> {
    /// `primary` or the fallback's name.
    pub name: &'d str,
    /// The codes after which it is tried.
    pub errors: Option<At<'d, Vec<String>>>,
    /// The condition under which it is tried.
    pub when: Option<At<'d, Condition>>,
    /// The call.
    pub call: CallAt<'d>,
    /// The call that asks whether it was done.
    pub confirm: Option<CallAt<'d>>,
    /// The call that undoes it.
    pub compensate: Option<CallAt<'d>>,
    /// It is written that to leave its effect is harmless.
    pub harmless: bool,
}

impl<'d> MemberAt<'d> {
    /// Returns all calls of the member, in the order in which they can happen.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &CallAt<'d>> {
        std::iter::once(&self.call).chain(&self.confirm).chain(&self.compensate)
    }
}

/// A retry with the keys of the policy it `use`s merged in.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetryAt<'d> {
    pub attempts: Option<At<'d, Count>>,
    pub backoff: Option<Backoff>,
    pub delay: Option<At<'d, Duration>>,
    pub factor: Option<At<'d, Factor>>,
    pub max_delay: Option<At<'d, Duration>>,
    pub jitter: Option<Jitter>,
    pub errors: Option<At<'d, Vec<String>>>,
    pub except: Option<At<'d, Vec<String>>>,
    pub within: Option<At<'d, Duration>>,
}

/// The policies beside a `uses`, whatever kind of object it stands in.
struct Written<'d> {
    at: String,
    service: Option<&'d String>,
    timeout: Option<&'d Duration>,
    retry: Option<&'d Retry>,
    confirm: Option<&'d Call>,
    compensate: Option<&'d Compensate>,
}

/// Returns the members of a step that calls a handler: its own call and its fallbacks; none for other steps.
pub(crate) fn members<'d>(document: &'d Document, name: &str, step: &'d Step) -> Vec<MemberAt<'d>> {
    let at = join("/steps", name);
    let Some(uses) = &step.uses else { return Vec::new() };
    let own = Written {
        at: at.clone(),
        service: step.service.as_ref(),
        timeout: step.timeout.as_ref(),
        retry: step.retry.as_ref(),
        confirm: step.confirm.as_ref(),
        compensate: step.compensate.as_ref(),
    };
    let mut members = Vec::with_capacity(1 + step.fallback.len());
    members.push(member(document, Role::Primary, PRIMARY, uses, step.with.as_ref(), &own));
    for (i, fallback) in step.fallback.iter().enumerate() {
        members.push(fallback_member(document, format!("{at}/fallback/{i}"), fallback));
    }
    members
}

fn fallback_member<'d>(document: &'d Document, at: String, fallback: &'d Fallback) -> MemberAt<'d> {
    let own = Written {
        at: at.clone(),
        service: fallback.service.as_ref(),
        timeout: fallback.timeout.as_ref(),
        retry: fallback.retry.as_ref(),
        confirm: fallback.confirm.as_ref(),
        compensate: fallback.compensate.as_ref(),
    };
    let mut made = member(document, Role::Fallback, &fallback.name, &fallback.uses, fallback.with.as_ref(), &own);
    made.errors = place(fallback.errors.as_ref(), &at, "errors");
    made.when = place(fallback.when.as_ref(), &at, "when");
    made
}

/// Returns the call of a `finally` step.
pub(crate) fn finally_call<'d>(document: &'d Document, name: &str, step: &'d Finally) -> CallAt<'d> {
    let own = Written {
        at: join("/finally", name),
        service: step.service.as_ref(),
        timeout: step.timeout.as_ref(),
        retry: step.retry.as_ref(),
        confirm: None,
        compensate: None,
    };
    call(document, Role::Finally, &step.uses, step.with.as_ref(), &own)
}

/// Returns the `confirm` and `compensate` of the defaults of a handler, as its calls see them.
pub(crate) fn default_calls<'d>(document: &'d Document, handler: &str, policies: &'d Policies) -> Vec<CallAt<'d>> {
    let at = join("/defaults", handler);
    let confirm = policies.confirm.as_ref().map(|c| confirm_call(document, &at, c));
    let compensate = policies.compensate.as_ref().and_then(|c| compensate_call(document, &at, c));
    confirm.into_iter().chain(compensate).collect()
}

fn member<'d>(
    document: &'d Document,
    role: Role,
    name: &'d str,
    uses: &'d str,
    with: Option<&'d Value>,
    own: &Written<'d>,
) -> MemberAt<'d> {
    let defaults = document.defaults.get(uses);
    let default_at = || join("/defaults", uses);
    let confirm = match (own.confirm, defaults.and_then(|d| d.confirm.as_ref())) {
        (Some(confirm), _) => Some(confirm_call(document, &own.at, confirm)),
        (None, Some(confirm)) => Some(confirm_call(document, &default_at(), confirm)),
        (None, None) => None,
    };
    let compensate = match (own.compensate, defaults.and_then(|d| d.compensate.as_ref())) {
        (Some(compensate), _) => compensate_call(document, &own.at, compensate),
        (None, Some(compensate)) => compensate_call(document, &default_at(), compensate),
        (None, None) => None,
    };
    let written = own.compensate.or_else(|| defaults.and_then(|d| d.compensate.as_ref()));
    MemberAt {
        name,
        errors: None,
        when: None,
        call: call(document, role, uses, with, own),
        confirm,
        compensate,
        harmless: written.is_some_and(|compensate| compensate.none.is_some()),
    }
}

fn confirm_call<'d>(document: &'d Document, parent: &str, confirm: &'d Call) -> CallAt<'d> {
    let own = Written {
        at: join(parent, "confirm"),
        service: confirm.service.as_ref(),
        timeout: confirm.timeout.as_ref(),
        retry: confirm.retry.as_ref(),
        confirm: None,
        compensate: None,
    };
    call(document, Role::Confirm, &confirm.uses, confirm.with.as_ref(), &own)
}

fn compensate_call<'d>(document: &'d Document, parent: &str, compensate: &'d Compensate) -> Option<CallAt<'d>> {
    let own = Written {
        at: join(parent, "compensate"),
        service: compensate.service.as_ref(),
        timeout: compensate.timeout.as_ref(),
        retry: compensate.retry.as_ref(),
        confirm: None,
        compensate: None,
    };
    let uses = compensate.uses.as_ref()?;
    Some(call(document, Role::Compensate, uses, compensate.with.as_ref(), &own))
}

fn call<'d>(
    document: &'d Document,
    role: Role,
    uses: &'d str,
    with: Option<&'d Value>,
    own: &Written<'d>,
) -> CallAt<'d> {
    let defaults = document.defaults.get(uses);
    let default_at = || join("/defaults", uses);
    fn pick<'d, T: ?Sized>(
        own: Option<&'d T>,
        own_at: &str,
        default: Option<&'d T>,
        default_at: impl Fn() -> String,
        key: &str,
    ) -> Option<At<'d, T>> {
        place(own, own_at, key).or_else(|| default.map(|value| At { value, pointer: join(&default_at(), key) }))
    }
    CallAt {
        role,
        uses,
        with: place(with, &own.at, "with"),
        service: pick(
            own.service.map(String::as_str),
            &own.at,
            defaults.and_then(|d| d.service.as_deref()),
            default_at,
            "service",
        ),
        timeout: pick(own.timeout, &own.at, defaults.and_then(|d| d.timeout.as_ref()), default_at, "timeout"),
        retry: pick(own.retry, &own.at, defaults.and_then(|d| d.retry.as_ref()), default_at, "retry"),
        at: own.at.clone(),
    }
}

fn place<'d, T: ?Sized>(value: Option<&'d T>, at: &str, key: &str) -> Option<At<'d, T>> {
    value.map(|value| At { value, pointer: join(at, key) })
}

/// Merges the named policies that a retry starts from: the keys beside `use` win. A name that does not exist, or that
/// was met before, ends the search; `check` reports both.
pub(crate) fn retry<'d>(document: &'d Document, written: &At<'d, Retry>) -> RetryAt<'d> {
    let mut merged = RetryAt::default();
    let mut met = HashSet::new();
    let mut next = Some(written.clone());
    while let Some(At { value, pointer }) = next {
        fill(&mut merged.attempts, value.attempts.as_ref(), &pointer, "attempts");
        fill(&mut merged.delay, value.delay.as_ref(), &pointer, "delay");
        fill(&mut merged.factor, value.factor.as_ref(), &pointer, "factor");
        fill(&mut merged.max_delay, value.max_delay.as_ref(), &pointer, "max_delay");
        fill(&mut merged.errors, value.errors.as_ref(), &pointer, "errors");
        fill(&mut merged.except, value.except.as_ref(), &pointer, "except");
        fill(&mut merged.within, value.within.as_ref(), &pointer, "within");
        merged.backoff = merged.backoff.or(value.backoff);
        merged.jitter = merged.jitter.or(value.jitter);
        next = value.use_.as_deref().filter(|name| met.insert(*name)).and_then(|name| {
            let value = document.retries.get(name)?;
            Some(At { value, pointer: join("/retries", name) })
        });
    }
    merged
}

fn fill<'d, T>(slot: &mut Option<At<'d, T>>, value: Option<&'d T>, at: &str, key: &str) {
    if slot.is_none() {
        *slot = place(value, at, key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{finally_call, members, retry};
    use crate::dsl::document::Document;

    fn document() -> Document {
        serde_json::from_value(json!({
            "flowrun": 1, "name": "t",
            "services": { "gateway": {} },
            "retries": {
                "slow": { "delay": "5s", "attempts": 9 },
                "gateway": { "use": "slow", "attempts": 3 },
                "loop": { "use": "loop", "attempts": 2 }
            },
            "defaults": {
                "payment.charge": {
                    "service": "gateway", "timeout": "30s", "retry": { "use": "gateway" },
                    "confirm": { "uses": "payment.lookup" },
                    "compensate": { "uses": "payment.refund", "timeout": "9s" }
                },
                "payment.refund": { "service": "gateway", "timeout": "1s", "retry": { "attempts": 8 } }
            },
            "steps": {
                "charge": {
                    "uses": "payment.charge", "timeout": "10s",
                    "fallback": [
                        { "name": "other", "uses": "payment.charge", "compensate": { "none": "why not" } },
                        { "name": "plain", "uses": "core.pass" }
                    ]
                }
            },
            "finally": { "audit": { "uses": "payment.refund", "timeout": "2s" } }
        }))
        .expect("a document")
    }

    #[test]
    fn defaults_fill_what_the_step_leaves_out() {
        let document = document();
        let members = members(&document, "charge", &document.steps["charge"]);
        let [own, other, plain] = members.as_slice() else { panic!("three members") };

        assert_eq!(own.call.timeout.as_ref().expect("timeout").pointer, "/steps/charge/timeout");
        assert_eq!(own.call.service.as_ref().expect("service").pointer, "/defaults/payment.charge/service");
        let undo = own.compensate.as_ref().expect("an undo");
        assert_eq!(undo.at, "/defaults/payment.charge/compensate");
        assert_eq!(undo.timeout.as_ref().expect("timeout").pointer, "/defaults/payment.charge/compensate/timeout");
        assert_eq!(undo.retry.as_ref().expect("retry").pointer, "/defaults/payment.refund/retry");
        assert!(own.confirm.is_some());

        assert!(other.compensate.is_none(), "`none` keeps the default undo away");
        assert_eq!(other.call.timeout.as_ref().expect("timeout").value.0, "30s");
        assert!(plain.call.service.is_none() && plain.confirm.is_none(), "a fallback inherits nothing of its step");

        let audit = finally_call(&document, "audit", &document.finally["audit"]);
        assert_eq!(audit.timeout.as_ref().expect("timeout").value.0, "2s");
        assert_eq!(audit.service.as_ref().expect("service").value, "gateway");
    }

    #[test]
    fn the_keys_beside_use_win_and_a_circle_ends() {
        let document = document();
        let members = members(&document, "charge", &document.steps["charge"]);
        let merged = retry(&document, members[0].call.retry.as_ref().expect("retry"));
        assert_eq!(merged.attempts.as_ref().expect("attempts").pointer, "/retries/gateway/attempts");
        assert_eq!(merged.delay.as_ref().expect("delay").pointer, "/retries/slow/delay");

        let own = super::At { value: &document.retries["loop"], pointer: "/retries/loop".to_owned() };
        assert_eq!(retry(&document, &own).attempts.expect("attempts").value.0, 2);
    }
}
