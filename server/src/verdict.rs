//! Whether a node has what the golden node sent: its report against what went out. Pure.

use ka_status::report::{Digest, NodeReport};

/// What a good report says about one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The stream's name.
    pub(crate) name: String,
    /// What tells a good copy from a bad one.
    pub(crate) content: Content,
}

/// What tells a good copy from a bad one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// A tree or a partition: its digest.
    Digest(Digest),
    /// The operator's stream: every byte was taken. Each block was verified on its way.
    Bytes(u64),
}

/// Compares a node's report with what was sent.
///
/// # Errors
/// One line that says what differs.
pub(crate) fn compare(expected: &[Expected], report: &NodeReport) -> Result<(), String> {
    for Expected { name, content } in expected {
        let Some(stream) = report.stream(name) else {
            return Err(format!(
                "the node reports nothing about {name}: its clone is incomplete"
            ));
        };
        match content {
            Content::Digest(golden) if stream.digest != Some(*golden) => {
                let found = stream
                    .digest
                    .map_or_else(|| "no digest".to_owned(), |digest| format!("digest {digest}"));
                return Err(format!(
                    "{name} has {found}, the golden node's is {golden}: its clone is not the same"
                ));
            }
            Content::Bytes(sent) if stream.bytes != *sent => {
                return Err(format!(
                    "{name}: its command took {} bytes of {sent}",
                    stream.bytes
                ));
            }
            Content::Digest(_) | Content::Bytes(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ka_status::report::{Digest, NodeReport, StreamReport};

    use super::{Content, Expected, compare};

    fn report(digest: Option<Digest>, bytes: u64) -> NodeReport {
        let stream = StreamReport {
            name: "kainstall2".into(),
            files: 1,
            bytes,
            digest,
            problems: vec![],
            problem_count: 0,
        };
        NodeReport {
            streams: vec![stream],
            ..NodeReport::default()
        }
    }

    fn expected(name: &str, content: Content) -> Vec<Expected> {
        vec![Expected {
            name: name.into(),
            content,
        }]
    }

    #[test]
    fn a_clone_with_another_digest_or_none_is_not_good() {
        let golden = expected("kainstall2", Content::Digest(Digest([1; 32])));
        assert!(compare(&golden, &report(Some(Digest([1; 32])), 5)).is_ok());
        assert!(
            compare(&golden, &report(Some(Digest([2; 32])), 5))
                .unwrap_err()
                .contains("not the same")
        );
        assert!(
            compare(&golden, &report(None, 5))
                .unwrap_err()
                .contains("no digest")
        );
    }

    #[test]
    fn a_stream_that_the_report_does_not_know_is_not_good() {
        let golden = expected("kainstall3", Content::Digest(Digest([1; 32])));
        assert!(
            compare(&golden, &report(Some(Digest([1; 32])), 5))
                .unwrap_err()
                .contains("kainstall3")
        );
    }

    #[test]
    fn a_command_must_have_taken_every_byte() {
        let sent = expected("kainstall2", Content::Bytes(5));
        assert!(compare(&sent, &report(None, 5)).is_ok());
        assert!(
            compare(&sent, &report(None, 4))
                .unwrap_err()
                .contains("4 bytes of 5")
        );
    }
}
