//! The join code: the one line an operator pastes to let a node into a run.
//!
//! It holds the server key's fingerprint (so that a node gives nothing to a stranger) and the run's secret (so that
//! the server gives nothing to one). What it does not hold: an address, a session name, anything that is not random.
//! Issue 2 §6.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};

use crate::error::TransportError;

/// Length of a server key's fingerprint: BLAKE3 of the SubjectPublicKeyInfo.
pub(crate) const FINGERPRINT_LEN: usize = 32;
/// Length of a run's secret. 128 random bits cannot be guessed over a network.
pub(crate) const SECRET_LEN: usize = 16;

const PREFIX: &str = "KA1-";
const CHECKSUM_LEN: usize = 2;
const RAW_LEN: usize = FINGERPRINT_LEN + SECRET_LEN + CHECKSUM_LEN;
/// 50 bytes are exactly 80 characters of five bits: no padding.
const TEXT_LEN: usize = RAW_LEN * 8 / 5;
/// A join file holds one line; anything much longer is another file.
const MAX_FILE_LEN: u64 = 4096;

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

/// Why a text is no join code.
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
    /// Writes the code as one line to `path`, readable by its owner only. An existing file is replaced, so that
    /// its mode cannot be wider and no link is followed.
    ///
    /// # Errors
    /// [`TransportError::File`] with the path.
    pub fn write_file(&self, path: &Path) -> Result<(), TransportError> {
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!(".new{}", std::process::id()));
        let staged = Path::new(&staged);
        let write = || {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(staged)?;
            writeln!(file, "{self}")?;
            file.sync_all()?;
            fs::rename(staged, path)
        };
        write().map_err(|source| {
            // Best effort: the error that matters is the one being reported.
            fs::remove_file(staged).ok();
            TransportError::file("writing the join code to", path, source)
        })
    }

    /// Where a server keeps the code of a session's last run, for `ka-status`.
    #[must_use]
    pub fn file_of_session(state_dir: &Path, session: &str) -> PathBuf {
        state_dir.join(format!("join-{}", ka_proto::text::file_name(session)))
    }

    /// Reads a code from `path`.
    ///
    /// # Errors
    /// [`TransportError::File`] when it cannot be read, [`TransportError::ExposedFile`] when group or others may
    /// read it, [`TransportError::JoinCode`] when it holds no code.
    pub fn read_file(path: &Path) -> Result<Self, TransportError> {
        let failed = |source| TransportError::file("reading the join code from", path, source);
        let file = fs::File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode();
        if mode & 0o077 != 0 {
            return Err(TransportError::ExposedFile {
                path: path.to_owned(),
                mode: mode & 0o777,
            });
        }
        let mut text = String::new();
        file.take(MAX_FILE_LEN)
            .read_to_string(&mut text)
            .map_err(failed)?;
        text.trim().parse().map_err(TransportError::JoinCode)
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

    fn from_str(text: &str) -> Result<Self, JoinCodeError> {
        let prefix_matches = text
            .get(..PREFIX.len())
            .is_some_and(|p| p.eq_ignore_ascii_case(PREFIX));
        if !prefix_matches {
            return Err(JoinCodeError::Prefix);
        }
        let body = &text[PREFIX.len()..];
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
    use std::os::unix::fs::PermissionsExt;

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

    #[test]
    fn join_file_is_private_and_an_exposed_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("join");
        code().write_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(JoinCode::read_file(&path).unwrap(), code());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = JoinCode::read_file(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
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
