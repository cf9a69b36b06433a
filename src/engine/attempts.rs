//! The attempts of a run that are under way: which they are, and when each is given up.
//!
//! It owns their timeouts, and holds one timer for all of them: most attempts end long before theirs, and a timer of its
//! own for each would cost more than the rest of a short call. What becomes of an attempt is the driver's to say.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::machine::state::CallIx;
use crate::names::ServiceName;
use crate::teeth::{Bug, awake};
use crate::time::{Clock, Due, Sleep, Timestamp};

/// How long a handler may go on after its attempt was given up, before it is dropped.
const LATE_GRACE: Duration = Duration::from_secs(60);

/// An attempt under way.
pub(super) struct Attempt {
    /// Tells it from all others of this driver: a step that starts afresh numbers its attempts anew.
    pub(super) serial: u64,
    /// The number of the attempt.
    pub(super) attempt: u32,
    /// When it is given up.
    pub(super) until: Due,
    /// Asks its handler to end early.
    pub(super) token: CancellationToken,
    pub(super) task: AbortHandle,
    pub(super) service: Option<ServiceName>,
    pub(super) probe: bool,
}

/// The attempts of a run.
#[derive(Default)]
pub(super) struct Attempts {
    under_way: BTreeMap<CallIx, Attempt>,
    /// Those that were given up and whose handlers may still answer, by their serial.
    given_up: BTreeMap<u64, (Due, AbortHandle)>,
    /// Nothing is due before this.
    earliest: Option<Timestamp>,
    /// What is slept for now. It may end before anything is due: attempts that have ended do not take it back.
    armed: Option<(Timestamp, Sleep)>,
}

impl Attempts {
    /// Tells whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Adds an attempt.
    pub(super) fn begin(&mut self, call: CallIx, attempt: Attempt) {
        self.expect(attempt.until.at());
        self.under_way.insert(call, attempt);
    }

    /// Returns the attempt of a call that is under way.
    pub(super) fn get(&self, call: CallIx) -> Option<&Attempt> {
        self.under_way.get(&call)
    }

    /// Takes an attempt that has answered off the list; none if it had been given up before.
    pub(super) fn answered(&mut self, call: CallIx, serial: u64) -> Option<Attempt> {
        self.given_up.remove(&serial);
        self.under_way.get(&call).filter(|attempt| attempt.serial == serial)?;
        self.under_way.remove(&call)
    }

    /// Takes those off the list whose time is over. Each is asked to end, and may still answer for a while.
    pub(super) fn give_up(&mut self, clock: &dyn Clock) -> Vec<(CallIx, Attempt)> {
        self.given_up.retain(|_, (until, task)| {
            let over = until.has_come(clock);
            if over {
                task.abort();
            }
            !over
        });
        let over: Vec<(CallIx, Attempt)> =
            self.under_way.extract_if(.., |_, attempt| attempt.until.has_come(clock)).collect();
        for (_, attempt) in &over {
            attempt.token.cancel();
            let grace = Due::new(clock, clock.now().after(LATE_GRACE));
            self.given_up.insert(attempt.serial, (grace, attempt.task.clone()));
        }
        let under_way = self.under_way.values().map(|attempt| attempt.until.at());
        self.earliest = under_way.chain(self.given_up.values().map(|(until, _)| until.at())).min();
        over
    }

    /// Waits until something may be due.
    pub(super) async fn due(&mut self, clock: &dyn Clock) {
        let Some(earliest) = self.earliest.filter(|_| !(self.under_way.is_empty() && self.given_up.is_empty())) else {
            (self.earliest, self.armed) = (None, None);
            return std::future::pending().await;
        };
        // The clock may be set meanwhile.
        let soon = clock.now().after(Due::PIECE);
        let until = if awake(Bug::SleepInOnePiece) { earliest } else { earliest.min(soon) };
        if self.armed.as_ref().is_none_or(|(armed, _)| *armed > until) {
            self.armed = Some((until, clock.sleep_until(until)));
        }
        if let Some((_, sleep)) = &mut self.armed {
            sleep.await;
        }
        self.armed = None;
    }

    /// Ends what is under way; gives it back. Those that were given up may still answer for a while, to nobody.
    pub(super) fn end(&mut self, clock: &std::sync::Arc<dyn Clock>) -> Vec<Attempt> {
        let given_up = std::mem::take(&mut self.given_up);
        if let Some(last) = given_up.values().map(|(until, _)| until.at()).max() {
            let sleep = clock.sleep_until(last);
            tokio::spawn(async move {
                sleep.await;
                given_up.into_values().for_each(|(_, task)| task.abort());
            });
        }
        let under_way: Vec<Attempt> = std::mem::take(&mut self.under_way).into_values().collect();
        under_way.iter().for_each(|attempt| attempt.task.abort());
        under_way
    }

    fn expect(&mut self, at: Timestamp) {
        self.earliest = Some(self.earliest.map_or(at, |earliest| earliest.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::event::CallKind;
    use crate::plan::StepIx;
    use crate::time::VirtualClock;

    const CALL: CallIx = CallIx { step: StepIx(0), item: None, member: 0, kind: CallKind::Forward };

    fn attempt(clock: &VirtualClock, serial: u64, seconds: u64) -> (Attempt, tokio::task::JoinHandle<()>) {
        let task = tokio::spawn(std::future::pending());
        let until = Due::new(clock, clock.now().after(Duration::from_secs(seconds)));
        let attempt = Attempt {
            serial,
            attempt: 1,
            until,
            token: CancellationToken::new(),
            task: task.abort_handle(),
            service: None,
            probe: false,
        };
        (attempt, task)
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_given_up_in_time_and_its_handler_dropped_a_minute_later() {
        let clock = VirtualClock::starting_at(Timestamp(0));
        let mut attempts = Attempts::default();
        let (begun, task) = attempt(&clock, 1, 5);
        let token = begun.token.clone();
        attempts.begin(CALL, begun);
        assert!(attempts.give_up(&clock).is_empty());
        attempts.due(&clock).await;
        let over = attempts.give_up(&clock);
        assert_eq!((over.len(), clock.now()), (1, Timestamp(5_000)));
        assert!(token.is_cancelled() && attempts.is_empty() && !task.is_finished());
        attempts.due(&clock).await;
        assert!(attempts.give_up(&clock).is_empty());
        assert_eq!(clock.now(), Timestamp(65_000));
        assert!(task.await.expect_err("it never ends by itself").is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn the_timer_of_an_attempt_that_has_answered_ends_no_other() {
        let clock = VirtualClock::starting_at(Timestamp(0));
        let mut attempts = Attempts::default();
        attempts.begin(CALL, attempt(&clock, 1, 5).0);
        let waited = tokio::time::timeout(Duration::from_secs(1), attempts.due(&clock)).await;
        assert!(waited.is_err(), "nothing is due after a second");
        assert!(attempts.answered(CALL, 1).is_some());
        attempts.begin(CALL, attempt(&clock, 2, 3_600).0);
        assert!(attempts.answered(CALL, 1).is_none(), "it was another attempt of the same call");
        let over = loop {
            attempts.due(&clock).await;
            if let Some((_, over)) = attempts.give_up(&clock).pop() {
                break over;
            }
        };
        assert_eq!((over.serial, clock.now()), (2, Timestamp(3_601_000)));
    }
}
