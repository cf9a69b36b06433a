//! The outside of a rehearsal: services that do what they are asked, by the key they are asked with.
//!
//! It simulates services and knows no rule of runs: requests come, some of them late; a service that has one effect per
//! key remembers keys; one that was told to refuse a key refuses it.

use std::collections::BTreeMap;

use crate::handlers::contract::{IfAbsent, Repeat};
use crate::teeth::{Bug, awake};
use crate::verify::findings::Spot;

/// What a service has for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// For which call.
    pub spot: Spot,
    /// What the service does with a second request.
    repeat: Repeat,
    /// How often it stands done.
    pub standing: u32,
    /// It was done at some time.
    pub happened: bool,
    /// It was done and taken back.
    pub taken_back: bool,
    /// Requests that were sent and have not arrived.
    pub on_the_way: u32,
    /// Requests with this key are refused from now on.
    refused: bool,
}

impl Record {
    fn arrive(&mut self) {
        let known = self.repeat == Repeat::Keyed && self.happened && !awake(Bug::RehearsalKeysForgotten);
        if self.refused || known {
            return;
        }
        match self.repeat {
            Repeat::Once | Repeat::Keyed => self.standing += 1,
            Repeat::Safe => self.standing = 1,
        }
        self.happened = true;
    }

    /// Returns what there is when the requests on their way have arrived.
    #[must_use]
    pub fn landed(&self) -> Self {
        let mut landed = self.clone();
        for _ in 0..std::mem::take(&mut landed.on_the_way) {
            landed.arrive();
        }
        landed
    }

    /// Tells whether it stands done, or may come to.
    #[must_use]
    pub fn may_stand(&self) -> bool {
        self.standing > 0 || self.landed().standing > 0
    }

    /// Tells whether it stands done twice, or may come to.
    #[must_use]
    pub fn may_stand_twice(&self) -> bool {
        self.standing > 1 || self.landed().standing > 1
    }
}

/// All services.
#[derive(Clone, Debug, Default)]
pub struct Services {
    records: BTreeMap<String, Record>,
}

impl Services {
    fn record(&mut self, key: &str, spot: Spot, repeat: Repeat) -> &mut Record {
        self.records.entry(key.to_owned()).or_insert_with(|| Record {
            spot,
            repeat,
            standing: 0,
            happened: false,
            taken_back: false,
            on_the_way: 0,
            refused: false,
        })
    }

    /// A request arrives.
    pub(super) fn act(&mut self, key: &str, spot: Spot, repeat: Repeat) {
        self.record(key, spot, repeat).arrive();
    }

    /// A request is sent and does not arrive yet.
    pub(super) fn send(&mut self, key: &str, spot: Spot, repeat: Repeat) {
        self.record(key, spot, repeat).on_the_way += 1;
    }

    /// A request that was sent arrives.
    pub(super) fn land(&mut self, key: &str) {
        if let Some(record) = self.records.get_mut(key).filter(|record| record.on_the_way > 0) {
            record.on_the_way -= 1;
            record.arrive();
        }
    }

    /// Takes back what was done with a key. Returns whether the service says that this worked.
    pub(super) fn take_back(
        &mut self,
        key: &str,
        spot: Spot,
        repeat: Repeat,
        absent: IfAbsent,
        blocks_late: bool,
    ) -> bool {
        let record = self.record(key, spot, repeat);
        if record.standing == 0 && absent == IfAbsent::Error && !awake(Bug::RehearsalAbsenceIsFine) {
            return false;
        }
        if record.standing > 0 {
            record.standing = 0;
            record.taken_back = true;
        }
        record.refused |= blocks_late && !awake(Bug::RehearsalLateNotRefused);
        true
    }

    /// Tells whether a call with this key was done; if not, a late one can be refused.
    pub(super) fn was_done(&mut self, key: &str, spot: Spot, repeat: Repeat, blocks_late: bool) -> bool {
        let record = self.record(key, spot, repeat);
        let done = record.standing > 0;
        record.refused |= blocks_late && !done;
        done
    }

    /// Tells whether a request was ever sent with this key.
    pub(super) fn knows(&self, key: &str) -> bool {
        self.records.contains_key(key)
    }

    /// Returns what there is, by key.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }
}

#[cfg(test)]
mod tests {
    use super::Services;
    use crate::handlers::contract::{IfAbsent, Repeat};
    use crate::verify::findings::Spot;

    const SPOT: Spot = Spot { step: 0, item: None, member: 0 };

    fn after(repeat: Repeat, story: impl FnOnce(&mut Services)) -> super::Record {
        let mut services = Services::default();
        story(&mut services);
        let all: Vec<_> = services.records().cloned().collect();
        let [record] = all.as_slice() else { panic!("one key: {repeat:?}") };
        record.clone()
    }

    #[test]
    fn a_second_request_does_what_the_service_says() {
        for (repeat, standing) in [(Repeat::Once, 2), (Repeat::Safe, 1), (Repeat::Keyed, 1)] {
            let record = after(repeat, |s| (0..2).for_each(|_| s.act("k", SPOT, repeat)));
            assert_eq!(record.standing, standing, "{repeat:?}");
            assert_eq!(record.may_stand_twice(), standing > 1);
        }
    }

    #[test]
    fn a_late_request_stands_after_an_undo_unless_it_is_refused_or_known() {
        let late = |repeat, acted: bool, blocks| {
            after(repeat, |s| {
                s.send("k", SPOT, repeat);
                if acted {
                    s.act("k", SPOT, repeat);
                }
                assert!(s.take_back("k", SPOT, repeat, IfAbsent::Ok, blocks));
            })
            .may_stand()
        };
        for repeat in [Repeat::Once, Repeat::Safe, Repeat::Keyed] {
            assert!(late(repeat, false, false) && !late(repeat, false, true), "{repeat:?}");
            assert!(!late(repeat, true, true), "{repeat:?}");
        }
        assert!(late(Repeat::Safe, true, false) && !late(Repeat::Keyed, true, false));
    }

    #[test]
    fn what_is_absent_cannot_be_taken_back_where_the_service_says_so() {
        let record = after(Repeat::Keyed, |s| {
            assert!(!s.take_back("k", SPOT, Repeat::Keyed, IfAbsent::Error, true));
            s.send("k", SPOT, Repeat::Keyed);
            assert!(!s.was_done("k", SPOT, Repeat::Keyed, false));
            s.land("k");
            assert!(s.was_done("k", SPOT, Repeat::Keyed, true));
            assert!(s.take_back("k", SPOT, Repeat::Keyed, IfAbsent::Error, true));
        });
        assert!(record.taken_back && record.happened && !record.may_stand());
    }
}
