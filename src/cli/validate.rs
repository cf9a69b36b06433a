//! `validate`: checks workflow files without running anything.

use serde_json::{Value, json};

use super::app::App;
use super::args::{Format, Validate};
use super::exit_code::ExitCode;
use super::output::paint::Tone;
use super::problem::Problem;
use super::workflow::{self, counted};
use crate::diag::Severity;

pub(super) fn validate(app: &App, args: &Validate) -> Result<ExitCode, Problem> {
    let files = workflow::files(&args.paths, "validate")?;
    let overrides = workflow::overrides(&args.settings, &app.limits)?;
    let screen = &app.screen;
    let mut all_valid = true;
    let mut shown: Vec<Value> = Vec::new();
    for path in files {
        let examined = workflow::examine_wholly(app, &path, &overrides);
        let valid = examined.is_valid(args.strict);
        all_valid &= valid;
        if screen.is_text() {
            screen.findings(&examined.findings, &examined.file);
            let count = |severity| examined.findings.iter().filter(|f| f.severity == severity).count();
            let mut counts = Vec::new();
            for (severity, word) in [(Severity::Error, "error"), (Severity::Warning, "warning")] {
                let n = count(severity);
                if n > 0 {
                    counts.push(counted(n, word));
                }
            }
            let counts = if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) };
            let (tone, word) = if valid { (Tone::Good, "valid") } else { (Tone::Bad, "not valid") };
            screen.answer(&format!("{}: {}{counts}\n", path.display(), screen.out.text(tone, word)))?;
            continue;
        }
        let file = json!({ "path": path.display().to_string(), "valid": valid, "findings": examined.json() });
        if screen.format == Format::Jsonl {
            screen.json_list("files", &[file])?;
        } else {
            shown.push(file);
        }
    }
    if screen.format == Format::Json {
        screen.json_list("files", &shown)?;
    }
    Ok(workflow::exit_code(all_valid))
}
