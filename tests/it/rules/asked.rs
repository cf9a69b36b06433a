//! What people ask of runs at odd moments, and recoveries that go wrong (RELIABILITY A15, D06, D10; SPEC 6.10, 6.11,
//! 6.17, 6.18).

use flowrun::engine::{Engine, EngineError, Patience, Submission};
use flowrun::machine::Refusal;
use flowrun::names::RunKey;
use serde_json::json;

use super::S;
use crate::lab::{Act, Lab, time_passes};

fn it(engine: &Engine) -> RunKey {
    engine.find("it").unwrap()
}

/// Lets a new process signal the run, and returns whether each was taken.
fn signal_all(lab: &Lab, signals: impl IntoIterator<Item = (Option<String>, &'static str)>) -> Vec<Result<(), String>> {
    let signals: Vec<_> = signals.into_iter().collect();
    lab.life(|engine| async move {
        let run = it(&engine);
        let mut taken = Vec::new();
        for (id, name) in signals {
            let sent = engine.signal(run, id, name.into(), json!(taken.len())).await;
            taken.push(match sent {
                Ok(_) => Ok(()),
                Err(EngineError::Refused(Refusal::Unknown { .. })) => Err("unknown".to_owned()),
                Err(EngineError::Refused(Refusal::Final { .. })) => Err("final".to_owned()),
                Err(EngineError::Refused(Refusal::Conflict { message })) => Err(message),
                Err(other) => panic!("{other}"),
            });
        }
        taken
    })
}

#[test]
fn d06_a_cancelled_step_that_ignores_its_token_ends_at_its_own_timeout_and_is_undone() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          deaf: { needs: [a], uses: act.keyed, timeout: 30s, compensate: { uses: undo } }
          last: { needs: [deaf], uses: act.keyed }
        ",
    )
    .script("act.keyed deaf", [Act::Hang]);
    let workflow = lab.workflow();
    let report = lab.life(|engine| async move {
        let run = engine.submit(Submission { workflow, input: json!({}), id: Some("it".into()) }).await.unwrap().run;
        time_passes(5 * S).await;
        engine.cancel(run, Some("changed my mind".into()), true).await.unwrap();
        time_passes(20 * S).await;
        assert_eq!(engine.report(run).unwrap().steps["deaf"].status, "running", "nobody cuts it off");
        engine.rest(run, Patience::Timers).await.unwrap()
    });
    assert_eq!((report.status.as_str(), report.exit_code()), ("cancelled", 6));
    assert_eq!(report.undone, ["deaf", "a"]);
    assert_eq!(lab.called(), ["act.keyed a", "act.keyed deaf", "undo deaf", "undo a"]);
    let unknown = lab.events().into_iter().find(|e| e["type"] == "attempt_unknown").expect("its outcome is recorded");
    assert_eq!(
        (unknown["error"]["code"].as_str(), unknown["at"].as_str()),
        (Some("timeout"), Some("2027-01-15T08:00:30.000Z"))
    );
}

#[test]
fn d10_a_signal_counts_before_its_wait_and_once_for_each_id() {
    let lab = Lab::new(
        "
        steps:
          early: { wait: { for: 1m } }
          first: { needs: [early], wait: { signal: go } }
          second: { needs: [first], wait: { signal: go, timeout: 1h } }
        output: { first: '{{ steps.first.output }}', second: '{{ steps.second.output }}' }
        ",
    );
    lab.run_and_kill_after(json!({}), S);
    let id = |text: &str| Some(text.to_owned());
    let taken = signal_all(&lab, [(id("a"), "go"), (id("a"), "go"), (None, "stop"), (id("a"), "go")]);
    assert_eq!(taken, [Ok(()), Ok(()), Err("unknown".into()), Ok(())]);
    assert_eq!(lab.history().iter().filter(|e| *e == "signal_received").count(), 1, "one id is one signal");
    lab.resume_and_kill_after(120 * S);
    let shown = lab.history();
    assert!(shown.contains(&"step_succeeded first".into()) && !shown.contains(&"step_succeeded second".into()));
    // The same again, after it was used, is still the same.
    assert_eq!(signal_all(&lab, [(id("a"), "go"), (id("b"), "go")]), [Ok(()), Ok(())]);
    let report = lab.resume();
    assert_eq!(report.output, Some(json!({ "first": 0, "second": 1 })));
    let events = lab.events().len();
    assert_eq!(signal_all(&lab, [(id("c"), "go"), (id("a"), "go")]), [Err("final".into()), Err("final".into())]);
    assert_eq!(lab.events().len(), events, "nothing is written about a run that is final");
}

/// FLOWRUN_FULL=1 sends 10 000, which is the default of the limit.
#[test]
fn d10_signals_that_nobody_takes_are_kept_up_to_the_limit() {
    let mut lab =
        Lab::new("steps: { never: { wait: { signal: other } }, w: { needs: [never], wait: { signal: go } } }");
    let most = if std::env::var_os("FLOWRUN_FULL").is_some() { 10_000 } else { 50 };
    lab.limits.items = most;
    lab.run_and_kill_after(json!({}), S);
    let taken = signal_all(&lab, (0..most + 2).map(|_| (None, "go")));
    let most = usize::try_from(most).unwrap();
    assert!(taken[..most].iter().all(Result::is_ok), "limit - 1 and limit");
    for over in &taken[most..] {
        let message = over.as_ref().expect_err("limit + 1");
        assert!(message.contains("limit `items`"), "{message}");
    }
    assert_eq!(lab.history().iter().filter(|e| *e == "signal_received").count(), most);
}

/// What is refused before a handler is called says nothing about who brings the process down.
#[test]
fn a15_a_refusal_does_not_reset_the_counter_of_deaths() {
    let lab = Lab::new(
        "
        steps:
          deadly: { uses: act.keyed }
          w1: { wait: { for: 10s } }
          r1: { needs: [w1], uses: read, with: '{{ input.none }}', on_error: continue }
          w2: { needs: [r1], wait: { for: 10s } }
          r2: { needs: [w2], uses: read, with: '{{ input.none }}', on_error: continue }
          w3: { needs: [r2], wait: { for: 10s } }
          r3: { needs: [w3], uses: read, with: '{{ input.none }}', on_error: continue }
        ",
    )
    .script("act.keyed deadly", [Act::Hang]);
    lab.run_and_kill_after(json!({}), 11 * S);
    for _ in 0..2 {
        lab.resume_and_kill_after(11 * S);
    }
    assert!(lab.history().contains(&"attempt_refused r2".into()), "{:#?}", lab.history());
    let report = lab.resume();
    assert_eq!(report.parked.expect("three deaths are enough").code, "recovery");
    assert_eq!(lab.calls().len(), 3);
}

/// A run that was final is unfinished again when its undoing is: who resumes everything does not pass over it.
#[test]
fn a10_a_later_compensate_that_was_cut_off_is_resumed_with_everything_else() {
    let lab = Lab::new(
        "
        steps:
          a: { uses: act.keyed, compensate: { uses: undo } }
          bad: { needs: [a], uses: read }
        ",
    )
    .script("read bad", [Act::Permanent("a.no")])
    .script("undo a", [Act::Permanent("a.no"), Act::Hang, Act::Return(json!(null))]);
    assert_eq!(lab.run(json!({})).exit_code(), 5);
    lab.life(|engine| async move {
        engine.compensate(it(&engine)).await.unwrap();
        time_passes(S).await;
    });
    let (live, report) = lab.life(|engine| async move {
        let live = engine.resume_all().await.unwrap();
        (live.len(), engine.rest(it(&engine), Patience::Timers).await.unwrap())
    });
    assert_eq!((live, report.exit_code()), (1, 4));
    assert_eq!(lab.life(|engine| async move { engine.resume_all().await.unwrap().len() }), 0);
}

/// A deadline ends an untimed wait, so it is a timer that is stayed for, and shown.
#[test]
fn rule_11_a_run_that_waits_under_a_deadline_does_not_rest_before_it() {
    let lab = Lab::new("deadline: 1h\nsteps: { w: { wait: { signal: go } } }");
    let workflow = lab.workflow();
    let (waiting, report) = lab.life(|engine| async move {
        let run = engine.submit(Submission { workflow, input: json!({}), id: Some("it".into()) }).await.unwrap().run;
        let waiting = engine.rest(run, Patience::None).await.unwrap();
        (waiting, engine.rest(run, Patience::Timers).await.unwrap())
    });
    assert_eq!(
        (waiting.status.as_str(), waiting.next_timer_at.as_deref()),
        ("waiting", Some("2027-01-15T09:00:00.000Z"))
    );
    assert_eq!((report.status.as_str(), report.next_timer_at), ("failed", None));
    assert_eq!(report.error.unwrap().code, "deadline");
}
