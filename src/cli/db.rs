//! `db`: looking after the store as a file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::app::App;
use super::args::{Backup, Db, DbVerb, Export, Format};
use super::control::{Answer, Need, Request, Session, holder_of};
use super::exit_code::ExitCode;
use super::output::paint::Tone;
use super::problem::Problem;
use super::runs::no_run;
use super::store::no_store;
use crate::definition::Definition;
use crate::store::check::{self, Report};
use crate::store::compact::{self, Compacted};
use crate::store::journal::StoreError;
use crate::time::{Clock as _, SystemClock};

pub(super) async fn db(app: &App, args: &Db) -> Result<ExitCode, Problem> {
    match &args.verb {
        DbVerb::Check => check(app),
        DbVerb::Backup(args) => backup(app, args).await,
        DbVerb::Compact => compact(app),
        DbVerb::Export(args) => export(app, args).await,
    }
}

/// Computes the fingerprint of a definition as it is stored.
pub(super) fn fingerprint(bytes: &[u8]) -> Option<[u8; 32]> {
    serde_json::from_slice::<Definition>(bytes).ok().map(|definition| definition.fingerprint())
}

/// Returns the problem of a store that only one process may have for this.
fn held(app: &App, what: &str) -> Problem {
    let store = &app.global.store;
    let who = holder_of(store).map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    Problem::conflict(format!("{} is held by {who}, and can only be {what} while nobody has it", store.display()))
        .help("Wait until that process has ended. `flowrun db backup` and `flowrun db export` work meanwhile.")
}

fn check(app: &App) -> Result<ExitCode, Problem> {
    let screen = &app.screen;
    let path = &app.global.store;
    let report = match check::check(path, fingerprint) {
        Err(StoreError::Absent { .. }) => {
            no_store(app);
            if screen.is_text() {
                return Ok(ExitCode::Done);
            }
            // Where nothing is, nothing is wrong.
            Report::default()
        }
        Err(StoreError::Busy { .. }) => return Err(held(app, "checked")),
        other => other?,
    };
    if screen.is_text() {
        let (tone, word) = if report.is_sound() { (Tone::Good, "sound") } else { (Tone::Bad, "damaged") };
        let mut text = format!(
            "{}: {}, {} runs ({} unfinished), {} events, {} definitions\n",
            path.display(),
            screen.out.text(tone, word),
            report.live + report.done,
            report.live,
            report.events,
            report.definitions
        );
        if report.needs_repair {
            text.push_str("it was not closed in order; whoever opens it next repairs that\n");
        }
        for problem in &report.problems {
            text.push_str(&format!("  {}\n", problem.told()));
        }
        screen.answer(&text)?;
    } else {
        let mut shown = json!({ "v": 1, "path": path.display().to_string(), "sound": report.is_sound() });
        if let (Some(map), Ok(Value::Object(rest))) = (shown.as_object_mut(), serde_json::to_value(&report)) {
            map.extend(rest);
        }
        screen.json(&shown)?;
    }
    Ok(if report.is_sound() { ExitCode::Done } else { ExitCode::Store })
}

async fn backup(app: &App, args: &Backup) -> Result<ExitCode, Problem> {
    let target = target(app, &args.target)?;
    let Some(session) = Session::open(app, Need::Read).await? else {
        let store = app.global.store.display();
        return Err(Problem::not_found(format!("there is no store at {store}, and nothing to copy"))
            .help("Another store is named by --store or FLOWRUN_STORE."));
    };
    let copied = session.ask(Request::Backup { to: target.clone() }, &mut |_| {}).await;
    let closed = session.close().await;
    let Answer::Copied(copied) = copied? else {
        return Err(Problem::bug("a backup was answered with something else"));
    };
    closed?;
    let runs = copied.unfinished + copied.finished;
    if app.screen.is_text() {
        let (path, size) = (target.display(), size(copied.bytes));
        let (unfinished, events) = (copied.unfinished, copied.events);
        app.screen.answer(&format!("{path}: {size}, {runs} runs ({unfinished} unfinished), {events} events\n"))?;
    } else {
        app.screen.json(&json!({
            "v": 1, "path": target.display().to_string(), "bytes": copied.bytes,
            "runs": runs, "unfinished": copied.unfinished, "events": copied.events,
        }))?;
    }
    Ok(ExitCode::Done)
}

/// Returns the absolute path of a backup that is to be made.
fn target(app: &App, wanted: &Path) -> Result<PathBuf, Problem> {
    let path = std::path::absolute(wanted).map_err(|e| Problem::usage(format!("{}: {e}", wanted.display())))?;
    let path = if path.is_dir() { path.join(dated(&app.global.store)) } else { path };
    is_free(&path)?;
    Ok(path)
}

/// Returns the name of a store with the time in it.
fn dated(store: &Path) -> String {
    let name = store.file_stem().map_or_else(|| "flowrun".to_owned(), |name| name.to_string_lossy().into_owned());
    let digits = |c: &char| !matches!(c, '-' | ':');
    let time: String = SystemClock.now().to_string().chars().filter(digits).collect();
    let extension = store.extension().map_or_else(String::new, |e| format!(".{}", e.to_string_lossy()));
    format!("{name}-{time}{extension}")
}

/// Makes sure that a file can be made, and that nothing would be replaced.
fn is_free(path: &Path) -> Result<(), Problem> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(Problem::conflict(format!("{} is there already", path.display()))
            .help("Nothing is ever replaced: name another file, or remove this one first."));
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            Err(Problem::usage(format!("there is no folder {}", folder.display()))
                .help(format!("Make it with `mkdir -p {}`.", folder.display())))
        }
        _ => Ok(()),
    }
}

fn compact(app: &App) -> Result<ExitCode, Problem> {
    let screen = &app.screen;
    let path = &app.global.store;
    let done = match compact::compact(path) {
        Err(StoreError::Absent { .. }) => {
            no_store(app);
            if screen.is_text() {
                return Ok(ExitCode::Done);
            }
            Compacted { before: 0, after: 0 }
        }
        Err(StoreError::Busy { .. }) => return Err(held(app, "compacted")),
        other => other?,
    };
    if screen.is_text() {
        let (path, before, after) = (path.display(), size(done.before), size(done.after));
        screen.answer(&format!("{path}: {before} before, {after} after\n"))?;
    } else {
        screen.json(&json!({
            "v": 1, "path": path.display().to_string(), "bytes_before": done.before, "bytes_after": done.after,
        }))?;
    }
    Ok(ExitCode::Done)
}

/// Returns a size for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => {
            let tenths = bytes / (1_048_576 / 10);
            format!("{}.{} MiB", tenths / 10, tenths % 10)
        }
    }
}

async fn export(app: &App, args: &Export) -> Result<ExitCode, Problem> {
    if let Some(path) = &args.to {
        is_free(path)?;
    }
    let Some(session) = Session::open(app, Need::Read).await? else {
        if let Some(run) = &args.run {
            return Err(no_run(app, run));
        }
        no_store(app);
        if app.screen.format == Format::Json && args.to.is_none() {
            app.screen.json_list("events", &[])?;
        }
        return Ok(ExitCode::Done);
    };
    let mut out = Out::open(app, args.to.as_deref())?;
    let (mut at, mut unreadable) = (None, Vec::new());
    let written = loop {
        let page = match session.ask(Request::Export { run: args.run.clone(), at }, &mut |_| {}).await {
            Ok(Answer::Exported(page)) => page,
            Ok(_) => break Err(Problem::bug("an export was answered with something else")),
            Err(problem) => break Err(problem),
        };
        unreadable.extend(page.unreadable);
        match out.page(&page.lines, page.runs) {
            Ok(true) if page.next.is_some() => at = page.next,
            Ok(_) => break Ok(()),
            Err(problem) => break Err(problem),
        }
    };
    let closed = session.close().await;
    written?;
    out.end(app)?;
    closed?;
    if unreadable.is_empty() {
        return Ok(ExitCode::Done);
    }
    Err(Problem::new(ExitCode::Store, "what is damaged was left out")
        .details(unreadable)
        .help("Everything else is there. `flowrun db check` says what is damaged."))
}

/// Where events go: stdout, or a file that gets its name when it is whole.
struct Out {
    to: Box<dyn Write>,
    /// The file as it is called meanwhile, and as it is to be called.
    file: Option<(PathBuf, PathBuf)>,
    /// Whether one object is written around all events.
    whole: bool,
    events: u64,
    runs: u64,
    done: bool,
}

impl Out {
    fn open(app: &App, path: Option<&Path>) -> Result<Self, Problem> {
        let mut out = Self {
            to: Box::new(io::stdout()),
            file: None,
            whole: app.screen.format == Format::Json,
            events: 0,
            runs: 0,
            done: false,
        };
        if let Some(path) = path {
            let mut name = std::ffi::OsString::from(".");
            name.push(path.file_name().unwrap_or_default());
            name.push(format!(".{}.new", uuid::Uuid::new_v4().simple()));
            let temporary = path.with_file_name(name);
            let file = File::options().write(true).create_new(true).mode(0o600).open(&temporary);
            out.to = Box::new(BufWriter::new(file.map_err(|e| unwritable(path, &e))?));
            out.file = Some((temporary, path.to_owned()));
        }
        Ok(out)
    }

    /// Writes a page. Returns whether anybody still reads.
    fn page(&mut self, lines: &[String], runs: u64) -> Result<bool, Problem> {
        let mut text = String::new();
        for line in lines {
            match (self.whole, self.events) {
                (true, 0) => text.push_str("{\"v\":1,\"events\":[\n"),
                (true, _) => text.push_str(",\n"),
                (false, _) => {}
            }
            text.push_str(line);
            if !self.whole {
                text.push('\n');
            }
            self.events += 1;
        }
        self.runs += runs;
        self.write(&text)
    }

    fn write(&mut self, text: &str) -> Result<bool, Problem> {
        match self.to.write_all(text.as_bytes()).and_then(|()| self.to.flush()) {
            Ok(()) => Ok(true),
            // A reader that has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => {
                let path = self.file.as_ref().map_or(Path::new("stdout"), |(_, path)| path);
                Err(unwritable(path, &error))
            }
        }
    }

    /// Ends what is written, and gives a file its name.
    fn end(mut self, app: &App) -> Result<(), Problem> {
        if self.whole {
            self.write(if self.events == 0 { "{\"v\":1,\"events\":[]}\n" } else { "\n]}\n" })?;
        }
        if let Some((temporary, path)) = &self.file {
            let named = File::open(temporary).and_then(|file| file.sync_all());
            named.and_then(|()| fs::rename(temporary, path)).map_err(|e| unwritable(path, &e))?;
            app.screen.say(&format!("{}: {} events of {} runs", path.display(), self.events, self.runs));
        }
        self.done = true;
        Ok(())
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if let (Some((temporary, _)), false) = (&self.file, self.done) {
            // What cannot be removed is in nobody's way: the name is never used again.
            let _ = fs::remove_file(temporary);
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Problem {
    Problem::new(ExitCode::Store, format!("{} cannot be written: {error}", path.display()))
}
