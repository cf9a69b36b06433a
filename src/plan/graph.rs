//! Order and cycles of a graph that is given by what each node needs.
//!
//! Nodes are indices in file order. Nothing here recurses, so a chain may be as long as memory allows, and nothing
//! depends on hash order, so the same file always gives the same answer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// How many edges the search for the shortest cycle may look at before it is content with a short one.
const EDGES_SEARCHED: usize = 5_000_000;

/// The nodes in an order that respects what they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The nodes that are on no cycle and behind none: each comes after all it needs, and of those that are free to
    /// come next the first in the file does.
    pub sorted: Vec<usize>,
    /// The nodes on or behind a cycle, in file order.
    pub stuck: Vec<usize>,
}

/// Sorts nodes by what they need, keeping file order where it is free to.
#[must_use]
pub fn order(needs: &[Vec<usize>]) -> Order {
    let dependents = dependents(needs);
    let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut free: BinaryHeap<Reverse<usize>> = (0..needs.len()).filter(|&n| missing[n] == 0).map(Reverse).collect();
    let mut sorted = Vec::with_capacity(needs.len());
    while let Some(Reverse(node)) = free.pop() {
        sorted.push(node);
        for &dependent in &dependents[node] {
            missing[dependent] -= 1;
            if missing[dependent] == 0 {
                free.push(Reverse(dependent));
            }
        }
    }
    let stuck = (0..needs.len()).filter(|&n| missing[n] > 0).collect();
    Order { sorted, stuck }
}

/// Returns for each node those that need it, in file order; once for each time they do.
#[must_use]
pub fn dependents(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut dependents = vec![Vec::new(); needs.len()];
    for (node, needed) in needs.iter().enumerate() {
        for &n in needed {
            dependents[n].push(node);
        }
    }
    dependents
}

/// Returns for each node the length of the longest path that leads to it; nodes on or behind cycles have 0.
#[must_use]
pub fn layers(needs: &[Vec<usize>]) -> Vec<usize> {
    let mut layer = vec![0; needs.len()];
    for node in order(needs).sorted {
        layer[node] = needs[node].iter().map(|&n| layer[n] + 1).max().unwrap_or(0);
    }
    layer
}

/// Returns the shortest cycle of every knot, ordered by where they begin in the file.
///
/// A knot is a set of nodes each of which leads to every other. A cycle begins with its first node in file order;
/// each node needs the next one, and the last needs the first. A node that needs itself is a cycle of one.
#[must_use]
pub fn cycles(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut graph = DiGraph::<(), ()>::with_capacity(needs.len(), needs.iter().map(Vec::len).sum());
    let nodes: Vec<NodeIndex> = needs.iter().map(|_| graph.add_node(())).collect();
    for (node, needed) in needs.iter().enumerate() {
        for &n in needed {
            graph.add_edge(nodes[node], nodes[n], ());
        }
    }
    let mut knot_of = vec![0; needs.len()];
    let mut knots: Vec<Vec<usize>> = Vec::new();
    for component in kosaraju_scc(&graph) {
        let mut members: Vec<usize> = component.iter().map(|n| n.index()).collect();
        members.sort_unstable();
        for &m in &members {
            knot_of[m] = knots.len();
        }
        knots.push(members);
    }
    let mut search = Search { came_from: vec![None; needs.len()], touched: Vec::new(), edges: 0 };
    let mut found: Vec<Vec<usize>> = knots
        .iter()
        .filter(|members| members.len() > 1 || needs[members[0]].contains(&members[0]))
        .filter_map(|members| shortest_cycle(&mut search, needs, members, |n| knot_of[n] == knot_of[members[0]]))
        .collect();
    found.sort_by_key(|cycle| cycle[0]);
    found
}

fn shortest_cycle(
    search: &mut Search,
    needs: &[Vec<usize>],
    members: &[usize],
    inside: impl Fn(usize) -> bool,
) -> Option<Vec<usize>> {
    let mut best: Option<Vec<usize>> = None;
    for &start in members {
        let shorter_than = best.as_ref().map_or(usize::MAX, Vec::len);
        if let Some(cycle) = search.cycle_through(start, needs, &inside, shorter_than) {
            best = Some(cycle);
        }
        if search.edges > EDGES_SEARCHED || best.as_ref().is_some_and(|b| b.len() <= 2) {
            break;
        }
    }
    let mut cycle = best?;
    let first = (0..cycle.len()).min_by_key(|&i| cycle[i])?;
    cycle.rotate_left(first);
    Some(cycle)
}

/// A breadth-first search whose memory is reused.
struct Search {
    came_from: Vec<Option<(usize, usize)>>,
    touched: Vec<usize>,
    edges: usize,
}

impl Search {
    /// Returns the shortest way from `start` back to itself, if it has fewer nodes than `shorter_than`.
    fn cycle_through(
        &mut self,
        start: usize,
        needs: &[Vec<usize>],
        inside: impl Fn(usize) -> bool,
        shorter_than: usize,
    ) -> Option<Vec<usize>> {
        for node in self.touched.drain(..) {
            self.came_from[node] = None;
        }
        let mut queue = VecDeque::from([(start, 1)]);
        while let Some((node, length)) = queue.pop_front() {
            if length >= shorter_than {
                return None;
            }
            for &next in &needs[node] {
                self.edges += 1;
                if next == start {
                    return Some(self.path_back(start, node));
                }
                if inside(next) && self.came_from[next].is_none() {
                    self.came_from[next] = Some((node, length));
                    self.touched.push(next);
                    queue.push_back((next, length + 1));
                }
            }
        }
        None
    }

    fn path_back(&self, start: usize, mut node: usize) -> Vec<usize> {
        let mut path = vec![node];
        while node != start {
            let Some((before, _)) = self.came_from[node] else { break };
            node = before;
            path.push(node);
        }
        path.reverse();
        path
    }
}

#[cfg(test)]
mod tests {
    use super::{cycles, layers, order};

    #[test]
    fn file_order_is_kept_where_it_is_free() {
        // 0 needs 3; the others are free.
        let o = order(&[vec![3], vec![], vec![], vec![], vec![1]]);
        assert_eq!(o.sorted, [1, 2, 3, 0, 4]);
        assert!(o.stuck.is_empty());
    }

    #[test]
    fn every_order_respects_needs_and_prefers_the_file() {
        // Random graphs from a fixed congruence; an edge may point either way in the file but never closes a cycle.
        let mut seed = 7_u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).expect("31 bits") % below
        };
        for _ in 0..300 {
            let n = 1 + random(30);
            let mut rank: Vec<usize> = (0..n).collect();
            for i in (1..n).rev() {
                rank.swap(i, random(i + 1));
            }
            let mut needs = vec![Vec::new(); n];
            for _ in 0..random(60) {
                let (a, b) = (random(n), random(n));
                if rank[a] > rank[b] && !needs[a].contains(&b) {
                    needs[a].push(b);
                }
            }
            let o = order(&needs);
            assert!(o.stuck.is_empty());
            assert_eq!(o.sorted.len(), n);
            let mut done = vec![false; n];
            for &node in &o.sorted {
                assert!(needs[node].iter().all(|&d| done[d]), "{needs:?} gives {:?}", o.sorted);
                let free_before = (0..node).find(|&m| !done[m] && needs[m].iter().all(|&d| done[d]));
                assert_eq!(free_before, None, "a step earlier in the file was free");
                done[node] = true;
            }
            assert!(cycles(&needs).is_empty());
        }
    }

    #[test]
    fn the_shortest_cycle_of_each_knot_is_found() {
        // 0 -> 1 -> 2 -> 3 -> 0 with the short cut 3 -> 2; 4 needs itself; 5 and 6 form another; 7 is behind one.
        let needs = vec![vec![1], vec![2], vec![3], vec![0, 2], vec![4], vec![6], vec![5], vec![0]];
        assert_eq!(cycles(&needs), vec![vec![2, 3], vec![4], vec![5, 6]]);
        assert_eq!(order(&needs).stuck, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_cycle_begins_with_its_first_node_in_the_file() {
        assert_eq!(cycles(&[vec![2], vec![0], vec![1]]), vec![vec![0, 2, 1]]);
    }

    #[test]
    fn long_chains_and_long_cycles_are_no_problem() {
        let n = 100_000;
        let mut needs: Vec<Vec<usize>> = (0..n).map(|i| if i + 1 < n { vec![i + 1] } else { vec![] }).collect();
        assert_eq!(order(&needs).sorted[0], n - 1);
        assert_eq!(layers(&needs)[0], n - 1);
        needs[n - 1].push(0);
        assert_eq!(cycles(&needs)[0].len(), n);
    }
}
