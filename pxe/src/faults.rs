//! All faults of a boot server's configuration, so that the operator can repair them in one go.

use std::fmt;

use crate::error::PxeError;

/// One or more faults, one line each.
#[derive(Debug)]
pub struct Faults(Vec<PxeError>);

impl Faults {
    /// Returns `value` if there is no fault.
    ///
    /// # Errors
    /// Fails with all faults if there are any.
    pub(crate) fn unless<T>(faults: Vec<PxeError>, value: T) -> Result<T, Self> {
        match faults.is_empty() {
            true => Ok(value),
            false => Err(Self(faults)),
        }
    }
}

impl From<PxeError> for Faults {
    fn from(error: PxeError) -> Self {
        Self(vec![error])
    }
}

impl IntoIterator for Faults {
    type Item = PxeError;
    type IntoIter = std::vec::IntoIter<PxeError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Faults {
    /// Writes the lines for a program that puts `error: ` before the first one. Each further line begins with
    /// that word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\nerror: "))
    }
}

impl std::error::Error for Faults {}
