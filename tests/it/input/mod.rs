//! Bad input (groups F and G of docs/reliability.md): files, inputs, outputs and templates as a careless or a nasty user
//! gives them. What the findings of single mistakes look like is in `tests/cases`.

mod commands;
mod files;
mod fuzz;
mod limits;
mod runs;

use serde_json::{Value, json};

/// Returns a list in a list in a list, so many levels deep.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| Value::Array(vec![inner]))
}
