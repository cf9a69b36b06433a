//! Workflows, outcomes, deaths and operators' wishes by chance: whatever comes, a run does not hang, its journal is one
//! that the model allows, and no step is done twice.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use flowrun::engine::{Engine, EngineError, Patience, Submission};
use flowrun::names::RunKey;
use serde_json::json;

use super::S;
use super::weather::{Life, Storm};
use crate::lab::{Act, Lab};

/// Asks something of the run. A refusal is an answer too; a mistake of flowrun's own is not.
async fn ask(engine: &Engine, run: RunKey, wish: u64, about: u64) {
    let step = format!("s{}", about % 8).as_str().into();
    let answer = match wish {
        0 => engine.cancel(run, None, true).await,
        1 => engine.cancel(run, None, false).await,
        2 | 3 => engine.retry(run, None).await,
        4 | 5 => engine.signal(run, None, "go".into(), json!(about)).await,
        6 => engine.compensate(run).await,
        7 => engine.mark_done(run, step, about.checked_sub(25).map(|_| 0), "by hand".into()).await,
        8 => engine.signal(run, Some("once".into()), "go".into(), json!("once")).await,
        9 => engine.retry(run, Some(step)).await,
        _ => return,
    };
    if let Err(error) = answer {
        assert!(matches!(error, EngineError::Refused(_)), "{error}");
    }
}

async fn rest(engine: &Engine, run: RunKey) -> String {
    let rest = tokio::time::timeout(24 * 3600 * S, engine.rest(run, Patience::Timers));
    rest.await.map_or("hanging".to_owned(), |report| report.expect("nothing is wrong with it").status)
}

async fn live(engine: Engine, run: RunKey, life: Life) {
    let all = engine.clone();
    tokio::spawn(async move { all.resume_all().await.unwrap() });
    crate::lab::time_passes(life.before).await;
    ask(&engine, run, life.wish, life.about).await;
    crate::lab::time_passes(life.after).await;
    match life.ends {
        0 => engine.stop(life.after).await,
        1 => drop(rest(&engine, run).await),
        _ => {}
    }
}

/// Lets a storm rage, and looks at what it left. Returns how many events there were.
fn rage(storm: &Storm) -> usize {
    let mut lab = storm.acts().fold(Lab::new(&storm.yaml()), |lab, (what, acts)| lab.script(&what, acts));
    lab.seed = Some(storm.seed);
    let workflow = lab.workflow();
    let first = storm.first;
    let input = json!({ "maybe": storm.first.as_millis().is_multiple_of(2) });
    let run = lab.life(|engine| async move {
        let run = engine.submit(Submission { workflow, input, id: Some("it".into()) }).await.unwrap().run;
        crate::lab::time_passes(first).await;
        run
    });
    for life in storm.lives.iter().cloned() {
        match life.dies_after {
            Some(commits) => drop(lab.doomed_life(commits, |engine| live(engine, run, life))),
            None => lab.life(|engine| live(engine, run, life)),
        }
    }
    let judged = |at: &str| {
        let model = lab.modelled(run).unwrap_or_else(|violation| panic!("{violation}"));
        model.rest().unwrap_or_else(|v| panic!("{at}, but {v}\n{}\n{:#?}", storm.yaml(), lab.history()));
        model
    };
    let judged = &judged;
    let (status, output) = lab.life(|engine| async move {
        engine.resume_all().await.unwrap();
        // A later compensate that was cut off is not among the unfinished.
        engine.resume(run).await.unwrap();
        for n in 0..12 {
            let status = rest(&engine, run).await;
            judged(&status);
            match (status.as_str(), n) {
                ("parked" | "waiting", 10) => ask(&engine, run, 1, 0).await,
                ("parked", _) => ask(&engine, run, 2, 0).await,
                ("waiting", _) => ask(&engine, run, 4, 100 + n).await,
                _ => break,
            }
        }
        (rest(&engine, run).await, engine.rest(run, Patience::None).await.unwrap().output)
    });
    assert!(["completed", "failed", "cancelled"].contains(&status.as_str()), "{status}\n{:#?}", lab.history());
    let model = judged(&status);
    lab.keys_fit(run).unwrap_or_else(|why| panic!("{why}\n{:#?}", lab.history()));
    if status == "completed" {
        for step in storm.signalled() {
            let taken = model.signal_taken(&step.into()).map_or(json!(null), |data| (**data.value()).clone());
            assert_eq!(output.as_ref().unwrap()[step], taken, "the oldest signal that was not used is taken");
        }
    }
    let mut done = BTreeSet::new();
    let history = lab.history();
    for event in &history {
        let once = ["step_succeeded", "item_succeeded", "finally_succeeded"];
        if once.iter().any(|kind| event.starts_with(kind)) {
            assert!(done.insert(event.clone()), "{event} twice: {history:#?}");
        }
    }
    history.len()
}

/// Returns what is wrong with a storm.
fn failure(storm: &Storm) -> Result<usize, String> {
    catch_unwind(AssertUnwindSafe(|| rage(storm))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
    })
}

/// Makes a storm that fails as small as it can be made one piece at a time.
fn shrunk(storm: Storm) -> Storm {
    let mut smallest = storm;
    'again: loop {
        for smaller in smallest.smaller() {
            if failure(&smaller).is_err() {
                smallest = smaller;
                continue 'again;
            }
        }
        return smallest;
    }
}

/// Runs the storm of a seed. One that fails is made smaller and shown with all it takes to see it again.
fn storm(seed: u64) -> usize {
    let storm = Storm::of(seed);
    failure(&storm).unwrap_or_else(|_| {
        let storm = shrunk(storm);
        let why = failure(&storm).unwrap_err();
        let acts: Vec<_> = storm.acts().collect();
        let (first, lives) = (storm.first, &storm.lives);
        panic!("storm {seed}\n{}\n{acts:#?}\nfirst {first:?}, then {lives:#?}\n{why}", storm.yaml())
    })
}

/// What no storm meets, or too seldom: a run that parks on its way back, and one at its end, for want of a handler; and
/// one that is being undone before a fallback when another step fails, and is repaired by hand.
fn calm() {
    let steps = "steps: { a: { uses: act.keyed, compensate: { uses: undo } }, bad: { needs: [a], uses: read }, \
                 w: { needs: [bad], wait: { signal: go } } }";
    for (body, slow) in
        [(steps.to_owned(), "undo a"), (format!("{steps}\nfinally: {{ end: {{ uses: act.safe }} }}"), "act.safe end")]
    {
        let lab = Lab::new(&body).script("read bad", [Act::Permanent("a.no")]).script(slow, [Act::Slow(10 * S)]);
        let run = lab.run_and_kill_after(json!({}), S);
        let without = |engine: Engine| async move {
            engine.resume_all().await.unwrap();
            assert_eq!(rest(&engine, run).await, "parked");
            engine.signal(run, None, "go".into(), json!(1)).await.unwrap();
            engine.stop(S).await;
        };
        lab.without_handlers(|| lab.life(without));
        assert_eq!(lab.resume().status, "failed");
    }
    let undone = "compensate: { uses: undo, timeout: 8s, retry: { attempts: 2, delay: 1s } }";
    let lab = Lab::new(&format!(
        "steps: {{ a: {{ uses: act.keyed, {undone}, fallback: [{{ name: f, uses: other.keyed }}] }}, \
         bad: {{ uses: read }}, w: {{ needs: [bad], wait: {{ signal: go }} }} }}"
    ))
    .script("act.keyed a", [Act::Unknown("a.lost")])
    .script("undo a", [Act::Hang, Act::Permanent("a.no")])
    .script("read bad", [Act::SlowFailure(S, "a.no")]);
    let workflow = lab.workflow();
    lab.life(|engine| async move {
        let run = engine.submit(Submission { workflow, input: json!({}), id: Some("it".into()) }).await.unwrap().run;
        crate::lab::time_passes(3 * S).await;
        engine.signal(run, None, "go".into(), json!(1)).await.unwrap();
        assert_eq!(rest(&engine, run).await, "failed");
        engine.mark_done(run, "a".into(), None, "by hand".into()).await.unwrap();
    });
}

#[test]
fn whatever_comes_a_run_ends_and_every_transition_is_reached() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let storms = number("FLOWRUN_STORMS").unwrap_or(200);
    let first = number("FLOWRUN_STORM").unwrap_or(1);
    drop(flowrun::teeth::take_reached());
    let mut events = 0;
    let mut failed = Vec::new();
    // Those that once found something are always among them.
    let known = [248, 719, 1644].into_iter().filter(|_| first == 1);
    for seed in known.chain(first..first + storms) {
        match failure(&Storm::of(seed)) {
            Ok(found) => events += found,
            Err(_) => failed.push(seed),
        }
    }
    println!("{storms} storms from seed {first}, {events} events");
    if let Some(seed) = failed.first() {
        println!("storms {failed:?} failed; the first of them:");
        storm(*seed);
    }
    assert!(failed.is_empty(), "storms {failed:?}");
    if first == 1 && storms >= 200 {
        calm();
        let differences = super::transitions::differences(&flowrun::teeth::take_reached());
        assert!(differences.is_empty(), "{differences:#?}");
    }
}
