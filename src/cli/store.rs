//! `ledger` and `db`: what lies in the store's folder, without running anything.

use serde_json::{Value, json};

use super::app::App;
use super::args::{Db, DbVerb, Ledger};
use super::control::folder_of;
use super::exit_code::ExitCode;
use super::output::paint::Tone;
use super::output::table::{Cell, Table};
use super::problem::Problem;
use crate::definition::Definition;

/// Says that nothing was ever run here.
pub(super) fn no_store(app: &App) {
    let store = app.global.store.display();
    app.screen.say(&format!("there is no store at {store} yet; `{}` makes one", app.screen.command("exec")));
}

pub(super) fn ledger(app: &App, args: &Ledger) -> Result<ExitCode, Problem> {
    let screen = &app.screen;
    let folder = folder_of(&app.global.store);
    let read = app.registry.read_ledger(&folder, args.order.as_deref());
    let entries = match read {
        Some(read) if app.global.store.exists() => {
            read.map_err(|why| Problem::new(ExitCode::Store, format!("the ledger cannot be read: {why}")))?
        }
        Some(_) => {
            no_store(app);
            Vec::new()
        }
        None => {
            screen.say("the handlers of this program keep no ledger");
            Vec::new()
        }
    };
    if !screen.is_text() {
        let entries: Vec<Value> = entries.iter().map(|e| serde_json::to_value(e).unwrap_or_default()).collect();
        screen.json_list("entries", &entries)?;
        return Ok(ExitCode::Done);
    }
    if entries.is_empty() {
        if app.global.store.exists() {
            screen.say("the ledger has no such entry");
        }
        return Ok(ExitCode::Done);
    }
    let mut table = Table::new(&["AT", "ORDER", "EFFECT", "AMOUNT", "KEY"]);
    for entry in entries {
        table.row(vec![
            Cell::new(Tone::Quiet, entry.at.to_string()),
            entry.order_id.into(),
            Cell::new(Tone::Strong, entry.effect),
            entry.amount.map_or_else(String::new, |a| a.to_string()).into(),
            Cell::new(Tone::Quiet, entry.key),
        ]);
    }
    screen.answer(&table.text(screen.out, screen.out_width()))?;
    Ok(ExitCode::Done)
}

pub(super) fn db(app: &App, args: &Db) -> Result<ExitCode, Problem> {
    match args.verb {
        DbVerb::Check => check(app),
    }
}

/// Computes the fingerprint of a definition as it is stored.
fn fingerprint(bytes: &[u8]) -> Option<[u8; 32]> {
    serde_json::from_slice::<Definition>(bytes).ok().map(|definition| definition.fingerprint())
}

fn check(app: &App) -> Result<ExitCode, Problem> {
    let screen = &app.screen;
    let path = &app.global.store;
    let report = match crate::store::check::check(path, fingerprint) {
        Err(crate::store::journal::StoreError::Absent { .. }) => {
            no_store(app);
            if screen.is_text() {
                return Ok(ExitCode::Done);
            }
            // Where nothing is, nothing is wrong.
            crate::store::check::Report::default()
        }
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
            text.push_str(&format!("  {problem}\n"));
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
