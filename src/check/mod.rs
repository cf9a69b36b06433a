//! Every rule of a workflow's meaning, checked before anything runs.
//!
//! Each submodule has one kind of rule and returns all it finds; none stops at the first mistake, and none looks at a
//! handler beyond its contract. What holds only of a run as a whole is for `verify`.

pub mod invariant;

mod context;
mod cycles;
mod facts;
mod flow;
mod infer;
mod literals;
mod names;
mod paths;
mod policies;
mod references;
mod skips;
mod suggest;
pub(crate) mod types;
mod warnings;

use crate::definition::Loaded;
use crate::diag::{Finding, FindingCode, Severity, in_file_order};
use crate::dsl::tree::{FINDINGS_MAX, shorten};
use crate::handlers::contract::Contracts;
use crate::plan;

/// Checks a workflow against what its handlers declare, and returns all findings in file order.
#[must_use]
pub fn check(loaded: &Loaded, contracts: &Contracts) -> Vec<Finding> {
    let cx = context::Context::new(loaded, contracts);
    let mut findings = Vec::new();
    let readings = references::check(&cx, &mut findings);
    let skips = skips::Skips::new(&cx, &readings);
    names::check(&cx, &mut findings);
    cycles::check(&cx, &readings, &skips, &mut findings);
    policies::check(&cx, &skips, &mut findings);
    warnings::missing(&cx, &readings, &skips, &mut findings);
    warnings::unused(&cx, &readings, &mut findings);
    warnings::undos(&cx, &mut findings);
    warnings::divisions(&readings, &mut findings);
    match plan::compile(loaded, contracts) {
        Ok(plan) => warnings::deadline(&cx, &plan, &mut findings),
        // What only the plan finds is a value that does not fit its policy; the rest was said better above.
        Err(more) => {
            let broken = |f: &Finding| findings.iter().any(|g| g.severity == Severity::Error && overlap(f, g));
            // Beyond what is shown nothing is compared, or many mistakes would take time that grows with the square.
            let few = findings.len().min(more.len()) <= FINDINGS_MAX;
            let more: Vec<_> = more
                .into_iter()
                .filter(|_| few)
                .filter(|f| f.code == FindingCode::SettingMisfit && !broken(f))
                .collect();
            findings.extend(more);
        }
    }
    in_file_order(&mut findings);
    shorten(&mut findings);
    findings
}

fn overlap(a: &Finding, b: &Finding) -> bool {
    a.span.start < b.span.end() && b.span.start < a.span.end()
}
