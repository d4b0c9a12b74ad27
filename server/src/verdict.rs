//! The judgement of clones: a node's report is compared with the streams sent, and with the other clones. Pure.

use ka_report::report::{Digest, NodeReport};

use crate::identities::{Compared, Identities};

/// A report that is not good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadReport {
    /// The step of the comparison that found it.
    pub(crate) stage: &'static str,
    /// What is wrong, in one line.
    pub(crate) reason: String,
    /// True if the node did nothing wrong, and may be cloned anew.
    pub(crate) again: bool,
}

impl BadReport {
    /// Returns a fault after which the node is not cloned anew.
    pub(crate) fn new(stage: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            stage,
            reason,
            again: false,
        }
    }
}

/// The measures of a good clone: the contents that its report must show, and the identities of the others.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    expected: Vec<Expected>,
    /// The expected contents of earlier rounds, for nodes that come late with a complete clone.
    earlier: Vec<Vec<Expected>>,
    /// The identities of the clones, of all rounds.
    identities: Identities,
}

impl Verdicts {
    /// Adds a stream of this round that each report must show.
    pub(crate) fn expect(&mut self, name: &str, content: Content) {
        let name = name.to_owned();
        self.expected.push(Expected { name, content });
    }

    /// Ends the round. The next one has streams of its own.
    pub(crate) fn end_round(&mut self) {
        let expected = std::mem::take(&mut self.expected);
        if !expected.is_empty() {
            self.earlier.push(expected);
        }
    }

    /// Returns the report of a good clone. A node that came with its clone (`holds_clone`) took it in an earlier
    /// round, or from an earlier process of this run, which kept its report: `is_kept`.
    ///
    /// # Errors
    /// The fault of another clone.
    pub(crate) fn judge(
        &self,
        payload: &[u8],
        holds_clone: bool,
        is_kept: impl Fn(&NodeReport) -> bool,
    ) -> Result<NodeReport, BadReport> {
        let report =
            NodeReport::decode(payload).map_err(|error| BadReport::new("reporting", error.to_string()))?;
        if holds_clone {
            let of_before = |expected: &Vec<_>| compare(expected, &report).is_ok();
            if self.earlier.iter().any(of_before) || is_kept(&report) {
                return Ok(report);
            }
            let reason =
                "its clone was made before this server began, which cannot judge it: it is cloned anew";
            let again = true;
            return Err(BadReport {
                again,
                ..BadReport::new("comparing digests", reason)
            });
        }
        compare(&self.expected, &report).map_err(|reason| BadReport::new("comparing digests", reason))?;
        Ok(report)
    }

    /// Sets the parts of an identity that no two clones may share.
    pub(crate) const fn compare_identities(&mut self, compared: Compared) {
        self.identities.compare(compared);
    }

    /// Adds a clone with its name for messages, the name under which it joined, and its report.
    pub(crate) fn add_clone(&mut self, id: u32, names: (String, &str), report: &NodeReport) {
        let identity = report.identity.as_deref().cloned().unwrap_or_default();
        self.identities.add(id, names, identity);
    }

    /// Forgets a clone that was turned down.
    pub(crate) fn forget_clone(&mut self, id: u32) {
        self.identities.forget(id);
    }

    /// Returns the clones that share an identity with another one, each with the reason.
    pub(crate) fn twins(&self) -> Vec<(u32, String)> {
        self.identities.twins()
    }
}

/// The expected report about one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expected {
    name: String,
    content: Content,
}

/// The digest or length that tells a good copy from a bad one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// A tree or a partition: its digest.
    Digest(Digest),
    /// The operator's stream: every byte was taken. Each block was verified on its way.
    Bytes(u64),
}

/// Compares a node's report with the streams sent.
///
/// # Errors
/// One line that says what differs.
fn compare(expected: &[Expected], report: &NodeReport) -> Result<(), String> {
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
    use ka_report::report::{Digest, NodeReport, StreamReport};

    use super::{Content, Expected, Verdicts, compare};

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

    #[test]
    fn a_complete_clone_is_judged_by_earlier_rounds_and_by_what_was_kept() {
        let mut verdicts = Verdicts::default();
        let golden = Digest([1; 32]);
        verdicts.expect("kainstall2", Content::Digest(golden));
        let clone = report(Some(golden), 5).encode();
        let other = report(Some(Digest([2; 32])), 5).encode();
        assert!(verdicts.judge(&clone, false, |_| false).is_ok());
        // It came before the streams of this round were sent.
        let early = verdicts.judge(&clone, true, |_| false).unwrap_err();
        assert!(early.again, "{early:?}");
        verdicts.end_round();
        assert!(verdicts.judge(&clone, true, |_| false).is_ok());
        assert!(verdicts.judge(&other, true, |_| false).unwrap_err().again);
        assert!(verdicts.judge(&other, true, |_| true).is_ok());
        // Nothing was sent yet in the new round.
        assert!(verdicts.judge(&other, false, |_| false).is_ok());
    }
}
