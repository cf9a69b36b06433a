//! Records put together: each after its length in 4 bytes, little-endian.
//!
//! The records of a commit are put together by whoever made them, and are never copied one by one again; the bundles of
//! several commits are put together in the same way into a row of the table `journal`.

use crate::scratch;

/// Records of a run that go into the store together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    bytes: Vec<u8>,
    count: u32,
}

impl Bundle {
    /// Puts records together as `write` writes them, one for each of `all`.
    pub(crate) fn written<T>(all: impl IntoIterator<Item = T>, mut write: impl FnMut(T, &mut Vec<u8>)) -> Self {
        scratch::with(|bytes| {
            let mut count = 0;
            for one in all {
                add_written(bytes, |bytes| write(one, bytes));
                count += 1;
            }
            Self { bytes: bytes.to_vec(), count }
        })
    }

    /// Returns the bundle that has these bytes and so many records; nothing if they are not that many.
    pub(crate) fn of_bytes(bytes: &[u8], count: u32) -> Option<Self> {
        unbundled(bytes, count).map(|_| Self { bytes: bytes.to_vec(), count })
    }

    /// Returns the records with their lengths, as they are kept.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns how many records there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the records.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        bundles(&self.bytes)
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Bundle {
    fn from_iter<I: IntoIterator<Item = T>>(records: I) -> Self {
        Self::written(records, |record, bytes| bytes.extend_from_slice(record.as_ref()))
    }
}

/// Adds what a bundle is made of.
pub(super) fn add_part(bundle: &mut Vec<u8>, part: &[u8]) {
    bundle.extend_from_slice(&length(part.len()));
    bundle.extend_from_slice(part);
}

/// Adds what `write` writes.
pub(super) fn add_written(bundle: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = bundle.len();
    bundle.extend([0; 4]);
    write(bundle);
    let length = length(bundle.len() - begin - 4);
    bundle[begin..begin + 4].copy_from_slice(&length);
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("limits keep records far below 4 GiB").to_le_bytes()
}

/// Takes the first of what was put together off, and leaves the rest.
fn split_first<'a>(bundle: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bundle.split_first_chunk::<4>()?;
    let (first, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *bundle = rest;
    Some(first)
}

/// Takes a bundle apart; nothing if it has not exactly so many records.
pub(super) fn unbundled(bundle: &[u8], count: u32) -> Option<Vec<&[u8]>> {
    all_unbundled(bundle).filter(|records| records.len() == count as usize)
}

/// Returns all records of a bundle; nothing if it is damaged.
pub(crate) fn all_unbundled(mut bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut records = Vec::new();
    while !bundle.is_empty() {
        records.push(split_first(&mut bundle)?);
    }
    Some(records)
}

/// Returns the bundles that a row of `journal` has, up to where it is damaged.
pub(super) fn bundles(mut row: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || split_first(&mut row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_taken_apart_again_and_nothing_else_is() {
        let records = [b"first".as_slice(), b"", b"third"];
        let bundle: Bundle = records.iter().collect();
        let bytes = bundle.bytes();
        assert_eq!((bundle.count(), bundle.iter().collect::<Vec<_>>()), (3, records.to_vec()));
        assert_eq!(unbundled(bytes, 3), Some(records.to_vec()));
        assert_eq!(unbundled(bytes, 2), None, "something is left over");
        assert_eq!(unbundled(bytes, 4), None, "one is missing");
        assert_eq!(unbundled(&bytes[..bytes.len() - 1], 3), None, "the last is cut off");
        assert_eq!(unbundled(&[0xff; 8], 1), None, "a length that leads outside");
        assert_eq!(Bundle::of_bytes(bytes, 3).as_ref(), Some(&bundle));
        assert_eq!(Bundle::of_bytes(bytes, 2), None);
        let row: Bundle = [bytes, &[], bytes].iter().collect();
        assert_eq!(bundles(row.bytes()).collect::<Vec<_>>(), [bytes, &[], bytes]);
        assert_eq!(bundles(&row.bytes()[..row.bytes().len() - 1]).count(), 2, "up to where it is cut off");
    }
}
