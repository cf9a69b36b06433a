//! Time that does as it likes: crashes while something is due, clocks that are set, machines that sleep (RELIABILITY
//! A09, A13, C01 to C04).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flowrun::engine::{Patience, Submission};
use flowrun::time::Timestamp;
use serde_json::json;

use super::S;
use crate::lab::{Act, Lab, time_passes};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

fn year_ms() -> i64 {
    i64::try_from(YEAR.as_millis()).unwrap()
}

/// When each call was made, in seconds since the test began.
fn called_at(lab: &Lab) -> Vec<i64> {
    lab.calls().iter().map(|call| call.at_ms / 1_000).collect()
}

fn backing_off() -> Lab {
    Lab::new("steps: { s: { uses: act.keyed, retry: { attempts: 2, delay: 10m, max_delay: 10m, jitter: none } } }")
        .script("act.keyed s", [Act::Retryable("a.down"), Act::Return(json!(1))])
}

fn waiting() -> Lab {
    Lab::new("steps: { w: { wait: { for: 10m } }, s: { needs: [w], uses: act.keyed } }")
}

#[test]
fn a09_a_back_off_ends_at_its_recorded_time_however_long_nobody_was_there() {
    for (down, second) in [(300, 600), (420, 600), (1_200, 1_380)] {
        let lab = backing_off();
        lab.run_and_kill_after(json!({}), 180 * S);
        lab.pass(down * S);
        assert_eq!(lab.resume().status, "completed");
        assert_eq!(called_at(&lab), [0, second], "down for {down} s");
    }
}

#[test]
fn a09_a_wait_ends_at_its_recorded_time_however_long_nobody_was_there() {
    for (down, done) in [(300, 600), (420, 600), (1_200, 1_380)] {
        let lab = waiting();
        lab.run_and_kill_after(json!({}), 180 * S);
        lab.pass(down * S);
        assert_eq!(lab.resume().status, "completed");
        assert_eq!(called_at(&lab), [done], "down for {down} s");
        assert_eq!(lab.history().iter().filter(|e| *e == "step_waiting w" || *e == "wait_started w").count(), 1);
    }
}

/// The machine was stopped for an hour while an attempt was under way: the answer that is there when it goes on counts,
/// and one that is not is late by the recorded deadline. The handler is called once.
#[test]
fn a13_after_an_hour_of_standing_still_deadlines_are_judged_by_their_recorded_time() {
    let text = "steps: { s: { uses: act.once, timeout: 5m } }";
    let lab = Lab::new(text).script("act.once s", [Act::Slow(10 * S)]);
    let report = still_for_an_hour(&lab);
    assert_eq!((report.status.as_str(), lab.calls().len()), ("completed", 1), "{:#?}", lab.history());

    let lab = Lab::new(text).script("act.once s", [Act::Hang]);
    let report = still_for_an_hour(&lab);
    assert_eq!((report.steps["s"].status.as_str(), lab.calls().len()), ("unknown", 1), "{:#?}", lab.history());
    let times: Vec<i64> = lab.events().iter().map(|e| Timestamp::parse(e["at"].as_str().unwrap()).unwrap().0).collect();
    let after = times.last().unwrap() - times[0];
    assert!((3_600_000..3_700_000).contains(&after), "it was noticed within a minute: {after} ms");
}

/// Runs the workflow; five seconds after its start the clock goes on by an hour, and the runtime's time does not.
fn still_for_an_hour(lab: &Lab) -> flowrun::engine::report::RunReport {
    let workflow = lab.workflow();
    lab.life(|engine| async move {
        let run = engine.submit(Submission { workflow, input: json!({}), id: Some("it".into()) }).await.unwrap().run;
        time_passes(5 * S).await;
        lab.jump(3_600_000);
        engine.rest(run, Patience::Timers).await.unwrap()
    })
}

#[test]
fn c01_a_clock_that_jumps_ahead_fires_each_timer_once() {
    for lab in &[backing_off(), waiting()] {
        let workflow = lab.workflow();
        let report = lab.life(|engine| async move {
            let submission = Submission { workflow, input: json!({}), id: Some("it".into()) };
            let run = engine.submit(submission).await.unwrap().run;
            time_passes(60 * S).await;
            lab.jump(year_ms());
            engine.rest(run, Patience::Timers).await.unwrap()
        });
        assert_eq!(report.status, "completed");
        let last = *called_at(lab).last().unwrap() - year_ms() / 1_000;
        assert!((60..=120).contains(&last), "it was noticed within a minute: {last} s");
        // What was due while nobody was there is no different.
        let down = waiting();
        down.run_and_kill_after(json!({}), 60 * S);
        down.pass(YEAR);
        assert_eq!(down.resume().status, "completed");
        assert_eq!(down.calls().len(), 1);
    }
}

#[test]
fn c01_a_clock_that_is_set_back_fires_no_timer_early_or_twice() {
    let lab = &waiting();
    let workflow = lab.workflow();
    lab.life(|engine| async move {
        engine.submit(Submission { workflow, input: json!({}), id: Some("it".into()) }).await.unwrap();
        time_passes(60 * S).await;
        lab.jump(-year_ms());
        // By this clock the wait has a year to go.
        time_passes(24 * HOUR).await;
        assert_eq!(lab.calls().len(), 0);
        lab.jump(year_ms() - 24 * 3_600_000);
        time_passes(600 * S).await;
        assert_eq!(lab.calls().len(), 1);
        lab.jump(-year_ms());
        time_passes(2 * HOUR).await;
    });
    assert_eq!(lab.calls().len(), 1);
    let times: Vec<_> = lab.events().iter().map(|e| e["at"].as_str().unwrap().to_owned()).collect();
    assert!(times.is_sorted(), "elapsed time is never negative: {times:?}");
    assert_eq!(lab.history().last().unwrap(), "run_finished");
}

/// A timeout is a length of time: it does not become a year because somebody has set the clock back.
#[test]
fn c01_a_timeout_is_not_prolonged_by_a_clock_that_is_set_back() {
    let lab = &Lab::new("steps: { s: { uses: act.keyed, timeout: 30s } }").script("act.keyed s", [Act::Hang]);
    let workflow = lab.workflow();
    let report = lab.life(|engine| async move {
        let run = engine.submit(Submission { workflow, input: json!({}), id: Some("it".into()) }).await.unwrap().run;
        time_passes(5 * S).await;
        lab.jump(-year_ms());
        time_passes(90 * S).await;
        engine.report(run).unwrap()
    });
    assert_eq!(report.steps["s"].error.as_ref().unwrap().code, "timeout");
    assert_eq!(report.status, "failed");
}

#[test]
fn c02_no_date_is_too_early_or_too_late() {
    let whole = |at: i64| {
        let lab = Lab::new(
            "
            deadline: 1d
            steps:
              s: { uses: act.keyed, timeout: 1m, retry: { attempts: 3, delay: 10s }, compensate: { uses: undo } }
              w: { needs: [s], wait: { for: 1h } }
              bad: { needs: [w], uses: read }
            ",
        )
        .script("act.keyed s", [Act::Retryable("a.down"), Act::Hang, Act::Return(json!(1))])
        .script("read bad", [Act::Permanent("a.no")]);
        lab.set_clock(Timestamp(at));
        lab.run_and_kill_after(json!({}), 15 * S);
        lab.pass(60 * S);
        let report = lab.resume();
        assert_eq!((report.status.as_str(), report.exit_code()), ("failed", 4), "at {at}: {:#?}", lab.history());
        lab.events()
    };
    // 1970, and just before; the years 1, 2262, 2263 and 9998.
    for at in [0, -1, -30_000, -62_135_596_800_000, 9_223_372_036_854, 9_300_000_000_000, 253_370_764_800_000] {
        let events = whole(at);
        assert!(events.iter().all(|e| e["at"].as_str().unwrap().ends_with('Z')), "UTC only: {events:#?}");
    }
    // Nobody's calendar goes so far, and still nothing overflows.
    for at in [i64::MIN / 2, i64::MAX / 2] {
        whole(at);
    }
    let last = Timestamp(i64::MAX);
    assert_eq!((last.after(HOUR), last.since(Timestamp(i64::MIN)).as_millis()), (last, i64::MAX.unsigned_abs().into()));
    assert_eq!(Timestamp(i64::MIN).since(last), Duration::ZERO);
}

#[test]
fn c02_leap_seconds_and_offsets_are_read_as_points_in_time() {
    let read = |text| Timestamp::parse(text).map(|at| at.to_string());
    assert_eq!(read("2016-12-31T23:59:60Z").unwrap(), "2016-12-31T23:59:59.000Z");
    // The hour that Berlin has twice, and the one that it does not have.
    assert_eq!(read("2026-10-25T02:30:00+02:00").unwrap(), "2026-10-25T00:30:00.000Z");
    assert_eq!(read("2026-10-25T02:30:00+01:00").unwrap(), "2026-10-25T01:30:00.000Z");
    assert_eq!(read("2026-03-29T02:30:00+01:00").unwrap(), "2026-03-29T01:30:00.000Z");
    assert!(read("2026-03-29T02:30:00").is_err(), "a time without an offset is no point in time");

    let lab = Lab::new("steps: { w: { wait: { until: input.at } }, s: { needs: [w], uses: act.keyed } }");
    assert_eq!(lab.run(json!({ "at": "2027-01-15T08:59:60Z" })).status, "completed");
    assert_eq!(called_at(&lab), [3_599]);
}

/// The runtime's time stands still while the machine is suspended: a sleeper of an hour sleeps its whole hour after that.
#[test]
fn c03_after_a_suspension_timers_are_noticed_within_a_minute() {
    for lab in &[backing_off(), waiting()] {
        let workflow = lab.workflow();
        let report = lab.life(|engine| async move {
            let submission = Submission { workflow, input: json!({}), id: Some("it".into()) };
            let run = engine.submit(submission).await.unwrap().run;
            time_passes(90 * S).await;
            lab.jump(540_000);
            engine.rest(run, Patience::Timers).await.unwrap()
        });
        assert_eq!(report.status, "completed");
        let last = *called_at(lab).last().unwrap();
        assert!((630..=690).contains(&last), "due at 600 s, woken up at 630 s, noticed at {last} s");
    }
}

/// FLOWRUN_TIMERS says how many.
#[test]
fn c04_many_timers_that_are_due_at_once_after_a_long_downtime() {
    let timers: usize = std::env::var("FLOWRUN_TIMERS").map_or(1_000, |text| text.parse().expect("a number"));
    let lab = Lab::new(
        "
        services: { gate: { concurrency: 16 } }
        steps: { w: { wait: { for: 1h } }, s: { needs: [w], uses: act.keyed, service: gate } }
        ",
    );
    let slow = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let lab = lab.script("act.keyed s", [Act::Counted(Arc::clone(&slow), S)]);
    let workflow = lab.workflow();
    lab.life(|engine| async move {
        for n in 0..timers {
            let submission = Submission { workflow: Arc::clone(&workflow), input: json!(n), id: Some(format!("r{n}")) };
            engine.submit(submission).await.unwrap();
        }
    });
    lab.pass(24 * HOUR);
    lab.life(|engine| async move {
        let runs = engine.resume_all().await.unwrap();
        assert_eq!(runs.len(), timers);
        for run in runs {
            assert_eq!(engine.rest(run, Patience::Timers).await.unwrap().status, "completed");
        }
    });
    assert_eq!(lab.calls().len(), timers, "each fires once");
    assert_eq!(slow.1.load(Ordering::SeqCst), 16, "so many at once, and no more");
    // Whoever came first is served first: nobody waits longer than the whole takes.
    let last = lab.calls().iter().map(|call| call.at_ms).max().unwrap() - (24 * HOUR).as_millis() as i64;
    let turns = i64::try_from(timers.div_ceil(16)).unwrap();
    assert!(last <= turns * 1_000 + 1_000, "all were served in {turns} turns of a second: {last} ms");
}

#[test]
fn c06_a_back_off_beyond_all_bounds_is_refused_and_one_at_its_bounds_is_kept() {
    let of = |config: &str, retry: &str| {
        Lab::new(&format!("config: {{ {config} }}\nsteps: {{ s: {{ uses: act.keyed, retry: {{ {retry} }} }} }}"))
    };
    let mut wrong = Vec::new();
    let mut refused = |key: &str, value: &str, because: &[&str]| {
        let others = if key == "attempts" { "delay: 1s" } else { "attempts: 2" };
        for (lab, place) in [
            (of("", &format!("{others}, {key}: {value}")), "there"),
            (of(&format!("given: {value}"), &format!("{others}, {key}: '{{{{ config.given }}}}'")), "in `config`"),
        ] {
            match lab.checked() {
                Ok(_) => wrong.push(format!("{key}: {value} {place} goes through")),
                Err(errors) if !errors.iter().any(|error| because.iter().any(|words| error.contains(words))) => {
                    wrong.push(format!("{key}: {value} {place} is refused with {errors:?}"));
                }
                Err(_) => {}
            }
        }
    };
    for factor in ["1e308", "1000.1", "0.999", "0", "-1", "-1e308"] {
        refused("factor", factor, &["`factor` must be at", "a number from 1 to 1000"]);
    }
    for number in ["1e309", ".inf", "-.inf", ".nan"] {
        refused("factor", number, &["number"]);
        refused("attempts", number, &["number"]);
    }
    for attempts in ["0", "-1", "1.5", "1e308", "4294967296", "18446744073709551615", "18446744073709551616"] {
        refused("attempts", attempts, &["`attempts` must be at", "number"]);
    }
    for delay in ["-1s", "99999999999999999999d", "1e308s", "nan"] {
        refused("delay", delay, &["duration"]);
        refused("max_delay", delay, &["duration"]);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let most = "attempts: 1000000, delay: 1s, factor: 1000, max_delay: 5s, jitter: none, within: 60s";
    let lab = of("", most).script("act.keyed s", [Act::Retryable("a.down")]);
    assert_eq!(lab.run(json!({})).status, "failed");
    assert_eq!(called_at(&lab), [0, 1, 6, 11, 16, 21, 26, 31, 36, 41, 46, 51, 56]);
}
