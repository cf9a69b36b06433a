//! `bench`: what the store's disk gives.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::app::App;
use super::args::{Bench, Format};
use super::exit_code::ExitCode;
use super::output::paint::Tone;
use super::output::table::{Cell, Table};
use super::problem::Problem;
use crate::bench::{BenchError, Row, measure};
use crate::handlers::{Registry, World};
use crate::time::SystemClock;

pub(super) async fn bench(app: &App, args: &Bench) -> Result<ExitCode, Problem> {
    let screen = &app.screen;
    let folder = existing_folder(&app.global.store);
    screen.say(&format!("measuring the disk of {}", folder.display()));
    // Only built-in handlers: what is measured is flowrun, not the user's services.
    let world = World::in_memory(std::sync::Arc::new(SystemClock));
    let handlers = Registry::new()
        .build(&world)
        .map_err(|why| Problem::bug("the built-in handlers do not fit together").details(why))?;
    let mut signals = Signals::listen()?;
    let mut rows = Vec::new();
    let mut code = ExitCode::Done;
    for &concurrency in &args.concurrency {
        screen.say(&screen.err.text(Tone::Quiet, &format!("  {concurrency} in flight ...")));
        let row = match measure(&folder, &handlers, concurrency, args.runs, signals.next()).await.map_err(problem)? {
            ControlFlow::Continue(row) => row,
            ControlFlow::Break(interrupted) => {
                code = interrupted;
                break;
            }
        };
        if screen.format == Format::Jsonl {
            screen.json_list("rows", &[json(&row)])?;
        }
        rows.push(row);
    }
    match screen.format {
        Format::Text if rows.is_empty() => {}
        Format::Text => screen.answer(&table(&rows).text(screen.out, screen.out_width()))?,
        Format::Json => screen.json_list("rows", &rows.iter().map(json).collect::<Vec<_>>())?,
        Format::Jsonl => {}
    }
    Ok(code)
}

/// Ctrl-C and SIGTERM: what was made for measuring is removed before the process ends.
struct Signals {
    ctrl_c: Signal,
    term: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Problem> {
        let failed = |error: std::io::Error| Problem::bug(format!("signals cannot be listened for: {error}"));
        let listen = |kind| signal(kind).map_err(failed);
        Ok(Self { ctrl_c: listen(SignalKind::interrupt())?, term: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> ExitCode {
        tokio::select! {
            _ = self.ctrl_c.recv() => ExitCode::Interrupted,
            _ = self.term.recv() => ExitCode::Terminated,
        }
    }
}

fn json(row: &Row) -> Value {
    serde_json::to_value(row).unwrap_or_default()
}

/// Returns the nearest folder above the store that is there.
fn existing_folder(store: &Path) -> PathBuf {
    let mut above = store.ancestors().skip(1);
    above.find(|folder| folder.is_dir()).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn problem(error: BenchError) -> Problem {
    match error {
        BenchError::Store(error) => error.into(),
        BenchError::Engine(error) => error.into(),
        BenchError::Io { .. } => Problem::new(ExitCode::Store, error.to_string()),
        BenchError::Wrong(_) => Problem::bug(error.to_string()),
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&["IN FLIGHT", "RUNS", "STEPS/S", "RUN P50", "RUN P99", "FLOOR/S", "OF THE FLOOR"]);
    for row in rows {
        table.row(vec![
            row.concurrency.to_string().into(),
            row.runs.to_string().into(),
            Cell::new(Tone::Strong, grouped(row.steps_per_s)),
            milliseconds(row.p50_ms).into(),
            milliseconds(row.p99_ms).into(),
            grouped(row.floor_per_s).into(),
            format!("{:.0} %", row.ratio * 100.0).into(),
        ]);
    }
    table
}

/// Writes a number with a separator between thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn milliseconds(time: f64) -> String {
    if time < 10.0 { format!("{time:.2} ms") } else { format!("{time:.1} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([7.4, 999.6, 12_345.0, 1_234_567.0].map(grouped), ["7", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn the_disk_is_that_of_the_nearest_folder_that_is_there() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(existing_folder(&dir.path().join("not/yet/flowrun.redb")), dir.path());
        assert_eq!(existing_folder(Path::new("flowrun.redb")), Path::new("."));
    }
}
