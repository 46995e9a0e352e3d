//! Merkle trees of the shape that RFC 9162, section 2.1, gives them, over BLAKE3: leaves are
//! hashed with a zero byte before them, inner nodes with a one.
//!
//! A tree is built from leaf hashes in one pass, and remembers no more than one node a level. On
//! its way it collects the audit path of one leaf, if it is told which.

use crate::store::records::Hash;

const LEAF_TAG: &[u8] = &[0];
const NODE_TAG: &[u8] = &[1];

/// The hash of a leaf's bytes.
#[must_use]
pub fn leaf_hash(parts: &[&[u8]]) -> Hash {
    tagged(LEAF_TAG, parts)
}

pub(super) fn tagged(tag: &[u8], parts: &[&[u8]]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tag);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    tagged(NODE_TAG, &[left, right])
}

/// A whole subtree.
#[derive(Clone, Copy, Debug)]
struct Node {
    hash: Hash,
    first: u64,
    leaves: u64,
}

/// A tree under construction.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Subtrees, larger ones first.
    stack: Vec<Node>,
    leaves: u64,
    proved: Option<u64>,
    path: Vec<Hash>,
}

impl Tree {
    /// Says that the next leaf is the one whose audit path is wanted; returns its number.
    pub fn prove_next(&mut self) -> u64 {
        self.proved = Some(self.leaves);
        self.leaves
    }

    /// How many leaves it has.
    #[must_use]
    pub const fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = Node { hash: leaf, first: self.leaves, leaves: 1 };
        self.leaves += 1;
        while let Some(left) = self.stack.pop_if(|left| left.leaves == node.leaves) {
            node = self.join(left, node);
        }
        self.stack.push(node);
    }

    /// The root, and the path of the leaf that was asked for, from the leaf upwards.
    #[must_use]
    pub fn finish(mut self) -> (Hash, Vec<Hash>) {
        let Some(mut node) = self.stack.pop() else { return (tagged(&[], &[]), Vec::new()) };
        while let Some(left) = self.stack.pop() {
            node = self.join(left, node);
        }
        (node.hash, self.path)
    }

    fn join(&mut self, left: Node, right: Node) -> Node {
        if let Some(proved) = self.proved {
            let within = |node: &Node| (node.first..node.first + node.leaves).contains(&proved);
            if within(&left) {
                self.path.push(right.hash);
            } else if within(&right) {
                self.path.push(left.hash);
            }
        }
        Node {
            hash: node_hash(&left.hash, &right.hash),
            first: left.first,
            leaves: left.leaves + right.leaves,
        }
    }
}

/// The root to which the path of a leaf leads in a tree of `leaves` leaves; `None` if there is no
/// such leaf, or its path has another length.
pub fn root_of(leaf: Hash, index: u64, leaves: u64, path: &[Hash]) -> Option<Hash> {
    if index >= leaves {
        return None;
    }
    // The node's number within its level, and that of the level's last.
    let (mut hash, mut place, mut last) = (leaf, index, leaves - 1);
    let mut path = path.iter();
    while last > 0 {
        if place & 1 == 1 {
            let left = path.next()?;
            hash = node_hash(left, &hash);
        } else if place < last {
            let right = path.next()?;
            hash = node_hash(&hash, right);
        }
        // A last node without a neighbour moves up as it is.
        (place, last) = (place >> 1, last >> 1);
    }
    path.next().is_none().then_some(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&[&n.to_be_bytes()])).collect()
    }

    /// The definition, word by word: a tree is split at the largest power of two below its size.
    fn reference(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => *blake3::hash(b"").as_bytes(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&reference(left), &reference(right))
            }
        }
    }

    fn built(leaves: &[Hash], proved: u64) -> (Hash, Vec<Hash>) {
        let mut tree = Tree::default();
        for leaf in leaves {
            if tree.leaves() == proved {
                assert_eq!(tree.prove_next(), proved);
            }
            tree.push(*leaf);
        }
        assert_eq!(tree.leaves(), leaves.len() as u64);
        tree.finish()
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved() {
        for count in 0..70 {
            let leaves = leaves(count);
            assert_eq!(built(&leaves, 0).0, reference(&leaves), "{count}");
            for (index, leaf) in (0..).zip(&leaves) {
                let (root, path) = built(&leaves, index);
                assert_eq!(root_of(*leaf, index, count, &path), Some(root), "{index} of {count}");
            }
        }
    }

    #[test]
    fn a_leaf_is_no_node() {
        let leaves = leaves(2);
        let forged = leaf_hash(&[&leaves[0], &leaves[1]]);
        assert_ne!(built(&leaves, 0).0, forged);
    }

    #[test]
    fn a_path_of_another_length_leads_nowhere() {
        let (leaves, check) = (leaves(5), |index, path: &[Hash], leads: bool| {
            assert_eq!(root_of([0; 32], index, 5, path).is_some(), leads);
        });
        let (_, path) = built(&leaves, 2);
        check(2, &path, true);
        check(2, &path[1..], false);
        check(2, &[&path[..], &path[..1]].concat(), false);
        check(5, &path, false);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_anywhere_leads_to_another_root(
            count in 1u64..200,
            index: prop::sample::Index,
            damage: prop::sample::Index,
            bit in 0u8..8,
        ) {
            let leaves = leaves(count);
            let index = index.index(leaves.len());
            let (root, path) = built(&leaves, index as u64);
            let mut all = [&[leaves[index]][..], &path].concat();
            let place = damage.index(all.len() * 32);
            all[place / 32][place % 32] ^= 1 << bit;
            let led = root_of(all[0], index as u64, count, &all[1..]);
            prop_assert_ne!(led, Some(root));
        }
    }
}
