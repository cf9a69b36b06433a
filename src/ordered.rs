//! A map of few entries as a sorted list.
//!
//! A `BTreeMap` makes room for eleven entries with its first. Most maps of a run have one to three, and thousands of
//! runs have theirs at once. Entries that come in the order of their keys are put at the end; any other moves those after it.

use std::borrow::Borrow;

/// Entries in the order of their keys, each key once.
#[derive(Clone, PartialEq)]
pub struct Ordered<K, V>(Vec<(K, V)>);

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> Ordered<K, V> {
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(own, _)| own.borrow().cmp(key))
    }

    /// Returns the value of a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// Returns the value of a key, and the key as it is kept.
    #[must_use]
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| (&self.0[at].0, &self.0[at].1))
    }

    /// Returns the value of a key.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    /// Tells whether a key has a value.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Gives a key a value, in place of the one that it has.
    pub fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.put(at, key, value),
        }
    }

    /// Returns the value of a key, which gets the usual one if it has none.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let at = self.find(&key).unwrap_or_else(|at| {
            self.put(at, key, V::default());
            at
        });
        &mut self.0[at].1
    }

    fn put(&mut self, at: usize, key: K, value: V) {
        if self.0.is_empty() {
            // Often it is the only one.
            self.0.reserve_exact(1);
        }
        self.0.insert(at, (key, value));
    }

    /// Returns the entries in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Returns the keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// Returns the values in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// Returns the values in the order of their keys.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Ordered<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        let mut ordered = Self(Vec::with_capacity(entries.size_hint().0));
        entries.for_each(|(key, value)| ordered.insert(key, value));
        ordered
    }
}

impl<K: std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for Ordered<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(key, value)| (key, value))).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_is_what_a_tree_would_be_whatever_the_order() {
        let mut state = 7_u64;
        for _ in 0..200 {
            let (mut ordered, mut tree) = (Ordered::default(), BTreeMap::new());
            for _ in 0..30 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (key, value) = ((state >> 40) as u8 % 16, (state >> 50) as u32);
                if state >> 63 == 0 {
                    ordered.insert(key, value);
                    tree.insert(key, value);
                } else {
                    *ordered.or_default(key) += 1;
                    *tree.entry(key).or_default() += 1;
                }
            }
            assert!(ordered.iter().eq(tree.iter()));
            assert!(ordered.keys().eq(tree.keys()) && ordered.values().eq(tree.values()));
            assert_eq!(tree.iter().map(|(key, value)| (*key, *value)).rev().collect::<Ordered<_, _>>(), ordered);
            for key in 0..16 {
                assert_eq!(ordered.get(&key), tree.get(&key));
                assert_eq!(ordered.get_mut(&key), tree.get_mut(&key));
                assert_eq!(ordered.contains_key(&key), tree.contains_key(&key));
            }
            ordered.values_mut().for_each(|value| *value = 0);
            assert!(ordered.values().all(|value| *value == 0));
        }
    }
}
