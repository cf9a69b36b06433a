//! Batches as users run them: `exec` with JSON Lines.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use flowrun::bench::{STEPS, order, order6};
use serde_json::json;

use super::Row;
use super::files::command;
use super::kit::{memory, now, scratch};

pub(crate) fn batch(sizes: &[u64]) -> Vec<Row> {
    sizes.iter().map(|lines| measure(*lines)).collect()
}

fn measure(lines: u64) -> Row {
    let dir = scratch();
    std::fs::write(dir.path().join("order6.yaml"), order6("core.pass")).expect("a file");
    let file = std::fs::File::create(dir.path().join("orders.jsonl")).expect("a file");
    let mut file = std::io::BufWriter::new(file);
    for n in 0..lines {
        writeln!(file, "{}", json!({ "order": order(&format!("order-{n:07}")) })).expect("it can be written");
    }
    drop(file);
    let mut command = command();
    command.current_dir(dir.path()).args(["exec", "order6.yaml", "--input", "orders.jsonl", "--concurrency", "64"]);
    command.args(["--id", "{{ input.order.order_id }}"]).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = now();
    let mut child = command.spawn().expect("the program starts");
    let mut peak = 0;
    let status = loop {
        // The highest it ever had; nothing is left to be read once it has ended.
        peak = memory(child.id(), "VmHWM").unwrap_or(0).max(peak);
        if let Some(status) = child.try_wait().expect("it is a child") {
            break status;
        }
        pause(Duration::from_millis(2));
    };
    let took = begun.elapsed().as_secs_f64();
    assert!(status.success(), "{status}");
    vec![
        ("lines", json!(lines)),
        ("s", json!(took)),
        ("runs/s", json!(lines as f64 / took)),
        ("steps/s", json!((lines * STEPS) as f64 / took)),
        ("peak memory, MiB", json!(peak >> 10)),
    ]
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
