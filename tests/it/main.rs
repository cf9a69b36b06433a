//! One binary for all tests that look at flowrun from outside.
mod cases;
mod scenarios;
mod schema;
mod yaml;
