//! Names and reasons that come from a peer: bounded, printable, safe to show on a terminal. A machine's name
//! is more than that: a host name, which goes unquoted into files that a clone's boot reads.
//!
//! Not here: the meaning of the names. Specification: `docs/protocol.md`, "Names and numbers".

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::limits::{MAX_NAME, MAX_REASON};

/// A reason to refuse a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("the name is empty")]
    Empty,
    /// The name has more bytes than [`MAX_NAME`].
    #[error("the name has {bytes} bytes, at most {MAX_NAME} are allowed")]
    TooLong {
        /// Bytes in the refused name.
        bytes: usize,
    },
    /// The name has a control character, or white space at an end. It would garble the operator's terminal
    /// and log.
    #[error("the name {name:?} has unprintable characters or white space around it")]
    Unprintable {
        /// The refused name.
        name: String,
    },
    /// The name is no host name (RFC 1123 §2.1). In the files of a clone it would be shell syntax, or two
    /// words.
    #[error(
        "{name:?} is no host name: letters, digits, dashes and dots, at most {MAX_LABEL} bytes between two dots, no dash \
         at either end of such a part, and no address"
    )]
    NoHostName {
        /// The refused name.
        name: String,
    },
}

/// Longest part of a host name between two dots, in bytes (RFC 1123 §2.1, RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// Checks a host name by RFC 1123 §2.1. The whole name is no longer than the limit of Linux (`HOST_NAME_MAX`,
/// 64 bytes).
fn check_host_name(text: &str) -> Result<(), NameError> {
    check_name(text)?;
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name never has the form of an address: the last part of a name with dots is not a number (RFC 1123
    // §2.1).
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let is_address = text.rsplit_once('.').is_some_and(|(_, last)| is_number(last));
    if text.split('.').all(is_label) && !is_address {
        return Ok(());
    }
    Err(NameError::NoHostName {
        name: text.to_owned(),
    })
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

/// Returns true for control characters, and for characters that reorder text on a terminal or are invisible.
/// These are marks and overrides of direction, zero-width characters, invisible operators and tags (Unicode
/// 16, sections 23.2 to 23.9).
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Returns a text from another machine, safe to show. Tabs become spaces, and line ends stay. Characters that
/// would steer a terminal, reorder the line or hide in it become `?`. Every text of a peer passes here before
/// it is shown.
#[must_use]
pub fn printable(text: &str) -> String {
    text.replace("\r\n", "\n").chars().map(shown).collect()
}

fn shown(c: char) -> char {
    match c {
        '\n' => '\n',
        '\t' => ' ',
        c if is_unsafe(c) => '?',
        c => c,
    }
}

/// Returns a text as lines that cannot be taken for another program's. Each is printable, and all but the
/// first begin with `| `. An empty text is one empty line.
#[must_use]
pub fn marked_lines(text: &str) -> Vec<String> {
    let text = printable(text);
    let mut lines = text.trim_end_matches('\n').split('\n');
    let first = lines.next().unwrap_or_default().to_owned();
    let rest = lines.map(|line| format!("| {line}"));
    std::iter::once(first).chain(rest).collect()
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(String);

        impl $name {
            /// Takes a name of 1 to 64 bytes that keeps to this type's rule.
            ///
            /// # Errors
            /// [`NameError`] says what is wrong with it.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $check(text).map(|()| Self(text.to_owned()))
            }

            /// Returns the name.
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
    SessionName, check_name
}
name! {
    /// A node's host name (RFC 1123). It becomes the clone's name. So wherever a name comes in (option,
    /// kernel command line, DHCP, node list, join), it comes in through this type.
    NodeName, check_host_name
}
name! {
    /// An operator's handle for a node: its name, its address or its MAC address. Any printable text.
    NodeHandle, check_name
}
name! {
    /// A stream's name: `kainstall2`, `kainstall3`, …
    StreamName, check_name
}
name! {
    /// A place on the wire: a switch, a port of it, or an operator's group of nodes. Any printable text.
    PlaceName, check_name
}

impl PlaceName {
    /// Returns the nearest name to `text`, which a stranger on the wire sent. It is cut to [`MAX_NAME`] bytes,
    /// and unprintable characters become `?`. `None` if nothing is left.
    #[must_use]
    pub fn nearest(text: &str) -> Option<Self> {
        let mut name = String::new();
        for c in printable(text.trim()).chars() {
            if name.len() + c.len_utf8() > MAX_NAME {
                break;
            }
            name.push(if c == '\n' { ' ' } else { c });
        }
        Self::new(name.trim()).ok()
    }
}

/// Names that every machine has and that identify none. A machine with such a name has no name yet.
const NAMELESS: [&str; 8] = [
    "localhost",
    "localhost4",
    "localhost6",
    "localdomain",
    "none",
    "ip6-localhost",
    "ip6-loopback",
    "node",
];

impl NodeName {
    /// The name of a machine that has no usable one.
    pub const NAMELESS: &str = "node";

    /// Returns the nearest host name to `text`, a name of a system for itself or for a machine. Characters
    /// that no host name may hold become dashes (`my_pc` is `my-pc`). `None` if nothing is left, or only a
    /// name that every machine has.
    #[must_use]
    pub fn nearest(text: &str) -> Option<Self> {
        let plain: String = text
            .chars()
            .map(|c| {
                let is_kept = c.is_ascii_alphanumeric() || c == '.';
                if is_kept { c } else { '-' }
            })
            .take(MAX_NAME)
            .collect();
        let labels = plain.split('.').map(|label| label.trim_matches('-'));
        let name = labels
            .filter(|label| !label.is_empty())
            .collect::<Vec<_>>()
            .join(".");
        Self::new(&name).ok().filter(|name| !name.is_nameless())
    }

    /// Returns true for a name of no machine in particular, such as `localhost.localdomain`.
    #[must_use]
    pub fn is_nameless(&self) -> bool {
        let short = self.0.split('.').next().unwrap_or_default();
        NAMELESS.iter().any(|name| name.eq_ignore_ascii_case(short))
    }
}

/// A reason why something ended, for people: at most [`MAX_REASON`] bytes, line breaks kept, other control
/// characters replaced.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Reason(String);

impl Reason {
    /// Takes any text and makes it fit. It is cut at a character boundary, and unprintable characters become
    /// `?`.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Self {
        let text = text.as_ref();
        let mut end = text.len().min(MAX_REASON);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(text[..end].chars().map(shown).collect())
    }

    /// Returns the text.
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
    /// Makes a peer's text safe rather than refusing it. Losing the reason of a failure helps nobody.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&str>::deserialize(deserializer).map(Self::new)
    }
}

/// Returns a name as part of a file name. Letters, digits, `-` and `_` stay; every other byte is written as
/// `%` and two hexadecimal digits. Different names stay different, and none leads to another directory.
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
    fn any_text_of_a_stranger_becomes_a_place_or_nothing() {
        for (text, expected) in [
            ("Gi1/0/2", Some("Gi1/0/2")),
            ("  a\nb\u{1b}[2J ", Some("a b?[2J")),
            ("\u{202e}", Some("?")),
            (" \n\t", None),
            ("", None),
        ] {
            let name = PlaceName::nearest(text);
            assert_eq!(name.as_ref().map(PlaceName::as_str), expected, "{text:?}");
        }
        let long = PlaceName::nearest(&"é".repeat(100)).unwrap();
        assert_eq!(long.as_str().len(), MAX_NAME);
    }

    #[test]
    fn a_machines_name_is_a_host_name() {
        let longest = format!("{}.b", "x".repeat(62));
        for good in [
            "n7",
            "N7.lab.example.org",
            "7",
            "3com",
            "a-b",
            "xn--bcher-kva",
            &longest,
        ] {
            assert!(NodeName::new(good).is_ok(), "{good:?}");
        }
        let long_label = "x".repeat(64);
        for bad in [
            "n7$(id)",
            "n7`id`",
            "a b",
            "a;b",
            "a\"b",
            "a'b",
            "a\\b",
            "a/b",
            "../a",
            "a_b",
            "-a",
            "a-",
            "a.-b",
            ".a",
            "a.",
            "a..b",
            ".",
            "-",
            "é",
            "a\tb",
            "a=b",
            "a#b",
            "a|b",
            "a&b",
            "a,b",
            "a:b",
            "10.0.0.1",
            "a.7",
            "*",
            "~",
            &long_label,
        ] {
            assert!(
                matches!(
                    NodeName::new(bad),
                    Err(NameError::NoHostName { .. } | NameError::Unprintable { .. })
                ),
                "{bad:?}"
            );
        }
        assert_eq!(NodeName::new(""), Err(NameError::Empty));
        assert!(matches!(
            NodeName::new(&"a.".repeat(40)),
            Err(NameError::TooLong { .. })
        ));
        // A peer's name is refused with its message.
        let sent = postcard::to_stdvec(&NodeHandle::new("n7$(id)").unwrap()).unwrap();
        assert!(postcard::from_bytes::<NodeName>(&sent).is_err());
    }

    #[test]
    fn the_nearest_host_name_is_one_or_there_is_none() {
        let nearest = |text| NodeName::nearest(text).map(|name| name.as_str().to_owned());
        assert_eq!(nearest("n7").as_deref(), Some("n7"));
        assert_eq!(nearest("my_pc").as_deref(), Some("my-pc"));
        assert_eq!(nearest("n7.").as_deref(), Some("n7"));
        assert_eq!(nearest("n7$(id>/pwned)").as_deref(), Some("n7--id--pwned"));
        for text in [
            "",
            "(none)",
            "localhost",
            "LOCALHOST.localdomain",
            "___",
            "10.0.0.1",
            "node",
        ] {
            assert_eq!(nearest(text), None, "{text:?}");
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

    #[test]
    fn a_peers_text_steers_no_terminal_and_forges_no_line() {
        let bad = [
            "\u{1b}[2J",
            "\u{9b}2J",
            "\r",
            "\u{7f}",
            "\u{202e}",
            "\u{2066}",
            "\u{200b}",
            "\u{61c}",
            "\u{2028}",
            "\u{85}",
            "\u{feff}",
            "\u{e0041}",
            "\u{ad}",
            "\0",
            "\u{b}",
            "\u{2060}",
        ];
        for text in bad {
            let lines = super::marked_lines(&format!("a{text}b\n64 nodes done\r\nlet n9 in?"));
            assert_eq!(lines.len(), 3, "{text:?}");
            assert!(lines[0].starts_with("a?") && lines[0].ends_with('b'), "{lines:?}");
            assert_eq!(&lines[1..], ["| 64 nodes done", "| let n9 in?"]);
        }
        assert_eq!(
            super::marked_lines("Grüße\tK\u{f6}ln \u{1f600}"),
            ["Grüße Köln \u{1f600}"]
        );
        assert_eq!(super::marked_lines(""), [""]);
    }

    #[test]
    fn different_names_have_different_file_names_and_none_leads_elsewhere() {
        let names = ["lab.1", "lab_1", "lab/1", "lab%2E1", "..", "lab 1", "Lab_1"];
        let files: std::collections::BTreeSet<_> = names.iter().map(|name| super::file_name(name)).collect();
        assert_eq!(files.len(), names.len());
        assert!(
            files.iter().all(|file| !file.contains(['/', '.', ' '])),
            "{files:?}"
        );
        assert_eq!(super::file_name("kainstall-2_b"), "kainstall-2_b");
    }
}
