//! The order in which modules are loaded.
//!
//! Two passes. The first collects everything, in the order that soft dependencies would like. The second walks that
//! list and puts each module's hard dependencies before it: those are what the kernel insists on, whatever the soft
//! ones say. Neither recurses (a file may say that thousands need one another in a row), and a cycle ends at the
//! module that is already being looked at.

use std::collections::HashSet;

use crate::{Index, ModuleName};

/// Positions in `index.modules`, in loading order, each once.
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
        // What is to come afterwards may bring more of its own. Each round adds a module: it ends.
        let known: HashSet<usize> = liked.iter().copied().collect();
        later.retain(|at| !known.contains(at));
        if later.is_empty() {
            return depth_first(count, &liked, |at| hard(index, at));
        }
        wanted.extend(later);
    }
}

/// What a module cannot do without, farthest first: depmod writes that last.
fn hard(index: &Index, at: usize) -> Vec<usize> {
    index.needs[at].iter().rev().copied().collect()
}

fn positions(index: &Index, word: &str) -> Vec<usize> {
    let names = index.resolve(word).into_iter();
    names
        .filter_map(|name| index.by_name.get(&name).copied())
        .collect()
}

/// Post-order over everything reachable from `roots`, each node once, without recursion.
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
