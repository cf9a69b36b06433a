//! A single edit that removes a flaw and adds none.
//!
//! Candidates come from what the flaw is about; each is made, checked and searched like any workflow, so that what is
//! offered was proved. What no single edit can mend gets none.

use std::collections::BTreeSet;

use serde_json::Value;

use super::edit::{Edit, add_entry, with_default};
use super::{Flaw, Proof, span};
use crate::check;
use crate::definition::{Definition, Loaded};
use crate::diag::Severity;
use crate::handlers::contract::{Contract, Contracts};
use crate::limits::Limits;
use crate::names::HandlerName;
use crate::plan::{self, Plan};
use crate::verify::findings::{Found, MemberIx, Missing, Problem, Reader};
use crate::verify::sketch::{Aspect, OnError, Sketch};
use crate::verify::sweep::sweep;

/// Candidates that are tried for one flaw.
const CANDIDATES_MAX: usize = 24;

/// An edit that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// A change of the workflow's text.
    Text {
        /// The first line that changes, counted from 1.
        line: usize,
        /// The lines that go.
        old: Vec<String>,
        /// The lines that come in their place.
        new: Vec<String>,
    },
    /// A declaration of a handler, in Rust, if its service keeps it.
    Contract {
        /// The handler.
        handler: HandlerName,
        /// What is added to its registration.
        add: &'static str,
        /// What the service has to do for it.
        means: &'static str,
    },
}

enum Change {
    Text(Edit),
    Contract(HandlerName, &'static str, &'static str, fn(&mut Contract)),
}

/// Looks for a single edit that removes a flaw and adds none.
#[must_use]
pub fn repair(proof: &Proof, flaw: &Flaw<'_>, loaded: &Loaded, contracts: &Contracts, limits: &Limits) -> Option<Fix> {
    let found = proof.found.as_ref().ok()?;
    // What is offered is not to be the next thing to be warned of.
    let known = check::check(loaded, contracts).into_iter().map(|finding| finding.message).collect();
    let smith = Smith { proof, loaded, contracts, known };
    let changes = smith.candidates(flaw.problem);
    changes.into_iter().take(CANDIDATES_MAX).find_map(|change| {
        let after = smith.after(&change, limits)?;
        let gone = !after.problems.keys().any(|problem| same(problem, flaw.problem));
        let fewer = after.problems.keys().all(|problem| found.problems.keys().any(|known| same(known, problem)));
        (gone && fewer).then(|| smith.fix(change))
    })
}

/// Tells whether two problems are the same although an edit may have moved a read in its list.
fn same(a: &Problem, b: &Problem) -> bool {
    match (a, b) {
        (Problem::Missing(a), Problem::Missing(b)) => (a.reader, a.step, a.what) == (b.reader, b.step, b.what),
        _ => a == b,
    }
}

struct Smith<'a> {
    proof: &'a Proof,
    loaded: &'a Loaded,
    contracts: &'a Contracts,
    /// What the checks say of the workflow as it is.
    known: BTreeSet<String>,
}

impl Smith<'_> {
    fn sketch(&self) -> &Sketch {
        &self.proof.sketch
    }

    fn text(&self) -> &str {
        &self.loaded.definition.text
    }

    fn candidates(&self, problem: &Problem) -> Vec<Change> {
        match problem {
            Problem::LeftByCompleted(m) | Problem::LeftByUndone(m) => self.undo_it(*m),
            Problem::Missing(missing) => self.read_it_safely(*missing),
            Problem::WaitsForEver(step) => {
                self.entry(&format!("{}/wait", self.step_at(*step)), "timeout: 24h").into_iter().collect()
            }
            Problem::PivotUndone((step, _)) => self.say(*step, "on_error: park").into_iter().collect(),
            Problem::Twice(_) | Problem::UndoOrder(..) => Vec::new(),
            // An invariant speaks of several steps; whatever mends one of them may mend it.
            Problem::Invariant(_) => (0..)
                .zip(&self.sketch().steps)
                .flat_map(|(s, step)| {
                    let left = (0..).zip(step.members()).filter(|(_, member)| member.undo.is_none());
                    let undo = left.flat_map(move |(m, _)| self.undo_it((s, m)));
                    let stop = (step.on_error == OnError::Continue)
                        .then(|| self.replace_value(&format!("{}/on_error", self.step_at(s)), "compensate"))
                        .flatten();
                    undo.chain(stop)
                })
                .collect(),
        }
    }

    /// Ways to have a member undone, also when its request comes late.
    fn undo_it(&self, m: MemberIx) -> Vec<Change> {
        let Some(sketched) = self.sketch().member(m) else { return Vec::new() };
        let at = self.member_at(m);
        let mut changes = Vec::new();
        let effect = sketched.effect.and_then(|effect| self.sketch().effects.get(effect));
        if sketched.undo.is_none()
            && let Some(effect) = effect
        {
            let undoes = |contract: &&Contract| contract.undoes.as_ref().is_some_and(|undoes| undoes.effect == *effect);
            for contract in self.contracts.values().map(|contract| &**contract).filter(undoes) {
                changes.extend(self.call(&at, "compensate", contract));
            }
        }
        if sketched.confirm.is_none() {
            for contract in self.contracts.values().filter(|contract| contract.confirms && contract.blocks_late) {
                changes.extend(self.call(&at, "confirm", contract));
            }
        }
        if let Some(undo) = &sketched.undo
            && undo.undoes
            && !undo.blocks_late
        {
            changes.push(Change::Contract(
                undo.handler.as_str().into(),
                ".blocks_late()",
                "its service refuses the key of what was undone from then on",
                |contract| contract.blocks_late = true,
            ));
        }
        changes
    }

    /// Undoes a member by another handler, whose input is known before there is an answer.
    fn undo_by_key(&self, m: MemberIx) -> Vec<Change> {
        let at = self.member_at(m);
        let effect = self.sketch().member(m).and_then(|member| self.sketch().effects.get(member.effect?));
        let undoes = |contract: &&Contract| {
            contract.undoes.as_ref().is_some_and(|undoes| Some(&undoes.effect) == effect) && contract.blocks_late
        };
        let tree = &self.loaded.parsed.tree;
        let pointer = format!("{at}/compensate");
        if !tree.has(&pointer) {
            return Vec::new();
        }
        let range = tree.extent(&pointer).range();
        let others = self.contracts.values().map(|contract| &**contract).filter(undoes);
        let calls = others.filter_map(|contract| self.call_text(&at, contract));
        calls.map(|with| Change::Text(Edit { range: range.clone(), with })).collect()
    }

    /// Adds a call of a handler.
    fn call(&self, at: &str, as_: &str, contract: &Contract) -> Option<Change> {
        self.entry(at, &format!("{as_}: {}", self.call_text(at, contract)?))
    }

    /// Writes a call of a handler whose input can be made of the key and of what the member is given.
    fn call_text(&self, at: &str, contract: &Contract) -> Option<String> {
        let with = self.loaded.parsed.tree.value().pointer(&format!("{at}/with"));
        let required = contract.input.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut entries = Vec::new();
        for name in required.iter().filter_map(Value::as_str) {
            let value = match with.and_then(|with| with.get(name)) {
                _ if name == "key" || name == "idempotency_key" => "\"{{ key }}\"".to_owned(),
                Some(Value::String(text)) if !text.contains(['"', '\n', '\\']) => format!("\"{text}\""),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
                _ => return None,
            };
            entries.push(format!("{name}: {value}"));
        }
        let with = if entries.is_empty() { String::new() } else { format!(", with: {{ {} }}", entries.join(", ")) };
        Some(format!("{{ uses: {}{with} }}", contract.name))
    }

    fn read_it_safely(&self, missing: Missing) -> Vec<Change> {
        let Some(read) = super::reads(self.sketch(), missing.reader).get(missing.read) else { return Vec::new() };
        if let (Aspect::OwnOutput, Reader::Undo(m)) = (missing.what, missing.reader) {
            return self.undo_by_key(m);
        }
        let name = span(&self.loaded.parsed.tree, &read.site).range();
        let values: &[&str] = match missing.reader {
            Reader::When(_) | Reader::FallbackWhen(_) => &["false", "none"],
            Reader::Items(_) => &["[]"],
            _ => &["none", "''", "0", "[]", "{}"],
        };
        values.iter().filter_map(|value| with_default(self.text(), name.clone(), value)).map(Change::Text).collect()
    }

    fn say(&self, step: usize, entry: &str) -> Option<Change> {
        let at = self.step_at(step);
        let (key, value) = entry.split_once(": ")?;
        let pointer = format!("{at}/{key}");
        if self.loaded.parsed.tree.has(&pointer) { self.replace_value(&pointer, value) } else { self.entry(&at, entry) }
    }

    fn entry(&self, at: &str, entry: &str) -> Option<Change> {
        add_entry(self.text(), &self.loaded.parsed.tree, at, entry).map(Change::Text)
    }

    fn replace_value(&self, pointer: &str, value: &str) -> Option<Change> {
        let tree = &self.loaded.parsed.tree;
        let scalar = tree.value().pointer(pointer).is_some_and(|value| !value.is_object() && !value.is_array());
        let range = tree.extent(pointer).range();
        scalar.then(|| Change::Text(Edit { range, with: value.to_owned() }))
    }

    fn step_at(&self, step: usize) -> String {
        format!("/steps/{}", self.sketch().steps[step].name)
    }

    fn member_at(&self, (step, m): MemberIx) -> String {
        if m == 0 { self.step_at(step) } else { format!("{}/fallback/{}", self.step_at(step), m - 1) }
    }

    /// Makes a change, and returns what can happen after it; nothing if the workflow is not valid any more.
    fn after(&self, change: &Change, limits: &Limits) -> Option<Found> {
        let (loaded, contracts);
        let (loaded, contracts) = match change {
            Change::Text(edit) => {
                let text = edit.apply(self.text());
                let definition = Definition { text, ..self.loaded.definition.clone() };
                let (reopened, findings) = definition.reopen(limits);
                loaded = reopened.filter(|_| findings.iter().all(|f| f.severity != Severity::Error))?;
                (&loaded, self.contracts)
            }
            Change::Contract(handler, _, _, declare) => {
                let mut declared = self.contracts.clone();
                let mut contract = Contract::clone(declared.get(handler)?);
                declare(&mut contract);
                declared.insert(handler.clone(), contract.into());
                contracts = declared;
                (self.loaded, &contracts)
            }
        };
        if !check::check(loaded, contracts).iter().all(|finding| self.known.contains(&finding.message)) {
            return None;
        }
        let plan: Plan = plan::compile(loaded, contracts).ok()?;
        sweep(&Sketch::of(&plan, &loaded.parsed.document), limits.states).ok()
    }

    fn fix(&self, change: Change) -> Fix {
        match change {
            Change::Text(edit) => {
                let (line, old, new) = edit.lines(self.text());
                Fix::Text { line, old, new }
            }
            Change::Contract(handler, add, means, _) => Fix::Contract { handler, add, means },
        }
    }
}
