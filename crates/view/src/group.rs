//! Lines for the events of multicast: the way that was chosen, and the nodes that left it.

use ka_report::node::NodeRef;
use ka_report::run::RunEvent;

/// Most nodes that a line names.
const MOST_NAMED: usize = 5;

/// Returns the line for an event of multicast.
pub(crate) fn line(event: &RunEvent) -> Option<String> {
    Some(match event {
        RunEvent::Transport { text, .. } => text.clone(),
        RunEvent::LeftGroup {
            left,
            multicast,
            reason,
        } => {
            let goes_on = match (left.len(), *multicast) {
                (_, 0) => "nobody gets the stream by multicast any more, the chain goes on".to_owned(),
                (1, _) => "the node before it in the chain goes on feeding it".to_owned(),
                _ => "the nodes before them in the chain go on feeding them".to_owned(),
            };
            format!(
                "warning: {}: no multicast any more: {reason}; {goes_on}",
                named(left)
            )
        }
        _ => return None,
    })
}

fn named(nodes: &[NodeRef]) -> String {
    let shown: Vec<String> = nodes
        .iter()
        .take(MOST_NAMED)
        .map(|node| node.name.clone())
        .collect();
    match nodes.len().saturating_sub(MOST_NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32) -> NodeRef {
        NodeRef {
            id,
            name: format!("n{id}"),
            addr: format!("10.0.0.{id}"),
            position: id,
        }
    }

    #[test]
    fn the_line_says_who_left_and_who_goes_on() {
        let said = |left: Vec<NodeRef>, multicast| {
            line(&RunEvent::LeftGroup {
                left,
                multicast,
                reason: "nothing comes for 1 s".to_owned(),
            })
            .unwrap()
        };
        assert_eq!(
            said(vec![node(3)], 7),
            "warning: n3: no multicast any more: nothing comes for 1 s; the node before it in the chain goes on feeding it"
        );
        assert_eq!(
            said((1..=8).map(node).collect(), 0),
            "warning: n1, n2, n3, n4, n5 and 3 more: no multicast any more: nothing comes for 1 s; nobody gets the stream by \
             multicast any more, the chain goes on"
        );
    }
}
