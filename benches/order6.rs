//! A driver of flowrun for a harness that measures durable engines side by side on one workload: six no-op steps, one
//! after the other, that pass an order of 500 bytes on. `benches/README.md` says how to run it, and the protocol.

use std::future::Future;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flowrun::bench::{compile, order, order6, percentile_ms};
use flowrun::engine::{Engine, EngineOptions, Patience, Submission, Workflow};
use flowrun::limits::Limits;
use flowrun::store::open::OpenOptions;
use flowrun::store::redb::RedbStore;
use flowrun::time::SystemClock;
use flowrun::{Registry, State, StepCtx, StepError, World};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// The same as in the program `flowrun`.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the handler counts and waits for.
struct Counter {
    calls: AtomicU64,
    /// The call at which the harness is told that half of the work is done.
    half_at: u64,
    /// The first step waits until this file is there.
    gate: Option<PathBuf>,
}

/// Takes and returns JSON as it is, as the drivers of the other engines do.
async fn step(ctx: StepCtx, State(counter): State<Arc<Counter>>, mut input: Value) -> Result<Value, StepError> {
    if ctx.step.as_str() == "validate"
        && let Some(gate) = &counter.gate
    {
        while !gate.exists() {
            pause(Duration::from_millis(2)).await;
        }
    }
    input["order"]["status"] = ctx.step.as_str().into();
    if counter.calls.fetch_add(1, Ordering::Relaxed) + 1 == counter.half_at {
        say("HALF");
    }
    Ok(input)
}

/// What the harness asks for.
struct Asked {
    mode: String,
    data: PathBuf,
    n: u64,
    concurrency: u64,
    time: Duration,
}

impl Asked {
    fn of_arguments() -> Self {
        // `cargo bench` adds an argument of its own.
        let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
        let option = |name: &str, default: &str| {
            let at = words.iter().position(|word| word == name);
            at.and_then(|at| words.get(at + 1)).cloned().unwrap_or_else(|| default.to_owned())
        };
        let number = |name: &str, default: &str| option(name, default).parse::<f64>().expect("a number");
        Self {
            mode: words.first().cloned().unwrap_or_else(|| "first".to_owned()),
            data: PathBuf::from(option("--data", "target/order6")),
            n: number("--n", "200") as u64,
            concurrency: number("--conc", "64") as u64,
            time: Duration::from_secs_f64(number("--secs", "6")),
        }
    }

    fn gate(&self) -> PathBuf {
        PathBuf::from(format!("{}.gate", self.data.display()))
    }
}

#[derive(Clone)]
struct Driver {
    engine: Engine,
    workflow: Arc<Workflow>,
    counter: Arc<Counter>,
}

impl Driver {
    fn open(asked: &Asked) -> Self {
        std::fs::create_dir_all(&asked.data).expect("the data folder can be made");
        let fills = asked.mode == "fill";
        let counter = Arc::new(Counter {
            calls: AtomicU64::new(0),
            half_at: if fills { asked.n * 3 } else { u64::MAX },
            gate: fills.then(|| asked.gate()),
        });
        let registry = Registry::new().state(Arc::clone(&counter)).handler("order6.step", step);
        let handlers = registry.build(&World::in_memory(Arc::new(SystemClock))).expect("one handler fits together");
        let path = asked.data.join("flowrun.redb");
        let store = RedbStore::open(path, OpenOptions { create: true }).expect("the store opens");
        let workflow = compile("order6.yaml", &order6("order6.step"), &Limits::default(), &handlers);
        let engine = Engine::new(Arc::new(store), handlers, Arc::new(SystemClock), EngineOptions::default());
        Self { engine: engine.expect("an engine"), workflow: Arc::new(workflow.expect("a plan")), counter }
    }

    async fn submit(&self, id: &str) -> flowrun::names::RunKey {
        let submission = Submission {
            workflow: Arc::clone(&self.workflow),
            input: json!({ "order": order(id) }),
            id: Some(id.to_owned()),
        };
        self.engine.submit(submission).await.expect("the run is accepted").run
    }

    async fn result(&self, run: flowrun::names::RunKey) -> Option<Value> {
        self.engine.rest(run, Patience::Timers).await.expect("the run rests").output
    }

    /// Runs one order. Returns how long it took, if its result is right.
    async fn run(&self, id: &str) -> Option<Duration> {
        let begun = now();
        let run = self.submit(id).await;
        let output = self.result(run).await;
        is_right(id, output.as_ref()).then(|| begun.elapsed())
    }
}

fn is_right(id: &str, output: Option<&Value>) -> bool {
    output.is_some_and(|output| output["order"]["status"] == "finalize" && output["order"]["order_id"] == id)
}

fn main() {
    let asked = Asked::of_arguments();
    say(&format!("PIDS {}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let result = runtime.block_on(async {
        let driver = Driver::open(&asked);
        match asked.mode.as_str() {
            "first" => {
                driver.run("first-0").await.expect("the first order is right");
                json!({ "ok": true })
            }
            "lat" => one_after_the_other(&driver, &asked).await,
            "tput" => always_so_many(&driver, &asked).await,
            "fill" => fill(&driver, &asked).await,
            "drain" => drain(&driver, &asked).await,
            other => panic!("there is no mode {other}"),
        }
    });
    say(&format!("RESULT {result}"));
    // The harness reads this process's memory before it closes the pipe.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(0);
}

async fn one_after_the_other(driver: &Driver, asked: &Asked) -> Value {
    warm_up(driver).await;
    let (begun, mut took) = (now(), Vec::new());
    while (took.len() < asked.n as usize || begun.elapsed() < Duration::from_secs(1)) && begun.elapsed() < asked.time {
        took.push(driver.run(&format!("l-{}", took.len())).await.expect("the result is right"));
    }
    let steps_s = 6.0 * took.len() as f64 / begun.elapsed().as_secs_f64();
    json!({ "n": took.len(), "steps_s": steps_s, "p50_ms": percentile(&mut took, 50), "p99_ms": percentile(&mut took, 99) })
}

async fn always_so_many(driver: &Driver, asked: &Asked) -> Value {
    warm_up(driver).await;
    let (stop, wrong) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let took = Arc::new(std::sync::Mutex::new(Vec::<Duration>::new()));
    for place in 0..asked.concurrency {
        let (driver, stop, wrong, took) = (driver.clone(), Arc::clone(&stop), Arc::clone(&wrong), Arc::clone(&took));
        tokio::spawn(async move {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                match driver.run(&format!("t-{place}-{number}")).await {
                    Some(time) => took.lock().expect("nobody panics").push(time),
                    None => drop(wrong.fetch_add(1, Ordering::Relaxed)),
                }
            }
        });
    }
    // The ramp is not counted.
    pause(Duration::from_secs(2)).await;
    let calls = || driver.counter.calls.load(Ordering::Relaxed);
    let (begun, calls_before, runs_before) = (now(), calls(), took.lock().expect("nobody panics").len());
    pause(asked.time).await;
    let (total, seconds) = (calls(), begun.elapsed().as_secs_f64());
    stop.store(true, Ordering::Relaxed);
    let mut took = took.lock().expect("nobody panics")[runs_before..].to_vec();
    json!({
        "conc": asked.concurrency,
        "steps_s": (total - calls_before) as f64 / seconds,
        "exec_s": took.len() as f64 / seconds,
        "execs": took.len(),
        "calls": total - calls_before,
        "total_calls": total,
        "errors": wrong.load(Ordering::Relaxed),
        "p50_ms": percentile(&mut took, 50),
        "p99_ms": percentile(&mut took, 99),
    })
}

async fn fill(driver: &Driver, asked: &Asked) -> Value {
    let owned = driver.clone();
    let submit = move |id: String| {
        let driver = owned.clone();
        async move {
            driver.submit(&id).await;
            true
        }
    };
    in_lanes(64, asked.n, submit).await;
    say("ACCEPTED");
    std::fs::write(asked.gate(), "").expect("the gate can be opened");
    pause(Duration::from_secs(300)).await;
    json!({ "error": "nobody killed the process" })
}

async fn drain(driver: &Driver, asked: &Asked) -> Value {
    driver.engine.resume_all().await.expect("the runs are taken up");
    let owned = driver.clone();
    let wait = move |id: String| {
        let driver = owned.clone();
        async move {
            let Ok(run) = driver.engine.find(&id) else { return false };
            is_right(&id, driver.result(run).await.as_ref())
        }
    };
    let done = in_lanes(32, asked.n, wait).await;
    let calls = driver.counter.calls.load(Ordering::Relaxed);
    json!({ "done": done, "lost": asked.n - done, "calls_after_restart": calls })
}

/// Does something for `n` ids in so many lanes; returns how often it went well.
async fn in_lanes<F>(lanes: u64, n: u64, act: impl Fn(String) -> F + Clone + Send + 'static) -> u64
where
    F: Future<Output = bool> + Send + 'static,
{
    let mut set = JoinSet::new();
    for lane in 0..lanes {
        let act = act.clone();
        set.spawn(async move {
            let mut well = 0;
            for number in (lane..n).step_by(lanes as usize) {
                well += u64::from(act(format!("r-{number}")).await);
            }
            well
        });
    }
    set.join_all().await.into_iter().sum()
}

async fn warm_up(driver: &Driver) {
    for number in 0..10 {
        driver.run(&format!("w-{number}")).await.expect("the result is right");
    }
}

fn percentile(took: &mut [Duration], percent: usize) -> f64 {
    took.sort();
    percentile_ms(took, percent)
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().expect("the harness listens");
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
