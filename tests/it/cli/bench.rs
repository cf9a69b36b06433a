//! `flowrun bench`: what it says, and that it leaves nothing.

use std::fs;
use std::path::Path;

use super::harness::Test;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("readable");
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_benchmark_measures_each_level_and_leaves_nothing() {
    let done = Test::new().args("bench --runs 6 --concurrency 1,2 -o json").run();
    let json = done.json();
    let rows = json["rows"].as_array().expect("a list");
    assert_eq!(rows.iter().map(|row| row["concurrency"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(2)]);
    for row in rows {
        let number = |key: &str| row[key].as_f64().expect("a number");
        assert!(number("floor_per_s") > 0.0 && number("p50_ms") <= number("p99_ms"), "{row}");
        assert!((number("ratio") - number("steps_per_s") / number("floor_per_s")).abs() < 1e-9, "{row}");
        assert_eq!(row["runs"], 6);
    }
    assert_eq!(names(done.dir.path()), [] as [&str; 0]);
}

#[test]
fn a_benchmark_that_is_interrupted_leaves_nothing() {
    for (name, code) in [("-INT", 130), ("-TERM", 143)] {
        let bench = Test::new().args("bench --runs 1000000 --concurrency 8").start();
        let is_under_way =
            || names(bench.dir.path()).iter().any(|n| bench.dir.path().join(n).join("bench.mark").exists());
        while !is_under_way() {
            bench.attempt("list");
        }
        bench.signal(name);
        let ended = bench.end(code);
        assert_eq!(names(ended.dir.path()), [] as [&str; 0]);
        assert!(!ended.stderr.contains("ERROR"), "{}", ended.stderr);
    }
}

#[test]
fn a_benchmark_on_a_disk_that_cannot_be_written_says_so() {
    let done = Test::new().args("bench --runs 1 --concurrency 1 --store /proc/flowrun.redb").code(10).run();
    done.stderr_has("/proc: ");
}
