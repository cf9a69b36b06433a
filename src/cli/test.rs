//! `test`: plays the scenarios of test files.

use std::path::PathBuf;

use super::app::App;
use super::args::{Format, Test};
use super::exit_code::ExitCode;
use super::problem::Problem;
use crate::scenario::{self, Summary, TestOptions};

pub(super) fn test(app: &App, args: &Test) -> Result<ExitCode, Problem> {
    let here = [PathBuf::from(".")];
    let paths = if args.paths.is_empty() { &here[..] } else { &args.paths };
    let files = scenario::find_files(paths).map_err(Problem::not_found)?;
    if files.is_empty() {
        return Err(Problem::not_found("there is no test file here")
            .help(format!("Scenarios stand in files that end with `{}`.", scenario::SUFFIX)));
    }
    let options = TestOptions { filter: args.filter.clone(), limits: app.limits.clone(), prefixes: 0 };
    let screen = &app.screen;
    let mut all = Summary::default();
    for file in files {
        let played = scenario::run_files(&[file], &app.registry, &options);
        for result in &played.files {
            if !screen.is_text() {
                if screen.format == Format::Jsonl {
                    screen.json_list("files", &[result.to_json()])?;
                }
                continue;
            }
            for (source, findings) in &result.findings {
                screen.findings(findings, source);
            }
            if !result.scenarios.is_empty() {
                screen.answer(&result.text(screen.out.is_on()))?;
            }
        }
        all.files.extend(played.files);
    }
    if screen.is_text() {
        screen.answer(&all.closing())?;
    } else if screen.format == Format::Json {
        screen.json(&all.to_json())?;
    }
    let (passed, failed) = all.counts();
    if let (0, 0, 0, Some(filter)) = (all.exit_code(), passed, failed, &args.filter) {
        return Err(Problem::not_found(format!("no scenario has `{filter}` in its name")));
    }
    ExitCode::of_number(all.exit_code()).ok_or_else(|| Problem::bug("scenarios ended in no known way"))
}
