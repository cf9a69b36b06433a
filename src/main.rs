//! The program `flowrun`: the command line with the handlers of the shipped order process.

/// Steps are made of many small JSON values, for which this allocator takes half the time of the usual ones.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    flowrun::cli(flowrun::orders::registry())
}
