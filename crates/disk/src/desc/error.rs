//! What can be wrong with a desc file, each with the way out.

use thiserror::Error;

/// A refusal of a desc file: `FILE:LINE: what is wrong, what to do`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{origin}:{line}: {problem}")]
pub struct DescError {
    /// File name as the user gave it.
    pub origin: String,
    /// Line number counted from 1.
    pub line: u32,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a line, in words for the user.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// The type column holds no known type.
    #[error("unknown partition type `{0}`: write linux, swap, extended, typeXX or a GPT name or GUID")]
    UnknownType(String),
}
