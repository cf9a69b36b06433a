//! The flowrun program: the shipped order process on the command line.

fn main() -> std::process::ExitCode {
    flowrun::cli(flowrun::orders::registry())
}
