//! One binary for all tests that look at flowrun from outside.
mod cases;
mod contracts;
mod mutations;
mod plan;
mod schema;
mod yaml;
