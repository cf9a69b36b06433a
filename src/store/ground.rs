//! What kind of file system a store lies on, as far as that is a reason to worry.

use std::path::Path;

/// Returns what must be known about the place of the store at `path`: that it is lost with the power, or that other
/// machines may write to it.
pub(super) fn concern(path: &Path) -> Option<&'static str> {
    #[cfg(target_os = "linux")]
    {
        let kind = rustix::fs::statfs(path).ok()?.f_type;
        // The numbers of the kernel have 32 bits; the type that holds them is larger, and signed in places.
        concern_of(u32::try_from(kind & 0xffff_ffff).ok()?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        None
    }
}

/// Returns what must be known about a file system by its number in the kernel.
#[cfg(any(target_os = "linux", test))]
fn concern_of(kind: u32) -> Option<&'static str> {
    match kind {
        // tmpfs, ramfs
        0x0102_1994 | 0x8584_58f6 => Some("lies in memory, and is gone when the machine stops"),
        // nfs, smb, cifs, smb2, afs, ceph, 9p
        0x6969 | 0x517b | 0xff53_4d42 | 0xfe53_4d42 | 0x5346_414f | 0x00c3_6400 | 0x0102_1997 => {
            Some("lies on a network file system, which is not supported: what is recorded may be lost or damaged")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b16_memory_and_networks_are_told_and_disks_are_not() {
        let told = |kind| concern_of(kind).unwrap_or_default();
        assert!(told(0x0102_1994).contains("in memory"));
        assert!(told(0x6969).contains("network file system"));
        // ext4, xfs, btrfs, overlay
        for disk in [0xef53, 0x5846_5342, 0x9123_683e, 0x794c_7630] {
            assert_eq!(concern_of(disk), None);
        }
    }
}
