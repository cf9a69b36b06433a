//! Verbs about runs that are there: `resume`, `list`, `show`, `history`, `cancel`, `compensate`, `retry`, `signal`.

use serde_json::Value;

use super::app::App;
use super::args::{self, Staying};
use super::control::{Answer, Need, Notice, Request, Rested, Session, Stay, Task};
use super::exec::faults;
use super::exit_code::ExitCode;
use super::output::batch::Batch;
use super::output::screen::shell_word;
use super::output::steps::StepView;
use super::output::{show, summary::summary};
use super::problem::Problem;
use super::store::no_store;
use crate::engine::report::RunReport;

/// Runs that `list` shows unless more are asked for.
const LISTED: usize = 20;

impl Staying {
    pub(super) fn stay(self) -> Stay {
        if self.no_wait { Stay::UntilWaits } else { Stay::UntilIdle }
    }

    pub(super) fn need(self) -> Need {
        Need::Run { create: false, faults: None, grace: self.grace }
    }
}

pub(super) async fn list(app: &App, args: &args::List) -> Result<ExitCode, Problem> {
    let by_limit = app.global.limits.iter().rev().find_map(|text| text.parse().ok());
    let request = Request::List {
        statuses: args.status.clone(),
        workflow: args.workflow.clone(),
        needs_attention: args.needs_attention,
        limit: args.most.or(by_limit).unwrap_or(LISTED),
    };
    let runs = match read(app, request).await? {
        Some(Answer::Runs(runs)) => runs,
        Some(_) => return Err(Problem::bug("a list was answered with something else")),
        None => {
            no_store(app);
            Vec::new()
        }
    };
    if !app.screen.is_text() {
        let runs: Vec<Value> = runs.iter().map(|run| serde_json::to_value(run).unwrap_or_default()).collect();
        app.screen.json_list("runs", &runs)?;
    } else if !runs.is_empty() {
        app.screen.answer(&show::list(&runs, &app.screen))?;
    } else if app.global.has_runs() {
        app.screen.say("no run fits");
    }
    Ok(ExitCode::Done)
}

pub(super) async fn show(app: &App, args: &args::OneRun) -> Result<ExitCode, Problem> {
    let answer = read_run(app, &args.run, Request::Show { run: args.run.clone() }).await?;
    let Answer::Report(report) = answer else { return Err(Problem::bug("a run was answered with something else")) };
    if app.screen.is_text() {
        app.screen.answer(&show::run(&report, &app.screen))?;
    } else {
        app.screen.json(&report)?;
    }
    Ok(ExitCode::Done)
}

pub(super) async fn history(app: &App, args: &args::OneRun) -> Result<ExitCode, Problem> {
    let answer = read_run(app, &args.run, Request::History { run: args.run.clone() }).await?;
    let Answer::History { entries, json } = answer else {
        return Err(Problem::bug("a history was answered with something else"));
    };
    if app.screen.is_text() {
        app.screen.answer(&show::history(&entries, &app.screen))?;
    } else {
        app.screen.json_list("events", &json)?;
    }
    Ok(ExitCode::Done)
}

/// Reads from the store; nothing if there is none.
pub(super) async fn read(app: &App, request: Request) -> Result<Option<Answer>, Problem> {
    let Some(session) = Session::open(app, Need::Read).await? else { return Ok(None) };
    let answer = session.ask(request, &mut |_| {}).await?;
    session.close().await?;
    Ok(Some(answer))
}

/// Reads about a run.
async fn read_run(app: &App, run: &str, request: Request) -> Result<Answer, Problem> {
    read(app, request).await?.ok_or_else(|| no_run(app, run))
}

pub(super) fn no_run(app: &App, run: &str) -> Problem {
    let store = app.global.store.display();
    Problem::not_found(format!("there is no run `{run}`: there is no store at {store}"))
        .help("Another store is named by --store or FLOWRUN_STORE.")
}

pub(super) async fn resume(app: &App, args: &args::Resume) -> Result<ExitCode, Problem> {
    let faults = faults(app, args.faults.as_deref())?;
    let need = Need::Run { create: false, faults, grace: args.staying.grace };
    if let Some(run) = &args.run {
        return operate(app, need, run, Task::Resume { run: run.clone() }, args.staying.stay()).await;
    }
    let Some(session) = Session::open(app, need).await? else {
        no_store(app);
        if !app.screen.is_text() {
            app.screen.json_list("runs", &[])?;
        }
        return Ok(ExitCode::Done);
    };
    let mut view = StepView::new(&app.screen, true);
    let watch = !app.screen.is_quiet();
    let request = Request::ResumeAll { stay: args.staying.stay(), watch };
    let answer = session
        .ask(request, &mut |notice| {
            if let Notice::Happened(happened) = notice {
                view.happened(&happened);
            }
        })
        .await;
    view.end();
    let closed = session.close().await;
    let Answer::AllRested { rested, left_alone } = answer? else {
        return Err(Problem::bug("a resume was answered with something else"));
    };
    closed?;
    let interrupted = session.interrupted().filter(|_| rested.iter().any(|r| r.put_down));
    if rested.is_empty() && left_alone.is_empty() {
        app.screen.say("nothing to resume: every run is final");
    }
    let code = several(app, &rested, interrupted)?;
    // What is wrong with one run is told when all others have gone as far as they can.
    let mut left_alone = left_alone.into_iter();
    match left_alone.next() {
        Some(first) => Err(first.details(left_alone.map(|other| other.message))),
        None => Ok(code),
    }
}

/// Shows how several runs stand, and returns the exit code for all of them.
fn several(app: &App, rested: &[Rested], interrupted: Option<ExitCode>) -> Result<ExitCode, Problem> {
    if !app.screen.is_text() {
        let runs: Vec<Value> = rested.iter().map(|r| serde_json::to_value(&r.report).unwrap_or_default()).collect();
        app.screen.json_list("runs", &runs)?;
    }
    match rested {
        [] => {}
        [one] => {
            if app.screen.is_text() {
                output(app, &one.report)?;
            }
            tell_summary(app, &one.report);
        }
        several => {
            let mut batch = Batch::of_runs(&app.screen);
            for one in several {
                batch.rested(None, &one.report);
                if app.screen.is_text()
                    && let Some(output) = &one.report.output
                {
                    app.screen.answer(&format!("{output}\n"))?;
                }
            }
            batch.end();
        }
    }
    if let Some(code) = interrupted {
        next(app, "resume");
        return Ok(code);
    }
    Ok(ExitCode::of_several(rested.iter().map(|r| exit_code(&r.report))))
}

pub(super) async fn cancel(app: &App, args: &args::Cancel) -> Result<ExitCode, Problem> {
    let task = Task::Cancel { run: args.run.clone(), reason: args.reason.clone(), compensate: !args.no_compensate };
    operate(app, args.staying.need(), &args.run, task, args.staying.stay()).await
}

pub(super) async fn compensate(app: &App, args: &args::Compensate) -> Result<ExitCode, Problem> {
    let run = args.run.clone();
    let task = match (&args.mark_done, &args.reason) {
        (Some(step), Some(reason)) => {
            let (step, item, reason) = (step.clone(), args.item, reason.clone());
            Task::MarkDone { run, step, item, reason }
        }
        _ => Task::Compensate { run },
    };
    operate(app, args.staying.need(), &args.run, task, args.staying.stay()).await
}

pub(super) async fn retry(app: &App, args: &args::Retry) -> Result<ExitCode, Problem> {
    let task = Task::Retry { run: args.run.clone(), from: args.from.clone() };
    operate(app, args.staying.need(), &args.run, task, args.staying.stay()).await
}

/// Does something to a run, stays with it, and shows how it stands then.
async fn operate(app: &App, need: Need, run: &str, task: Task, stay: Stay) -> Result<ExitCode, Problem> {
    let Some(session) = Session::open(app, need).await? else {
        if run != "@last" || !matches!(task, Task::Resume { .. }) {
            return Err(no_run(app, run));
        }
        no_store(app);
        if !app.screen.is_text() {
            app.screen.json_list("runs", &[])?;
        }
        return Ok(ExitCode::Done);
    };
    let rested = stay_with(app, &session, task, stay).await;
    let closed = session.close().await;
    let code = finish(app, &session, &rested?)?;
    closed?;
    Ok(code)
}

/// Does something to a run and shows what happens until it rests.
pub(super) async fn stay_with(app: &App, session: &Session, task: Task, stay: Stay) -> Result<Rested, Problem> {
    let mut view = StepView::new(&app.screen, false);
    let mut sink = |notice: Notice| {
        if let Notice::Happened(happened) = notice {
            view.happened(&happened);
        }
    };
    let rested = session.run(task, stay, !app.screen.is_quiet(), &mut sink).await;
    view.end();
    rested
}

/// Shows a run that rests: its output on stdout, how it stands on stderr.
pub(super) fn finish(app: &App, session: &Session, rested: &Rested) -> Result<ExitCode, Problem> {
    let report = &rested.report;
    if app.screen.is_text() {
        output(app, report)?;
    } else {
        app.screen.json(report)?;
    }
    if rested.put_down
        && let Some(code) = session.interrupted()
    {
        app.screen.say(&format!("run {} is saved where it was", report.run_id));
        next(app, &format!("resume {}", shell_word(&report.run_id)));
        return Ok(code);
    }
    if rested.was_final {
        app.screen.say(&format!("run {} was final already", report.run_id));
    }
    tell_summary(app, report);
    Ok(exit_code(report))
}

fn output(app: &App, report: &RunReport) -> Result<(), Problem> {
    match &report.output {
        Some(output) => app.screen.answer(&format!("{}\n", show::pretty(output))),
        None => Ok(()),
    }
}

fn tell_summary(app: &App, report: &RunReport) {
    for line in summary(report, app.screen.err, &app.screen) {
        app.screen.say(&line);
    }
}

fn next(app: &App, rest: &str) {
    app.screen.next("next", &app.screen.command(rest));
}

/// Returns the exit code that a run's state stands for.
pub(super) fn exit_code(report: &RunReport) -> ExitCode {
    ExitCode::of_number(report.exit_code()).unwrap_or(ExitCode::Bug)
}

pub(super) async fn signal(app: &App, args: &args::Signal) -> Result<ExitCode, Problem> {
    let data = match &args.input {
        Some(path) => app.read_json(path)?,
        None => Value::Null,
    };
    let Some(session) = Session::open(app, Need::Pass).await? else { return Err(no_run(app, &args.run)) };
    let task = Task::Signal { run: args.run.clone(), id: args.id.clone(), name: args.name.clone(), data };
    let rested = session.run(task, Stay::No, false, &mut |_| {}).await;
    let elsewhere = session.is_elsewhere().await;
    let closed = session.close().await;
    let report = rested?.report;
    closed?;
    if !app.screen.is_text() {
        app.screen.json(&report)?;
    }
    app.screen.say(&format!("signal {} is recorded for run {}", args.name, report.run_id));
    if !elsewhere {
        next(app, &format!("resume {}", shell_word(&report.run_id)));
    }
    Ok(ExitCode::Done)
}
