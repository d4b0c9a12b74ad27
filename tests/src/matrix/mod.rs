//! The matrix of golden systems: kinds of golden nodes, each with the right result for its clone.
//!
//! Real Debians of several releases (`real`), and text trees of systems whose packages are not at hand
//! (`shapes`). The fast part runs as ordinary tests (target `matrix`); `cargo xtask matrix` runs all of it
//! and prints the table.

mod judge;
mod real;
pub mod shapes;

use std::fmt::{self, Display, Formatter};

use anyhow::{Result, ensure};

/// One golden system and the right result for its clone.
pub struct Case {
    /// Name by which the case is chosen: `debian11-ext4-grub`.
    pub name: &'static str,
    /// The distribution and its release.
    pub system: &'static str,
    /// The root's file system and layout: `btrfs, snapper's subvolumes`.
    pub root: &'static str,
    /// The boot loader: `GRUB, BIOS`.
    pub loader: &'static str,
    /// Tool that makes the initramfs.
    pub initramfs: &'static str,
    /// The part that the case belongs to.
    pub part: Part,
    /// The right result; any other is a failure.
    pub expected: Expected,
    /// Clones the system and returns the result.
    pub run: Box<dyn Fn() -> Result<Outcome> + Send + Sync>,
}

/// The part of the matrix that a case belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It takes seconds and no machine: runs in CI too.
    Fast,
    /// It takes minutes: only `cargo xtask matrix` runs it.
    Full,
}

/// The result that a case must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The result is [`Outcome::Boots`].
    Boots,
    /// The result is [`Outcome::Cloned`].
    Cloned,
    /// The result is [`Outcome::Refused`] with a line that holds each of these texts.
    Refused(&'static [&'static str]),
    /// The result is [`Outcome::Failed`] with a line that holds each of these texts.
    Failed(&'static [&'static str]),
}

/// The end of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The clone names nothing of the golden node, and came from its own disk to a login.
    Boots,
    /// The clone names nothing of the golden node, and its loader was installed; it was not switched on.
    Cloned,
    /// Nothing was written, for the reason in this line.
    Refused(String),
    /// The node failed with this line, and nothing boots from its disk.
    Failed(String),
}

impl Case {
    /// Runs the case.
    ///
    /// # Errors
    /// The case has another result than it must have, or cannot be run.
    pub fn check(&self) -> Result<Outcome> {
        let outcome = (self.run)()?;
        ensure!(
            self.expected.is(&outcome),
            "the result is '{outcome}' and should be '{}'",
            self.expected
        );
        Ok(outcome)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Case")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Expected {
    fn is(&self, outcome: &Outcome) -> bool {
        let holds = |line: &str, words: &[&str]| words.iter().all(|word| line.contains(word));
        match (self, outcome) {
            (Self::Boots, Outcome::Boots) | (Self::Cloned, Outcome::Cloned) => true,
            (Self::Refused(words), Outcome::Refused(line)) | (Self::Failed(words), Outcome::Failed(line)) => {
                holds(line, words)
            }
            _ => false,
        }
    }
}

impl Display for Expected {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let outcome = match self {
            Self::Boots => Outcome::Boots,
            Self::Cloned => Outcome::Cloned,
            Self::Refused(words) => Outcome::Refused(words.join(" … ")),
            Self::Failed(words) => Outcome::Failed(words.join(" … ")),
        };
        outcome.fmt(formatter)
    }
}

impl Display for Outcome {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boots => formatter.write_str("boots from its own disk"),
            Self::Cloned => formatter.write_str("cloned, names nothing golden"),
            Self::Refused(line) => write!(formatter, "refused: {line}"),
            Self::Failed(line) => write!(formatter, "fails: {line}"),
        }
    }
}

/// All cases, real systems first.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = real::cases();
    cases.extend(shapes::cases());
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn another_result_than_the_right_one_is_a_failure() {
        let case = |expected, outcome: Outcome| Case {
            name: "none",
            system: "",
            root: "",
            loader: "",
            initramfs: "",
            part: Part::Fast,
            expected,
            run: Box::new(move || Ok(outcome.clone())),
        };
        let refused = || Outcome::Refused("error: no loader, say -r none".to_owned());
        assert!(
            case(Expected::Refused(&["no loader", "-r none"]), refused())
                .check()
                .is_ok()
        );
        assert!(
            case(Expected::Refused(&["no kernel"]), refused())
                .check()
                .is_err()
        );
        assert!(case(Expected::Failed(&["no loader"]), refused()).check().is_err());
        assert!(case(Expected::Boots, Outcome::Cloned).check().is_err());
        let error = case(Expected::Boots, refused()).check().unwrap_err().to_string();
        assert!(error.contains("no loader") && error.contains("boots"), "{error}");
    }

    #[test]
    fn each_case_has_a_name_of_its_own_that_can_be_typed() {
        let cases = cases();
        let names: BTreeSet<_> = cases.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), cases.len());
        let typed = |name: &str| {
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        assert!(names.iter().all(|name| typed(name)), "{names:?}");
    }
}
