//! Faults that are injected around handlers: what `--faults FILE` and the `faults` of a scenario say.
//!
//! This module reads the rules and finds the one for a call; the engine carries it out. A rule never reaches inside a
//! handler, so it works on any of them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::dsl::tree::read_small;
use crate::failure::ErrorKind;
use crate::handlers::Duration;
use crate::limits::Limits;
use crate::machine::event::CallKind;
use crate::names::{Code, HandlerName, MemberName, PRIMARY, StepName};
use crate::plan::node::{Action as StepAction, Plan};
use crate::suggest::nearest;

/// The rules of a run, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(transparent)]
pub struct Faults(Vec<Fault>);

impl<'de> Deserialize<'de> for Faults {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&Value::deserialize(deserializer)?).map_err(|problems| serde::de::Error::custom(problems.join("; ")))
    }
}

/// A file of faults.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "flowrun faults")]
pub struct FaultsFile {
    /// The rules; the first that fits a call is carried out.
    pub faults: Faults,
}

/// A rule: which calls, and what happens to them.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Calls of this step.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub step: Option<StepName>,
    /// Calls of this handler.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub handler: Option<HandlerName>,
    /// Only calls of this member of the step: `primary`, or the name of a fallback.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub member: Option<MemberName>,
    /// Only the item with this index, from 0.
    #[serde(default)]
    pub item: Option<u32>,
    /// Which kind of call; `forward` without it.
    #[serde(default)]
    pub call: Kind,
    /// Which attempts: `2`, `1-2` or `3-`; all of them without it.
    #[serde(default)]
    pub attempts: Attempts,
    /// Only calls that begin at least so long after the start of their run.
    #[serde(default)]
    pub from: Option<Duration>,
    /// Only calls that begin before so much time has passed since the start of their run: an outage that ends.
    #[serde(default)]
    pub until: Option<Duration>,
    /// What happens.
    #[serde(rename = "do")]
    pub action: Action,
}

/// Why a handler is called, as a rule says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To do the step.
    #[default]
    Forward,
    /// To undo it.
    Undo,
    /// To ask whether it was done.
    Confirm,
    /// To do a `finally` step.
    Finally,
}

impl From<CallKind> for Kind {
    fn from(kind: CallKind) -> Self {
        match kind {
            CallKind::Forward => Self::Forward,
            CallKind::Confirm => Self::Confirm,
            CallKind::Undo => Self::Undo,
            CallKind::Finally => Self::Finally,
        }
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Undo => "undo",
            Self::Confirm => "confirm",
            Self::Finally => "finally",
        }
    }
}

/// A range of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    first: u32,
    last: u32,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { first: 1, last: u32::MAX }
    }
}

impl Attempts {
    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n > 0);
        let (first, last) = match text.split_once('-') {
            None => (number(text)?, number(text)?),
            Some((first, "")) => (number(first)?, u32::MAX),
            Some((first, last)) => (number(first)?, number(last)?),
        };
        (first <= last).then_some(Self { first, last })
    }
}

impl<'de> Deserialize<'de> for Attempts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = match &value {
            Value::Number(number) => Self::parse(&number.to_string()),
            Value::String(text) => Self::parse(text),
            _ => None,
        };
        read.ok_or_else(|| {
            serde::de::Error::custom(format!(
                "attempts: {value} is neither a number such as 2 nor a range such as 1-2; the first attempt is 1"
            ))
        })
    }
}

impl JsonSchema for Attempts {
    fn schema_name() -> Cow<'static, str> {
        "Attempts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "minimum": 1,
            "pattern": "^[1-9][0-9]*(-([1-9][0-9]*)?)?$",
            "examples": [2, "1-2", "3-"]
        })
    }
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The handler is not called; this error is its answer.
    Error {
        /// The code.
        code: Code,
        /// What is known about the effect.
        kind: ErrorKind,
        /// The message.
        message: String,
    },
    /// The handler is not called, and no answer comes.
    Hang,
    /// The handler is called, and no answer comes.
    ActThenHang,
    /// The process dies before the handler is called.
    KillBefore,
    /// The process dies when the handler has acted, before anything of it is recorded.
    KillAfter,
    /// The handler is called twice with the same key and input, and the second answer counts. A call that fails is not
    /// repeated.
    Repeat,
    /// The handler is called after this time.
    Delay(std::time::Duration),
}

/// The words that are a whole action.
const WORDS: [(&str, Action); 5] = [
    ("hang", Action::Hang),
    ("act_then_hang", Action::ActThenHang),
    ("kill_before", Action::KillBefore),
    ("kill_after", Action::KillAfter),
    ("repeat", Action::Repeat),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorAction {
    error: Code,
    kind: ErrorKind,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelayAction {
    delay: Duration,
}

impl Action {
    fn read(value: &Value) -> Result<Self, String> {
        const FORMS: &str =
            "{ error: CODE, kind: KIND }, hang, act_then_hang, kill_before, kill_after, repeat or { delay: 2s }";
        match value {
            Value::String(word) => {
                let known = WORDS.iter().find(|(name, _)| name == word).map(|(_, action)| action.clone());
                known.ok_or_else(|| match nearest(word, WORDS.iter().map(|(name, _)| *name)) {
                    Some(name) => format!("do: there is no `{word}`; did you mean `{name}`?"),
                    None => format!("do: there is no `{word}`; write {FORMS}"),
                })
            }
            Value::Object(map) if map.contains_key("error") => {
                let ErrorAction { error: code, kind, message } =
                    ErrorAction::deserialize(value).map_err(|e| format!("do: {e}"))?;
                let message = message.unwrap_or_else(|| "injected by a fault".into());
                Ok(Self::Error { code, kind, message })
            }
            Value::Object(map) if map.contains_key("delay") => {
                DelayAction::deserialize(value).map(|d| Self::Delay(d.delay.0)).map_err(|e| format!("do: {e}"))
            }
            _ => Err(format!("do: write {FORMS}")),
        }
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Action {
    fn schema_name() -> Cow<'static, str> {
        "Action".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let kind = generator.subschema_for::<ErrorKind>();
        let delay = generator.subschema_for::<Duration>();
        json_schema!({
            "description": "`{ error: CODE, kind: KIND }`, `hang`, `act_then_hang`, `kill_before`, `kill_after`, `repeat` or `{ delay: 2s }`.",
            "oneOf": [
                { "enum": WORDS.map(|(name, _)| name) },
                {
                    "type": "object",
                    "properties": { "error": { "type": "string" }, "kind": kind, "message": { "type": "string" } },
                    "required": ["error", "kind"],
                    "additionalProperties": false
                },
                {
                    "type": "object",
                    "properties": { "delay": delay },
                    "required": ["delay"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

/// What a rule can ask about a call.
#[derive(Clone, Copy, Debug)]
pub struct CallFacts<'a> {
    /// The step.
    pub step: &'a StepName,
    /// The handler.
    pub handler: &'a HandlerName,
    /// The member; `primary` in a `finally` step.
    pub member: &'a MemberName,
    /// The index of the item.
    pub item: Option<u32>,
    /// Why the handler is called.
    pub kind: CallKind,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The idempotency key that the handler gets.
    pub key: &'a str,
    /// How long after the start of its run the call begins.
    pub elapsed: std::time::Duration,
}

impl Fault {
    fn fits(&self, call: &CallFacts<'_>) -> bool {
        self.step.as_ref().is_none_or(|step| step == call.step)
            && self.handler.as_ref().is_none_or(|handler| handler == call.handler)
            && self.member.as_ref().is_none_or(|member| member == call.member)
            && self.item.is_none_or(|item| Some(item) == call.item)
            && self.call == Kind::from(call.kind)
            && (self.attempts.first..=self.attempts.last).contains(&call.attempt)
            && self.from.is_none_or(|from| from.0 <= call.elapsed)
            && self.until.is_none_or(|until| call.elapsed < until.0)
    }
}

impl Faults {
    /// Reads the text of a file of faults.
    ///
    /// # Errors
    /// What is wrong with it; every rule that makes no sense is named.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, Vec<String>> {
        Self::of_file(read_small(text, limits)?)
    }

    fn of_file(value: Value) -> Result<Self, Vec<String>> {
        let Value::Object(mut map) = value else {
            return Err(vec!["a file of faults has one key, `faults`, with a list of rules".into()]);
        };
        let rules = map.shift_remove("faults");
        let mut problems: Vec<String> =
            map.keys().map(|key| format!("unknown key `{key}`; a file of faults has one key, `faults`")).collect();
        let read = match &rules {
            Some(rules) => Self::read(rules),
            None => Err(vec!["the key `faults` is missing".into()]),
        };
        match read {
            Ok(faults) if problems.is_empty() => Ok(faults),
            Ok(_) => Err(problems),
            Err(more) => {
                problems.extend(more);
                Err(problems)
            }
        }
    }

    /// Reads a list of rules, such as the `faults` of a scenario.
    ///
    /// # Errors
    /// Every rule that makes no sense, with its place in the list.
    pub fn read(rules: &Value) -> Result<Self, Vec<String>> {
        let Value::Array(rules) = rules else {
            return Err(vec!["`faults` is a list of rules: `- { step: charge, do: hang }`".into()]);
        };
        let (mut faults, mut problems) = (Vec::new(), Vec::new());
        for (number, rule) in rules.iter().enumerate() {
            match Fault::deserialize(rule) {
                Ok(fault) if fault.step.is_none() && fault.handler.is_none() => {
                    problems.push(format!("faults[{number}]: says neither `step` nor `handler`"));
                }
                Ok(fault) => faults.push(fault),
                Err(e) => problems.push(format!("faults[{number}]: {e}")),
            }
        }
        if problems.is_empty() { Ok(Self(faults)) } else { Err(problems) }
    }

    /// Returns these rules, asked before those of `rest`.
    #[must_use]
    pub fn before(rules: Vec<Fault>, rest: &Self) -> Self {
        Self(rules.into_iter().chain(rest.0.iter().cloned()).collect())
    }

    /// Tells whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what happens to a call; nothing if no rule is about it.
    #[must_use]
    pub fn find(&self, call: &CallFacts<'_>) -> Option<&Action> {
        self.0.iter().find(|fault| fault.fits(call)).map(|fault| &fault.action)
    }

    /// Says which rules no call of `plan` can ever meet, and why.
    #[must_use]
    pub fn check(&self, plan: &Plan) -> Vec<String> {
        let calls = calls(plan);
        let problems = self.0.iter().enumerate().filter_map(|(number, fault)| {
            let why = fault.misses(&calls)?;
            Some(format!("faults[{number}]: {why}"))
        });
        problems.collect()
    }
}

/// A call that a run of a plan may make.
struct Possible<'a> {
    step: &'a StepName,
    member: &'a str,
    handler: &'a HandlerName,
    kind: Kind,
    items: bool,
}

fn calls(plan: &Plan) -> Vec<Possible<'_>> {
    let mut calls = Vec::new();
    for step in &plan.steps {
        let StepAction::Call(members) = &step.action else { continue };
        for member in members {
            let of_kinds = [
                (Some(&member.call), Kind::Forward),
                (member.confirm.as_ref(), Kind::Confirm),
                (member.compensate.as_ref(), Kind::Undo),
            ];
            for (call, kind) in of_kinds {
                let Some(call) = call else { continue };
                calls.push(Possible {
                    step: &step.name,
                    member: member.name.as_str(),
                    handler: &call.handler,
                    kind,
                    items: step.foreach.is_some(),
                });
            }
        }
    }
    for step in &plan.finally {
        let handler = &step.call.handler;
        calls.push(Possible { step: &step.name, member: PRIMARY, handler, kind: Kind::Finally, items: false });
    }
    calls
}

impl Fault {
    /// Says why none of `calls` is meant, by the first key that leaves none over.
    fn misses(&self, calls: &[Possible<'_>]) -> Option<String> {
        let mut left: Vec<&Possible<'_>> = calls.iter().collect();
        if let Some(step) = &self.step {
            left.retain(|c| c.step == step);
            if left.is_empty() {
                return Some(unknown(
                    "step that calls a handler",
                    step.as_str(),
                    calls.iter().map(|c| c.step.as_str()),
                ));
            }
        }
        if let Some(member) = &self.member {
            let names: BTreeSet<&str> = left.iter().map(|c| c.member).collect();
            left.retain(|c| c.member == member.as_str());
            if left.is_empty() {
                return Some(unknown("member", member.as_str(), names));
            }
        }
        if let Some(handler) = &self.handler {
            let names: BTreeSet<&str> = left.iter().map(|c| c.handler.as_str()).collect();
            left.retain(|c| c.handler == handler);
            if left.is_empty() {
                return Some(unknown("handler in use", handler.as_str(), names));
            }
        }
        let kinds: Vec<&str> = left.iter().map(|c| c.kind.word()).collect();
        left.retain(|c| c.kind == self.call);
        if left.is_empty() {
            return Some(format!("no `{}` call of it is ever made; write `call: {}`", self.call.word(), kinds[0]));
        }
        if self.item.is_some() && left.iter().all(|c| !c.items) {
            return Some("`item` is for steps with `foreach`".into());
        }
        None
    }
}

fn unknown<'a>(what: &str, name: &str, valid: impl IntoIterator<Item = &'a str>) -> String {
    let valid: BTreeSet<&str> = valid.into_iter().collect();
    match nearest(name, valid.iter().copied()) {
        Some(near) => format!("there is no {what} called `{name}`; did you mean `{near}`?"),
        None => {
            let names: Vec<&str> = valid.into_iter().collect();
            format!("there is no {what} called `{name}`; there are {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use indexmap::IndexMap;
    use petgraph::graph::DiGraph;
    use serde_json::json;

    use super::*;
    use crate::plan::node::{Call, FinallyStep, Member, OnError, Retry, Step};
    use crate::template::Template;

    fn parse(text: &str) -> Faults {
        Faults::parse(text, &Limits::default()).expect("the rules make sense")
    }

    fn problems(text: &str) -> Vec<String> {
        Faults::parse(text, &Limits::default()).expect_err("there is a mistake in it")
    }

    fn find<'a>(
        faults: &'a Faults,
        call: (&str, &str, &str),
        item: Option<u32>,
        kind: CallKind,
        attempt: u32,
    ) -> Option<&'a Action> {
        let (step, handler, member) = (call.0.into(), call.1.into(), call.2.into());
        let elapsed = std::time::Duration::from_secs(60);
        faults.find(&CallFacts {
            step: &step,
            handler: &handler,
            member: &member,
            item,
            kind,
            attempt,
            key: "k",
            elapsed,
        })
    }

    const CHARGE: (&str, &str, &str) = ("charge", "payment.charge", PRIMARY);

    #[test]
    fn outages_begin_and_end() {
        // The call comes a minute after the start of its run.
        let hangs = |when: &str| {
            let faults = parse(&format!("faults: [{{ step: charge, {when}, do: hang }}]"));
            find(&faults, CHARGE, None, CallKind::Forward, 1).is_some()
        };
        assert!(hangs("until: 61s") && hangs("from: 60s") && hangs("from: 30s, until: 2m"));
        assert!(!hangs("until: 60s") && !hangs("from: 61s"));
    }

    #[test]
    fn the_rules_of_the_manual_are_read() {
        let faults = parse(
            "faults:
  - step: charge
    member: primary
    attempts: 1-2
    do: { error: payment.unavailable, kind: retryable }
  - { handler: payment.refund, call: undo, do: hang }
  - { step: pack, item: 3, attempts: 2, do: { delay: 2s } }
  - { step: label, attempts: 3-, do: act_then_hang }
  - { step: a, do: kill_before }
  - { step: b, do: kill_after }
",
        );
        let forward = CallKind::Forward;
        let error = Action::Error {
            code: "payment.unavailable".into(),
            kind: ErrorKind::Retryable,
            message: "injected by a fault".into(),
        };
        assert_eq!(find(&faults, CHARGE, None, forward, 1), Some(&error));
        assert_eq!(find(&faults, CHARGE, None, forward, 2), Some(&error));
        assert_eq!(find(&faults, CHARGE, None, forward, 3), None);
        assert_eq!(find(&faults, CHARGE, None, CallKind::Undo, 1), None);
        assert_eq!(find(&faults, ("charge", "payment.charge", "alternative"), None, forward, 1), None);
        let refund = ("settle", "payment.refund", PRIMARY);
        assert_eq!(find(&faults, refund, None, CallKind::Undo, 9), Some(&Action::Hang));
        assert_eq!(find(&faults, refund, None, forward, 1), None);
        let pack = ("pack", "x.y", PRIMARY);
        let delay = Action::Delay(std::time::Duration::from_secs(2));
        assert_eq!(find(&faults, pack, Some(3), forward, 2), Some(&delay));
        assert_eq!(find(&faults, pack, Some(3), forward, 1), None);
        assert_eq!(find(&faults, pack, Some(2), forward, 2), None);
        let label = ("label", "x.y", PRIMARY);
        assert_eq!(find(&faults, label, None, forward, 2), None);
        assert_eq!(find(&faults, label, None, forward, 300), Some(&Action::ActThenHang));
        assert_eq!(find(&faults, ("a", "x.y", PRIMARY), None, forward, 1), Some(&Action::KillBefore));
        assert_eq!(find(&faults, ("b", "x.y", PRIMARY), None, forward, 1), Some(&Action::KillAfter));
    }

    #[test]
    fn the_first_rule_that_fits_is_carried_out() {
        let faults =
            parse("faults: [{ step: charge, attempts: 1, do: hang }, { handler: payment.charge, do: kill_after }]");
        assert_eq!(find(&faults, CHARGE, None, CallKind::Forward, 1), Some(&Action::Hang));
        assert_eq!(find(&faults, CHARGE, None, CallKind::Forward, 2), Some(&Action::KillAfter));
    }

    #[test]
    fn what_makes_no_sense_is_said_with_its_place() {
        for (text, said) in [
            ("[]", "a file of faults has one key"),
            ("faults: {}", "`faults` is a list of rules"),
            ("fault: []", "unknown key `fault`"),
            ("faults: [{ do: hang }]", "faults[0]: says neither `step` nor `handler`"),
            ("faults: [{ stop: a, do: hang }]", "faults[0]: unknown field `stop`, expected one of `step`"),
            ("faults: [{ step: a, step: b, do: hang }]", "given again"),
            ("faults: [{ step: a }]", "faults[0]: missing field `do`"),
            ("faults: [{ step: a, do: hangs }]", "faults[0]: do: there is no `hangs`; did you mean `hang`?"),
            ("faults: [{ step: a, do: explode }]", "faults[0]: do: there is no `explode`; write {"),
            ("faults: [{ step: a, do: { error: a.b } }]", "faults[0]: do: missing field `kind`"),
            (
                "faults: [{ step: a, do: { error: a.b, kind: fatal } }]",
                "unknown variant `fatal`, expected one of `retryable`",
            ),
            ("faults: [{ step: a, do: { delay: 2 } }]", "faults[0]: do: "),
            ("faults: [{ step: a, do: { delay: 2s, error: a.b, kind: unknown } }]", "unknown field `delay`"),
            ("faults: [{ step: a, attempts: 0, do: hang }]", "faults[0]: attempts: 0 is neither"),
            ("faults: [{ step: a, attempts: 2-1, do: hang }]", "attempts: \"2-1\" is neither"),
            ("faults: [{ step: a, attempts: 1.5, do: hang }]", "attempts: 1.5 is neither"),
            (
                "faults: [{ step: a, call: backward, do: hang }]",
                "unknown variant `backward`, expected one of `forward`",
            ),
        ] {
            let found = problems(text);
            assert!(found[0].contains(said), "{text}: {found:?}");
        }
        let two = problems("faults: [{ step: a }, { do: hang }]");
        assert_eq!(two.len(), 2, "{two:?}");
    }

    fn call(handler: &str) -> Call {
        Call {
            handler: handler.into(),
            contract: None,
            with: Template::default(),
            service: None,
            timeout: std::time::Duration::from_secs(1),
            retry: Retry::default(),
        }
    }

    fn plan() -> Plan {
        let member = |name: &str, undo: Option<&str>| Member {
            name: name.into(),
            errors: None,
            when: None,
            call: call("payment.charge"),
            confirm: None,
            compensate: undo.map(call),
        };
        let step = Step {
            name: "charge".into(),
            description: None,
            needs: Vec::new(),
            dependents: Vec::new(),
            when: None,
            on_skip: None,
            on_error: OnError::Compensate,
            pivot: false,
            foreach: None,
            action: StepAction::Call(vec![member(PRIMARY, Some("payment.refund")), member("queue", None)]),
        };
        Plan {
            name: "test".into(),
            description: None,
            steps: vec![step],
            index: HashMap::new(),
            graph: DiGraph::new(),
            order: Vec::new(),
            finally: vec![FinallyStep { name: "audit".into(), call: call("audit.record") }],
            services: IndexMap::new(),
            deadline: None,
            config: Arc::new(json!({})),
            secrets: Vec::new(),
            input_schema: None,
            output: None,
        }
    }

    #[test]
    fn a_rule_that_no_call_can_meet_is_reported() {
        let check = |text: &str| parse(text).check(&plan());
        for good in [
            "faults: [{ step: charge, do: hang }]",
            "faults: [{ step: charge, member: queue, do: hang }]",
            "faults: [{ step: charge, call: undo, do: hang }]",
            "faults: [{ handler: payment.refund, call: undo, do: hang }]",
            "faults: [{ step: audit, call: finally, do: hang }]",
        ] {
            assert!(check(good).is_empty(), "{good}: {:?}", check(good));
        }
        for (text, said) in [
            (
                "faults: [{ step: chrage, do: hang }]",
                "faults[0]: there is no step that calls a handler called `chrage`; did you mean `charge`?",
            ),
            (
                "faults: [{ step: charge, member: que, do: hang }]",
                "faults[0]: there is no member called `que`; there are primary, queue",
            ),
            (
                "faults: [{ handler: payment.chage, do: hang }]",
                "faults[0]: there is no handler in use called `payment.chage`; did you mean `payment.charge`?",
            ),
            (
                "faults: [{ handler: payment.refund, do: hang }]",
                "faults[0]: no `forward` call of it is ever made; write `call: undo`",
            ),
            (
                "faults: [{ step: audit, do: hang }]",
                "faults[0]: no `forward` call of it is ever made; write `call: finally`",
            ),
            (
                "faults: [{ step: charge, member: queue, call: undo, do: hang }]",
                "faults[0]: no `undo` call of it is ever made; write `call: forward`",
            ),
            ("faults: [{ step: charge, item: 1, do: hang }]", "faults[0]: `item` is for steps with `foreach`"),
        ] {
            assert_eq!(check(text), [said]);
        }
    }
}
