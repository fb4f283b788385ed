//! A key's path in the tree: injective, reversible, inside the root.
