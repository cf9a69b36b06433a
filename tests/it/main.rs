//! One binary for all tests that look at flowrun from outside.
mod abuse;
mod cases;
mod cli;
mod contracts;
mod docs;
mod kill;
mod kit;
mod lab;
mod mutations;
mod plan;
mod program;
mod rules;
mod scenarios;
mod schema;
mod teeth;
mod yaml;
