//! A disk whose writes can be held back.
//!
//! redb writes while it opens a file: it marks it as in use, and repairs it after a crash. A file that turns out not
//! to be ours, or to be of a newer flowrun, must stay as it is; so its writes are kept in memory until somebody has
//! looked inside and says `release`, which performs them in their order, syncs included. A crash in between is
//! then the same as a crash of the repair itself. `db check` never releases.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// The granularity in which held writes are kept; the page size of redb, so that few are split.
const BLOCK: usize = 4096;

/// Leaves all locks, but for the first attempt at an exclusive one, to the backend below, in the field named.
macro_rules! locks_of_below {
    ($($below:ident).+) => {
        fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            self.$($below).+.try_lock_shared_range(start, end)
        }

        fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
            self.$($below).+.lock_range(start, end)
        }

        fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
            self.$($below).+.lock_shared_range(start, end)
        }

        fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
            self.$($below).+.unlock_range(start, end)
        }

        fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            self.$($below).+.query_lock_range(start, end)
        }
    };
}
pub(super) use locks_of_below;

/// A backend that holds writes back until it is released.
#[derive(Debug)]
pub(super) struct Held<B> {
    disk: Arc<Disk<B>>,
}

/// The part of [`Held`] that stays with its maker while redb owns the backend.
#[derive(Debug)]
pub(super) struct Release<B> {
    disk: Arc<Disk<B>>,
}

#[derive(Debug)]
struct Disk<B> {
    inner: B,
    /// Whether locks are to be taken shared, because nothing will ever be written.
    look_only: bool,
    released: AtomicBool,
    held: Mutex<Writes>,
}

#[derive(Debug, Default)]
struct Writes {
    log: Vec<Write>,
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
    /// The length of the disk as it would be; the real one where nothing changed it.
    length: Option<u64>,
    /// Up to where the disk's own bytes still count; all of them where it was never cut.
    valid: Option<u64>,
}

#[derive(Debug)]
enum Write {
    At(u64, Box<[u8]>),
    Length(u64),
    Sync,
}

impl<B: StorageBackend> Held<B> {
    /// Returns a backend over `inner`, and what releases it. With `look_only` it never will be, and takes the locks of
    /// a reader.
    pub fn new(inner: B, look_only: bool) -> (Self, Release<B>) {
        let disk = Arc::new(Disk { inner, look_only, released: AtomicBool::new(false), held: Mutex::default() });
        (Self { disk: Arc::clone(&disk) }, Release { disk })
    }
}

impl<B: StorageBackend> Release<B> {
    /// Performs what was held back, and holds back nothing from now on.
    ///
    /// # Errors
    /// When the disk fails; the file is then as after a crash.
    pub fn release(&self) -> io::Result<()> {
        let mut held = self.disk.writes();
        for write in std::mem::take(&mut *held).log {
            match write {
                Write::At(offset, data) => self.disk.inner.write(offset, &data)?,
                Write::Length(length) => self.disk.inner.set_len(length)?,
                Write::Sync => self.disk.inner.sync_data()?,
            }
        }
        self.disk.released.store(true, Ordering::Release);
        Ok(())
    }
}

impl<B: StorageBackend> Disk<B> {
    fn writes(&self) -> MutexGuard<'_, Writes> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the held writes while they are held.
    fn held(&self) -> Option<MutexGuard<'_, Writes>> {
        if self.released.load(Ordering::Acquire) {
            return None;
        }
        let held = self.writes();
        // It may have been released while the lock was waited for.
        if self.released.load(Ordering::Acquire) { None } else { Some(held) }
    }

    fn length(&self, held: &Writes) -> io::Result<u64> {
        held.length.map_or_else(|| self.inner.len(), Ok)
    }

    /// Reads what is really on the disk and still counts, with zeros behind it.
    fn read_under(&self, valid: Option<u64>, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.inner.len()?.min(valid.unwrap_or(u64::MAX)).saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
        if there > 0 {
            self.inner.read(offset, &mut out[..there])?;
        }
        out[there..].fill(0);
        Ok(())
    }
}

/// Calls `with` for each block that `length` bytes at `offset` touch: its number, the place in it, the place in the data.
fn each_block(
    offset: u64,
    length: usize,
    mut with: impl FnMut(u64, usize, std::ops::Range<usize>) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let at = offset + done as u64;
        let inside = usize::try_from(at % BLOCK as u64).expect("a remainder is below the block's size");
        let part = (BLOCK - inside).min(length - done);
        with(at / BLOCK as u64, inside, done..done + part)?;
        done += part;
    }
    Ok(())
}

fn no_locks() -> io::Error {
    io::Error::other("the file system has no locks; name a store on a local disk with --store")
}

impl<B: StorageBackend> StorageBackend for Held<B> {
    fn len(&self) -> io::Result<u64> {
        match self.disk.held() {
            Some(held) => self.disk.length(&held),
            None => self.disk.inner.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let Some(held) = self.disk.held() else { return self.disk.inner.read(offset, out) };
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| self.disk.length(&held).is_ok_and(|length| end > length)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.disk.read_under(held.valid, offset, out)?;
        each_block(offset, out.len(), |block, inside, range| {
            if let Some(data) = held.blocks.get(&block) {
                let length = range.len();
                out[range].copy_from_slice(&data[inside..inside + length]);
            }
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let Some(mut held) = self.disk.held() else { return self.disk.inner.set_len(length) };
        if length < self.disk.length(&held)? {
            if !length.is_multiple_of(BLOCK as u64) {
                return Err(io::Error::other("a file is only ever cut at a page"));
            }
            // What is cut off reads as zeros if the file grows again, also where the disk still has the old bytes.
            held.blocks.split_off(&(length / BLOCK as u64));
            held.valid = Some(held.valid.map_or(length, |valid| valid.min(length)));
        }
        held.length = Some(length);
        held.log.push(Write::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.disk.held() {
            Some(mut held) => {
                // A sync of nothing would make the file look changed.
                if !held.log.is_empty() {
                    held.log.push(Write::Sync);
                }
                Ok(())
            }
            None => self.disk.inner.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let Some(mut held) = self.disk.held() else { return self.disk.inner.write(offset, data) };
        let (length, valid) = (self.disk.length(&held)?, held.valid);
        each_block(offset, data.len(), |block, inside, range| {
            let kept = match held.blocks.entry(block) {
                std::collections::btree_map::Entry::Occupied(kept) => kept.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => {
                    let mut under = Box::new([0; BLOCK]);
                    if range.len() < BLOCK {
                        self.disk.read_under(valid, block * BLOCK as u64, &mut under[..])?;
                    }
                    free.insert(under)
                }
            };
            kept[inside..inside + range.len()].copy_from_slice(&data[range]);
            Ok(())
        })?;
        held.length = Some(length.max(offset + data.len() as u64));
        held.log.push(Write::At(offset, data.into()));
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.disk.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        let taken = if self.disk.look_only {
            self.disk.inner.try_lock_shared_range(start, end)
        } else {
            self.disk.inner.try_lock_range(start, end)
        };
        // redb goes on without a lock where there are none. Here two processes would then write the same store.
        match taken {
            Err(BackendError::Unsupported) if !self.disk.look_only => Err(BackendError::Io(no_locks())),
            other => other,
        }
    }

    locks_of_below!(disk.inner);
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    fn filled(length: usize) -> Held<InMemoryBackend> {
        held(length).0
    }

    fn held(length: usize) -> (Held<InMemoryBackend>, Release<InMemoryBackend>) {
        let inner = InMemoryBackend::new();
        inner.set_len(length as u64).expect("memory");
        inner.write(0, &vec![1; length]).expect("memory");
        Held::new(inner, false)
    }

    fn read(disk: &impl StorageBackend, offset: u64, length: usize) -> Vec<u8> {
        let mut out = vec![9; length];
        disk.read(offset, &mut out).expect("it is inside");
        out
    }

    #[test]
    fn held_writes_are_read_back_and_not_on_the_disk_until_released() {
        let (disk, release) = held(2 * BLOCK);
        disk.write(BLOCK as u64 - 2, &[5; 4]).expect("held");
        assert_eq!(read(&disk, BLOCK as u64 - 3, 6), [1, 5, 5, 5, 5, 1]);
        assert_eq!(read(&disk.disk.inner, BLOCK as u64 - 3, 6), [1; 6]);

        release.release().expect("memory");
        assert_eq!(read(&disk.disk.inner, BLOCK as u64 - 3, 6), [1, 5, 5, 5, 5, 1]);
        disk.write(0, &[7]).expect("memory");
        assert_eq!(read(&disk.disk.inner, 0, 2), [7, 1]);
    }

    #[test]
    fn a_file_that_was_cut_grows_again_with_zeros() {
        let (disk, release) = held(2 * BLOCK);
        disk.set_len(BLOCK as u64).expect("held");
        assert!(disk.read(BLOCK as u64, &mut [0]).is_err());
        disk.set_len(3 * BLOCK as u64).expect("held");
        assert_eq!(read(&disk, BLOCK as u64 - 1, 2), [1, 0]);
        release.release().expect("memory");
        assert_eq!(read(&disk, BLOCK as u64 - 1, 2), [1, 0]);
        assert_eq!(disk.len().expect("memory"), 3 * BLOCK as u64);
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        let disk = filled(BLOCK);
        assert!(disk.read(1, &mut vec![0; BLOCK]).is_err());
        assert!(disk.read(u64::MAX, &mut [0; 2]).is_err());
    }
}
