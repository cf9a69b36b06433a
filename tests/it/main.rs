//! One binary for all tests that look at flowrun from outside.
mod cases;
mod schema;
mod yaml;
