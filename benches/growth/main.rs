//! What work costs as it grows: one curve for each thing that can become large. `docs/benchmarks.md` says what each
//! curve shows.
//!
//! Here are the arguments and the tables. How a curve is measured stands in the module of its subject.

mod batch;
mod files;
mod kit;
mod runs;
mod store;
mod waiting;

use serde_json::{Value, json};

/// The same as in the program `flowrun`.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What was measured of one size.
type Row = Vec<(&'static str, Value)>;

/// A curve: its name, what it shows, the sizes it has unless others are given, and how one size is measured.
struct Curve {
    name: &'static str,
    title: &'static str,
    sizes: &'static [u64],
    measure: fn(&[u64]) -> Vec<Row>,
}

const CURVES: [Curve; 8] = [
    Curve {
        name: "chain",
        title: "Steps one after the other, one run in flight",
        sizes: &[10, 100, 1_000],
        measure: runs::chain,
    },
    Curve {
        name: "fan-out",
        title: "Items of a `foreach`, 16 at once",
        sizes: &[10, 100, 1_000, 10_000],
        measure: runs::fan_out,
    },
    Curve {
        name: "payload",
        title: "Bytes of a step's input and output",
        sizes: &[100, 1 << 10, 10 << 10, 100 << 10, 1_000 << 10],
        measure: runs::payload,
    },
    Curve {
        name: "finished",
        title: "Finished runs in the store",
        sizes: &[0, 100_000, 1_000_000, 5_000_000],
        measure: store::finished,
    },
    Curve {
        name: "waiting",
        title: "Waiting runs taken up by one process",
        sizes: &[10, 1_000, 10_000, 100_000],
        measure: waiting::waiting,
    },
    Curve {
        name: "validate-chain",
        title: "`flowrun validate`, steps one after the other",
        sizes: &[10, 100, 1_000, 10_000],
        measure: files::chain,
    },
    Curve {
        name: "validate-wide",
        title: "`flowrun validate`, steps in layers",
        sizes: &[10, 100, 1_000, 10_000],
        measure: files::wide,
    },
    Curve {
        name: "batch",
        title: "`flowrun exec` with so many lines of input",
        sizes: &[1_000, 10_000, 100_000],
        measure: batch::batch,
    },
];

fn main() {
    // `cargo bench` adds an argument of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [mode, rest @ ..] = words.as_slice()
        && mode == waiting::CHILD
    {
        return waiting::child(rest);
    }
    let (mut wanted, mut sizes, mut as_json) = (Vec::new(), None, false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--sizes" => sizes = Some(words.next().expect("--sizes is followed by numbers").as_str()),
            "-o" => as_json = words.next().is_some_and(|format| format == "json"),
            name => wanted.push(name),
        }
    }
    let sizes: Option<Vec<u64>> =
        sizes.map(|sizes| sizes.split(',').map(|size| size.parse().expect("a size is a number")).collect());
    let is_wanted = |curve: &&Curve| wanted.iter().any(|name| *name == "all" || *name == curve.name);
    let curves: Vec<&Curve> = CURVES.iter().filter(is_wanted).collect();
    if curves.is_empty() {
        let names: Vec<&str> = CURVES.iter().map(|curve| curve.name).collect();
        eprintln!("which curve? all, or one of: {}", names.join(", "));
        std::process::exit(2);
    }
    let mut measured = Vec::new();
    for curve in curves {
        let rows = (curve.measure)(sizes.as_deref().unwrap_or(curve.sizes));
        if as_json {
            let rows: Vec<Value> = rows.into_iter().map(object).collect();
            measured.push(json!({ "curve": curve.name, "rows": rows }));
        } else {
            print_table(curve, &rows);
        }
    }
    if as_json {
        println!("{}", json!({ "v": 1, "curves": measured }));
    }
}

fn object(row: Row) -> Value {
    Value::Object(row.into_iter().map(|(column, value)| (column.to_owned(), value)).collect())
}

/// Prints a table that can be put into a document as it is.
fn print_table(curve: &Curve, rows: &[Row]) {
    println!("**{}** (`{}`)\n", curve.title, curve.name);
    let Some(first) = rows.first() else { return };
    let line = |cells: Vec<String>| println!("| {} |", cells.join(" | "));
    line(first.iter().map(|(column, _)| (*column).to_owned()).collect());
    line(first.iter().map(|_| "---".to_owned()).collect());
    for row in rows {
        line(row.iter().map(|(_, value)| kit::shown(value)).collect());
    }
    println!();
}
