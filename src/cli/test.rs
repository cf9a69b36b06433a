//! `test`: plays scenarios in virtual time.

use std::path::PathBuf;

use super::app::App;
use super::args::{Format, Test};
use super::exit_code::ExitCode;
use super::problem::Problem;
use super::workflow::FOLDER;
use crate::diag;
use crate::scenario::{self, TestOptions};

/// Plays the scenarios. Each has a runtime of its own, so this must not be called inside one.
pub(super) fn test(app: &App, args: &Test) -> Result<ExitCode, Problem> {
    let default = [PathBuf::from(FOLDER)];
    let paths = if args.paths.is_empty() { &default[..] } else { &args.paths[..] };
    if let Some(missing) = paths.iter().find(|path| !path.exists()) {
        return Err(Problem::not_found(format!("there is nothing at {}", missing.display()))
            .help("Name the test files or folders: `flowrun test PATH...`."));
    }
    let files = scenario::find_files(paths).map_err(Problem::invalid)?;
    if files.is_empty() {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Problem::not_found(format!(
            "there is no test file (*{}) in {}",
            scenario::SUFFIX,
            paths.join(", ")
        )));
    }
    let screen = &app.screen;
    let options = TestOptions { filter: args.filter.clone(), limits: app.limits.clone() };
    let mut codes = Vec::new();
    if screen.format == Format::Jsonl {
        // One after the other, so that each is told as soon as it is known.
        for file in files {
            let summary = scenario::run_files(&[file], &app.registry, &options);
            screen.json(&summary.to_json())?;
            codes.push(summary.exit_code());
        }
    } else {
        let summary = scenario::run_files(&files, &app.registry, &options);
        if screen.is_text() {
            let style = diag::Style { width: screen.width().min(120), colour: screen.out.is_on() };
            screen.answer(&summary.text(style))?;
        } else {
            screen.json(&summary.to_json())?;
        }
        codes.push(summary.exit_code());
    }
    // A file that is not valid hides what its scenarios would say.
    let worst = codes.into_iter().max().unwrap_or(0);
    Ok(ExitCode::of_number(worst).unwrap_or(ExitCode::Bug))
}
