//! One binary for all tests that look at flowrun from outside.
mod cases;
mod contracts;
mod kill;
mod lab;
mod mutations;
mod plan;
mod program;
mod rules;
mod scenarios;
mod schema;
mod yaml;
