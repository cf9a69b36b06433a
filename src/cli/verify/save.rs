//! `verify --save-story FILE`: the stories of a workflow's violations, kept as a test file.
//!
//! Only what shows its violation when it is played from the file is kept, and no file is ever written over.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::cli::app::App;
use crate::cli::exit_code::ExitCode;
use crate::cli::output::screen::shell_word;
use crate::cli::problem::Problem;
use crate::definition::{Loaded, Overrides};
use crate::plan::Plan;
use crate::proof::{self, Flaw, Proof};
use crate::scenario::story::{FlawKind, Kept, Story, file_text};
use crate::scenario::{self, SUFFIX};
use crate::verify::findings::Problem as Found;

/// Says at once what would keep the stories of these workflows from being saved.
pub(super) fn check(file: &Path, workflows: &[PathBuf]) -> Result<(), Problem> {
    if workflows.len() > 1 {
        return Err(Problem::usage(format!(
            "--save-story keeps the stories of one workflow, and there are {}",
            workflows.len()
        ))
        .help("Name the workflow: a test file is about one."));
    }
    if !file.to_string_lossy().ends_with(SUFFIX) {
        return Err(Problem::usage(format!(
            "--save-story {}: the name of a test file ends with `{SUFFIX}`",
            file.display()
        ))
        .help("`flowrun test` finds test files by that."));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(Problem::usage(format!(
            "--save-story {}: there is no folder {}",
            file.display(),
            folder.display()
        )));
    }
    if file.symlink_metadata().is_ok() {
        return Err(exists(file));
    }
    Ok(())
}

fn exists(file: &Path) -> Problem {
    Problem::conflict(format!("{} is there already", file.display()))
        .help("It is not written over, because its scenarios may be what keeps a mended flaw from coming back. Name another file.")
}

/// Writes the stories to a file of their own, and says what was kept and what was not.
pub(super) fn save(
    app: &App,
    file: &Path,
    workflow: &Path,
    (loaded, plan, overrides): (&Loaded, &Plan, &Overrides),
    proof: &Proof,
    flaws: &[Flaw<'_>],
) -> Result<(), Problem> {
    let screen = &app.screen;
    let mut kept: Vec<(String, String, Story)> = Vec::new();
    for flaw in flaws {
        let problem = flaw.problem;
        let story = Story::of(plan, &proof.sketch, flaw.course, problem);
        let played = scenario::perform(plan, &loaded.parsed.document, &story);
        let lost = match played {
            Ok((played, _)) if played.problems.contains(problem) => None,
            Ok(_) => Some("it does not come to the same when its handlers are played".to_owned()),
            Err(why) => Some(why),
        };
        match lost {
            None => kept.push((name(proof, problem, &kept), format!("{}. {}", flaw.title, flaw.why), story)),
            Some(why) => screen.say(&format!("not saved: the story of \"{}\": {why}", flaw.title)),
        }
    }
    if kept.is_empty() {
        screen.say(&format!("nothing to save: {} was not written", file.display()));
        return Ok(());
    }
    let stories: Vec<Kept<'_>> = kept
        .iter()
        .map(|(name, description, story)| Kept { name: name.clone(), description: description.clone(), story })
        .collect();
    let overridden = overrides.config.is_some() || !overrides.sets.is_empty();
    let config = overridden.then_some(&loaded.definition.config);
    let text = file_text(&path_from(file, workflow), config, &stories);
    let written =
        File::options().write(true).create_new(true).open(file).and_then(|mut new| new.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => exists(file),
        _ => Problem::new(ExitCode::Store, format!("{} cannot be written: {error}", file.display())),
    })?;
    let many = if kept.len() == 1 { "1 story".to_owned() } else { format!("{} stories", kept.len()) };
    screen.say(&format!("saved {many} to {}", file.display()));
    screen.next("next", &screen.command(&format!("test {}", shell_word(&file.to_string_lossy()))));
    Ok(())
}

/// Names a scenario after what goes wrong, and where.
fn name(proof: &Proof, problem: &Found, known: &[(String, String, Story)]) -> String {
    let base = match proof::about(&proof.sketch, problem) {
        Some(place) => format!("{}_{place}", FlawKind::of(problem).word()),
        None => FlawKind::of(problem).word().to_owned(),
    };
    let taken = |name: &String| known.iter().any(|(other, ..)| other == name);
    let numbered = (2..).map(|n| format!("{base}_{n}"));
    std::iter::once(base.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(base)
}

/// Returns the path of a workflow as it is written in a test file.
fn path_from(file: &Path, workflow: &Path) -> String {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (Ok(folder), Ok(whole)) = (folder.canonicalize(), workflow.canonicalize()) else {
        return workflow.to_string_lossy().into_owned();
    };
    let names = |path: &Path| -> Vec<String> {
        path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let (from, to) = (names(&folder), names(&whole));
    let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", from.len() - same);
    up.chain(to[same..].iter().map(String::as_str)).collect::<Vec<_>>().join("/")
}
