//! Our own time, which servers live in.

use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "servers live in real time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "servers live in real time")]
pub(super) async fn sleep(pause: Duration) {
    tokio::time::sleep(pause).await;
}
