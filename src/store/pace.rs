//! How large a group of commits is: the estimate of how many runs are about to send one, for which it waits, and how many
//! it may have.
//!
//! Pure counting. Runs that wait for an hour must not make everybody else linger, so only those count that were seen
//! in the last two groups: with fewer than all in each, two halves alternate.

use std::time::Duration;

/// So many commits a group may always have: more make it hardly cheaper for each, and while these are written others can
/// get on. What is under way at once is about two groups, which still find what they work with in the processors' caches.
const USUAL: usize = 128;

/// The most that a group may have, however slow the disk is.
const MOST: usize = 16_384;

/// The time of the disk that each commit of a group may cost.
const SHARE: Duration = Duration::from_micros(2);

/// Counts the runs of the last two groups.
#[derive(Debug, Default)]
pub(super) struct Pace {
    group: u64,
    /// Runs last seen in the present group, and in the one before, without those that have finished.
    present: usize,
    before: usize,
    /// Runs that finished in the present group; whoever starts the next one may be waiting for that.
    finished: usize,
    runs: usize,
    /// How long the disk took for the last group.
    disk: Duration,
}

impl Pace {
    /// Notes how long the disk took for a group.
    pub fn took(&mut self, disk: Duration) {
        self.disk = disk;
    }

    /// Returns how much room the next group has.
    pub fn room(&self) -> usize {
        let shares = self.disk.as_micros() / SHARE.as_micros();
        usize::try_from(shares).unwrap_or(MOST).clamp(USUAL, MOST)
    }

    /// Begins the next group and returns its number.
    pub fn begin(&mut self) -> u64 {
        self.group += 1;
        self.before = std::mem::take(&mut self.present);
        self.finished = 0;
        self.runs = 0;
        self.group
    }

    /// Notes that a run has a commit in the present group; `last` is the group it had one in before.
    pub fn saw(&mut self, last: Option<u64>) {
        match last {
            Some(last) if last == self.group => return,
            Some(last) if last + 1 == self.group => self.before = self.before.saturating_sub(1),
            _ => {}
        }
        self.present += 1;
        self.runs += 1;
    }

    /// Notes that a run seen in the present group is final.
    pub fn finished(&mut self) {
        self.present = self.present.saturating_sub(1);
        self.finished += 1;
    }

    /// Returns how many commits the next group may get if it is waited for.
    pub fn expected(&self) -> usize {
        // After a lone run nobody is waited for; where many run at once, a finished one is followed by the next.
        let followers = if self.runs > 1 { self.finished } else { 0 };
        self.present + self.before + followers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_disk_gets_larger_groups() {
        let mut pace = Pace::default();
        for (micros, room) in [(0, USUAL), (100, USUAL), (1_000, 500), (10_000, 5_000), (1_000_000, MOST)] {
            pace.took(Duration::from_micros(micros));
            assert_eq!(pace.room(), room);
        }
    }

    #[test]
    fn a_lone_run_waits_for_nobody() {
        let mut pace = Pace::default();
        let mut last = None;
        for _ in 0..5 {
            assert!(pace.expected() <= 1);
            let group = pace.begin();
            pace.saw(last);
            last = Some(group);
        }
        pace.finished();
        assert_eq!(pace.expected(), 0);
        pace.begin();
        pace.saw(None);
        assert_eq!(pace.expected(), 1);
    }

    #[test]
    fn two_halves_that_alternate_are_brought_together() {
        let mut pace = Pace::default();
        let first = pace.begin();
        (0..32).for_each(|_| pace.saw(None));
        pace.begin();
        (0..32).for_each(|_| pace.saw(None));
        assert_eq!(pace.expected(), 64);
        let third = pace.begin();
        (0..32).for_each(|_| pace.saw(Some(first)));
        (0..32).for_each(|_| pace.saw(Some(first + 1)));
        assert_eq!(pace.expected(), 64);
        pace.begin();
        (0..64).for_each(|_| pace.saw(Some(third)));
        assert_eq!(pace.expected(), 64);
    }

    #[test]
    fn finished_runs_are_expected_to_be_followed() {
        let mut pace = Pace::default();
        let group = pace.begin();
        (0..64).for_each(|_| pace.saw(None));
        (0..10).for_each(|_| pace.finished());
        assert_eq!(pace.expected(), 64);
        pace.begin();
        (0..54).for_each(|_| pace.saw(Some(group)));
        assert_eq!(pace.expected(), 54);
    }

    #[test]
    fn runs_that_wait_are_forgotten_after_two_groups() {
        let mut pace = Pace::default();
        let mut last = pace.begin();
        (0..1000).for_each(|_| pace.saw(None));
        for _ in 0..2 {
            let group = pace.begin();
            pace.saw(Some(last));
            last = group;
        }
        assert_eq!(pace.expected(), 1);
    }

    #[test]
    fn two_commits_of_one_run_in_a_group_count_once() {
        let mut pace = Pace::default();
        let group = pace.begin();
        pace.saw(None);
        pace.saw(Some(group));
        assert_eq!(pace.expected(), 1);
    }
}
