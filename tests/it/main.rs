//! One binary for all tests that look at flowrun from outside.
mod cases;
mod lab;
mod rules;
mod contracts;
mod mutations;
mod plan;
mod schema;
mod yaml;
