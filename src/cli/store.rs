//! `ledger`: what lies beside the store, and what is said where there is none.

use serde_json::Value;

use super::app::App;
use super::args::Ledger;
use super::control::folder_of;
use super::exit_code::ExitCode;
use super::output::paint::Tone;
use super::output::table::{Cell, Table};
use super::problem::Problem;

/// Says that nothing was ever run here.
pub(super) fn no_store(app: &App) {
    let store = app.global.store.display();
    app.screen.say(&format!("there is no store at {store} yet; `{}` makes one", app.screen.command("exec")));
}

pub(super) fn ledger(app: &App, args: &Ledger) -> Result<ExitCode, Problem> {
    let screen = &app.screen;
    let folder = folder_of(&app.global.store);
    let read = app.registry.read_ledger(&folder, args.order.as_deref());
    let kept = read.is_some();
    let entries = match read {
        Some(read) if app.global.has_runs() => {
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
        if kept && app.global.has_runs() {
            screen.say(if args.order.is_some() { "the ledger has no such entry" } else { "the ledger is empty" });
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
