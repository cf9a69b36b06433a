//! Where the control socket of a store is, and who holds the store.
//!
//! The socket lies beside the store. The path of a unix socket has some 100 bytes; for a store that lies deeper, the
//! socket goes to a folder of the user's own under `$XDG_RUNTIME_DIR` or `/tmp`, under a name made of the store's path.
//! A small file beside the store says where it is and who holds it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cli::control::desk::folder_of;
use crate::store::beside;

/// The longest path that every system takes for a socket, with the zero at its end.
const SOCKET_PATH_MAX: usize = 103;

/// Who holds a store, and where to reach them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    /// The process.
    pub(super) pid: u32,
    /// Its socket.
    pub(super) socket: PathBuf,
}

/// Returns the place of the socket for the store at `store`; makes the folder for it if it is not beside the store.
pub(super) fn socket_for(store: &Path) -> io::Result<PathBuf> {
    let folder = folder_of(store).canonicalize()?;
    let name = store.file_name().unwrap_or_default();
    let beside = beside(&folder.join(name), "sock");
    if beside.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok(beside);
    }
    let own = own_folder()?;
    let hash = Sha256::digest(folder.join(name).as_os_str().as_encoded_bytes());
    let short: String = hash.iter().take(8).map(|b| format!("{b:02x}")).collect();
    Ok(own.join(format!("{short}.sock")))
}

/// Returns a folder that only this user can enter.
fn own_folder() -> io::Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_absolute() && p.is_dir());
    let folder = match runtime.filter(|p| p.as_os_str().len() < 60) {
        Some(runtime) => runtime.join("flowrun"),
        None => PathBuf::from(format!("/tmp/flowrun-{uid}")),
    };
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // Somebody else may have made it first, to listen in.
    let found = fs::symlink_metadata(&folder)?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!("{} is not a folder of this user alone", folder.display())));
    }
    Ok(folder)
}

fn holder_file(store: &Path) -> PathBuf {
    beside(store, "holder")
}

/// Writes down who holds the store.
pub(super) fn write_holder(store: &Path, holder: &Holder) -> io::Result<()> {
    let path = holder_file(store);
    if fs::read(&path).is_ok_and(|found| !found.is_empty() && serde_json::from_slice::<Holder>(&found).is_err()) {
        return Err(io::Error::other(format!("{} is none of flowrun's files", path.display())));
    }
    let new = path.with_extension("holder.new");
    // What a killed process left behind has its own permissions.
    let _ = fs::remove_file(&new);
    let text = serde_json::to_vec(holder).map_err(io::Error::other)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    io::Write::write_all(&mut file, &text)?;
    fs::rename(&new, &path)
}

/// Removes the socket that a killed holder left; whatever else has its name stays.
pub(super) fn remove_old_socket(socket: &Path) {
    if fs::symlink_metadata(socket).is_ok_and(|found| found.file_type().is_socket()) {
        // What is still there is told by whoever wants to make a new one.
        let _ = fs::remove_file(socket);
    }
}

/// Takes back what says who holds the store.
pub(super) fn remove_holder(store: &Path, socket: &Path) {
    // Either may be gone already; what is left behind is replaced by the next holder.
    let _ = fs::remove_file(socket);
    let _ = fs::remove_file(holder_file(store));
}

/// Returns what makes the store's file different from every other: its device and its number there.
pub(super) fn identity(store: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(store).ok()?;
    Some((found.dev(), found.ino()))
}

/// Reads who holds the store, as far as they said so.
pub(super) fn read_holder(store: &Path) -> Option<Holder> {
    let path = holder_file(store);
    let found = fs::metadata(&path).ok()?;
    if found.uid() != rustix::process::getuid().as_raw() || found.len() > 4_096 {
        return None;
    }
    serde_json::from_slice(&fs::read(&path).ok()?).ok()
}

/// Returns the process that holds the store, as far as it can be known.
pub(in crate::cli) fn holder_of(store: &Path) -> Option<u32> {
    pid_of_lock(store).or_else(|| read_holder(store).map(|holder| holder.pid))
}

/// Returns the process that has locked the store's file, as the system knows it.
fn pid_of_lock(store: &Path) -> Option<u32> {
    let inode = fs::metadata(store).ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let file = fields.iter().find(|f| f.split(':').count() == 3)?;
        (file.rsplit(':').next() == Some(&inode)).then(|| fields.get(4)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_store_has_its_socket_elsewhere() {
        let dir = tempfile::tempdir().expect("a folder");
        let near = socket_for(&dir.path().join("flowrun.redb")).expect("a place");
        assert_eq!(near.file_name().and_then(|n| n.to_str()), Some("flowrun.sock"));
        let deep = dir.path().join("d".repeat(60)).join("e".repeat(60));
        fs::create_dir_all(&deep).expect("folders");
        let far = socket_for(&deep.join("flowrun.redb")).expect("a place");
        assert!(far.as_os_str().len() <= SOCKET_PATH_MAX && !far.starts_with(dir.path()), "{}", far.display());
        assert_eq!(far, socket_for(&deep.join("flowrun.redb")).expect("a place"));
        assert_ne!(far, socket_for(&deep.join("other.redb")).expect("a place"));
    }

    #[test]
    fn a_holder_is_found_until_it_leaves() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = dir.path().join("flowrun.redb");
        let holder = Holder { pid: 17, socket: dir.path().join("flowrun.sock") };
        write_holder(&store, &holder).expect("it can be written");
        assert_eq!(read_holder(&store), Some(holder.clone()));
        remove_holder(&store, &holder.socket);
        assert_eq!(read_holder(&store), None);
    }
}
