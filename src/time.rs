//! Points in time, and where they come from.
//!
//! Everything that waits asks a [`Clock`]; nothing else in flowrun reads the time. Times are UTC milliseconds, as
//! they are recorded in the journal.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::teeth::{Bug, awake};

/// A point in time in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns the point `later` after this one, or the last representable one.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(later.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns how long after `earlier` this point is; nothing if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads an RFC 3339 date and time with an offset.
    ///
    /// # Errors
    /// Says what is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.parse::<jiff::Timestamp>().map(|t| Self(t.as_millisecond())).map_err(|e| e.to_string())
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

/// A future that ends when a time has come.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Returns the present time.
    fn now(&self) -> Timestamp;

    /// Waits until `at` has come; at once if it has passed.
    fn sleep_until(&self, at: Timestamp) -> Sleep;
}

/// The machine's own clock.
///
/// Long waits are cut into pieces of a minute, each judged by the wall clock again, so that a machine that was
/// suspended, or whose clock was set, notices within that time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where the wall clock is read")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(match since_epoch {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        })
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let clock = *self;
        Box::pin(async move { sleep_in_pieces(&clock, at).await })
    }
}

/// A clock that follows the async runtime's own time, which jumps to the next timer when nothing else is left to do.
///
/// Only of use on a runtime that was built with its time paused, as `flowrun test` does.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    start: Timestamp,
    origin: tokio::time::Instant,
}

impl VirtualClock {
    /// Returns a clock that shows `start` now. Must be called inside the runtime.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the runtime's paused time is the source of virtual time")]
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, origin: tokio::time::Instant::now() }
    }
}

impl Clock for VirtualClock {
    #[expect(clippy::disallowed_methods, reason = "the runtime's paused time is the source of virtual time")]
    fn now(&self) -> Timestamp {
        self.start.after(tokio::time::Instant::now() - self.origin)
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let clock = *self;
        Box::pin(async move { sleep_in_pieces(&clock, at).await })
    }
}

/// Waits until `clock` shows `at`: what every clock that goes by the async runtime's time is made of.
#[expect(clippy::disallowed_methods, reason = "the clocks are the one place that sleeps")]
pub async fn sleep_in_pieces(clock: &impl Clock, at: Timestamp) {
    let due = Due::new(clock, at);
    loop {
        let piece = due.left(clock);
        if piece.is_zero() {
            return;
        }
        tokio::time::sleep(piece).await;
    }
}

/// A point in time that somebody waits for.
///
/// The runtime's time stands still while the machine is suspended, and knows nothing of a clock that is set. So the
/// clock is looked at again each minute. One that was set back holds up nobody who only wanted to wait for a while: once
/// as much time has really gone by as there was to wait, the wait is over, whatever the clock shows. (Times that are
/// recorded are judged by the clock alone; the driver of a run looks at it before it acts.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    at: Timestamp,
    begun: tokio::time::Instant,
    whole: Duration,
}

impl Due {
    /// The longest that is waited before the clock is looked at again.
    pub const PIECE: Duration = Duration::from_secs(60);

    /// Begins to wait for `at`.
    #[expect(clippy::disallowed_methods, reason = "the runtime's time tells how long was really waited")]
    pub fn new(clock: &(impl Clock + ?Sized), at: Timestamp) -> Self {
        // The two do not go at quite the same rate.
        const SLACK: Duration = Duration::from_secs(1);
        let whole = at.since(clock.now()).saturating_add(SLACK);
        let whole = if awake(Bug::TimeoutByTheClock) { Duration::MAX } else { whole };
        Self { at, begun: tokio::time::Instant::now(), whole }
    }

    /// Tells whether the time has come.
    pub fn has_come(&self, clock: &(impl Clock + ?Sized)) -> bool {
        self.left(clock).is_zero()
    }

    /// Returns the time that is waited for.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// Returns how long to wait before the clock is looked at again.
    fn left(&self, clock: &(impl Clock + ?Sized)) -> Duration {
        let left = self.at.since(clock.now());
        let really = self.whole.saturating_sub(self.begun.elapsed());
        if awake(Bug::SleepInOnePiece) && !really.is_zero() { left } else { left.min(Self::PIECE).min(really) }
    }
}
