//! The program `flowrun`: the command line with the handlers of the shipped order process.

/// Steps are made of many small JSON values, which this allocator makes faster; docs/dependencies.md.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    flowrun::cli(flowrun::orders::registry())
}
