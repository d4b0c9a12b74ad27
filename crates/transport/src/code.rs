//! The join code: the one line that an operator pastes to let a node into a run.
//!
//! It holds the server key's fingerprint, so that a node gives nothing to a stranger. It also holds the run's
//! secret, so that the server gives nothing to a stranger. It holds no address and no session name, only
//! random bytes.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};

/// Length of a server key's fingerprint: BLAKE3 of the SubjectPublicKeyInfo.
pub(crate) const FINGERPRINT_LEN: usize = 32;
/// Length of a run's secret. 128 random bits cannot be guessed over a network.
pub(crate) const SECRET_LEN: usize = 16;

const PREFIX: &str = "KA1-";
const CHECKSUM_LEN: usize = 2;
const RAW_LEN: usize = FINGERPRINT_LEN + SECRET_LEN + CHECKSUM_LEN;
/// 50 bytes are exactly 80 characters of five bits: no padding.
const TEXT_LEN: usize = RAW_LEN * 8 / 5;
/// Characters of a group, as many as a person keeps in mind from one screen to the next.
const GROUP_LEN: usize = 5;

/// Crockford's alphabet: no letter that reads as a digit; what people type for one is taken as that digit.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    spec.translate.from.push_str("ABCDEFGHJKMNPQRSTVWXYZoOiIlL");
    spec.translate.to.push_str("abcdefghjkmnpqrstvwxyz001111");
    #[expect(clippy::expect_used, reason = "a constant table; a test builds it")]
    spec.encoding().expect("the alphabet has 32 distinct symbols")
});

/// Fingerprint of the server's key and the secret of one run.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinCode {
    /// BLAKE3 of the server's public key (SubjectPublicKeyInfo, DER).
    pub fingerprint: [u8; FINGERPRINT_LEN],
    /// Random, new for each run.
    pub secret: [u8; SECRET_LEN],
}

/// The reason why a text is no join code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinCodeError {
    /// The text does not begin with `KA1-`.
    #[error("a join code begins with {PREFIX}; copy the whole code that ka-server printed")]
    Prefix,
    /// Characters are missing or too many.
    #[error(
        "a join code has {TEXT_LEN} characters after {PREFIX}, this one has {found}; copy the whole code"
    )]
    Length {
        /// Characters after the prefix.
        found: usize,
    },
    /// A character outside the alphabet.
    #[error(
        "character {position} of the join code can not be part of one; copy it again from ka-server's output"
    )]
    Character {
        /// Counted from 1, prefix included.
        position: usize,
    },
    /// The characters are possible but do not belong together.
    #[error("the join code's check digits do not fit: a character was mistyped; copy it again")]
    Checksum,
}

impl JoinCode {
    /// Returns the code in groups of five characters, on two lines, for somebody who reads it out. It
    /// is a code like the one-line form.
    #[must_use]
    pub fn read_out(&self) -> [String; 2] {
        let text = self.to_string();
        let body: Vec<char> = text.chars().skip(PREFIX.len()).collect();
        let groups: Vec<String> = body.chunks(GROUP_LEN).map(String::from_iter).collect();
        let (first, second) = groups.split_at(groups.len() / 2);
        [
            format!("{PREFIX}{}-", first.join("-")),
            format!("{:width$}{}", "", second.join("-"), width = PREFIX.len()),
        ]
    }

    fn checksum(body: &[u8]) -> [u8; CHECKSUM_LEN] {
        let hash = blake3::derive_key("ka 2026 join code checksum", body);
        [hash[0], hash[1]]
    }
}

impl fmt::Display for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut raw = Vec::with_capacity(RAW_LEN);
        raw.extend_from_slice(&self.fingerprint);
        raw.extend_from_slice(&self.secret);
        raw.extend_from_slice(&Self::checksum(&raw));
        write!(f, "{PREFIX}{}", BASE32.encode(&raw))
    }
}

/// Shows no secret: a code must not end up in a log.
impl fmt::Debug for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinCode(hidden)")
    }
}

impl FromStr for JoinCode {
    type Err = JoinCodeError;

    /// White space and dashes are left out: a terminal breaks the code at its edge, and it is pasted with the
    /// break; a code that was read out is typed with or without its groups.
    fn from_str(text: &str) -> Result<Self, JoinCodeError> {
        let is_part = |c: &char| !c.is_whitespace() && *c != '-';
        let text: String = text.chars().filter(is_part).collect();
        let mark = PREFIX.trim_end_matches('-');
        let prefix_matches = text
            .get(..mark.len())
            .is_some_and(|p| p.eq_ignore_ascii_case(mark));
        if !prefix_matches {
            return Err(JoinCodeError::Prefix);
        }
        let body = &text[mark.len()..];
        let found = body.chars().count();
        if found != TEXT_LEN {
            return Err(JoinCodeError::Length { found });
        }
        let raw = BASE32
            .decode(body.as_bytes())
            .map_err(|error| JoinCodeError::Character {
                position: PREFIX.len() + error.position + 1,
            })?;
        let (Some(fingerprint), Some(secret)) = (
            raw.first_chunk(),
            raw.get(FINGERPRINT_LEN..).and_then(<[u8]>::first_chunk),
        ) else {
            return Err(JoinCodeError::Length { found });
        };
        let (kept, checksum) = raw.split_at(FINGERPRINT_LEN + SECRET_LEN);
        if checksum != Self::checksum(kept) {
            return Err(JoinCodeError::Checksum);
        }
        Ok(Self {
            fingerprint: *fingerprint,
            secret: *secret,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn code() -> JoinCode {
        JoinCode {
            fingerprint: [0xa5; 32],
            secret: [7; 16],
        }
    }

    #[test]
    fn code_survives_upper_case_and_letters_that_look_like_digits() {
        let text = code().to_string();
        assert_eq!(text.to_uppercase().parse(), Ok(code()));
        assert_eq!(
            text.replace('0', "O")
                .replace('1', "l")
                .replacen("KAl", "KA1", 1)
                .parse(),
            Ok(code())
        );
    }

    #[test]
    fn a_code_that_was_pasted_in_pieces_is_whole() {
        let text = code().to_string();
        for broken in [
            format!("{}\n{}", &text[..80], &text[80..]),
            format!(" {}\r\n  {} {}\n", &text[..3], &text[3..40], &text[40..]),
        ] {
            assert_eq!(broken.parse(), Ok(code()), "{broken:?}");
        }
    }

    #[test]
    fn a_code_in_groups_fits_a_terminal_and_is_read_with_and_without_them() {
        let lines = code().read_out();
        assert!(lines.iter().all(|line| line.len() <= 56), "{lines:?}");
        assert!(lines[0].starts_with("KA1-mpjtb-"), "{lines:?}");
        let grouped = lines.join("\n");
        let dictated = grouped.replace('-', " ").to_uppercase();
        let joined = grouped.replace(['-', '\n', ' '], "");
        for text in [&grouped, &dictated, &joined] {
            assert_eq!(text.parse(), Ok(code()), "{text:?}");
        }
        assert_eq!(
            joined.len(),
            code().to_string().len() - 1,
            "no character is added"
        );
    }

    #[test]
    fn each_way_to_spoil_a_code_is_told_apart() {
        let text = code().to_string();
        assert_eq!("hello".parse::<JoinCode>(), Err(JoinCodeError::Prefix));
        assert_eq!(
            text[..30].parse::<JoinCode>(),
            Err(JoinCodeError::Length { found: 26 })
        );
        let spoilt = format!("{}u{}", &text[..10], &text[11..]);
        assert_eq!(
            spoilt.parse::<JoinCode>(),
            Err(JoinCodeError::Character { position: 11 })
        );
        let other = if &text[10..11] == "x" { "y" } else { "x" };
        let mistyped = format!("{}{other}{}", &text[..10], &text[11..]);
        assert_eq!(mistyped.parse::<JoinCode>(), Err(JoinCodeError::Checksum));
    }

    proptest! {
        #[test]
        fn any_code_comes_back(fingerprint in any::<[u8; 32]>(), secret in any::<[u8; 16]>()) {
            let code = JoinCode { fingerprint, secret };
            assert_eq!(code.to_string().parse(), Ok(code));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,120}") {
            let _ = text.parse::<JoinCode>();
            let _ = format!("KA1-{text}").parse::<JoinCode>();
        }
    }
}
