//! The program from outside: its exit codes, its JSON, its two streams.
mod batch;
mod bench;
mod codes;
mod db;
mod harness;
mod holder;
mod json;
mod text;
