//! `graph`: draws a workflow, or the workflow of a run as it was pinned, with how each step stands.

use super::app::App;
use super::args::{Drawing, Graph, Settings};
use super::control::{Answer, Request};
use super::exit_code::ExitCode;
use super::problem::Problem;
use super::{runs, workflow};
use crate::plan::draw;

pub(super) async fn graph(app: &App, args: &Graph) -> Result<ExitCode, Problem> {
    let width = app.screen.out_width().unwrap_or(100);
    let file = match &args.what {
        None => workflow::find(None),
        Some(word) => workflow::find(Some(word)),
    };
    let text = match (file, &args.what) {
        (Ok(path), _) => {
            let ready = workflow::ready(app, &path, &Settings::default(), workflow::Wanted::default())?;
            match args.drawing {
                Drawing::Ascii => draw::ascii(&ready.plan, &draw::Marks::default(), width),
                Drawing::Mermaid => draw::mermaid(&ready.plan, &draw::Marks::default()),
                Drawing::Dot => draw::dot(&ready.plan, &draw::Marks::default()),
            }
        }
        (Err(problem), None) => return Err(problem),
        (Err(problem), Some(word)) => {
            // What is no workflow may be a run.
            let request = Request::Graph { run: word.clone(), format: args.drawing, width };
            match runs::read(app, request).await {
                Ok(Some(Answer::Text(text))) => text,
                Ok(Some(_)) => return Err(Problem::bug("a drawing was answered with something else")),
                Ok(None) => return Err(problem),
                Err(other) if other.exit == ExitCode::NotFound => {
                    return Err(Problem {
                        message: format!("there is neither a workflow nor a run `{word}`"),
                        ..problem
                    });
                }
                Err(other) => return Err(other),
            }
        }
    };
    if app.screen.is_text() {
        app.screen.answer(&text)?;
    } else {
        app.screen.json(&serde_json::json!({ "v": 1, "graph": text }))?;
    }
    Ok(ExitCode::Done)
}
