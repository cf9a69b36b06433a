//! A verb's hold on the store, from opening it to letting it go, through Ctrl-C and the death of another holder.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, watch};

use super::client::Client;
#[cfg(feature = "restate")]
use super::cluster::ClusterDesk;
use super::desk::{Desk, Sink, world_of};
use super::place;
use super::request::{Answer, Asked, Notice, Request, Rested, Stay, Task};
use super::server::Server;
use crate::cli::app::App;
use crate::cli::exit_code::ExitCode;
use crate::cli::output::paint::Tone;
use crate::cli::output::screen::{Screen, tell};
use crate::cli::problem::Problem;
use crate::engine::Workflow;
use crate::faults::Faults;
use crate::store::journal::StoreError;
use crate::store::mark::Restored;
use crate::store::open::OpenOptions;
use crate::store::redb::RedbStore;
use crate::time::{Clock as _, SystemClock};

/// How long a store that somebody holds is tried before it counts as not reachable.
const REACH: Duration = Duration::from_millis(900);

/// How long it takes before the next try.
const PAUSE: Duration = Duration::from_millis(20);

/// How long attempts of runs that belong to other processes may take to end when this one is done.
const LEAVE: Duration = Duration::from_secs(600);

/// How long stopping at once may take.
const AT_ONCE: Duration = Duration::from_secs(3);

/// What a verb needs the store for.
#[derive(Clone, Debug)]
pub(in crate::cli) enum Need {
    /// To read.
    Read,
    /// To leave a message and go. Nobody is served meanwhile, so no run is taken over at the same time.
    Pass,
    /// To run, with the time that attempts get after Ctrl-C.
    Run {
        /// A store is made if there is none.
        create: bool,
        /// Faults to inject.
        faults: Option<Arc<Faults>>,
        /// How long running attempts may take to end after Ctrl-C.
        grace: Duration,
    },
}

#[derive(Clone)]
enum Operator {
    Local(Arc<Desk>),
    Remote(Client),
    #[cfg(feature = "restate")]
    Cluster(Arc<ClusterDesk>),
}

/// The store, held by this process or reached through the one that holds it.
pub(in crate::cli) struct Session {
    app: App,
    need: Need,
    /// The number counts how often the holder changed.
    operator: Mutex<(u64, Operator)>,
    server: parking_lot::Mutex<Option<Server>>,
    kept: parking_lot::Mutex<Vec<Arc<Workflow>>>,
    interrupt: Arc<Interrupt>,
}

/// Whether somebody wants this process to end, and how urgently.
struct Interrupt {
    code: AtomicU8,
    local: parking_lot::Mutex<Option<Arc<Desk>>>,
    wanted: watch::Sender<bool>,
}

impl Session {
    /// Opens the store, or finds who holds it; nothing if there is no store.
    pub(in crate::cli) async fn open(app: &App, need: Need) -> Result<Option<Self>, Problem> {
        let interrupt = Arc::new(Interrupt {
            code: AtomicU8::new(0),
            local: parking_lot::Mutex::default(),
            wanted: watch::channel(false).0,
        });
        if let Need::Run { grace, .. } = &need {
            listen(&interrupt, &app.screen, *grace)?;
        }
        let Some((operator, server)) = open(app, &need).await? else { return Ok(None) };
        if let Operator::Local(desk) = &operator {
            *interrupt.local.lock() = Some(Arc::clone(desk));
        }
        Ok(Some(Self {
            app: app.clone(),
            need,
            operator: Mutex::new((0, operator)),
            server: parking_lot::Mutex::new(server),
            kept: parking_lot::Mutex::default(),
            interrupt,
        }))
    }

    /// Keeps a compiled workflow for the runs that follow.
    pub(in crate::cli) async fn keep(&self, workflow: &Arc<Workflow>) {
        self.kept.lock().push(Arc::clone(workflow));
        if let Operator::Local(desk) = &self.operator.lock().await.1 {
            desk.keep(workflow);
        }
    }

    /// Returns the exit code that an interruption stands for, if there was one.
    pub(in crate::cli) fn interrupted(&self) -> Option<ExitCode> {
        match self.interrupt.code.load(Ordering::Acquire) {
            0 => None,
            number => ExitCode::of_number(number),
        }
    }

    /// Tells whether runs go on without this process.
    pub(in crate::cli) async fn is_elsewhere(&self) -> bool {
        !matches!(self.operator.lock().await.1, Operator::Local(_))
    }

    /// Waits until somebody wants this process to end.
    pub(in crate::cli) async fn interruption(&self) {
        let mut wanted = self.interrupt.wanted.subscribe();
        // The sender lives as long as the session.
        let _ = wanted.wait_for(|wanted| *wanted).await;
    }

    /// Asks for something that is read or done once.
    pub(in crate::cli) async fn ask(&self, request: Request, sink: Sink<'_>) -> Result<Answer, Problem> {
        loop {
            let (number, operator) = self.operator.lock().await.clone();
            match self.ask_operator(&operator, &request, sink).await {
                Asked::Answered(answer) => return Ok(answer),
                Asked::Problem(problem) => return Err(problem),
                Asked::Lost | Asked::Leaving if self.interrupted().is_some() => return Err(self.detached(&operator)),
                Asked::Leaving => self.ask_another(number).await?,
                Asked::Lost if matches!(request, Request::Run { .. }) => return Err(lost()),
                Asked::Lost => self.reopen(number).await?,
            }
        }
    }

    /// Does something to a run and stays with it, also when the process that drives it ends before the run rests.
    pub(in crate::cli) async fn run(
        &self,
        task: Task,
        stay: Stay,
        watch: bool,
        sink: Sink<'_>,
    ) -> Result<Rested, Problem> {
        let mut task = task;
        let mut was_final = None;
        loop {
            let (number, operator) = self.operator.lock().await.clone();
            let mut id = None;
            let mut note = |notice: Notice| {
                match &notice {
                    Notice::Taken(taken) => id = Some(taken.clone()),
                    Notice::Happened(happened) => id = Some(happened.id.clone()),
                }
                sink(notice);
            };
            let request = Request::Run { task: task.clone(), stay, watch };
            let asked = self.ask_operator(&operator, &request, &mut note).await;
            let interrupted = self.interrupted().is_some();
            match asked {
                Asked::Answered(Answer::Rested(rested)) => {
                    let first = *was_final.get_or_insert(rested.was_final);
                    if rested.put_down && !interrupted && stay != Stay::No {
                        id = Some(rested.report.run_id.clone());
                    } else {
                        return Ok(Rested { was_final: first, ..*rested });
                    }
                }
                Asked::Answered(_) => return Err(Problem::bug("a run was answered with something else")),
                Asked::Problem(problem) => return Err(problem),
                Asked::Lost | Asked::Leaving if interrupted => return Err(self.detached(&operator)),
                Asked::Leaving => {
                    self.ask_another(number).await?;
                    continue;
                }
                Asked::Lost => {}
            }
            // A signal that was taken in is all that was wanted: its sender does not take the run over.
            if let (Some(run), Task::Signal { .. }) = (&id, &task) {
                self.reopen(number).await?;
                let Answer::Report(report) = self.ask(Request::Show { run: run.clone() }, sink).await? else {
                    return Err(Problem::bug("a run was answered with something else"));
                };
                return Ok(Rested { report: *report, was_final: false, put_down: false });
            }
            // The holder has ended. What it took in is durable and goes on here; what it did not take is asked again
            // where that cannot do it twice.
            task = match (id, task) {
                (Some(run), _) if stay == Stay::No => {
                    // It was done, and nobody wants to stay: taking the run over would hide how the holder ended.
                    self.reopen(number).await?;
                    return self.look_at(run).await;
                }
                (Some(run), _) => {
                    was_final.get_or_insert(false);
                    Task::Resume { run }
                }
                (
                    None,
                    again @ (Task::Resume { .. } | Task::Submit { id: Some(_), .. } | Task::Signal { id: Some(_), .. }),
                ) => again,
                (None, _) => return Err(lost()),
            };
            self.reopen(number).await?;
        }
    }

    /// Returns how a run stands, without doing anything to it.
    async fn look_at(&self, run: String) -> Result<Rested, Problem> {
        match self.ask(Request::Show { run }, &mut |_| {}).await? {
            Answer::Report(report) => Ok(Rested { report: *report, was_final: false, put_down: false }),
            _ => Err(Problem::bug("a run was answered with something else")),
        }
    }

    async fn ask_operator(&self, operator: &Operator, request: &Request, sink: Sink<'_>) -> Asked {
        match operator {
            Operator::Local(desk) => match desk.ask(request.clone(), sink).await {
                Ok(answer) => Asked::Answered(answer),
                Err(problem) if problem.untouched => Asked::Leaving,
                Err(problem) => Asked::Problem(problem),
            },
            Operator::Remote(client) => {
                let mut wanted = self.interrupt.wanted.subscribe();
                tokio::select! {
                    asked = client.ask(request, sink) => asked,
                    // The run is not ours to stop: it goes on where it is.
                    _ = wanted.wait_for(|wanted| *wanted) => Asked::Lost,
                }
            }
            #[cfg(feature = "restate")]
            Operator::Cluster(desk) => {
                let mut wanted = self.interrupt.wanted.subscribe();
                tokio::select! {
                    asked = desk.ask(request.clone(), sink) => asked.map_or_else(Asked::Problem, Asked::Answered),
                    _ = wanted.wait_for(|wanted| *wanted) => Asked::Lost,
                }
            }
        }
    }

    /// Waits a moment and looks for whoever holds the store now: the last one was ending and has done nothing.
    async fn ask_another(&self, number: u64) -> Result<(), Problem> {
        SystemClock.sleep_until(SystemClock.now().after(PAUSE)).await;
        self.reopen(number).await
    }

    fn detached(&self, operator: &Operator) -> Problem {
        let code = self.interrupted().unwrap_or(ExitCode::Interrupted);
        let goes_on = |who: &str| {
            Problem::new(code, format!("interrupted; {who} goes on with it"))
                .help("`flowrun list` shows how it stands, `flowrun resume RUN` stays with it again.")
        };
        match operator {
            Operator::Remote(client) => goes_on(&format!("process {}", client.pid)),
            #[cfg(feature = "restate")]
            Operator::Cluster(_) => goes_on("the cluster"),
            Operator::Local(_) => Problem {
                untouched: true,
                ..Problem::new(code, "interrupted before it was begun")
                    .help("What was recorded is safe; `flowrun resume` goes on with everything that is unfinished.")
            },
        }
    }

    /// Opens the store again after its holder has ended, unless somebody else here has done so already.
    async fn reopen(&self, number: u64) -> Result<(), Problem> {
        let mut current = self.operator.lock().await;
        if current.0 != number {
            return Ok(());
        }
        let Some((operator, server)) = open(&self.app, &self.need).await? else {
            return Err(Problem::new(ExitCode::Store, "the store is gone"));
        };
        if let Operator::Local(desk) = &operator {
            tracing::info!("the process that held the store has ended; this one goes on with its runs");
            for workflow in self.kept.lock().iter() {
                desk.keep(workflow);
            }
            *self.interrupt.local.lock() = Some(Arc::clone(desk));
        }
        *self.server.lock() = server;
        *current = (number + 1, operator);
        Ok(())
    }

    /// Lets the store go. Runs of other processes are put down, and these go on with them.
    pub(in crate::cli) async fn close(&self) -> Result<(), Problem> {
        let operator = self.operator.lock().await.1.clone();
        let Operator::Local(desk) = operator else { return Ok(()) };
        if desk.runs() {
            let grace = if self.interrupt.code.load(Ordering::Acquire) == 0 { LEAVE } else { Duration::ZERO };
            desk.stop(grace).await;
        }
        // The socket goes first, so that whoever has the lock next finds no other holder.
        let server = self.server.lock().take();
        if let Some(server) = server {
            server.stop().await;
        }
        *self.interrupt.local.lock() = None;
        desk.close()
    }
}

fn lost() -> Problem {
    Problem::conflict("the process that held the store ended before it answered")
        .help("`flowrun list` shows whether it was done.")
}

async fn open(app: &App, need: &Need) -> Result<Option<(Operator, Option<Server>)>, Problem> {
    #[cfg(feature = "restate")]
    if let Some(url) = app.global.cluster() {
        if matches!(need, Need::Run { faults: Some(_), .. }) {
            return Err(Problem::usage(
                "on a cluster, faults are injected by a worker: `flowrun worker --faults FILE`",
            ));
        }
        let desk = ClusterDesk::open(app, url).await?;
        return Ok(Some((Operator::Cluster(Arc::new(desk)), None)));
    }
    let store = app.global.store.as_path();
    let create = matches!(need, Need::Run { create: true, .. });
    let begun = SystemClock.now();
    let is_new = !store.exists();
    loop {
        match RedbStore::open(store, OpenOptions { create }) {
            Ok(journal) => {
                tracing::info!(store = %store.display(), "this process holds the store");
                warn(app, need, &journal, is_new);
                return local(app, need, journal).map(Some);
            }
            Err(StoreError::Absent { .. }) => return Ok(None),
            Err(StoreError::Busy { .. }) => tracing::debug!(store = %store.display(), "the store is held"),
            Err(error) => return Err(error.into()),
        }
        let left = REACH.saturating_sub(SystemClock.now().since(begun));
        if let Some(client) = Client::find(store, left).await {
            if matches!(need, Need::Run { faults: Some(_), .. }) {
                return Err(Problem::conflict(format!(
                    "{} is held by process {}, and faults can only be injected by the process that holds the store",
                    store.display(),
                    client.pid
                ))
                .help("Name another store with --store, or wait until that process has ended."));
            }
            tracing::info!(store = %store.display(), pid = client.pid, "another process holds the store and is asked");
            return Ok(Some((Operator::Remote(client), None)));
        }
        if SystemClock.now().since(begun) > REACH.saturating_sub(PAUSE) {
            return Err(not_reachable(store));
        }
        SystemClock.sleep_until(SystemClock.now().after(PAUSE)).await;
    }
}

/// Says what is to be known about a store before it is used.
fn warn(app: &App, need: &Need, journal: &RedbStore, is_new: bool) {
    let store = app.global.store.display();
    let warning = |text: String| {
        app.screen.say(&format!("{} {text}", app.screen.err.text(Tone::Care, "warning:")));
    };
    match journal.restored() {
        Some(Restored::Older { missing }) => warning(format!(
            "{store} is an older copy: {missing} commits that were recorded here are not in it. What was done after it \
             was made may be done again, with the same keys"
        )),
        Some(Restored::Backup { made_at }) => warning(format!(
            "{store} is a backup of {made_at}. What was done after that is not in it, and may be done again, with \
             the same keys"
        )),
        None => {}
    }
    // Where it lies does not change, so who makes it is told.
    if let (Some(concern), true, Need::Run { .. }) = (journal.concern(), is_new, need) {
        warning(format!("{store} {concern}"));
    }
}

fn not_reachable(store: &Path) -> Problem {
    let who = place::holder_of(store).map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    Problem::conflict(format!("{} is held by {who}, which does not answer", store.display()))
        .help("Wait until it has ended, or end it: what it has recorded is safe, and `flowrun resume` goes on.")
}

fn local(app: &App, need: &Need, journal: RedbStore) -> Result<(Operator, Option<Server>), Problem> {
    let faults = match need {
        Need::Read => {
            let desk = Desk::over(journal, app.contracts.clone(), &app.limits);
            return Ok((Operator::Local(Arc::new(desk)), None));
        }
        Need::Pass => None,
        Need::Run { faults, .. } => faults.clone(),
    };
    let handlers = app
        .registry
        .build(&world_of(&app.global.store))
        .map_err(|problems| Problem::new(ExitCode::Store, "the handlers cannot be made ready").details(problems))?;
    let passing = matches!(need, Need::Pass);
    let desk = Arc::new(Desk::running(journal, handlers, &app.limits, faults, passing)?);
    if passing {
        return Ok((Operator::Local(desk), None));
    }
    let server = match Server::start(&app.global.store, Arc::clone(&desk)) {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::warn!(%error, "there is no control socket: other processes cannot reach the store meanwhile");
            None
        }
    };
    Ok((Operator::Local(desk), server))
}

/// Listens for Ctrl-C and SIGTERM: once puts the runs down in order, twice at once.
fn listen(interrupt: &Arc<Interrupt>, screen: &Screen, grace: Duration) -> Result<(), Problem> {
    let failed = |error: std::io::Error| Problem::bug(format!("signals cannot be listened for: {error}"));
    let mut ctrl_c = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    let (interrupt, screen) = (Arc::clone(interrupt), screen.clone());
    tokio::spawn(async move {
        let mut times = 0_u32;
        loop {
            let code = tokio::select! {
                _ = ctrl_c.recv() => ExitCode::Interrupted,
                _ = term.recv() => ExitCode::Terminated,
            };
            times += 1;
            // The first one decides.
            let _ = interrupt.code.compare_exchange(0, code.number(), Ordering::AcqRel, Ordering::Acquire);
            let _ = interrupt.wanted.send(true);
            let local = interrupt.local.lock().clone();
            let Some(desk) = local else { continue };
            if times == 1 {
                screen.say("stopping: nothing new starts, running attempts may end; once more to stop at once");
                tokio::spawn(async move { desk.stop(grace).await });
            } else {
                let overdue = SystemClock.sleep_until(SystemClock.now().after(AT_ONCE));
                tokio::spawn(async move {
                    desk.stop(Duration::ZERO).await;
                });
                tokio::spawn(async move {
                    overdue.await;
                    tell("stopped; every run can be resumed");
                    std::process::exit(i32::from(code.number()));
                });
            }
        }
    });
    Ok(())
}
