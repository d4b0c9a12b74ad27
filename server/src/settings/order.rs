//! The operator's order of the chain: `--order FILE`, then the groups of the node list.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use ka_proto::order::OrderList;
use ka_pxe::NodeEntry;

use crate::failure::Faults;

/// Largest file read, in bytes: names of more than a hundred thousand nodes.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Most faults of one file that are reported.
const MAX_FAULTS: usize = 20;

/// Reads the list of `--order`, if it was given.
///
/// # Errors
/// The file cannot be read or names no node, or lines are malformed: one line for each.
pub(super) fn read(path: Option<&Path>) -> Result<OrderList> {
    let Some(path) = path else {
        return Ok(OrderList::default());
    };
    let reading = || format!("--order: reading {}", path.display());
    let file = File::open(path).with_context(reading)?;
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    let size = read.with_context(reading)?;
    ensure!(
        size as u64 <= MAX_FILE_BYTES,
        "--order: {} is larger than 16 MiB: this is no list of nodes",
        path.display()
    );
    let list = OrderList::parse(&text).map_err(|found| {
        let mut faults = Faults::default();
        for (line, text) in found.into_iter().take(MAX_FAULTS) {
            faults.add(anyhow!("--order: {}:{line}: {text}", path.display()));
        }
        faults
    })?;
    ensure!(
        !list.is_empty(),
        "--order: {} names no node: write one name or address in each line, in the order of the chain",
        path.display()
    );
    Ok(list)
}

/// Adds the groups of the node list to the list of `--order`.
pub(super) fn with_groups(list: OrderList, nodes: &[NodeEntry]) -> OrderList {
    list.with_groups(
        nodes
            .iter()
            .map(|node| (node.mac, node.name.as_str(), node.group.as_ref())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("order");
        for (text, told) in [
            ("n1\nn 2\n", ":2: `n 2` is more than one word"),
            ("n1\n\nn1\n", ":3: `n1` is already on line 1"),
            ("# nobody\n", " names no node"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", read(Some(&path)).unwrap_err());
            assert!(
                error.starts_with(&format!("--order: {}{told}", path.display())),
                "{error}"
            );
        }
        let error = format!("{:#}", read(Some(&dir.path().join("none"))).unwrap_err());
        assert!(error.starts_with("--order: reading "), "{error}");
        assert!(read(None).unwrap().is_empty());
    }
}
