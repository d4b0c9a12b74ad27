//! How a run of `ka-server` can end before there is anything to sum up, and the exit code of each (issue 2 §2).
//! A run that got as far as having nodes ends with [`ka_status::summary::RunSummary::exit_code`] instead.

use std::fmt;

use ka_status::text::error_line;

/// A bad ending before the run.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The golden node could not be read, a port could not be had, no node came: exit code 1.
    NothingDone(anyhow::Error),
    /// The command line asks for something impossible: exit code 2, as for clap's own errors.
    Usage(anyhow::Error),
}

impl Failure {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NothingDone(_) => 1,
            Self::Usage(_) => 2,
        }
    }
}

impl fmt::Display for Failure {
    /// The whole chain of causes on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NothingDone(error) | Self::Usage(error)) = self;
        f.write_str(&error_line(error.as_ref()))
    }
}

/// Turns any error into one of the two endings, where it is clear which.
pub(crate) trait OrFail<T> {
    /// The operator has to change the command line.
    fn or_usage(self) -> Result<T, Failure>;
    /// The operator has to change something else.
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

    use super::Failure;

    #[test]
    fn the_whole_cause_is_on_one_line() {
        let failure = Failure::NothingDone(anyhow!("no such file\nat all").context("reading /x"));
        assert_eq!(failure.to_string(), "reading /x: no such file / at all");
        assert_eq!(failure.exit_code(), 1);
        assert_eq!(Failure::Usage(anyhow!("x")).exit_code(), 2);
    }
}
