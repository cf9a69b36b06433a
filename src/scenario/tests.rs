//! Tests of the parts of scenarios; whole scenarios are played in `tests/it/scenarios.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::clock::LivesClock;
use super::file::{RunStatus, StepStatus};
use super::read::merge;
use super::{TestOptions, run_files};
use crate::time::{Clock, Timestamp};

#[test]
fn a_change_is_a_merge_patch() {
    let merged = |mut base: serde_json::Value, patch: serde_json::Value| {
        merge(&mut base, &patch);
        base
    };
    // The examples of RFC 7396 that differ in kind.
    assert_eq!(merged(json!({ "a": "b" }), json!({ "a": "c" })), json!({ "a": "c" }));
    assert_eq!(merged(json!({ "a": "b", "b": "c" }), json!({ "a": null })), json!({ "b": "c" }));
    assert_eq!(merged(json!({ "a": ["b"] }), json!({ "a": "c" })), json!({ "a": "c" }));
    assert_eq!(
        merged(json!({ "a": { "b": "c" } }), json!({ "a": { "b": "d", "c": null } })),
        json!({ "a": { "b": "d" } })
    );
    assert_eq!(merged(json!({ "a": [1, 2] }), json!({ "a": [3] })), json!({ "a": [3] }));
    assert_eq!(merged(json!({}), json!({ "a": { "bb": { "ccc": null } } })), json!({ "a": { "bb": {} } }));
    assert_eq!(merged(json!("text"), json!({ "a": 1 })), json!({ "a": 1 }));
}

#[test]
fn time_goes_on_from_life_to_life() {
    let clock = LivesClock::at(Timestamp(1_000));
    let lives = [(Duration::from_secs(60), Duration::ZERO), (Duration::from_secs(1), Duration::from_secs(5))];
    for (sleep, down) in lives {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime needs no more than memory");
        runtime.block_on(async {
            clock.start();
            clock.sleep_until(clock.now().after(sleep)).await;
        });
        let _inside = runtime.enter();
        clock.stop(down);
    }
    assert_eq!(clock.now(), Timestamp(67_000));
}

#[test]
fn statuses_are_written_as_they_are_read() {
    for (n, word) in RunStatus::WORDS.into_iter().enumerate() {
        let status: RunStatus = serde_json::from_value(json!(word)).expect("every word is a status");
        assert_eq!((status as usize, status.word()), (n, word));
    }
    for (n, word) in StepStatus::WORDS.into_iter().enumerate() {
        let status: StepStatus = serde_json::from_value(json!(word)).expect("every word is a status");
        assert_eq!((status as usize, status.word()), (n, word));
    }
    assert_eq!(StepStatus::WORDS.iter().collect::<BTreeSet<_>>().len(), StepStatus::WORDS.len());
}

#[test]
fn a_process_that_is_put_down_can_be_killed_meanwhile() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let steps = "steps: { only: { uses: core.pass, with: {}, timeout: 10s } }";
    std::fs::write(folder.path().join("w.yaml"), format!("flowrun: 1\nname: w\n{steps}\n")).expect("it can be written");
    let file = folder.path().join("w.test.yaml");
    let text = "flowrun_test: 1
workflow: w.yaml
scenarios:
  killed:
    faults: [{ step: only, do: { delay: 5s } }]
    then:
      - { when: only.running, after: 1s, resume: true }
      - { when: only.running, after: 2s, kill: true }
      - { when: only.running, after: 3s, resume: true }
    expect: { status: completed, steps: { only: { attempts: 2 } } }
";
    std::fs::write(&file, text).expect("it can be written");
    let summary = run_files(&[file], &crate::handlers::Registry::new(), &TestOptions::default());
    assert_eq!(summary.exit_code(), 0, "{}", summary.text(crate::diag::Style::default()));
}
