//! The scenario files are played on real Restate servers, and must end as they do in one process.
//!
//! It owns the player for a cluster; what a scenario is and how its ending is judged is `crate::scenario`'s alone.
//! `FLOWRUN_SCENARIO` plays only scenarios with that in their name.

mod admin;
mod clock;
mod player;
mod real;
#[expect(dead_code, reason = "tests from outside kill servers as well")]
#[path = "../../../tests/cluster/servers.rs"]
mod servers;
mod worker;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use self::player::Stage;
use self::servers::{Servers, free_ports};
use crate::diag::Style;
use crate::scenario::{self, Failure, ScenarioResult, Summary, TestOptions, judge};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Plays the scenarios of files on a cluster.
fn play_on(nodes: usize, paths: &[PathBuf]) {
    let Some(servers) = Servers::start(nodes) else { return };
    let ingress = (0..nodes).map(|node| servers.ingress(node)).collect::<Vec<_>>().join(",");
    let address = SocketAddr::from(([127, 0, 0, 1], free_ports::<1>()[0]));
    let stage = Stage { ingress, admin: servers.admin(0), address };
    let registry = crate::orders::registry();
    let options = TestOptions { filter: std::env::var("FLOWRUN_SCENARIO").ok(), ..TestOptions::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut played = 0;
    let mut on_stage = |path: &PathBuf| {
        scenario::each_case(path, &registry, &options, |script, effects| {
            let case = script.case;
            let mut result = ScenarioResult {
                name: case.name.clone(),
                description: case.description.clone(),
                took: std::time::Duration::ZERO,
                crash_points: 0,
                prefixes: 0,
                failures: Vec::new(),
            };
            if case.story.is_some() {
                return result;
            }
            let begun = real::now();
            let ending = runtime.block_on(player::play(script, &stage));
            played += 1;
            result.took = ending.took;
            let mismatches = judge::judge(case, &ending, effects, script.limits, false);
            println!(
                "{:>6} ms  {} {}",
                begun.elapsed().as_millis(),
                case.name,
                if mismatches.is_empty() { "" } else { "FAILED" }
            );
            if !mismatches.is_empty() {
                result.failures.push(Failure { crash: None, mismatches, histories: ending.histories });
            }
            result
        })
    };
    let summary = Summary { files: paths.iter().map(&mut on_stage).collect() };
    let text = summary.text(Style::default());
    println!("{text}");
    assert!(played > 0, "no scenario was played");
    assert_eq!(summary.exit_code(), 0, "{text}");
}

#[test]
fn the_order_process_ends_the_same_on_one_node() {
    play_on(1, &[root().join("workflows/tests/ecommerce-order.test.yaml")]);
}

#[test]
fn the_rules_of_runs_are_the_same_on_one_node() {
    play_on(1, &scenario::find_files(&[root().join("tests/scenarios")]).expect("the folder can be read"));
}

#[test]
fn the_order_process_ends_the_same_on_three_nodes() {
    play_on(3, &[root().join("workflows/tests/ecommerce-order.test.yaml")]);
}
