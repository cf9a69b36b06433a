//! `verify`: proves workflow files, or tells the shortest story of how each goes wrong.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::app::App;
use super::args::{Format, Verify};
use super::exit_code::ExitCode;
use super::output::proof as shown;
use super::problem::Problem;
use super::workflow::{self, Examined, counted};
use crate::definition::{Loaded, Overrides};
use crate::diag::Severity;
use crate::plan::{self, Plan};
use crate::proof::{Flaw, Proof, Verdict, repair};
use crate::rehearsal::rehearse;

pub(super) fn verify(app: &App, args: &Verify) -> Result<ExitCode, Problem> {
    let files = workflow::files(&args.paths, "verify")?;
    if let Some(file) = &args.save_story {
        save::check(file, &files)?;
    }
    let overrides = workflow::overrides(&args.settings, &app.limits)?;
    let mut codes = Vec::new();
    let mut answers: Vec<Value> = Vec::new();
    for path in &files {
        let (code, answer) = one(app, args, path, &overrides)?;
        codes.push(code);
        match (app.screen.format, answer) {
            (Format::Jsonl, Some(answer)) => app.screen.json_list("files", &[answer])?,
            (_, answer) => answers.extend(answer),
        }
    }
    if app.screen.format == Format::Json {
        app.screen.json_list("files", &answers)?;
    }
    Ok(ExitCode::of_several(codes))
}

/// Proves one file; its answer is returned where it is JSON.
fn one(app: &App, args: &Verify, path: &Path, overrides: &Overrides) -> Result<(ExitCode, Option<Value>), Problem> {
    let examined = workflow::examine(app, path, overrides);
    let plan = examined.loaded.as_ref().filter(|_| examined.is_valid(false));
    let plan = plan.and_then(|loaded| Some((loaded, plan::compile(loaded, &app.contracts).ok()?)));
    let Some((loaded, plan)) = plan else { return invalid(app, path, &examined) };
    let (proof, took) = timed(|| Proof::of(loaded, &plan, app.limits.states));
    let flaws = proof.flaws();
    let told: Vec<shown::Told<'_>> = flaws.iter().map(|flaw| tell(app, &proof, &plan, loaded, flaw)).collect();
    let page = shown::Page { path, file: &examined.file, loaded, plan: &plan, proof: &proof, told: &told, took };
    let code = if proof.verdict() == Verdict::Proved { ExitCode::Done } else { ExitCode::Failed };
    let json = if app.screen.is_text() {
        app.screen.answer(&page.text(&app.screen, args.contracts))?;
        None
    } else {
        Some(page.json())
    };
    if let Some(file) = &args.save_story {
        save::save(app, file, path, (loaded, &plan, overrides), &proof, &flaws)?;
    }
    Ok((code, json))
}

fn tell<'a>(app: &App, proof: &Proof, plan: &Plan, loaded: &Loaded, flaw: &'a Flaw<'a>) -> shown::Told<'a> {
    let story = proof.story(plan, flaw);
    let fix = repair(proof, flaw, loaded, &app.contracts, &app.limits);
    let replay = match rehearse(plan, &loaded.parsed.document, &proof.sketch, flaw.course) {
        Ok(rehearsed) if rehearsed.shows(flaw.problem) => shown::Replay::Shown,
        Ok(rehearsed) => shown::Replay::Otherwise(rehearsed.status),
        Err(why) => shown::Replay::Impossible(why.to_string()),
    };
    shown::Told { flaw, story, fix, replay }
}

/// What is not valid is not searched.
fn invalid(app: &App, path: &Path, examined: &Examined) -> Result<(ExitCode, Option<Value>), Problem> {
    if app.screen.is_text() {
        app.screen.findings(&examined.findings, &examined.file);
        let errors = examined.findings.iter().filter(|f| f.severity == Severity::Error).count();
        app.screen.answer(&format!("{}: not valid ({})\n", path.display(), counted(errors, "error")))?;
        return Ok((ExitCode::Invalid, None));
    }
    Ok((ExitCode::Invalid, Some(shown::invalid(path, examined.json()))))
}

#[expect(clippy::disallowed_methods, reason = "how long the search took is told, and nothing depends on it")]
fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = what();
    (done, begun.elapsed())
}

mod save;

#[cfg(test)]
mod tests;
