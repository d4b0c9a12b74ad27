//! The question about a node that asks to join (`--approve`), in one wording for every screen.

/// The letters that answer a question about one node.
pub const LETTERS: &str = "y, n or a (all)";

/// Returns what the operator compares and decides on, the code first: `7039-4603 n102 10.78.0.102
/// 4a:f2:00:00:00:01`.
#[must_use]
pub fn applicant(code: &str, name: &str, addr: &str, mac: Option<&str>) -> String {
    format!("{code} {name} {addr} {}", mac.unwrap_or("address unknown"))
}

/// Returns the question about this one node: `7039-4603 n102 …: let in? y, n or a (all)`.
#[must_use]
pub fn question(applicant: &str) -> String {
    format!("{applicant}: let in? {LETTERS}")
}
