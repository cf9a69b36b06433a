//! Large workflow files, as the command `validate` reads them.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::json;

use super::Row;
use super::kit::{median, ms, now, scratch};

/// Returns the program.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowrun"));
    command.env_remove("FLOWRUN_STORE");
    command
}

pub(crate) fn chain(sizes: &[u64]) -> Vec<Row> {
    let from = |n: u64| if n == 0 { vec!["input".to_owned()] } else { vec![output(n - 1)] };
    sizes.iter().map(|steps| measure(*steps, from)).collect()
}

/// As many layers as each has steps; each step refers to two of the layer before.
pub(crate) fn wide(sizes: &[u64]) -> Vec<Row> {
    let rows = |steps: &u64| {
        let width = steps.isqrt().max(2);
        measure(*steps, |n| {
            if n < width { vec!["input".to_owned()] } else { vec![output(n - width), output(n - n % width - 1)] }
        })
    };
    sizes.iter().map(rows).collect()
}

fn output(step: u64) -> String {
    format!("steps.s{step}.output")
}

/// Returns how long the whole command takes for a file of so many steps; `from` says what each refers to.
fn measure(steps: u64, from: impl Fn(u64) -> Vec<String>) -> Row {
    let mut text = "flowrun: 1\nname: large\nsteps:\n".to_owned();
    for n in 0..steps {
        write!(text, "  s{n}:\n    uses: core.pass\n    with:\n").expect("a String takes it");
        for (at, from) in from(n).iter().enumerate() {
            writeln!(text, "      f{at}: '{{{{ {from} }}}}'").expect("a String takes it");
        }
    }
    let dir = scratch();
    let path = dir.path().join("large.yaml");
    std::fs::write(&path, &text).expect("a file");
    let took = median(|| {
        let begun = now();
        let mut command = command();
        command.arg("validate").arg(&path).args(["--limit", "steps=100000", "--limit", "definition_bytes=100000000"]);
        let output = command.output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        begun.elapsed()
    });
    let each = took.as_secs_f64() * 1e6 / steps as f64;
    vec![
        ("steps", json!(steps)),
        ("file, KiB", json!(text.len() >> 10)),
        ("whole command, ms", ms(took)),
        ("µs a step", json!(each)),
    ]
}
