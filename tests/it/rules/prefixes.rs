//! Whatever was recorded when a process died, the next one brings the run to an end: runs taken up from every prefix of
//! their journals.

use std::collections::BTreeMap;
use std::time::Duration;

use flowrun::engine::Patience;
use serde_json::json;

use super::S;
use crate::lab::{Act, Lab};

/// A workflow, what its handlers do, and the statuses that it may end with.
type Case = (&'static str, &'static str, Vec<(&'static str, Vec<Act>)>, &'static [&'static str]);

fn cases() -> Vec<Case> {
    vec![
        (
            "success",
            "
            steps:
              a: { uses: act.keyed, compensate: { uses: undo } }
              b: { needs: [a], uses: act.safe, retry: { attempts: 3, delay: 1s } }
              c: { when: 'false', uses: read }
            finally: { audit: { uses: act.safe }, again: { uses: read } }
            output: { b: '{{ steps.b.output }}' }
            ",
            vec![("act.safe b", vec![Act::Retryable("a.down"), Act::Return(json!(1))])],
            &["completed"],
        ),
        (
            "failure",
            "
            steps:
              a: { uses: act.keyed, compensate: { uses: undo, retry: { attempts: 3, delay: 1s } } }
              b: { needs: [a], uses: act.keyed, compensate: { uses: undo } }
              c: { needs: [a], uses: act.safe, compensate: { uses: undo.once } }
              long: { uses: act.keyed, compensate: { uses: undo } }
              idle: { wait: { signal: never } }
              asked: { uses: act.once, confirm: { uses: lookup } }
              bad: { needs: [b, c], uses: other.keyed }
            finally: { audit: { uses: act.safe, with: '{{ run.status }}' } }
            ",
            vec![
                ("act.once asked", vec![Act::Unknown("a.lost")]),
                ("lookup asked", vec![Act::Permanent("a.no")]),
                ("other.keyed bad", vec![Act::Permanent("a.no")]),
                ("undo a", vec![Act::Retryable("a.down"), Act::Return(json!(1))]),
                ("act.keyed long", vec![Act::Slow(Duration::from_secs(20))]),
            ],
            &["failed"],
        ),
        (
            "fallback",
            "
            steps:
              a: { uses: act.keyed, compensate: { uses: undo } }
              s:
                needs: [a]
                uses: act.keyed
                retry: { attempts: 2, delay: 1s }
                confirm: { uses: lookup, with: '{{ key }}' }
                compensate: { uses: undo }
                fallback: [{ name: other, uses: other.keyed, compensate: { uses: undo } }]
              bad: { needs: [s], uses: read }
            ",
            vec![("act.keyed s", vec![Act::Unknown("a.lost")]), ("lookup s", vec![Act::CannotSay]), ("read bad", vec![Act::Permanent("a.no")])],
            &["failed"],
        ),
        (
            "confirmed",
            "
            steps: { s: { uses: act.once, confirm: { uses: lookup }, compensate: { uses: undo } } }
            output: { s: '{{ steps.s.output }}' }
            ",
            vec![("act.once s", vec![Act::Unknown("a.lost")]), ("lookup s", vec![Act::Done(serde_json::Value::Null)])],
            &["completed"],
        ),
        (
            "items",
            "
            steps:
              each: { foreach: '[0, 1, 2, 3]', concurrency: 2, uses: act.keyed, compensate: { uses: undo }, on_error: continue }
              all: { needs: [each], foreach: '[0, 1, 2]', uses: act.safe, compensate: { uses: undo } }
              bad: { needs: [all], uses: read }
            ",
            vec![("act.keyed each[1]", vec![Act::Unknown("a.lost")]), ("read bad", vec![Act::Permanent("a.no")])],
            &["failed"],
        ),
        (
            "waits",
            "
            deadline: 1h
            steps:
              a: { uses: act.keyed, compensate: { uses: undo } }
              w: { needs: [a], wait: { for: 1m } }
              t: { needs: [a], wait: { signal: never, timeout: 2m }, on_error: continue }
              v: { needs: [a], wait: { signal: never, timeout: 10m } }
            ",
            vec![],
            &["failed"],
        ),
        (
            "guarded",
            "
            services: { gate: { breaker: { failures: 1, within: 60s, cooldown: 30s }, concurrency: 1 } }
            steps:
              a: { uses: act.keyed, service: gate, compensate: { uses: undo, service: gate } }
              b: { uses: act.safe, service: gate, compensate: { uses: undo, service: gate } }
              bad: { needs: [a, b], uses: read, service: gate }
            ",
            vec![("read bad", vec![Act::Retryable("a.down")])],
            &["failed"],
        ),
        (
            "pivot",
            "
            steps:
              a: { uses: act.keyed, compensate: { uses: undo } }
              p: { needs: [a], uses: act.keyed, pivot: true }
              bad: { needs: [p], uses: read }
            ",
            vec![("read bad", vec![Act::Permanent("a.no")])],
            &["parked"],
        ),
    ]
}

fn lab_of(body: &str, acts: &[(&'static str, Vec<Act>)]) -> Lab {
    acts.iter().fold(Lab::new(body), |lab, (what, act)| lab.script(what, act.clone()))
}

#[test]
fn every_prefix_of_a_journal_is_brought_to_an_end() {
    for (name, body, acts, ends) in cases() {
        let lab = lab_of(body, &acts);
        let report = lab.run(json!({}));
        assert!(ends.contains(&report.status.as_str()), "{name}: {report:#?}");
        let run = lab.life(|engine| async move { engine.find("it").unwrap() });
        let (records, boundaries) = lab.recorded(run);
        for kept in 1..records.len() {
            let lab = lab_of(body, &acts);
            lab.pass(60 * S);
            lab.cut_back(run, records[..kept].to_vec());
            if !boundaries.contains(&(kept as u64)) {
                // No process dies between the events of one commit. It ends even so.
                lab.spare(run);
            }
            let at = format!("{name}, the first {kept} of {} events", records.len());
            let report = lab.life(|engine| async move {
                engine.resume_all().await.unwrap_or_else(|e| panic!("{at}: {e}"));
                let rest = tokio::time::timeout(24 * 3600 * S, engine.rest(run, Patience::Timers));
                rest.await.unwrap_or_else(|_| panic!("{at}: it hangs")).unwrap_or_else(|e| panic!("{at}: {e}"))
            });
            let at = format!("{name}, the first {kept} of {} events: {:#?}", records.len(), lab.history());
            if boundaries.contains(&(kept as u64)) {
                // What was under way when the process died may end in another way, but everything else is as ever.
                let other = lab.history().contains(&"attempt_cut_off".to_owned());
                assert!(ends.contains(&report.status.as_str()) || other || cut_once(&lab), "{at}\n{report:#?}");
            }
            let mut succeeded = BTreeMap::<String, u32>::new();
            for event in lab.history().into_iter().filter(|e| e.contains("_succeeded")) {
                *succeeded.entry(event).or_default() += 1;
            }
            succeeded.retain(|event, times| *times > 1 && !event.starts_with("compensation"));
            assert!(succeeded.is_empty(), "{at}\n{succeeded:?}");
            assert!(report.owed.is_empty() || cut_once(&lab), "{at}\n{report:#?}");
        }
    }
}

/// Tells whether an attempt that must not be repeated was cut off.
fn cut_once(lab: &Lab) -> bool {
    lab.events().iter().any(|e| e["error"]["code"] == "crashed")
}
