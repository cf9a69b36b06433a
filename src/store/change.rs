//! What a commit changes, as bytes: the form in which it goes to the writer's thread, and into the log.

use super::bundle::{Bundle, add_part, all_unbundled};
use crate::names::RunKey;

/// So many bytes take as much room in a group as one more commit.
const BYTES_PER_ROOM: usize = 4096;

/// What the fixed part has: run, number of the first event, how many records, their checksum, flags.
const FIXED: usize = 16 + 8 + 4 + 4 + 1;

/// The commit starts its run.
const STARTS: u8 = 1;
/// The start brings its definition.
const DEFINES: u8 = 2;
/// The commit ends its run.
const FINISHES: u8 = 4;

/// A commit whose rows are bytes already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub run: RunKey,
    pub first: u64,
    pub records: Bundle,
    /// Their checksum.
    pub sum: u32,
    pub start: Option<Start>,
    pub finish: Option<Vec<u8>>,
    pub breakers: Vec<(String, Vec<u8>)>,
}

/// What a starting run adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub id: String,
    pub live: Vec<u8>,
    pub fingerprint: [u8; 32],
    /// The definition as a record; absent if the store is known to have it.
    pub definition: Option<Vec<u8>>,
}

impl Change {
    /// Returns how much of a group's room the commit takes.
    pub fn room(&self) -> usize {
        let start = self.start.as_ref().map_or(0, |s| s.live.len() + s.definition.as_ref().map_or(0, Vec::len));
        1 + (self.records.bytes().len() + start) / BYTES_PER_ROOM
    }

    /// Writes all of it behind `out`: parts, each after its length.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (start, definition) =
            (self.start.as_ref(), self.start.as_ref().and_then(|start| start.definition.as_ref()));
        let mut fixed = [0; FIXED];
        fixed[..16].copy_from_slice(self.run.0.as_bytes());
        fixed[16..24].copy_from_slice(&self.first.to_le_bytes());
        fixed[24..28].copy_from_slice(&self.records.count().to_le_bytes());
        fixed[28..32].copy_from_slice(&self.sum.to_le_bytes());
        let flags = [(start.is_some(), STARTS), (definition.is_some(), DEFINES), (self.finish.is_some(), FINISHES)];
        fixed[32] = flags.iter().filter(|(is, _)| *is).map(|(_, flag)| flag).sum();
        add_part(out, &fixed);
        add_part(out, self.records.bytes());
        if let Some(start) = start {
            add_part(out, start.id.as_bytes());
            add_part(out, &start.live);
            add_part(out, &start.fingerprint);
        }
        definition.into_iter().chain(&self.finish).for_each(|part| add_part(out, part));
        for (service, state) in &self.breakers {
            add_part(out, service.as_bytes());
            add_part(out, state);
        }
    }

    /// Reads what [`Self::write`] wrote; nothing if these bytes are something else.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let mut parts = all_unbundled(bytes)?.into_iter();
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes?.to_vec()).ok();
        let fixed: &[u8; FIXED] = parts.next()?.try_into().ok()?;
        let number = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().expect("4 of 33 bytes"));
        let has = |flag: u8| fixed[32] & flag != 0;
        let records = Bundle::of_bytes(parts.next()?, number(24))?;
        let start = if has(STARTS) {
            Some(Start {
                id: text(parts.next())?,
                live: parts.next()?.to_vec(),
                fingerprint: parts.next()?.try_into().ok()?,
                definition: if has(DEFINES) { Some(parts.next()?.to_vec()) } else { None },
            })
        } else {
            None
        };
        let finish = if has(FINISHES) { Some(parts.next()?.to_vec()) } else { None };
        let mut breakers = Vec::new();
        while let Some(service) = parts.next() {
            breakers.push((text(Some(service))?, parts.next()?.to_vec()));
        }
        Some(Self {
            run: RunKey(uuid::Uuid::from_bytes(*fixed.first_chunk().expect("16 of 33 bytes"))),
            first: u64::from_le_bytes(fixed[16..24].try_into().expect("8 of 33 bytes")),
            records,
            sum: number(28),
            start,
            finish,
            breakers,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a commit that has everything that `flags` says.
    pub fn change(n: u128, flags: u8) -> Change {
        let records: Bundle = [b"first".as_slice(), b"", b"third"].into_iter().collect();
        let definition = (flags & DEFINES != 0).then(|| b"definition".to_vec());
        let start = Start { id: format!("order-{n}"), live: b"live".to_vec(), fingerprint: [7; 32], definition };
        Change {
            run: RunKey(uuid::Uuid::from_u128(n)),
            first: 3,
            sum: crc32fast::hash(records.bytes()),
            records,
            start: (flags & STARTS != 0).then_some(start),
            finish: (flags & FINISHES != 0).then(|| b"done".to_vec()),
            breakers: (0..flags >> 3).map(|nth| (format!("service-{nth}"), vec![nth; 3])).collect(),
        }
    }

    #[test]
    fn a_commit_is_read_as_it_was_written_and_nothing_else_is_one() {
        for flags in 0..32 {
            if flags & DEFINES != 0 && flags & STARTS == 0 {
                continue;
            }
            let change = change(u128::from(flags), flags);
            let mut bytes = Vec::new();
            change.write(&mut bytes);
            assert_eq!(Change::of_bytes(&bytes).as_ref(), Some(&change), "{flags}");
            assert!((0..bytes.len()).all(|cut| Change::of_bytes(&bytes[..cut]).as_ref() != Some(&change)), "{flags}");
        }
        assert_eq!(Change::of_bytes(b""), None);
        assert_eq!(Change::of_bytes([b"short".as_slice(), b"x"].into_iter().collect::<Bundle>().bytes()), None);
    }
}
