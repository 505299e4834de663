#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Tree {
    nodes: BTreeMap<(u8, u64), TreeHash>,
    size: u64,
    reads: Cell<u32>,
}

impl Nodes for Tree {
    type Error = Infallible;

    fn node(&self, level: u8, index: u64) -> Result<TreeHash, Infallible> {
        self.reads.set(self.reads.get() + 1);
        Ok(self.nodes[&(level, index)])
    }
}

impl Tree {
    fn of<D: AsRef<[u8]>>(leaves: &[D]) -> Self {
        let mut tree = Self::default();
        for data in leaves {
            let new = grown(&tree, tree.size, leaf(data.as_ref())).unwrap();
            for (level, index, hash) in new {
                assert_eq!(tree.nodes.insert((level, index), hash), None, "a stored node never changes");
            }
            tree.size += 1;
        }
        tree
    }

    fn numbered(size: u64) -> Self {
        Self::of(&(0..size).map(u64::to_be_bytes).collect::<Vec<_>>())
    }
}

/// `MTH` as RFC 9162 §2.1.1 writes it, from the leaves themselves.
fn naive<D: AsRef<[u8]>>(leaves: &[D]) -> TreeHash {
    match leaves {
        [] => empty(),
        [only] => leaf(only.as_ref()),
        more => {
            let left = (1..).map(|power| 1_usize << (power - 1)).take_while(|left| *left < more.len()).last().unwrap();
            join(&naive(&more[..left]), &naive(&more[left..]))
        }
    }
}

/// The leaves that implementations of Certificate Transparency test themselves with.
fn reference() -> Vec<Vec<u8>> {
    let byte = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
    let pairs = vec![vec![0x20, 0x21], vec![0x30, 0x31]];
    [vec![vec![], vec![0x00], vec![0x10]], pairs, vec![byte(0x40, 0x43), byte(0x50, 0x57), byte(0x60, 0x6f)]].concat()
}

#[test]
fn roots_are_those_of_the_reference_tree() {
    let known = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let leaves = reference();
    let tree = Tree::of(&leaves);
    for (size, root_then) in known.iter().enumerate() {
        let expected: TreeHash = root_then.parse().unwrap();
        assert_eq!(root(&tree, size as u64).unwrap(), expected, "of {size}");
        assert_eq!(naive(&leaves[..size]), expected, "of {size}, by the definition");
    }
}

#[test]
fn every_proof_of_every_small_tree_proves_what_it_says_and_nothing_else() {
    let leaves: Vec<[u8; 8]> = (0..40_u64).map(u64::to_be_bytes).collect();
    let tree = Tree::of(&leaves);
    for size in 1..=40_u64 {
        let now = root(&tree, size).unwrap();
        assert_eq!(now, naive(&leaves[..size as usize]));
        for index in 0..size {
            let path = inclusion(&tree, index, size).unwrap().unwrap();
            let hash = leaf(&leaves[index as usize]);
            assert_eq!(included(hash, index, size, &path), Ok(now));
            for other in (0..size).filter(|other| *other != index) {
                assert_ne!(included(hash, other, size, &path), Ok(now), "{index} of {size} shown at {other}");
            }
            let more = [path.as_slice(), &[now]].concat();
            assert_ne!(included(hash, index, size, &more), Ok(now));
        }
        assert_eq!(inclusion(&tree, size, size).unwrap(), None);
        for old in 1..size {
            let (before, proof) = (root(&tree, old).unwrap(), consistency(&tree, old, size).unwrap());
            assert_eq!(consistent(before, old, size, &proof), Ok((before, now)), "{old} to {size}");
            let found = consistent(empty(), old, size, &proof);
            if old.is_power_of_two() {
                assert_ne!(found.unwrap().1, now, "{old} to {size}: the root held is part of the proof");
            } else {
                assert_eq!(found, Ok((before, now)), "{old} to {size}: the proof tells the root by itself");
            }
            for cut in 0..proof.len() {
                assert!(consistent(before, old, size, &proof[..cut]).map(|roots| roots.1) != Ok(now));
            }
        }
    }
    assert_eq!(included(empty(), 3, 3, &[]), Err(ProofError::Place));
    assert_eq!(consistent(empty(), 0, 3, &[]), Err(ProofError::Place));
    assert_eq!(consistent(empty(), 3, 3, &[]), Err(ProofError::Place));
    assert_eq!(included(empty(), 0, u64::MAX, &[empty(); 65]), Err(ProofError::Length));
    assert_eq!(consistent(empty(), 3, u64::MAX, &[empty(); 66]), Err(ProofError::Length));
}

#[test]
fn a_proof_out_of_a_large_tree_reads_no_more_nodes_than_it_is_deep() {
    let size = 5_000;
    let tree = Tree::numbered(size);
    // Twice thirteen: the nodes themselves, and the ragged edge once.
    for at in [0, 1, 2_047, 2_048, 4_095, 4_096, 4_998] {
        tree.reads.set(0);
        inclusion(&tree, at, size).unwrap().unwrap();
        assert!(tree.reads.get() <= 26, "{} nodes read for the leaf {at}", tree.reads.get());
        tree.reads.set(0);
        consistency(&tree, at + 1, size).unwrap();
        assert!(tree.reads.get() <= 26, "{} nodes read from {at}", tree.reads.get());
    }
}

proptest! {
    #[test]
    fn a_tree_grown_otherwise_is_found(size in 2..200_u64, old in 1..200_u64, changed in 0..200_u64) {
        let (old, changed) = (1 + old % (size - 1), changed % size);
        let leaves: Vec<[u8; 8]> = (0..size).map(u64::to_be_bytes).collect();
        let mut otherwise = leaves.clone();
        otherwise[changed as usize] = [0xff; 8];
        let (tree, other) = (Tree::of(&leaves), Tree::of(&otherwise));
        let (held, now) = (root(&tree, old).unwrap(), root(&other, size).unwrap());
        let proof = consistency(&other, old, size).unwrap();
        let roots = consistent(held, old, size, &proof).unwrap();
        prop_assert_eq!(roots == (held, now), changed >= old, "{:?}", roots);
    }

    #[test]
    fn no_input_makes_a_proof_panic(
        at in any::<u64>(), size in any::<u64>(), nodes in prop::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let nodes: Vec<TreeHash> = nodes.into_iter().map(TreeHash::from_bytes).collect();
        let _ = included(empty(), at, size, &nodes);
        let _ = consistent(empty(), at, size, &nodes);
    }
}
