//! The shipped scenarios are played, in virtual time, and a wrong expectation is found out.

use std::path::{Path, PathBuf};

use flowrun::diag::Style;
use flowrun::scenario::{self, Summary, TestOptions, test_schema};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn play(path: PathBuf, filter: Option<&str>) -> Summary {
    let options = TestOptions { filter: filter.map(str::to_owned), ..TestOptions::default() };
    scenario::run_files(&[path], &flowrun::orders::registry(), &options)
}

#[test]
fn the_order_process() {
    let filter = std::env::var("FLOWRUN_SCENARIO").ok();
    let summary = play(root().join("workflows/tests/ecommerce-order.test.yaml"), filter.as_deref());
    let text = summary.text(Style::default());
    println!("{text}");
    assert_eq!(summary.exit_code(), 0, "{text}");
}

#[test]
fn every_test_file_is_played() {
    let found = scenario::find_files(&[root().join("workflows")]).expect("the folder can be read");
    assert_eq!(found, [root().join("workflows/tests/ecommerce-order.test.yaml")], "add a test for the new file");
}

#[test]
fn the_schema_file_is_current() {
    let path = root().join("schemas/test.schema.json");
    let mut current = serde_json::to_string_pretty(&test_schema()).expect("a schema is JSON");
    current.push('\n');
    if std::env::var_os("FLOWRUN_BLESS").is_some() {
        std::fs::write(&path, &current).expect("the schema can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == current, "schemas/test.schema.json is stale: FLOWRUN_BLESS=1 cargo test --test it");
    assert!(jsonschema::meta::is_valid(&test_schema()));
}
