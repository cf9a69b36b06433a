//! `handlers`, `schema`, `completions`: what this program knows, without any store.

use clap::CommandFactory as _;
use serde_json::Value;

use super::app::App;
use super::args::{self, Cli, SchemaKind};
use super::exit_code::ExitCode;
use super::output::paint::Tone;
use super::output::show::pretty;
use super::output::table::{Cell, Table};
use super::problem::Problem;
use crate::handlers::contract::{Contract, IfAbsent, Repeat};
use crate::suggest::nearest;

pub(super) fn handlers(app: &App, args: &args::Handlers) -> Result<ExitCode, Problem> {
    let screen = &app.screen;
    if let Some(name) = &args.name {
        let Some(contract) = app.contracts.get(name.as_str()) else {
            let problem = Problem::not_found(format!("there is no handler `{name}`"));
            return Err(match nearest(name, app.contracts.keys().map(|n| n.as_str())) {
                Some(meant) => problem.help(format!("Did you mean `{meant}`?")),
                None => problem.help("`flowrun handlers` lists all of them."),
            });
        };
        if screen.is_text() {
            screen.answer(&one(app, contract))?;
        } else {
            screen.json(&shown(contract))?;
        }
        return Ok(ExitCode::Done);
    }
    if !screen.is_text() {
        let all: Vec<Value> = app.contracts.values().map(|c| shown(c)).collect();
        screen.json_list("handlers", &all)?;
        return Ok(ExitCode::Done);
    }
    let mut table = Table::new(&["HANDLER", "EFFECT", "REPEAT", "DESCRIPTION"]);
    for contract in app.contracts.values() {
        table.row(vec![
            Cell::new(Tone::Strong, contract.name.as_str()),
            effect(contract).into(),
            if has_effect(contract) { repeat(contract).into() } else { "".into() },
            contract.description.clone().unwrap_or_default().into(),
        ]);
    }
    screen.answer(&table.text(screen.out, screen.out_width()))?;
    Ok(ExitCode::Done)
}

fn has_effect(contract: &Contract) -> bool {
    contract.effect.is_some() || contract.undoes.is_some()
}

fn effect(contract: &Contract) -> String {
    match (&contract.effect, &contract.undoes) {
        (Some(effect), _) => effect.clone(),
        (None, Some(undoes)) => format!("undoes {}", undoes.effect),
        (None, None) if contract.confirms => "confirms".to_owned(),
        (None, None) => "reads".to_owned(),
    }
}

fn repeat(contract: &Contract) -> &'static str {
    match contract.repeat {
        Repeat::Once => "once",
        Repeat::Safe => "safe",
        Repeat::Keyed => "keyed",
    }
}

fn shown(contract: &Contract) -> Value {
    let mut value = serde_json::to_value(contract).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.shift_insert(0, "v".into(), 1.into());
        // `as` cannot name a field in Rust.
        if let Some(undoes) = map.get_mut("undoes").and_then(Value::as_object_mut)
            && let Some(name) = undoes.remove("as_")
        {
            undoes.insert("as".into(), name);
        }
    }
    value
}

fn one(app: &App, contract: &Contract) -> String {
    let paint = app.screen.out;
    let mut out = format!("{}\n", paint.text(Tone::Strong, contract.name.as_str()));
    if let Some(description) = &contract.description {
        out.push_str(&format!("{description}\n"));
    }
    out.push('\n');
    let mut table = Table::new(&[]);
    let mut row = |word: &str, text: String| table.row(vec![Cell::new(Tone::Quiet, word), text.into()]);
    match (&contract.effect, &contract.undoes) {
        (Some(effect), _) => row("effect", effect.clone()),
        (None, Some(undoes)) => {
            row("undoes", format!("{} (as {})", undoes.effect, undoes.as_));
            let absent = if undoes.if_absent == IfAbsent::Ok { "succeeds" } else { "fails" };
            row("if absent", format!("{absent} when there is nothing to undo"));
        }
        (None, None) => row("effect", "none: it only reads".to_owned()),
    }
    let twice = match contract.repeat {
        Repeat::Once if !has_effect(contract) => "without an effect it can be called again",
        Repeat::Once => "once: calling it twice does it twice",
        Repeat::Safe => "safe: calling it twice leaves the same state",
        Repeat::Keyed => "keyed: it has one effect per idempotency key",
    };
    row("repeat", twice.to_owned());
    if contract.confirms {
        row("confirm", "answers whether a call was done".to_owned());
    }
    if contract.blocks_late {
        row("late", "a late original is refused afterwards".to_owned());
    }
    let errors: Vec<String> = contract
        .errors
        .iter()
        .map(|(code, kind)| match kind {
            Some(kind) => format!(
                "{code} ({})",
                serde_json::to_value(kind).ok().and_then(|k| k.as_str().map(str::to_owned)).unwrap_or_default()
            ),
            None => code.to_string(),
        })
        .chain(contract.any_error.then(|| "any other".to_owned()))
        .collect();
    if !errors.is_empty() {
        row("errors", errors.join(", "));
    }
    out.push_str(&table.text(paint, None));
    for (name, schema) in [("INPUT", &contract.input), ("OUTPUT", &contract.output)] {
        out.push_str(&format!("\n{}\n{}\n", paint.text(Tone::Quiet, name), pretty(schema)));
    }
    out
}

pub(super) fn schema(app: &App, args: &args::Schema) -> Result<ExitCode, Problem> {
    let schema = match args.kind {
        SchemaKind::Workflow => crate::dsl::schema::workflow_schema(),
        SchemaKind::Faults => schemars::schema_for!(crate::faults::FaultsFile).to_value(),
        SchemaKind::Test => crate::scenario::test_schema(),
    };
    app.screen.json(&schema)?;
    Ok(ExitCode::Done)
}

pub(super) fn completions(app: &App, args: &args::Completions, program: &str) -> Result<ExitCode, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), program, &mut script);
    app.screen.answer(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::Done)
}
