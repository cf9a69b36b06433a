//! The rules of SPEC section 6, each with tests that carry its number.

mod asked;
mod backward;
mod clock;
mod editions;
mod ends;
mod forward;
mod prefixes;
mod shared;
mod storms;
mod transitions;
mod weather;

use std::time::Duration;

/// A second.
const S: Duration = Duration::from_secs(1);
