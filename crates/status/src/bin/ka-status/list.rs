//! Which nodes a running server has, one line each.

use std::net::SocketAddr;

use anyhow::Result;
use ka_proto::via::ListedNode;
use ka_transport::nodes_of;

use crate::args::Options;
use crate::keys;

/// Prints them in the order in which they came; 0 also when there is none.
pub(crate) fn run(options: &Options, server: SocketAddr) -> Result<u8> {
    let (key, _) = keys::load(options)?;
    let nodes = nodes_of(server, &key)?;
    if nodes.is_empty() {
        ka_cli::say("no node has joined yet");
    }
    ka_cli::write(table(&nodes).as_bytes())?;
    Ok(0)
}

/// Name, hardware address, address, state; a node that did not say its hardware address has `-`.
fn table(nodes: &[ListedNode]) -> String {
    let longest = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or(0);
    let name_width = longest(&mut nodes.iter().map(|node| node.name.as_str().chars().count()));
    let addr_width = longest(&mut nodes.iter().map(|node| node.addr.to_string().len()));
    let lines = nodes.iter().map(|node| {
        let mac = node.mac.map_or_else(|| "-".to_owned(), |mac| mac.to_string());
        let (name, addr) = (node.name.as_str(), node.addr.to_string());
        // A reason may have several lines; a node has one.
        let state = node.state.as_str().replace('\n', " ");
        format!("{name:name_width$}  {mac:17}  {addr:addr_width$}  {state}\n")
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use ka_proto::{MacAddr, NodeName, Reason};

    use super::*;

    #[test]
    fn every_node_is_one_line_in_columns() {
        let node = |name, mac, addr: [u8; 4], state| ListedNode {
            name: NodeName::new(name).unwrap(),
            mac,
            addr: addr.into(),
            state: Reason::new(state),
        };
        let mac = Some(MacAddr([2, 0, 0, 0, 0, 1]));
        let nodes = [
            node("n1", mac, [10, 0, 0, 1], "planning"),
            node("longer", None, [10, 0, 0, 100], "failed:\nno disk"),
        ];
        let expected = "n1      02:00:00:00:00:01  10.0.0.1    planning\n\
                        longer  -                  10.0.0.100  failed: no disk\n";
        assert_eq!(table(&nodes), expected);
    }
}
