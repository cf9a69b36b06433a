//! Faults (stand-in until merged).
use crate::handlers::contract::ErrorKind;
use crate::machine::event::CallKind;
/// x
#[derive(Debug, Clone)]
pub enum Action {
    /// e
    Error {
        /// e
        error: String,
        /// k
        kind: ErrorKind,
        /// m
        message: Option<String>,
    },
    /// h
    Hang,
    /// h
    ActThenHang,
    /// h
    KillBefore,
    /// h
    KillAfter,
    /// h
    Delay(std::time::Duration),
}
/// x
pub struct CallFacts<'a> {
    /// s
    pub step: &'a str,
    /// h
    pub handler: &'a str,
    /// m
    pub member: &'a str,
    /// i
    pub item: Option<u32>,
    /// k
    pub kind: CallKind,
    /// a
    pub attempt: u32,
}
/// x
#[derive(Debug, Clone, Default)]
pub struct Faults;
impl Faults {
    /// f
    pub fn find(&self, _: &CallFacts<'_>) -> Option<&Action> {
        None
    }
}
