//! Workflows, outcomes, deaths and wishes by chance: made from a number, written as YAML, and made smaller.

use std::fmt::Write;
use std::time::Duration;

use serde_json::json;

use super::S;
use crate::lab::Act;

/// Chance that is the same every time.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let n = self.roll(from.len() as u64);
        from[usize::try_from(n).unwrap()]
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// A step: its name, and its keys with their values.
#[derive(Clone, Debug)]
pub struct Made {
    pub name: String,
    needs: Vec<String>,
    keys: Vec<(&'static str, String)>,
    acts: Vec<(String, Vec<Act>)>,
}

/// What a process lives through: it is up for a time, is asked something, is up for another time, and ends somehow.
#[derive(Clone, Debug)]
pub struct Life {
    pub before: Duration,
    pub wish: u64,
    pub about: u64,
    pub after: Duration,
    pub ends: u64,
    /// The process dies when so many commits are durable.
    pub dies_after: Option<u64>,
}

/// A workflow, what its handlers do, and what happens to the processes that run it.
#[derive(Clone, Debug)]
pub struct Storm {
    pub seed: u64,
    top: Vec<(&'static str, String)>,
    pub steps: Vec<Made>,
    finally: Vec<(String, Vec<Act>)>,
    pub first: Duration,
    pub lives: Vec<Life>,
}

fn outcomes(dice: &mut Dice) -> Vec<Act> {
    let outcome = |dice: &mut Dice| match dice.roll(10) {
        0 => Act::Retryable("a.down"),
        1 => Act::Permanent("a.no"),
        2 => Act::Unknown("a.lost"),
        3 => Act::Hang,
        4 => Act::Slow(3 * S),
        5 => Act::SlowFailure(4 * S, "a.no"),
        6 => dice.pick(&["panic", "late", "stop"]).to_owned().as_str().into(),
        _ => Act::Return(json!(1)),
    };
    (0..1 + dice.roll(4)).map(|_| outcome(dice)).collect()
}

impl From<&str> for Act {
    fn from(word: &str) -> Self {
        match word {
            "panic" => Self::Panic,
            // Longer than any timeout here.
            "late" => Self::Slow(12 * S),
            _ => Self::UntilCancelled,
        }
    }
}

fn answers(dice: &mut Dice) -> Vec<Act> {
    let answer = |dice: &mut Dice| match dice.roll(6) {
        0 => Act::Done(json!(2)),
        1 => Act::NotDone,
        2 => Act::Hang,
        3 => Act::Permanent("a.no"),
        4 => Act::Retryable("a.down"),
        _ => Act::CannotSay,
    };
    (0..1 + dice.roll(2)).map(|_| answer(dice)).collect()
}

fn retry(dice: &mut Dice) -> String {
    let mut keys = format!("attempts: {}, delay: {}", 2 + dice.roll(3), dice.pick(&["500ms", "2s", "5s"]));
    keys += dice.pick(&["", ", backoff: fixed", ", backoff: linear", ", factor: 3, max_delay: 6s"]);
    keys += dice.pick(&["", ", jitter: none"]);
    keys += dice.pick(&["", "", ", within: 9s"]);
    keys += dice.pick(&["", "", ", errors: [a.down, timeout]", ", except: [a.lost]"]);
    format!("{{ {keys} }}")
}

fn service(dice: &mut Dice) -> &'static str {
    if dice.one_in(2) { ", service: gate" } else { "" }
}

fn policies(dice: &mut Dice, handler: &str) -> Vec<(&'static str, String)> {
    let mut keys = Vec::new();
    if dice.one_in(2) {
        keys.push(("retry", retry(dice)));
    }
    if dice.one_in(2) {
        keys.push(("service", "gate".to_owned()));
    }
    if handler != "read" {
        match dice.roll(5) {
            0..=2 => {
                let again = if dice.one_in(3) { ", retry: { attempts: 2, delay: 1s }" } else { "" };
                let undo = dice.pick(&["undo", "undo", "undo.once"]);
                keys.push(("compensate", format!("{{ uses: {undo}, timeout: 8s{}{again} }}", service(dice))));
            }
            3 => keys.push(("compensate", "{ none: it does no harm }".to_owned())),
            _ => {}
        }
    }
    if dice.one_in(3) {
        let again = if dice.one_in(2) { ", retry: { attempts: 2, delay: 1s }" } else { "" };
        let lookup = dice.pick(&["lookup", "lookup.weak"]);
        keys.push(("confirm", format!("{{ uses: {lookup}, timeout: 6s{}{again} }}", service(dice))));
    }
    keys
}

fn fallbacks(dice: &mut Dice) -> String {
    let made = (0..1 + dice.roll(2)).map(|n| {
        let handler = ["other.keyed", "act.once"][usize::try_from(n).unwrap()];
        let mut text = format!("{{ name: f{n}, uses: {handler}, timeout: 7s");
        text += dice.pick(&["", "", ", errors: [a.down, a.lost, timeout]", ", errors: [a.no]"]);
        text += dice.pick(&["", "", ", when: 'true'", ", when: 'false'", ", when: input.maybe"]);
        for (key, value) in policies(dice, handler) {
            write!(text, ", {key}: {value}").unwrap();
        }
        text + " }"
    });
    let made: Vec<String> = made.collect();
    format!("[{}]", made.join(", "))
}

fn step(dice: &mut Dice, n: u64) -> Made {
    let name = format!("s{n}");
    let needs: Vec<String> = (0..n).filter(|_| dice.one_in(3)).map(|m| format!("s{m}")).collect();
    let mut keys = Vec::new();
    if !needs.is_empty() {
        keys.push(("on_skip", dice.pick(&["run", "run", "skip"]).to_owned()));
    }
    keys.push(("on_error", dice.pick(&["compensate", "compensate", "continue", "park"]).to_owned()));
    if dice.one_in(8) {
        keys.push(("pivot", "true".to_owned()));
    }
    if dice.one_in(5) {
        keys.push(("when", dice.pick(&["'false'", "'true'", "input.maybe", "input.missing"]).to_owned()));
    }
    let mut acts = Vec::new();
    match dice.roll(9) {
        0 => keys.push(("wait", "{ for: 5s }".to_owned())),
        1 => keys.push(("wait", "{ until: \"'2027-01-15T08:00:20Z'\" }".to_owned())),
        2 => keys.push(("wait", dice.pick(&["{ signal: go, timeout: 20s }", "{ signal: go }"]).to_owned())),
        _ => {
            let handler = dice.pick(&["act.keyed", "act.keyed", "act.once", "act.safe", "read"]);
            let items = if dice.one_in(3) { 1 + dice.roll(4) } else { 0 };
            if items > 0 {
                let list: Vec<String> = (0..items).map(|i| i.to_string()).collect();
                keys.push(("foreach", format!("'[{}]'", list.join(", "))));
                keys.push(("concurrency", (1 + dice.roll(3)).to_string()));
            }
            keys.push(("uses", handler.to_owned()));
            keys.push(("timeout", "10s".to_owned()));
            if dice.one_in(12) {
                keys.push(("with", "'{{ input.missing }}'".to_owned()));
            }
            keys.extend(policies(dice, handler));
            if dice.one_in(3) {
                keys.push(("fallback", fallbacks(dice)));
            }
            let places: Vec<String> =
                if items > 0 { (0..items).map(|i| format!("{name}[{i}]")).collect() } else { vec![name.clone()] };
            for place in places {
                let mut handlers = vec![handler, "other.keyed", "act.once", "undo", "undo.once"];
                handlers.dedup();
                acts.extend(handlers.iter().map(|handler| (format!("{handler} {place}"), outcomes(dice))));
                acts.extend(["lookup", "lookup.weak"].map(|handler| (format!("{handler} {place}"), answers(dice))));
            }
        }
    }
    Made { name, needs, keys, acts }
}

impl Storm {
    /// Makes a storm from a number.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let gate = "{ gate: { breaker: { failures: 2, within: 60s, cooldown: 30s }, concurrency: 2 } }";
        let mut top = vec![("services", gate.to_owned())];
        if dice.one_in(3) {
            top.push(("deadline", dice.pick(&["40s", "2m"]).to_owned()));
        }
        if dice.one_in(12) {
            top.push(("output", "{ bad: '{{ input.missing }}' }".to_owned()));
        }
        let steps: Vec<Made> = (0..3 + dice.roll(5)).map(|n| step(&mut dice, n)).collect();
        let finally = (0..dice.roll(3)).map(|n| (format!("end{n}"), outcomes(&mut dice))).collect();
        let first = Duration::from_millis(dice.roll(15_000));
        let life = |dice: &mut Dice| Life {
            before: Duration::from_millis(dice.roll(12_000)),
            wish: dice.roll(14),
            about: dice.roll(50),
            after: Duration::from_millis(dice.roll(12_000)),
            ends: dice.roll(3),
            dies_after: if dice.one_in(2) { Some(1 + dice.roll(9)) } else { None },
        };
        let lives = (0..6).map(|_| life(&mut dice)).collect();
        let storm = Self { seed, top, steps, finally, first, lives };
        // Each has luck of its own, so that the storms beside them stay what they were.
        let mut dice = Dice(seed.wrapping_mul(0xD134_2543_DE82_EF95) | 1);
        match seed % 8 {
            3 => storm.deadly(&mut dice),
            7 => storm.slow(&mut dice),
            _ => storm,
        }
    }

    /// Lets processes die soon after they took the run up, several in a row, most of them before anything ended; the
    /// first one dies amid the first attempts.
    fn deadly(mut self, dice: &mut Dice) -> Self {
        self.first = Duration::from_millis(dice.roll(3_000));
        for life in &mut self.lives {
            life.before = Duration::from_millis(dice.roll(4_000));
            life.dies_after = if dice.one_in(6) { None } else { Some(1 + dice.roll(2)) };
            life.ends = 2;
        }
        for (_, acts) in self.steps.iter_mut().flat_map(|step| &mut step.acts) {
            acts.insert(0, dice.pick(&["late", "stop"]).into());
            // What is begun again is not done at once either.
            acts.insert(1, Act::Slow(3 * S));
        }
        self
    }

    /// Lets attempts take long, fail late and answer later still, with a short pause before the next one, and lets
    /// processes live: what ends in a drain and what is answered too late is met only so.
    fn slow(mut self, dice: &mut Dice) -> Self {
        for step in &mut self.steps {
            let Some((_, handler)) = step.keys.iter().find(|(key, _)| *key == "uses").cloned() else { continue };
            step.keys.retain(|(key, _)| *key != "retry");
            let delay = dice.pick(&["500ms", "1s", "6s"]);
            step.keys.push(("retry", format!("{{ attempts: 3, delay: {delay}, jitter: none }}")));
            for (_, acts) in step.acts.iter_mut().filter(|(what, _)| what.starts_with(&format!("{handler} "))) {
                let first = match dice.roll(8) {
                    0 => Act::SlowFailure(4 * S, "a.no"),
                    1 | 2 => Act::Hang,
                    3 => Act::Retryable("a.down"),
                    4 => Act::Slow(3 * S),
                    _ => "late".into(),
                };
                acts.splice(0..0, [first, Act::Slow(3 * S)]);
            }
        }
        self.lives.truncate(2);
        for life in &mut self.lives {
            (life.dies_after, life.ends) = (None, 1);
        }
        self
    }

    /// Writes the workflow.
    pub fn yaml(&self) -> String {
        let mut body = String::new();
        for (key, value) in &self.top {
            writeln!(body, "{key}: {value}").unwrap();
        }
        body += "steps:\n";
        for step in &self.steps {
            let mut keys: Vec<String> = Vec::new();
            if !step.needs.is_empty() {
                keys.push(format!("needs: [{}]", step.needs.join(", ")));
            }
            keys.extend(step.keys.iter().map(|(key, value)| format!("{key}: {value}")));
            writeln!(body, "  {}: {{ {} }}", step.name, keys.join(", ")).unwrap();
        }
        if !self.finally.is_empty() {
            body += "finally:\n";
            for (name, _) in &self.finally {
                writeln!(body, "  {name}: {{ uses: act.safe, timeout: 10s, service: gate }}").unwrap();
            }
        }
        if !self.top.iter().any(|(key, _)| *key == "output") {
            body += "output:\n  none: 0\n";
            for step in self.signalled() {
                writeln!(body, "  {step}: '{{{{ steps.{step}.output | default(none) }}}}'").unwrap();
            }
        }
        body
    }

    /// Returns the steps that wait for a signal.
    pub fn signalled(&self) -> impl Iterator<Item = &str> {
        let waits = |step: &&Made| step.keys.iter().any(|(key, value)| *key == "wait" && value.contains("signal"));
        self.steps.iter().filter(waits).map(|step| step.name.as_str())
    }

    /// Returns what handlers do.
    pub fn acts(&self) -> impl Iterator<Item = (String, Vec<Act>)> + '_ {
        let ends = self.finally.iter().map(|(name, acts)| (format!("act.safe {name}"), acts.clone()));
        self.steps.iter().flat_map(|step| step.acts.clone()).chain(ends)
    }

    /// Returns every storm that is a little smaller.
    pub fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut without = |change: &dyn Fn(&mut Self)| {
            let mut less = self.clone();
            change(&mut less);
            all.push(less);
        };
        for n in 0..self.lives.len() {
            without(&|storm| {
                storm.lives.remove(n);
            });
            if self.lives[n].dies_after.is_some() {
                without(&|storm| storm.lives[n].dies_after = None);
            }
            if self.lives[n].wish < 14 {
                without(&|storm| storm.lives[n].wish = 14);
            }
        }
        for n in (0..self.steps.len()).rev().filter(|_| self.steps.len() > 1) {
            without(&|storm| {
                let gone = storm.steps.remove(n).name;
                for step in &mut storm.steps {
                    step.needs.retain(|need| *need != gone);
                    if step.needs.is_empty() {
                        step.keys.retain(|(key, _)| *key != "on_skip");
                    }
                }
            });
        }
        for n in 0..self.steps.len() {
            const KEPT: [&str; 6] = ["uses", "wait", "on_skip", "foreach", "concurrency", "timeout"];
            for k in (0..self.steps[n].keys.len()).filter(|k| !KEPT.contains(&self.steps[n].keys[*k].0)) {
                without(&|storm| drop(storm.steps[n].keys.remove(k)));
            }
            for k in 0..self.steps[n].acts.len() {
                without(&|storm| drop(storm.steps[n].acts.remove(k)));
            }
        }
        for n in 0..self.finally.len() {
            without(&|storm| drop(storm.finally.remove(n)));
        }
        for n in (0..self.top.len()).filter(|n| self.top[*n].0 != "services") {
            without(&|storm| drop(storm.top.remove(n)));
        }
        all
    }
}
