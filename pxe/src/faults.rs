//! Everything that is wrong with what a boot server is given: whoever mends it wants all of it in one go.

use std::fmt;

use crate::error::PxeError;

/// Faults, a line each; never none.
#[derive(Debug)]
pub struct Faults(Vec<PxeError>);

impl Faults {
    /// Passes `value` on where nothing is wrong.
    ///
    /// # Errors
    /// All that is.
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
    /// As programs show it behind `error: `: that word begins each further line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\nerror: "))
    }
}

impl std::error::Error for Faults {}
