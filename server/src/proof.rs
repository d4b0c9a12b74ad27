//! The proof of a run. It has one text for each node about its outcome, signed with the server's key, and one
//! text over all of them. `docs/report.md` describes every byte, so that the proof can be checked without
//! this program.

use std::fmt::{self, Write as _};

use aws_lc_rs::digest::{SHA256, digest};
use ka_proto::text::printable;
use ka_transport::{ServerKey, fingerprint_of_public_key, is_signed_text};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use thiserror::Error;

use ka_report::report::{Digest, NodeIdentity, ReadBackReport};
use ka_report::run::NodeRef;
use ka_report::summary::{NodeOutcome, NodeSummary, RunSummary, StreamTotals};

/// Value of [`Proof::format`].
const FORMAT: &str = "KA report 1";
/// Purpose in the signature of a node's text.
const NODE_PURPOSE: &str = "KA report 1: node";
/// Purpose in the signature of the text over all nodes.
const RUN_PURPOSE: &str = "KA report 1: run";
/// Field of a report that holds its proof. The other fields are the summary.
const PROOF_FIELD: &str = "proof";
/// Longest report that is checked, in bytes: a thousand nodes with full lists of warnings.
pub(crate) const MAX_REPORT_FILE_BYTES: u64 = 1 << 30;

/// A signed text.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Signed {
    /// JSON, to be used byte for byte.
    text: String,
    /// Signature, 64 bytes in hexadecimal.
    signature: String,
}

/// The proof in a report, beside the summary.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Proof {
    format: String,
    /// Fingerprint of the key: BLAKE3 of `public_key`.
    key: String,
    /// SubjectPublicKeyInfo (RFC 8410) in DER, hexadecimal.
    public_key: String,
    /// A [`RunText`].
    run: Signed,
    /// A [`NodeText`] for each node.
    nodes: Vec<Signed>,
}

/// The outcome of one node.
#[derive(Debug, Serialize)]
struct NodeText<'a> {
    run: &'a str,
    line: usize,
    at: &'a str,
    node: &'a NodeRef,
    mac: Option<&'a str>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    identity: Option<&'a NodeIdentity>,
    streams: Vec<Got<'a>>,
    read_back: Option<&'a ReadBackReport>,
}

/// A stream as the node has it and as it was sent.
#[derive(Debug, Serialize)]
struct Got<'a> {
    name: &'a str,
    files: u64,
    bytes: u64,
    digest: Option<Digest>,
    golden_digest: Option<Digest>,
}

/// The facts about the whole run.
#[derive(Debug, Serialize, Deserialize)]
struct RunText {
    run: String,
    session: String,
    at: String,
    exit_code: u8,
    /// Golden files that could not be read, and those that changed or vanished during the run.
    #[serde(default)]
    golden_unreadable: u64,
    #[serde(default)]
    golden_changed: u64,
    nodes: usize,
    /// SHA-256 over all node texts, each with a line feed behind it.
    nodes_sha256: String,
    /// SHA-256 over the report without its proof, as compact JSON with sorted keys.
    summary_sha256: String,
}

/// Returns the report of a run with its proof, as it is written to a file. `run` is a name of this run only,
/// `at` the time of its end.
///
/// # Errors
/// The key cannot sign.
pub(crate) fn report(
    summary: &RunSummary,
    key: &ServerKey,
    run: &str,
    at: &str,
) -> Result<Vec<u8>, ProofError> {
    let mut nodes = Vec::new();
    for (line, node) in (1..).zip(&summary.nodes) {
        let text = plain(&node_text(summary, node, run, line, at))?;
        nodes.push(sign(key, NODE_PURPOSE, text)?);
    }
    let mut report = serde_json::to_value(summary).map_err(ProofError::unreadable)?;
    let text = plain(&RunText {
        run: run.to_owned(),
        session: summary.session.clone(),
        at: at.to_owned(),
        exit_code: summary.exit_code(),
        golden_unreadable: summary.golden_unreadable_count,
        golden_changed: summary
            .golden_problem_count
            .saturating_sub(summary.golden_unreadable_count),
        nodes: nodes.len(),
        nodes_sha256: nodes_sha256(&nodes),
        summary_sha256: sha256(plain(&report)?.as_bytes()),
    })?;
    let proof = Proof {
        format: FORMAT.to_owned(),
        key: key.fingerprint_hex(),
        public_key: hex(key.public_key()),
        run: sign(key, RUN_PURPOSE, text)?,
        nodes,
    };
    if let Value::Object(fields) = &mut report {
        let proof = serde_json::to_value(&proof).map_err(ProofError::unreadable)?;
        fields.insert(PROOF_FIELD.to_owned(), proof);
    }
    let mut text = serde_json::to_vec_pretty(&report).map_err(ProofError::unreadable)?;
    text.push(b'\n');
    Ok(text)
}

fn node_text<'a>(
    summary: &'a RunSummary,
    node: &'a NodeSummary,
    run: &'a str,
    line: usize,
    at: &'a str,
) -> NodeText<'a> {
    let mut text = NodeText {
        run,
        line,
        at,
        node: &node.node,
        mac: node.mac.as_deref(),
        outcome: "failed",
        stage: None,
        reason: None,
        identity: None,
        streams: Vec::new(),
        read_back: None,
    };
    match &node.outcome {
        NodeOutcome::Failed { stage, reason } => {
            text.stage = Some(stage);
            text.reason = Some(reason);
        }
        NodeOutcome::Done { report } => {
            text.outcome = "done";
            text.identity = report.identity.as_deref();
            text.read_back = report.read_back.as_deref();
            text.streams = report
                .streams
                .iter()
                .map(|stream| Got {
                    name: &stream.name,
                    files: stream.files,
                    bytes: stream.bytes,
                    digest: stream.digest,
                    golden_digest: golden_digest(&summary.streams, node.round, &stream.name),
                })
                .collect();
        }
    }
    text
}

/// Returns the stream's digest as sent in that round. The golden node may have changed between two rounds.
fn golden_digest(streams: &[StreamTotals], round: u32, name: &str) -> Option<Digest> {
    let of_round = |stream: &&StreamTotals| stream.round == round && stream.name == name;
    let stream = streams.iter().find(of_round)?;
    stream.golden.map(|golden| golden.digest)
}

/// The contents of a good report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Number of nodes in the report.
    pub(crate) nodes: usize,
    /// Number of these nodes that are done.
    pub(crate) done: usize,
    /// Number of files that the golden node could not read. No clone has them whole.
    pub(crate) golden_unreadable: u64,
    /// The session's name.
    pub(crate) session: String,
    /// Time of the run's end.
    pub(crate) at: String,
    /// Fingerprint of the key that signed the report.
    pub(crate) key: String,
}

/// The reason why a report proves nothing, in one line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct ProofError(String);

impl ProofError {
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    fn unreadable(error: serde_json::Error) -> Self {
        Self(format!("it cannot be read: {error}"))
    }
}

fn wrong<T>(text: impl Into<String>) -> Result<T, ProofError> {
    Err(ProofError(text.into()))
}

/// Checks every signature of a report, and that nothing is missing or was added. `keys` are the fingerprints
/// of the keys that may have signed it, in hexadecimal.
///
/// # Errors
/// The first fault.
pub(crate) fn check(report: &[u8], keys: &[String]) -> Result<Checked, ProofError> {
    let Unambiguous(mut report) = serde_json::from_slice(report).map_err(ProofError::unreadable)?;
    let proof = report
        .as_object_mut()
        .and_then(|fields| fields.remove(PROOF_FIELD));
    let Some(proof) = proof else {
        return wrong("it has no proof: it is of an older release, or somebody took it out");
    };
    let proof: Proof = serde_json::from_value(proof).map_err(ProofError::unreadable)?;
    let public_key = check_key(&proof, keys)?;
    if !is_signed(&public_key, RUN_PURPOSE, &proof.run) {
        return wrong("what it says of the run was altered: the signature does not fit");
    }
    let run: RunText = serde_json::from_str(&proof.run.text).map_err(ProofError::unreadable)?;
    let done = check_nodes(&proof, &run, &public_key)?;
    if sha256(plain(&report)?.as_bytes()) != run.summary_sha256 {
        return wrong("its summary was altered: it is not the one that was signed");
    }
    Ok(Checked {
        nodes: run.nodes,
        done,
        golden_unreadable: run.golden_unreadable,
        session: run.session,
        at: run.at,
        key: proof.key,
    })
}

/// A JSON value in which no object has one name twice. Readers differ in which of the two they show, and a
/// signature over one says nothing about the other (RFC 8259, section 4).
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnambiguousVisitor).map(Self)
    }
}

struct UnambiguousVisitor;

impl<'de> Visitor<'de> for UnambiguousVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Unambiguous(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = serde_json::Map::new();
        while let Some((name, Unambiguous(value))) = fields.next_entry::<String, _>()? {
            if all.contains_key(&name) {
                let name = printable(&name);
                return Err(de::Error::custom(format_args!(
                    "it has {name:?} twice: somebody altered it"
                )));
            }
            all.insert(name, value);
        }
        Ok(all.into())
    }
}

fn check_key(proof: &Proof, keys: &[String]) -> Result<Vec<u8>, ProofError> {
    if proof.format != FORMAT {
        return wrong(format!(
            "its format is {:?}, this program knows {FORMAT:?}",
            proof.format
        ));
    }
    let Some(public_key) = unhex(&proof.public_key) else {
        return wrong("its public key is not hexadecimal");
    };
    if fingerprint_of_public_key(&public_key) != proof.key {
        return wrong("its public key is not the one that it names");
    }
    if !keys.iter().any(|key| key.eq_ignore_ascii_case(&proof.key)) {
        return wrong(format!(
            "it was signed with key {}, not with {}",
            proof.key,
            keys.join(" or ")
        ));
    }
    Ok(public_key)
}

/// Checks the nodes' texts. Returns the number of nodes that are done.
fn check_nodes(proof: &Proof, run: &RunText, public_key: &[u8]) -> Result<usize, ProofError> {
    #[derive(Deserialize)]
    struct Line {
        run: String,
        line: usize,
        node: Named,
        outcome: String,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    let mut done = 0;
    for (number, signed) in (1..).zip(&proof.nodes) {
        let line: Line = match serde_json::from_str(&signed.text) {
            Ok(line) if is_signed(public_key, NODE_PURPOSE, signed) => line,
            _ => return wrong(format!("line {number} was altered: the signature does not fit")),
        };
        if line.run != run.run || line.line != number {
            return wrong(format!(
                "line {number} ({}) belongs to another place or another run",
                line.node.name
            ));
        }
        done += usize::from(line.outcome == "done");
    }
    if proof.nodes.len() != run.nodes || nodes_sha256(&proof.nodes) != run.nodes_sha256 {
        return wrong(format!(
            "it has the lines of {} nodes, {} were signed together: the list was cut or changed",
            proof.nodes.len(),
            run.nodes
        ));
    }
    Ok(done)
}

fn sign(key: &ServerKey, purpose: &str, text: String) -> Result<Signed, ProofError> {
    match key.sign_text(purpose, &text) {
        Some(signature) => Ok(Signed {
            text,
            signature: hex(&signature),
        }),
        None => wrong("the server's key cannot sign"),
    }
}

fn is_signed(public_key: &[u8], purpose: &str, signed: &Signed) -> bool {
    let signature = unhex(&signed.signature);
    signature.is_some_and(|signature| is_signed_text(public_key, purpose, &signed.text, &signature))
}

/// Formats as compact JSON. Keys of a [`Value`] are sorted.
fn plain(value: &impl Serialize) -> Result<String, ProofError> {
    serde_json::to_string(value).map_err(ProofError::unreadable)
}

fn nodes_sha256(nodes: &[Signed]) -> String {
    let all = nodes
        .iter()
        .fold(String::new(), |all, node| all + &node.text + "\n");
    sha256(all.as_bytes())
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let digits = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka_report::report::NodeReport;

    fn summary(nodes: u32) -> RunSummary {
        let node = |position| NodeSummary {
            erased: false,
            node: NodeRef {
                id: position,
                name: format!("n{position}"),
                addr: format!("10.0.1.{position}"),
                position,
            },
            round: 1,
            mac: Some("52:54:00:00:01:01".into()),
            outcome: match position {
                3 => NodeOutcome::Failed {
                    stage: "formatting".into(),
                    reason: "no \u{e9}space \"left\"".into(),
                },
                _ => NodeOutcome::Done {
                    report: NodeReport::default(),
                },
            },
            rejoined: Vec::new(),
            first_boot: None,
        };
        RunSummary {
            session: "room".into(),
            nodes: (1..=nodes).map(node).collect(),
            ..RunSummary::default()
        }
    }

    fn signed(nodes: u32, key: &ServerKey, run: &str) -> Value {
        let report = report(&summary(nodes), key, run, "20261128T010203Z").unwrap();
        serde_json::from_slice(&report).unwrap()
    }

    fn checked(report: &Value, key: &ServerKey) -> Result<Checked, String> {
        let bytes = serde_json::to_vec(report).unwrap();
        check(&bytes, &[key.fingerprint_hex()]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_report_proves_what_it_says_also_when_it_is_written_otherwise() {
        let key = ServerKey::ephemeral().unwrap();
        let report = report(&summary(3), &key, "run", "20261128T010203Z").unwrap();
        let checked_whole = check(&report, &[key.fingerprint_hex()]).unwrap();
        assert_eq!((checked_whole.nodes, checked_whole.done), (3, 2));
        let value: Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(checked(&value, &key).unwrap(), checked_whole, "compact");
    }

    #[test]
    fn whatever_is_altered_is_noticed_and_named() {
        let key = ServerKey::ephemeral().unwrap();
        let good = signed(3, &key, "run");
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 7] = [
            ("line 2 was altered", |report| {
                let text = report["proof"]["nodes"][1]["text"].as_str().unwrap();
                report["proof"]["nodes"][1]["text"] = text.replace("10.0.1.2", "10.0.1.9").into();
            }),
            ("line 1 was altered", |report| {
                report["proof"]["nodes"][0]["signature"] = "00".repeat(64).into();
            }),
            ("the list was cut or changed", |report| {
                report["proof"]["nodes"].as_array_mut().unwrap().pop();
            }),
            ("line 1 (n2) belongs to another place", |report| {
                report["proof"]["nodes"].as_array_mut().unwrap().swap(0, 1);
            }),
            ("what it says of the run was altered", |report| {
                let text = report["proof"]["run"]["text"].as_str().unwrap();
                report["proof"]["run"]["text"] = text.replace("\"nodes\":3", "\"nodes\":2").into();
            }),
            ("its summary was altered", |report| report["took_ms"] = 7.into()),
            ("it has no proof", |report| {
                report.as_object_mut().unwrap().remove("proof");
            }),
        ];
        for (says, change) in changes {
            let mut report = good.clone();
            change(&mut report);
            let error = checked(&report, &key).unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn a_line_of_another_run_or_a_text_signed_for_something_else_proves_nothing() {
        let key = ServerKey::ephemeral().unwrap();
        let (mut report, other) = (signed(2, &key, "run"), signed(2, &key, "other"));
        report["proof"]["nodes"][1] = other["proof"]["nodes"][1].clone();
        assert!(checked(&report, &key).unwrap_err().contains("another run"));
        let mut report = signed(2, &key, "run");
        report["proof"]["nodes"][1] = report["proof"]["run"].clone();
        assert!(checked(&report, &key).unwrap_err().contains("line 2 was altered"));
    }

    #[test]
    fn another_key_is_named_whether_it_admits_it_or_not() {
        let (key, other) = (ServerKey::ephemeral().unwrap(), ServerKey::ephemeral().unwrap());
        let mut report = signed(1, &other, "run");
        let error = checked(&report, &key).unwrap_err();
        assert!(
            error.contains(&other.fingerprint_hex()) && error.contains(&key.fingerprint_hex()),
            "{error}"
        );
        report["proof"]["key"] = key.fingerprint_hex().into();
        assert!(
            checked(&report, &key)
                .unwrap_err()
                .contains("not the one that it names")
        );
    }

    #[test]
    fn a_report_that_says_one_thing_twice_is_refused_at_any_depth() {
        let key = ServerKey::ephemeral().unwrap();
        let good = String::from_utf8(report(&summary(2), &key, "run", "now").unwrap()).unwrap();
        let keys = [key.fingerprint_hex()];
        assert!(check(good.as_bytes(), &keys).is_ok());
        let forged = [
            good.replacen('{', "{\"nodes\":[{\"outcome\":\"done\"}],", 1),
            good.replacen('{', "{\"\\u006eodes\":[],", 1),
            good.replacen("\"proof\"", "\"proof\":{},\"proof\"", 1),
            good.replacen("\"signature\"", "\"signature\":\"00\",\"signature\"", 1),
            good.replacen("\"session\"", "\"session\":\"x\",\"session\"", 1),
        ];
        for (index, text) in forged.iter().enumerate() {
            assert_ne!(*text, good, "{index}");
            let error = check(text.as_bytes(), &keys).unwrap_err().to_string();
            assert!(error.contains("twice"), "{index}: {error}");
        }
    }

    #[test]
    fn garbage_and_every_truncation_are_refused_without_a_panic() {
        let key = ServerKey::ephemeral().unwrap();
        let good = report(&summary(1), &key, "run", "now").unwrap();
        let keys = [key.fingerprint_hex()];
        for len in (0..good.len() - 1).step_by(7) {
            assert!(check(&good[..len], &keys).is_err(), "{len} bytes");
        }
        for text in ["[]", "{}", "7", "{\"proof\":7}", "{\"proof\":{}}"] {
            assert!(check(text.as_bytes(), &keys).is_err(), "{text}");
        }
    }
}
