//! One binary for all tests that look at flowrun from outside.
mod cases;
mod lab;
mod rules;
mod schema;
mod yaml;
