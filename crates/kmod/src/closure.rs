//! The order in which modules are loaded.
//!
//! It takes two passes. The first collects all modules, in the order of the soft dependencies. The second
//! walks that list and puts each module's hard dependencies before it, because the kernel insists on those,
//! whatever the soft ones say. Neither pass recurses, since a file may name a chain of thousands of modules.
//! A cycle ends at the module that is already being visited.

use std::collections::HashSet;

use crate::{Index, ModuleName};

/// Returns positions in `index.modules`, in loading order, each once.
pub(crate) fn load_order(index: &Index, names: &[ModuleName]) -> Vec<usize> {
    let count = index.modules.len();
    let mut wanted: Vec<usize> = names
        .iter()
        .filter_map(|name| index.by_name.get(name).copied())
        .collect();
    loop {
        let mut later: Vec<usize> = Vec::new();
        let liked = depth_first(count, &wanted, |at| {
            let mut before = hard(index, at);
            if let Some(soft) = index.soft.get(&index.modules[at].name) {
                let pre = soft.pre.iter().flat_map(|word| positions(index, word));
                before.splice(0..0, pre);
                later.extend(soft.post.iter().flat_map(|word| positions(index, word)));
            }
            before
        });
        // Modules to be loaded afterwards may need further modules. Each round adds at least one, so the loop
        // ends.
        let known: HashSet<usize> = liked.iter().copied().collect();
        later.retain(|at| !known.contains(at));
        if later.is_empty() {
            return depth_first(count, &liked, |at| hard(index, at));
        }
        wanted.extend(later);
    }
}

/// Hard dependencies of a module, in loading order. depmod writes them in the reverse order.
fn hard(index: &Index, at: usize) -> Vec<usize> {
    index.needs[at].iter().rev().copied().collect()
}

fn positions(index: &Index, word: &str) -> Vec<usize> {
    let names = index.resolve(word).into_iter();
    names
        .filter_map(|name| index.by_name.get(&name).copied())
        .collect()
}

/// Post-order over all nodes that are reachable from `roots`, each once, without recursion.
fn depth_first(count: usize, roots: &[usize], mut before: impl FnMut(usize) -> Vec<usize>) -> Vec<usize> {
    let mut seen = vec![false; count];
    let mut order = Vec::new();
    for root in roots {
        let mut stack: Vec<(usize, std::vec::IntoIter<usize>)> = Vec::new();
        if !std::mem::replace(&mut seen[*root], true) {
            stack.push((*root, before(*root).into_iter()));
        }
        while let Some((at, children)) = stack.last_mut() {
            match children.find(|child| !seen[*child]) {
                Some(child) => {
                    seen[child] = true;
                    stack.push((child, before(child).into_iter()));
                }
                None => {
                    order.push(*at);
                    stack.pop();
                }
            }
        }
    }
    order
}
