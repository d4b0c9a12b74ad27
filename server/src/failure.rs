//! Failures of `ka-server` before a run has nodes, and the exit code of each. A run that had nodes ends with
//! [`ka_report::summary::RunSummary::exit_code`] instead.

use std::fmt;

use anyhow::anyhow;
use ka_cli::{error_line, error_text, exit};
use ka_disk::golden::SurveyError;

/// A failure before the run has nodes.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The golden node could not be read, a port was not free, or no node came: exit code 1.
    NothingDone(anyhow::Error),
    /// The command line asks for something impossible: exit code 2, as for clap's own errors.
    Usage(anyhow::Error),
}

impl Failure {
    /// Returns the exit code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NothingDone(_) => exit::NOTHING_DONE,
            Self::Usage(_) => exit::WRONG_USAGE,
        }
    }
}

impl fmt::Display for Failure {
    /// Writes the whole chain of causes on one line. Several faults have a line each, with `error: ` between
    /// them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NothingDone(error) | Self::Usage(error)) = self;
        match error.downcast_ref::<Faults>() {
            Some(faults) => faults.fmt(f),
            // The operator pastes lines of this error, so it is written as it is.
            None if matches!(error.downcast_ref(), Some(SurveyError::Unplaced { .. })) => {
                f.write_str(&error_text(error.as_ref()))
            }
            None => f.write_str(&error_line(error.as_ref())),
        }
    }
}

/// All faults of a run, found in one pass, so that the operator can mend all of them before the next try.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<anyhow::Error>);

impl Faults {
    /// Returns the value of a check. If it failed, keeps the fault and returns `None`.
    pub(crate) fn keep<T>(&mut self, checked: anyhow::Result<T>) -> Option<T> {
        checked.map_err(|error| self.add(error)).ok()
    }

    /// Keeps a fault, or all faults that another check found.
    pub(crate) fn add(&mut self, error: anyhow::Error) {
        match error.downcast::<Self>() {
            Ok(more) => self.0.extend(more.0),
            Err(error) => self.0.push(error),
        }
    }

    /// Succeeds if there are no faults.
    ///
    /// # Errors
    /// All of them, as one error.
    pub(crate) fn check(self) -> anyhow::Result<()> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(self.into()),
        }
    }

    /// Returns the result of the checks. If a part of it is missing, there is a fault.
    ///
    /// # Errors
    /// All faults, as one error.
    pub(crate) fn finish<T>(self, found: Option<T>) -> anyhow::Result<T> {
        self.check()?;
        found.ok_or_else(|| anyhow!("something was not checked"))
    }

    /// Returns one line for each fault.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|error| error_line(error.as_ref()))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join("\nerror: "))
    }
}

impl std::error::Error for Faults {}

/// Conversion of any error into one of the two failures.
pub(crate) trait OrFail<T> {
    /// Marks an error that the operator mends on the command line.
    fn or_usage(self) -> Result<T, Failure>;
    /// Marks an error that the operator mends elsewhere.
    fn or_nothing_done(self) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrFail<T> for Result<T, E> {
    fn or_usage(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::Usage(error.into()))
    }

    fn or_nothing_done(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::NothingDone(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::{Failure, Faults};

    #[test]
    fn several_faults_are_a_line_each() {
        let mut inner = Faults::default();
        inner.add(anyhow!("b\nc"));
        inner.add(anyhow!("d").context("e"));
        let mut faults = Faults::default();
        assert_eq!(faults.keep(Ok(1)), Some(1));
        assert_eq!(faults.keep::<u8>(Err(anyhow!("a"))), None);
        faults.add(inner.into());
        let failure = Failure::Usage(faults.check().unwrap_err());
        assert_eq!(failure.to_string(), "a\nerror: b / c\nerror: e: d");
        assert!(Faults::default().check().is_ok());
    }

    #[test]
    fn the_whole_cause_is_on_one_line() {
        let failure = Failure::NothingDone(anyhow!("no such file\nat all").context("reading /x"));
        assert_eq!(failure.to_string(), "reading /x: no such file / at all");
        assert_eq!(failure.exit_code(), 1);
        assert_eq!(Failure::Usage(anyhow!("x")).exit_code(), 2);
    }
}
