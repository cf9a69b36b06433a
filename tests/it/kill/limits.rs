//! The program with little memory, few open files and much to do (RELIABILITY K01, K04, K05).

use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::Signal;

use super::courses::number_of;
use crate::program::{Place, Running};

const GATE: &str = "flowrun: 1
name: gate
input: { type: object, properties: { n: { type: integer } } }
steps:
  before: { uses: core.pass, with: \"{{ input.n | default(0) }}\" }
  gate: { needs: [before], wait: { signal: open, timeout: 1h } }
  after: { needs: [gate], uses: core.pass, with: { ok: true } }
";

fn lines(count: u64) -> String {
    (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

/// Waits until a holder has taken up this many runs, as far as one can see from outside; returns its memory then.
fn memory_when_it_holds(place: &Place, holder: &mut Running, runs: u64) -> u64 {
    // The answer comes when the holder has nothing better to do: after all runs have been taken up.
    for _ in 0..600 {
        let ran = place.run(&["history", &format!("gate-{}", runs - 1), "-o", "jsonl"]);
        if ran.stdout.contains("run_resumed") {
            return holder.memory_kib().expect("it runs");
        }
        holder.run_for(Duration::from_millis(50));
    }
    panic!("it never took up {runs} runs");
}

/// FLOWRUN_WAITING_RUNS says how many runs wait. What each costs a process that has taken up all of them is printed. Those
/// that nobody has taken up cost nothing.
#[test]
fn k01_waiting_runs_take_little_memory() {
    let runs = number_of("FLOWRUN_WAITING_RUNS", 500);
    let place = Place::new();
    place.write("workflows/gate.yaml", GATE);
    place.write("runs.jsonl", lines(runs));
    let exec = ["exec", "gate", "--input", "runs.jsonl", "--id", "gate-{{ input.n }}", "--no-wait", "-q"];
    place.run(&exec).expect(7);
    let mut memory = Vec::new();
    for wanted in [1, runs] {
        let mut holder = place.start(&if wanted == 1 { vec!["resume", "gate-0", "-q"] } else { vec!["resume", "-q"] });
        memory.push(memory_when_it_holds(&place, &mut holder, wanted));
        holder.signal(Signal::TERM);
        holder.end();
    }
    let each = (memory[1].saturating_sub(memory[0])) as f64 / runs as f64;
    println!("{runs} waiting runs: {} KiB at most, one: {} KiB; {each:.1} KiB for each", memory[1], memory[0]);
    assert!(memory[0] < 64 << 10, "{} KiB", memory[0]);
    assert!(each < 24.0, "{each:.1} KiB for each");
}

/// With 64 open files for everything, orders go on; clients that take what is left of them are waited out.
#[test]
fn k04_with_few_open_files_nothing_crashes_and_new_work_waits() {
    let place = Place::new();
    place.write("workflows/gate.yaml", GATE);
    place.write("runs.jsonl", lines(100));
    let exec =
        ["exec", "gate", "--input", "runs.jsonl", "--id", "gate-{{ input.n }}", "--no-wait", "--concurrency", "100"];
    let ran = place.begin(place.limits("ulimit -n 64", &exec)).end().expect(7);
    assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("has a bug"), "{ran:#?}");

    let mut holder = place.begin(place.limits("ulimit -n 64", &["resume", "-v"]));
    memory_when_it_holds(&place, &mut holder, 100);
    // More clients than it has files for: those that it cannot take in wait at the door.
    let clients: Vec<UnixStream> =
        (0..80).map(|_| UnixStream::connect(place.path(".flowrun/flowrun.sock")).expect("somebody listens")).collect();
    holder.wait_for("cannot be served");
    drop(clients);
    let mut answered = false;
    for _ in 0..50 {
        let ran = place.run(&["signal", "gate-7", "open"]);
        answered = ran.code() == Some(0);
        if answered {
            break;
        }
    }
    assert!(answered, "it never came back");
    holder.wait_for("gate-7");
    holder.signal(Signal::TERM);
    let ran = holder.end().expect(143);
    assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("has a bug"), "{ran:#?}");
    assert_eq!(place.run(&["show", "gate-7", "-o", "json"]).expect(0).json()["status"], "completed");
}

/// FLOWRUN_SOAK_RUNS says how many runs go through one process. Memory after a third of them is memory after all of them,
/// and the store grows by the same for each.
#[test]
fn k05_runs_that_have_ended_leave_no_memory_behind() {
    let runs = number_of("FLOWRUN_SOAK_RUNS", 2_400);
    let place = Place::new();
    place.write(
        "workflows/soak.yaml",
        "flowrun: 1
name: soak
input: { type: object, properties: { n: { type: integer } } }
retries: { quick: { attempts: 3, delay: 1ms, jitter: none } }
steps:
  one: { uses: core.pass, with: \"{{ input.n }}\", compensate: { uses: core.pass, with: 1 } }
  two: { needs: [one], uses: core.pass, with: 2, retry: { use: quick } }
  bad: { needs: [two], when: input.n % 5 == 4, uses: core.fail, with: { code: core.failed, kind: permanent, message: no } }
",
    );
    // One in so many attempts fails or panics; which ones is left to the order in which they come.
    place.write("runs.jsonl", lines(runs));
    let exec = [
        "exec",
        "soak",
        "--input",
        "runs.jsonl",
        "--id",
        "soak-{{ input.n }}",
        "--concurrency",
        "16",
        "-o",
        "jsonl",
        "-v",
    ];
    let mut soak = place.start(&exec);
    let mut memory = Vec::new();
    let mut sizes = Vec::new();
    for third in 1..=3_u64 {
        let last = third * runs / 3 - 1;
        for _ in 0..1_000 {
            let ran = place.run(&["show", &format!("soak-{last}"), "-o", "json"]);
            if ran.code() == Some(0) || soak.memory_kib().is_none() {
                break;
            }
            soak.run_for(Duration::from_millis(20));
        }
        memory.extend(soak.memory_kib());
        sizes.push(std::fs::metadata(place.path(".flowrun/flowrun.redb")).expect("a store").len());
    }
    soak.end().expect(4);
    println!("{runs} runs: memory {memory:?} KiB, store {sizes:?} bytes at each third");
    let listed = place.run(&["list", "-n", "100000", "--status", "failed", "-o", "json"]).expect(0).json();
    assert_eq!(listed["runs"].as_array().map(Vec::len), Some(usize::try_from(runs / 5).expect("few")));
    if let [first, .., last] = memory.as_slice() {
        assert!(last.saturating_sub(*first) < 24 << 10, "it grows with what has ended: {memory:?} KiB");
    }
    // A run of this kind has about fifteen events; the file grows in doubles of what is needed.
    assert!(sizes[2] < (4 << 20) + runs * 16_384, "{sizes:?}");
}
