//! What both sides are given to do: the shapes of the graph, and the times.

use smallvec::{SmallVec, smallvec};

/// How far a collection's since stays behind its upper, in every bench where uppers move.
pub const LAG: u64 = 10;

/// Collections `0..len`: one in ten stands alone, and the nine that follow depend on it, as the
/// exports of an ingestion depend on its remap collection.
pub fn forest(len: u64) -> impl Iterator<Item = Node> {
    (0..len).map(|id| {
        let root = id - id % 10;
        Node {
            id,
            dependencies: if id == root {
                smallvec![]
            } else {
                smallvec![root]
            },
        }
    })
}

/// Collections `0..len`, each of which depends on the one before it.
pub fn chain(len: u64) -> impl Iterator<Item = Node> {
    (0..len).map(|id| Node {
        id,
        dependencies: id.checked_sub(1).into_iter().collect(),
    })
}

/// Collection `0`, and `len - 1` that depend on it.
pub fn fan_out(len: u64) -> impl Iterator<Item = Node> {
    (0..len).map(|id| Node {
        id,
        dependencies: if id == 0 { smallvec![] } else { smallvec![0] },
    })
}

/// Diamonds, end to end: a tip, two that depend on it, and the next tip, which depends on both.
pub fn diamonds(len: u64) -> impl Iterator<Item = Node> {
    (0..len).map(|id| {
        let dependencies = match id % 3 {
            0 if id == 0 => smallvec![],
            0 => smallvec![id - 2, id - 1],
            1 => smallvec![id - 1],
            _ => smallvec![id - 2],
        };
        Node { id, dependencies }
    })
}

/// A collection to create. Its dependencies have smaller ids than its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The collection.
    pub id: u64,
    /// What it depends on.
    pub dependencies: SmallVec<[u64; 2]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_in_ten_of_a_forest_depend_on_one() {
        let roots = forest(1000)
            .filter(|node| node.dependencies.is_empty())
            .count();
        let leaves = forest(1000)
            .filter(|node| node.dependencies.len() == 1)
            .count();
        assert_eq!((roots, leaves), (100, 900));
    }

    #[test]
    fn every_shape_depends_backwards_and_is_one_piece() {
        for shape in [
            chain(100).collect::<Vec<_>>(),
            fan_out(100).collect(),
            diamonds(100).collect(),
        ] {
            assert!(
                shape
                    .iter()
                    .all(|node| node.dependencies.iter().all(|&on| on < node.id))
            );
            assert_eq!(
                shape
                    .iter()
                    .filter(|node| node.dependencies.is_empty())
                    .count(),
                1
            );
        }
    }
}
