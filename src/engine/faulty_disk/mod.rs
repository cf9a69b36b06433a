//! The whole engine on a faulty disk: the shipped order process over redb, in virtual time.
mod crash;
mod damage;
mod errors;
mod judge;
mod life;
mod panics;
mod slow;
mod story;
