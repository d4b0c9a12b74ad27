//! Lines for the events of the spool (`--spool`): the data that the server keeps, and the nodes that go on
//! from it.

use ka_report::run::RunEvent;
use ka_report::text::size;

/// Returns the line for an event of the spool.
pub(crate) fn line(event: &RunEvent) -> Option<String> {
    Some(match event {
        RunEvent::Spooling {
            dir,
            free_bytes,
            expected_bytes,
        } => {
            let free = size(*free_bytes);
            let needed = expected_bytes.map_or_else(
                || "when they are used up, nothing is kept any more".to_owned(),
                |bytes| format!("a stream needs {} at most", size(bytes)),
            );
            format!("each stream is kept in {dir} while it runs: {free} free, {needed}")
        }
        RunEvent::NodeAway { node, reason, secs } => {
            format!("{node}: silent, goes on in this round if it is back within {secs} s: {reason}")
        }
        RunEvent::NodeRejoined { node, rejoined } => format!("{node}: {rejoined}"),
        RunEvent::SpoolOff { reason } => {
            format!(
                "warning: streams are kept no longer, who loses its place waits for the next round: {reason}"
            )
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ka_report::spool::Rejoined;

    use super::*;

    #[test]
    fn the_first_line_says_what_is_free_and_what_is_needed() {
        let spooling = |expected_bytes| {
            line(&RunEvent::Spooling {
                dir: "/var/spool".to_owned(),
                free_bytes: 3 << 30,
                expected_bytes,
            })
            .unwrap()
        };
        assert_eq!(
            spooling(Some(1 << 30)),
            "each stream is kept in /var/spool while it runs: 3.0 GiB free, a stream needs 1.0 GiB at most"
        );
        assert!(spooling(None).ends_with("when they are used up, nothing is kept any more"));
    }

    #[test]
    fn a_node_that_rejoined_says_where() {
        let rejoined = Rejoined {
            stream: "kainstall2".to_owned(),
            offset_bytes: 77,
        };
        assert_eq!(
            rejoined.to_string(),
            "rejoined kainstall2 at byte 77 from the spool"
        );
        let json = serde_json::to_value(&rejoined).unwrap();
        assert_eq!(
            (&json["stream"], &json["offset_bytes"]),
            (&"kainstall2".into(), &77.into())
        );
    }
}
