//! The mark beside a store: how far it had come, so that an older copy in its place is noticed.
//!
//! A restored copy does not know what was done after it was made. Nothing inside it can tell, so a small file beside
//! it says how many commits the store had, written after each commit. It is not synced: a commit is durable before
//! the mark says so, so after a loss of power the mark may be behind the store, and never ahead of it. A mark that
//! cannot be read, or that belongs to another store, says nothing.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::time::Timestamp;

/// The length of a mark; it is overwritten whole.
const LENGTH: usize = 77;

/// What every mark begins with.
const BEGIN: &[u8] = b"flowrun 1 ";

/// What a store that was opened may not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// An older copy lies where the store was: so many commits are not in it.
    Older {
        /// How many.
        missing: u64,
    },
    /// It is a copy that `db backup` made, and this is the first time that it is used.
    Backup {
        /// When it was made.
        made_at: Timestamp,
    },
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marked {
    /// Which store.
    pub store: [u8; 16],
    /// The number of its next commit.
    pub next: u64,
}

impl Marked {
    fn text(self) -> String {
        let body = format!("flowrun 1 {} {:020} ", uuid::Uuid::from_bytes(self.store), self.next);
        format!("{body}{:08x}\n", crc32fast::hash(body.as_bytes()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ').skip(2);
        let store = *uuid::Uuid::parse_str(words.next()?).ok()?.as_bytes();
        let marked = Self { store, next: words.next()?.parse().ok()? };
        // The rest, the checksum above all, must be what would be written.
        (marked.text() == text).then_some(marked)
    }
}

/// Returns where the mark of the store at `path` is. A link to a store has the mark of what it leads to.
fn place(path: &Path) -> PathBuf {
    super::beside(&path.canonicalize().unwrap_or_else(|_| path.to_owned()), "mark")
}

/// Reads the mark of the store at `path`, as far as there is one.
pub(super) fn read(path: &Path) -> Option<Marked> {
    Marked::parse(&fs::read_to_string(place(path)).ok()?)
}

/// Writes the mark of a store.
#[derive(Debug)]
pub(super) struct Marker {
    path: PathBuf,
    store: [u8; 16],
    file: Option<File>,
    /// Whether it was given up: it is a help, and never worth a failed commit.
    failed: bool,
}

impl Marker {
    /// Returns what marks the store at `path`.
    pub fn of(path: &Path, store: [u8; 16]) -> Self {
        Self { path: place(path), store, file: None, failed: false }
    }

    /// Notes how far the store has come; what is noted must be durable.
    pub fn note(&mut self, next: u64) {
        if self.failed {
            return;
        }
        if let Err(error) = self.write(next) {
            tracing::warn!(
                path = %self.path.display(), %error,
                "it cannot be noted how far the store has come; an older copy in its place would not be noticed"
            );
            self.failed = true;
        }
    }

    fn write(&mut self, next: u64) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let mut options = File::options();
                let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
                if !is_ours(&file)? {
                    return Err(io::Error::other("the file is none of flowrun's"));
                }
                if file.metadata()?.len() != LENGTH as u64 {
                    file.set_len(0)?;
                }
                self.file.insert(file)
            }
        };
        file.write_all_at(Marked { store: self.store, next }.text().as_bytes(), 0)
    }
}

/// Tells whether a file is a mark, whole or torn, or nothing yet. Somebody else's is never written to.
fn is_ours(mut file: &File) -> io::Result<bool> {
    let mut begin = Vec::new();
    file.by_ref().take(BEGIN.len() as u64).read_to_end(&mut begin)?;
    Ok(BEGIN.starts_with(&begin) || begin.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_or_says_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("flowrun.redb");
        fs::write(&path, b"x").expect("written");
        assert_eq!(read(&path), None);
        let mut marker = Marker::of(&path, [7; 16]);
        for next in [3, u64::MAX, 4] {
            marker.note(next);
            assert_eq!(read(&path), Some(Marked { store: [7; 16], next }));
        }
        let text = fs::read_to_string(place(&path)).expect("it is there");
        assert_eq!(text.len(), LENGTH);
        for damaged in [text.replace('4', "5"), text[..40].to_owned(), String::new(), format!("{text}x")] {
            fs::write(place(&path), damaged).expect("written");
            assert_eq!(read(&path), None);
        }
        // What a torn write or a loss of power left is replaced; what somebody else wrote is not.
        for torn in ["flowrun 1 x", "flow", "\0\0\0\0"] {
            fs::write(place(&path), torn).expect("written");
            Marker::of(&path, [8; 16]).note(9);
            assert_eq!(read(&path), Some(Marked { store: [8; 16], next: 9 }));
        }
        fs::write(place(&path), "my notes").expect("written");
        Marker::of(&path, [8; 16]).note(9);
        assert_eq!(fs::read_to_string(place(&path)).expect("it is there"), "my notes");
    }
}
