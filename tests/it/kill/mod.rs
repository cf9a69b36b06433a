//! The real program is killed, stopped, interrupted and started twice; every run goes on to the end it would have had,
//! with each effect once (SPEC 6.6, 6.17, 10).

mod courses;
mod everywhere;
mod handlers;
mod limits;
mod operators;
mod processes;
mod random;
mod signals;
