//! Small workflows by chance, as text, with handlers that differ in everything that a handler declares.
//!
//! They go the whole way from the text over the checks and the plan to the sketch, so that rehearsals of them hold all of
//! it against the engine.

use std::fmt::Write;

use serde_json::Value;

use super::roles::Dice;
use crate::handlers::{Confirmation, Registry, StepCtx, StepError};

async fn value(_: StepCtx, input: Value) -> Result<Value, StepError> {
    Ok(input)
}

async fn answer(_: StepCtx, _: Value) -> Result<Confirmation<Value>, StepError> {
    Ok(Confirmation::Unknown)
}

/// Each effect, and what its undoing is called.
const EFFECTS: [(&str, &str); 3] = [("paid", "repaid"), ("booked", "freed"), ("sent", "recalled")];

/// Returns handlers of every kind; those of undos are named by what they do.
pub(super) fn registry() -> Registry {
    let mut registry = Registry::new()
        .handler("look.up", value)
        .errors(["x.down", "x.no"])
        .handler("ask.late", answer)
        .handler("ask.blocks", answer)
        .blocks_late();
    for (effect, undone) in EFFECTS {
        for repeat in ["once", "safe", "keyed"] {
            registry = registry.handler(&format!("do.{effect}.{repeat}"), value).effect(effect);
            registry = match repeat {
                "safe" => registry.safe(),
                "keyed" => registry.keyed(),
                _ => registry,
            };
            registry = registry.retryable(["x.down"]).permanent(["x.no"]);
        }
        for absent in ["ok", "error"] {
            for late in ["late", "blocks"] {
                registry =
                    registry.handler(&format!("undo.{effect}.{absent}.{late}"), value).undoes(effect, undone).keyed();
                if absent == "ok" {
                    registry = registry.if_absent_ok();
                }
                if late == "blocks" {
                    registry = registry.blocks_late();
                }
            }
        }
    }
    registry
}

/// Makes the text of the workflow of a seed.
pub(super) fn workflow(seed: u64) -> String {
    Maker { dice: Dice::new(seed), text: format!("flowrun: 1\nname: random-{seed}\nsteps:\n"), kinds: Vec::new() }
        .workflow()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Wait,
    Call,
    Items,
}

struct Maker {
    dice: Dice,
    text: String,
    kinds: Vec<Kind>,
}

impl Maker {
    fn line(&mut self, text: &str) {
        writeln!(self.text, "{text}").expect("a text can be written to");
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[self.dice.below(from.len())]
    }

    fn workflow(mut self) -> String {
        if self.dice.in_100(25) {
            self.text = self.text.replace("steps:\n", "deadline: 2h\nsteps:\n");
        }
        let steps = 2 + self.dice.below(2);
        for step in 0..steps {
            self.step(step);
        }
        if self.dice.in_100(40) {
            self.line("invariants:");
            for _ in 0..=self.dice.below(2) {
                let formula = self.formula(steps);
                self.line(&format!("  - never: {formula}"));
            }
        }
        if self.dice.in_100(40) {
            let step = self.dice.below(steps);
            let read = self.read(step);
            self.line(&format!("output: {{ result: \"{{{{ {read} }}}}\" }}"));
        }
        self.text
    }

    fn step(&mut self, step: usize) {
        self.line(&format!("  s{step}:"));
        let needs: Vec<usize> = (0..step).filter(|_| self.dice.in_100(60)).collect();
        if !needs.is_empty() {
            let names: Vec<String> = needs.iter().map(|need| format!("s{need}")).collect();
            self.line(&format!("    needs: [{}]", names.join(", ")));
            let on_skip = self.pick(&["run", "skip"]);
            self.line(&format!("    on_skip: {on_skip}"));
        }
        if self.dice.in_100(35) {
            let when = self.condition(&needs);
            self.line(&format!("    when: \"{when}\""));
        }
        match self.dice.below(10) {
            0 | 1 => self.line("    on_error: continue"),
            2 => self.line("    on_error: park"),
            _ => {}
        }
        if self.dice.in_100(10) {
            self.line("    pivot: true");
        }
        if self.dice.in_100(15) {
            self.kinds.push(Kind::Wait);
            let wait = self.pick(&["for: 5m", "signal: go", "{ signal: go, timeout: 5m }"]);
            let wait = if wait.starts_with('{') { wait.to_owned() } else { format!("{{ {wait} }}") };
            self.line(&format!("    wait: {wait}"));
            return;
        }
        let items = self.dice.in_100(12);
        self.kinds.push(if items { Kind::Items } else { Kind::Call });
        if items {
            self.line("    foreach: input.list");
            let at_once = 1 + self.dice.below(2);
            self.line(&format!("    concurrency: {at_once}"));
        }
        self.call("    ", &needs, items);
        if self.dice.in_100(30) {
            self.line("    fallback:");
            self.line("      - name: other");
            match self.dice.below(4) {
                0 => self.line("        errors: [x.no]"),
                1 => self.line("        errors: [x.down, timeout]"),
                _ => {}
            }
            if self.dice.in_100(25) {
                let when = self.condition(&needs);
                self.line(&format!("        when: \"{when}\""));
            }
            self.call("        ", &needs, items);
        }
    }

    fn call(&mut self, margin: &str, needs: &[usize], items: bool) {
        let effect = self.dice.below(4);
        let Some((effect, _)) = EFFECTS.get(effect) else {
            self.line(&format!("{margin}uses: look.up"));
            self.with(margin, needs);
            return;
        };
        let repeat = self.pick(&["once", "safe", "keyed", "keyed"]);
        self.line(&format!("{margin}uses: do.{effect}.{repeat}"));
        self.with(margin, needs);
        match self.dice.below(5) {
            0 => self.line(&format!("{margin}retry: {{ attempts: 2 }}")),
            1 => self.line(&format!("{margin}retry: {{ attempts: 2, errors: [x.down] }}")),
            _ => {}
        }
        if self.dice.in_100(25) {
            let ask = self.pick(&["ask.late", "ask.blocks"]);
            self.line(&format!("{margin}confirm: {{ uses: {ask}, with: \"{{{{ key }}}}\" }}"));
        }
        match self.dice.below(10) {
            0..=6 => {
                let absent = self.pick(&["ok", "ok", "error"]);
                let late = self.pick(&["late", "blocks", "blocks"]);
                let with = self.pick(&[
                    "key",
                    "key",
                    "key",
                    "output",
                    "output | default(key)",
                    "error.code",
                    "error.code if error is defined else key",
                ]);
                // What an item returned is known by the item alone.
                let with = if items && with.starts_with("output |") { "key" } else { with };
                let undo = format!("{{ uses: undo.{effect}.{absent}.{late}, with: \"{{{{ {with} }}}}\" }}");
                self.line(&format!("{margin}compensate: {undo}"));
            }
            7 => self.line(&format!("{margin}compensate: {{ none: it does no harm }}")),
            _ => {}
        }
    }

    fn with(&mut self, margin: &str, needs: &[usize]) {
        if let (false, true) = (needs.is_empty(), self.dice.in_100(40)) {
            let step = needs[self.dice.below(needs.len())];
            let read = self.read(step);
            self.line(&format!("{margin}with: \"{{{{ {read} }}}}\""));
        }
    }

    fn read(&mut self, step: usize) -> String {
        let fields: &[&str] = &["output", "output", "error.code", "output | default(none)"];
        format!("steps.s{step}.{}", self.pick(fields))
    }

    fn condition(&mut self, needs: &[usize]) -> String {
        let free = ["input.a > 1", "input.a <= 1", "input.b", "not input.b"];
        if needs.is_empty() || self.dice.in_100(50) {
            return self.pick(&free).to_owned();
        }
        let step = needs[self.dice.below(needs.len())];
        let mut known = vec!["output is defined", "error is undefined", "status == 'failed'", "status != 'skipped'"];
        if self.kinds[step] == Kind::Call {
            known.push("via == 'other'");
        }
        let known = format!("steps.s{step}.{}", self.pick(&known));
        match self.dice.below(3) {
            0 => format!("{known} and {}", self.pick(&free)),
            1 => format!("{} or {known}", self.pick(&free)),
            _ => known,
        }
    }

    fn formula(&mut self, steps: usize) -> String {
        // Only what can happen may be named.
        let mut things = Vec::new();
        for (effect, undone) in EFFECTS {
            things.extend(self.text.contains(&format!("do.{effect}.")).then_some(effect));
            things.extend(self.text.contains(&format!("undo.{effect}.")).then_some(undone));
        }
        let mut fact = || match self.dice.below(3) {
            1 | 2 if !things.is_empty() => things[self.dice.below(things.len())].to_owned(),
            _ => format!("s{}.{}", self.dice.below(steps), ["ok", "failed", "unknown", "skipped"][self.dice.below(4)]),
        };
        let (one, other) = (fact(), fact());
        format!("{one} and not {other}")
    }
}
