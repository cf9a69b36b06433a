use std::collections::BTreeMap;

use super::{random, rehearse, rehearse_by_chance};
use crate::check;
use crate::definition::{Definition, Loaded, Overrides};
use crate::diag::Severity;
use crate::handlers::Registry;
use crate::limits::Limits;
use crate::plan::{self, Plan};
use crate::scenario::story::{Kept, Story, file_text};
use crate::scenario::{TestOptions, run_files};
use crate::verify::findings::{Attempt, Found, Missing, Problem, Reader, StepCourse, Stop};
use crate::verify::sketch::{Aspect, Sketch};
use crate::verify::sweep::sweep;

/// How many states of one workflow are looked at; larger workflows are left out.
const STATES: u64 = 15_000;

/// How many workflows are made.
fn many(otherwise: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("FLOWRUN_SEED").unwrap_or(0);
    first..first + number("FLOWRUN_REHEARSALS").unwrap_or(otherwise)
}

/// Tells whether somebody wants other workflows than usual, of which less is known.
fn is_chosen() -> bool {
    ["FLOWRUN_SEED", "FLOWRUN_REHEARSALS"].iter().any(|name| std::env::var_os(name).is_some())
}

struct Small {
    text: String,
    loaded: Loaded,
    plan: Plan,
    sketch: Sketch,
}

impl Small {
    fn of(text: String, registry: &Registry) -> Result<Self, String> {
        let definition = Definition {
            path: "small.yaml".to_owned(),
            text: text.clone(),
            files: indexmap::IndexMap::new(),
            config: serde_json::json!({}),
        };
        let (loaded, mut findings) = definition.reopen(&Limits::default());
        let contracts = registry.contracts();
        findings.extend(loaded.iter().flat_map(|loaded| check::check(loaded, &contracts)));
        findings.retain(|finding| finding.severity == Severity::Error);
        if let Some(first) = findings.first() {
            return Err(format!("{}\n{text}", first.message));
        }
        let loaded = loaded.ok_or("it cannot be read")?;
        let plan = plan::compile(&loaded, &contracts).map_err(|findings| format!("{findings:#?}"))?;
        let sketch = Sketch::of(&plan, &loaded.parsed.document);
        Ok(Self { text, loaded, plan, sketch })
    }

    /// Plays the course of every problem. Returns those that do not show.
    fn unshown(&self, found: &Found) -> Vec<String> {
        let document = &self.loaded.parsed.document;
        let mut unshown = Vec::new();
        for (problem, course) in &found.problems {
            let told = |what: String| format!("{problem:?}: {what}\n{course:#?}\n{}", self.text);
            match rehearse(&self.plan, document, &self.sketch, course) {
                Err(why) => unshown.push(told(why.to_string())),
                Ok(played) if played.shows(problem) => {}
                Ok(played) => unshown.push(told(format!("{played:#?}"))),
            }
        }
        unshown
    }
}

#[test]
fn every_random_workflow_is_valid() {
    for seed in 0..300 {
        if let Err(why) = Small::of(random::workflow(seed), &random::registry()) {
            panic!("seed {seed}: {why}");
        }
    }
}

#[test]
fn what_the_sweep_finds_happens_on_the_engine() {
    let (mut problems, mut wrong) = (0, BTreeMap::new());
    for seed in many(25) {
        let small = Small::of(random::workflow(seed), &random::registry()).expect("it is valid");
        let Ok(found) = sweep(&small.sketch, STATES) else { continue };
        problems += found.problems.len();
        let unshown = small.unshown(&found);
        if !unshown.is_empty() {
            wrong.insert(seed, unshown);
        }
    }
    println!("{problems} problems were played");
    let all: Vec<String> =
        wrong.iter().flat_map(|(seed, told)| told.iter().map(move |told| format!("seed {seed}: {told}"))).collect();
    assert!(all.is_empty(), "{} of {problems} problems do not show:\n{}", all.len(), all.join("\n"));
    assert!(problems > 20 || is_chosen(), "only {problems} problems were found");
}

#[test]
fn a_pivot_that_is_undone_when_it_is_passed_over_is_seen() {
    let text = "flowrun: 1
name: passed-over
steps:
  s0:
    pivot: true
    on_error: continue
    uses: do.paid.keyed
    compensate: { uses: undo.paid.ok.blocks, with: \"{{ key }}\" }
";
    let (small, found) = searched(text);
    assert!(found.problems.contains_key(&Problem::PivotUndone((0, 0))), "{:?}", found.problems);
    assert_eq!(small.unshown(&found), Vec::<String>::new());
}

/// Reads a workflow, and searches it.
fn searched(text: &str) -> (Small, Found) {
    let small = Small::of(text.to_owned(), &random::registry()).expect("it is valid");
    let found = sweep(&small.sketch, STATES).expect("it is small");
    (small, found)
}

/// Plays the course of a problem that the sweep must find, and that has to show.
fn shown(text: &str, problem: &Problem) -> super::Rehearsed {
    let (small, found) = searched(text);
    let course = found.problems.get(problem).unwrap_or_else(|| panic!("{:?}", found.problems.keys()));
    let played = rehearse(&small.plan, &small.loaded.parsed.document, &small.sketch, course).expect("it can be played");
    assert!(played.shows(problem), "{played:#?}");
    played
}

#[test]
fn a_pivot_that_is_undone_because_no_fallback_is_wanted_is_seen() {
    let text = "flowrun: 1
name: unwanted
steps:
  s0:
    pivot: true
    on_error: continue
    uses: do.booked.once
    compensate: { uses: undo.booked.ok.late, with: \"{{ key }}\" }
    fallback:
      - { name: other, when: \"input.b\", uses: look.up }
";
    let problem = Problem::PivotUndone((0, 0));
    shown(text, &problem);
    // An undo that fails leaves no room for a fallback.
    let failed = text.replace("    on_error: continue\n", "").replace("undo.booked.ok.late", "undo.booked.error.late");
    let small = Small::of(failed, &random::registry()).expect("it is valid");
    let document = &small.loaded.parsed.document;
    for seed in 0..40 {
        let played = rehearse_by_chance(&small.plan, document, &small.sketch, seed).expect("it can be played");
        assert!(!played.problems.contains(&problem), "{played:#?}");
    }
}

#[test]
fn what_stops_the_run_as_soon_as_it_may_begin_waits_for_the_rest() {
    let text = "flowrun: 1
name: at-once
steps:
  s0: { uses: look.up }
  s1:
    uses: do.paid.once
    compensate: { uses: undo.paid.ok.blocks, with: \"{{ key }}\" }
    fallback:
      - name: other
        uses: do.sent.keyed
        compensate: { uses: undo.sent.error.blocks, with: \"{{ error.code }}\" }
  s2: { needs: [s0], uses: do.booked.keyed, with: \"{{ steps.s0.error.code }}\", compensate: { none: it does no harm } }
";
    let own_error = Missing { reader: Reader::Undo((1, 1)), read: 0, step: 1, what: Aspect::OwnError };
    let problem = Problem::Missing(own_error);
    shown(text, &problem);
}

#[test]
fn a_signal_that_two_wait_for_comes_after_one_has_missed_it() {
    let text = "flowrun: 1
name: shared
steps:
  s0: { on_error: continue, wait: { signal: go, timeout: 5m } }
  s1: { wait: { signal: go } }
output: { result: \"{{ steps.s0.output }}\" }
";
    let missed = Missing { reader: Reader::Output, read: 0, step: 0, what: Aspect::Output };
    let problem = Problem::Missing(missed);
    shown(text, &problem);
}

#[test]
fn beside_a_step_that_waits_for_ever_the_others_get_what_they_wait_for() {
    let text = "flowrun: 1
name: beside
steps:
  s0: { wait: { signal: go } }
  s1: { wait: { for: 5m } }
  s2: { needs: [s1], wait: { signal: on, timeout: 5m } }
  s3: { needs: [s2], wait: { for: 5m } }
";
    let problem = Problem::WaitsForEver(0);
    assert_eq!(shown(text, &problem).steps["s3"], "succeeded");
}

#[test]
fn a_story_has_no_death_where_an_unclear_answer_does_as_well() {
    let text = "flowrun: 1
name: no-death
steps:
  s0:
    uses: do.sent.safe
    retry: { attempts: 2 }
    compensate: { uses: undo.sent.ok.late, with: \"{{ key }}\" }
  s1: { pivot: true, uses: do.paid.keyed, compensate: { none: it does no harm } }
";
    let problem = Problem::LeftByUndone((0, 0));
    let (_, found) = searched(text);
    let attempts = found.problems[&problem].steps.values().flat_map(StepCourse::calls).flat_map(|(_, members)| members);
    let attempts: Vec<_> = attempts.flat_map(|member| &member.attempts).collect();
    assert!(!attempts.iter().any(|attempt| matches!(attempt, Attempt::CutOff(_))), "{attempts:?}");
    // The pivot is under way too, and a death would leave it unknown.
    shown(text, &problem);
}

#[test]
fn an_attempt_can_be_lost_while_others_go_on() {
    let text = "flowrun: 1
name: lost
steps:
  s0:
    pivot: true
    uses: do.paid.keyed
    compensate: { uses: undo.paid.ok.blocks, with: \"{{ key }}\" }
  s1:
    uses: do.sent.safe
    compensate: { uses: undo.sent.error.late, with: \"{{ key }}\" }
";
    // The second copy of what was sent lands after the undo. Were the pivot's attempt cut off too, it would not be known to
    // have failed, and nothing were undone.
    let played = shown(text, &Problem::LeftByUndone((1, 0)));
    assert_eq!(played.steps["s0"], "failed", "{played:#?}");
}

#[test]
fn a_wait_is_over_in_the_moment_in_which_the_run_stops() {
    let nothing_of = |step: &str| format!("not {step}.ok and not {step}.failed and not {step}.unknown");
    let of = |first: &str, deadline: &str, other: &str, never: &str| {
        format!(
            "flowrun: 1
name: last
{deadline}
steps:
  s0: {first}
  s1: {{ needs: [s0], uses: do.sent.keyed, compensate: {{ none: it does no harm }} }}
  s2: {other}
invariants:
  - never: s0.ok and {never} and {}
",
            nothing_of("s1")
        )
    };
    let (time, signal) = ("{ wait: { for: 5m } }", "{ wait: { signal: go } }");
    let (call, missed) = ("{ uses: look.up }", "{ wait: { signal: on, timeout: 5m } }");
    for first in [time, signal] {
        shown(&of(first, "", call, "s2.failed"), &Problem::Invariant(0));
        shown(
            &of(first, "", "{ uses: do.paid.once, compensate: { none: it does no harm } }", "s2.unknown"),
            &Problem::Invariant(0),
        );
        shown(&of(first, "", call, "s2.ok"), &Problem::Invariant(0));
        shown(&of(first, "deadline: 2h", call, "s2.ok"), &Problem::Invariant(0));
    }
    shown(&of(time, "", missed, "s2.failed"), &Problem::Invariant(0));
    shown(&of(time, "deadline: 2h", time, "s2.failed"), &Problem::Invariant(0));
    shown(&of(time, "", signal, "s2.failed"), &Problem::Invariant(0));
}

#[test]
fn what_the_engine_begins_at_once_the_sweep_begins_at_once() {
    let text = "flowrun: 1
name: no-time
steps:
  s0: { wait: { signal: go, timeout: 5m } }
  s1:
    uses: do.booked.once
    confirm: { uses: ask.late, with: \"{{ key }}\" }
    compensate: { none: it does no harm }
invariants:
  - never: s1.unknown and not s0.failed and not s0.ok
";
    let (_, found) = searched(text);
    assert!(
        !found.problems.contains_key(&Problem::Invariant(0)),
        "the wait begins, and ends in the drain at the latest"
    );
}

#[test]
fn a_deadline_passes_in_virtual_time() {
    let text = "flowrun: 1
name: too-late
deadline: 2h
steps:
  s0: { uses: look.up }
  s1: { needs: [s0], wait: { signal: go } }
invariants:
  - never: s0.ok and not s1.ok
";
    let (small, found) = searched(text);
    let course = &found.problems[&Problem::Invariant(0)];
    assert_eq!(course.stop, Some(Stop::Cancelled));
    let document = &small.loaded.parsed.document;
    let played = rehearse(&small.plan, document, &small.sketch, course).expect("it can be played");
    assert!(played.error.as_deref().is_some_and(|error| error.starts_with("deadline: ")), "{played:#?}");
    assert_eq!((played.status.as_str(), small.unshown(&found)), ("failed", Vec::new()));
}

/// A list of which the items that fail are passed over, so that it fails only if it is not begun to its end.
fn listed(service: &str, places: u32, on_error: &str, never: &str) -> Small {
    let text = format!(
        "flowrun: 1
name: listed
services: {{ till: {{ concurrency: 1 }} }}
steps:
  s0:
    foreach: input.list
    concurrency: {places}
    on_error: {on_error}
    uses: do.paid.keyed{service}
    compensate: {{ none: it does no harm }}
invariants:
  - never: {never}
"
    );
    Small::of(text, &random::registry()).expect("it is valid")
}

#[test]
fn an_item_that_is_left_is_there_and_does_not_begin() {
    for (service, places, never, began) in [
        ("", 2, "paid and s0.failed", 2),
        ("", 16, "paid and s0.failed", 16),
        ("", 18, "paid and s0.failed", 18),
        ("\n    service: till", 2, "paid and s0.failed", 1),
        ("\n    service: till", 2, "s0.failed and not paid", 0),
    ] {
        let small = listed(service, places, "continue", never);
        let found = sweep(&small.sketch, STATES).expect("it is small");
        let StepCourse::Listed(list) = &found.problems[&Problem::Invariant(0)].steps[&0] else {
            panic!("{:?}", found.problems);
        };
        assert_eq!((list.items.len(), list.left), (began, true), "{never}");
        assert_eq!(small.unshown(&found), Vec::<String>::new());
    }
}

#[test]
fn an_item_that_is_left_and_begins_all_the_same_is_told() {
    let never = "paid and s0.failed";
    let (two, three) = (listed("", 2, "continue", never), listed("", 3, "compensate", never));
    let problem = Problem::Invariant(0);
    let course = &sweep(&two.sketch, STATES).expect("it is small").problems[&problem];
    let play = |small: &Small| {
        let document = &small.loaded.parsed.document;
        rehearse(&small.plan, document, &small.sketch, course).expect("it can be played")
    };
    assert!(play(&two).shows(&problem), "{:#?}", play(&two));
    // It comes to nothing, so that the list has failed here too.
    let begun = play(&three);
    assert!(begun.problems.contains(&problem) && !begun.shows(&problem), "{begun:#?}");
    assert!(begun.unexpected.iter().any(|told| told.contains("begins, which the course leaves out")), "{begun:#?}");
}

#[test]
fn a_list_that_cannot_be_long_enough_is_not_played() {
    let mut small = listed("", 2, "continue", "paid and s0.failed");
    small.text = small.text.replace("foreach: input.list", "foreach: input.list[:2]");
    let small = Small::of(small.text, &random::registry()).expect("it is valid");
    let course = &sweep(&small.sketch, STATES).expect("it is small").problems[&Problem::Invariant(0)];
    let played = rehearse(&small.plan, &small.loaded.parsed.document, &small.sketch, course);
    assert_eq!(played.expect_err("it is too short").to_string(), "the list of `s0` has 2 items, and the story 3");
}

#[test]
fn what_the_sweep_finds_can_be_kept_and_shows_when_it_is_played_from_its_file() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let file = folder.path().join("kept.test.yaml");
    let mut kept = 0;
    for seed in many(12) {
        let small = Small::of(random::workflow(seed), &random::registry()).expect("it is valid");
        let Ok(found) = sweep(&small.sketch, STATES) else { continue };
        let stories: Vec<(String, Story)> = (0..)
            .zip(&found.problems)
            .map(|(n, (problem, course))| (format!("n{n}"), Story::of(&small.plan, &small.sketch, course, problem)))
            .collect();
        if stories.is_empty() {
            continue;
        }
        let scenario = |(name, story)| Kept { name: String::clone(name), description: String::new(), story };
        let stories: Vec<Kept<'_>> = stories.iter().map(|(name, story)| scenario((name, story))).collect();
        std::fs::write(folder.path().join("w.yaml"), &small.text).expect("it can be written");
        std::fs::write(&file, file_text("w.yaml", None, &stories)).expect("it can be written");
        let played =
            run_files(std::slice::from_ref(&file), &random::registry(), &TestOptions::default()).files.remove(0);
        assert!(played.findings.is_empty(), "seed {seed}: {:?}\n{}", played.findings, small.text);
        for (problem, scenario) in found.problems.keys().zip(&played.scenarios) {
            let title = crate::proof::title(&small.sketch, problem);
            let told = scenario.failures.iter().flat_map(|failure| &failure.mismatches);
            let shown = told.filter_map(|told| told.message.as_deref()).any(|message| message == title);
            let text = || std::fs::read_to_string(&file).unwrap_or_default();
            assert!(shown, "seed {seed}: {title}\n{scenario:#?}\n{}\n{}", small.text, text());
            kept += 1;
        }
    }
    assert!(kept > 10 || is_chosen(), "only {kept} stories were kept");
}

#[test]
fn what_happens_on_the_engine_by_chance_the_sweep_has_found() {
    let mut shown = 0;
    for seed in many(25) {
        let small = Small::of(random::workflow(seed), &random::registry()).expect("it is valid");
        let Ok(found) = sweep(&small.sketch, STATES) else { continue };
        for run in 0..8 {
            let document = &small.loaded.parsed.document;
            let played = rehearse_by_chance(&small.plan, document, &small.sketch, seed * 1_000 + run);
            let played = played.unwrap_or_else(|why| panic!("seed {seed}, run {run}: {why}\n{}", small.text));
            shown += played.problems.len();
            let beyond: Vec<_> = played.problems.iter().filter(|p| !found.problems.contains_key(p)).collect();
            assert!(beyond.is_empty(), "seed {seed}, run {run}: {beyond:?}\n{played:#?}\n{}", small.text);
        }
    }
    assert!(shown > 20 || is_chosen(), "chance came to only {shown} problems");
}

#[test]
fn the_shipped_order_shows_no_problem_by_chance() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/ecommerce-order.yaml");
    let (loaded, findings) = Definition::load(&path, &Overrides::default(), &Limits::default());
    let loaded = loaded.unwrap_or_else(|| panic!("{findings:#?}"));
    let plan = plan::compile(&loaded, &crate::orders::registry().contracts()).expect("the settings fit");
    let sketch = Sketch::of(&plan, &loaded.parsed.document);
    let mut ends = BTreeMap::new();
    for seed in many(40) {
        let played = rehearse_by_chance(&plan, &loaded.parsed.document, &sketch, seed);
        let played = played.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(played.problems.is_empty(), "seed {seed}: {played:#?}");
        *ends.entry(played.status).or_insert(0) += 1;
    }
    assert!(ends.contains_key("completed") && ends.contains_key("failed"), "{ends:?}");
}
