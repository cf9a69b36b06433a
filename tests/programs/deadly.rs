//! A program of somebody else's, whose handlers panic, overflow their stack, eat all memory, or take the process down:
//! what `tests/it` starts to see what becomes of their runs.

use std::hint::black_box;

use flowrun::{Registry, StepCtx, StepError};
use serde_json::Value;

async fn panic(_: StepCtx, _: Value) -> Result<Value, StepError> {
    panic!("the charger is on fire")
}

fn panic_blocking(_: StepCtx, _: Value) -> Result<Value, StepError> {
    panic!("the printer is on fire")
}

/// Panics with what is no text.
async fn panic_odd(_: StepCtx, _: Value) -> Result<Value, StepError> {
    std::panic::panic_any(17_u8)
}

async fn abort(_: StepCtx, _: Value) -> Result<Value, StepError> {
    std::process::abort()
}

/// Ends the process as if all were well.
async fn exit(_: StepCtx, _: Value) -> Result<Value, StepError> {
    std::process::exit(0)
}

async fn overflow(_: StepCtx, input: Value) -> Result<Value, StepError> {
    fn deeper(depth: u64) -> u64 {
        let frame = black_box([depth; 64]);
        if depth == u64::MAX { 0 } else { deeper(depth + 1).wrapping_add(frame[63]) }
    }
    black_box(deeper(0));
    Ok(input)
}

/// Takes memory until there is none; its caller sees to it that there is an end to it.
async fn hog(_: StepCtx, _: Value) -> Result<Value, StepError> {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(black_box(vec![1; 16 << 20]));
    }
}

fn main() -> std::process::ExitCode {
    let registry = Registry::new()
        .handler("deadly.panic", panic)
        .handler("deadly.panic_blocking", panic_blocking)
        .handler("deadly.panic_odd", panic_odd)
        .handler("deadly.abort", abort)
        .handler("deadly.exit", exit)
        .handler("deadly.overflow", overflow)
        .handler("deadly.hog", hog);
    flowrun::cli(registry)
}
