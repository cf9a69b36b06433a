//! Room for bytes whose number is known only when they have been written.
//!
//! Each thread keeps one such room and uses it again: it stays in the processor's cache, where a new one for every text
//! and record would not. What was written is copied out of it once, into just as many bytes as it has.

use std::cell::Cell;

thread_local! {
    static KEPT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A room that has grown beyond this is not kept: one large document must not stay with every thread.
const KEPT_MAX: usize = 64 << 10;

/// Lets `work` have an empty room. Within it the same may be asked for again: that is another room.
pub(crate) fn with<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    // A thread that ends has none any more.
    let mut room = KEPT.try_with(Cell::take).unwrap_or_default();
    room.clear();
    let result = work(&mut room);
    if room.capacity() <= KEPT_MAX {
        let _ = KEPT.try_with(|kept| kept.set(room));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_empty_kept_and_not_shared() {
        let first = with(|room| {
            assert!(room.is_empty());
            room.extend([1; 100]);
            with(|other| {
                assert!(other.is_empty());
                other.extend([2; 50]);
            });
            assert_eq!(*room, [1; 100]);
            room.capacity()
        });
        with(|room| assert_eq!((room.len(), room.capacity()), (0, first)));
        with(|room| room.resize(KEPT_MAX + 1, 0));
        with(|room| assert!(room.capacity() <= KEPT_MAX, "{}", room.capacity()));
    }
}
