//! Names and reasons that come from a peer: bounded, printable, safe to show on a terminal.
//!
//! Not here: what the names mean. Specification: `docs/protocol.md`, "Names and numbers".

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::limits::{MAX_NAME, MAX_REASON};

/// Why a name was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("the name is empty")]
    Empty,
    /// More bytes than [`MAX_NAME`].
    #[error("the name has {bytes} bytes, at most {MAX_NAME} are allowed")]
    TooLong {
        /// Bytes in the refused name.
        bytes: usize,
    },
    /// A control character or white space at an end; it would garble the operator's terminal and log.
    #[error("the name {name:?} has unprintable characters or white space around it")]
    Unprintable {
        /// The refused name.
        name: String,
    },
}

fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong { bytes: text.len() });
    }
    if text.chars().any(is_unsafe) || text.trim() != text {
        return Err(NameError::Unprintable {
            name: text.to_owned(),
        });
    }
    Ok(())
}

/// Control characters, and the characters that reorder or hide text on a terminal.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(String);

        impl $name {
            /// Takes a name of 1 to 64 printable bytes.
            ///
            /// # Errors
            /// [`NameError`] says what is wrong with it.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check_name(text).map(|()| Self(text.to_owned()))
            }

            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <&str>::deserialize(deserializer)?;
                Self::new(text).map_err(de::Error::custom)
            }
        }
    };
}

name! {
    /// The session that a node wants to join (`-s`); a node joins only a session of the same name.
    SessionName
}
name! {
    /// What a node calls itself: its host name.
    NodeName
}
name! {
    /// A stream's name: `kainstall2`, `kainstall3`, …
    StreamName
}

/// Why something ended, for people: at most [`MAX_REASON`] bytes, line breaks kept, other control characters replaced.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Reason(String);

impl Reason {
    /// Takes any text and makes it fit: cut at a character boundary, unprintable characters become `?`.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        let mut end = text.len().min(MAX_REASON);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(
            text[..end]
                .chars()
                .map(|c| if is_unsafe(c) && c != '\n' { '?' } else { c })
                .collect(),
        )
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<'de> Deserialize<'de> for Reason {
    /// A peer's text is made safe rather than refused: losing the reason of a failure helps nobody.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&str>::deserialize(deserializer).map(Self::new)
    }
}

/// A name as part of a file name: letters, digits, `-` and `_` stay, every other byte is written as `%` and two hexadecimal
/// digits. Different names stay different, and none leads to another directory.
#[must_use]
pub fn file_name(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_printable() {
        assert!(SessionName::new("kainstall").is_ok());
        assert_eq!(SessionName::new(""), Err(NameError::Empty));
        assert_eq!(
            SessionName::new(&"x".repeat(65)),
            Err(NameError::TooLong { bytes: 65 })
        );
        for bad in ["a\nb", "a\u{1b}[2J", " a", "a ", "a\u{202e}b"] {
            assert!(
                matches!(SessionName::new(bad), Err(NameError::Unprintable { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_reason_is_cut_at_a_character_and_cannot_drive_a_terminal() {
        let long = "é".repeat(MAX_REASON);
        assert_eq!(Reason::new(&long).as_str().len(), MAX_REASON);
        assert_eq!(
            Reason::new("no\u{1b}[31m space\nleft").as_str(),
            "no?[31m space\nleft"
        );
    }
}
