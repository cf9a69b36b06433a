//! Runs on a cluster, looked at from outside: the real program and real Restate servers on this machine.
//!
//! `cargo test --features restate --test cluster`; the servers are installed from the npm registry where there are none.

mod balancer;
#[path = "../it/batch.rs"]
mod batch;
mod chaos;
mod circumstances;
mod lab;
mod people;
#[expect(dead_code, reason = "it serves the tests of the program at large")]
#[path = "../it/program.rs"]
mod program;
mod same;
mod servers;
