//! The server's long-lived Ed25519 key, kept in its state directory, and the throw-away key of a node.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use ka_proto::auth::ServerPublicKey;
use ka_proto::block::SIGNATURE_LEN;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::code::FINGERPRINT_LEN;
use crate::error::TransportError;

const KEY_FILE: &str = "server-key.pk8";
/// Fingerprints of keys that were rotated away, one a line: what they signed can still be told from a
/// stranger's.
const RETIRED_FILE: &str = "retired-keys";
/// Largest such file read, in bytes: a thousand rotations.
const MAX_RETIRED_BYTES: u64 = 128 << 10;
/// The bytes that precede the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410 §4, in DER).
const ED25519_SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// An Ed25519 key with its fingerprint. Made once per server; a node makes one per connection.
#[derive(Clone)]
pub struct ServerKey {
    certified: Arc<CertifiedKey>,
    fingerprint: [u8; FINGERPRINT_LEN],
}

impl ServerKey {
    /// Loads the key from `state_dir`, or makes directory (0700) and key (0600) at the first start.
    ///
    /// # Errors
    /// [`TransportError::File`] when directory or file cannot be made or read,
    /// [`TransportError::ExposedFile`] when others than the owner may read the key, [`TransportError::Key`]
    /// when the file holds no Ed25519 key.
    pub fn load_or_create(state_dir: &Path) -> Result<Self, TransportError> {
        match Self::load(state_dir) {
            Err(TransportError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Self::create(state_dir, &state_dir.join(KEY_FILE))
            }
            loaded => loaded,
        }
    }

    /// Loads the key from `state_dir`.
    ///
    /// # Errors
    /// As [`ServerKey::load_or_create`], and [`TransportError::File`] when there is none.
    pub fn load(state_dir: &Path) -> Result<Self, TransportError> {
        let path = state_dir.join(KEY_FILE);
        let unreadable = |source| TransportError::file("reading the server key", &path, source);
        let pkcs8 = fs::read(&path).map_err(unreadable)?;
        let mode = fs::metadata(&path).map_err(unreadable)?.mode();
        if mode & 0o077 != 0 {
            return Err(TransportError::ExposedFile {
                path,
                mode: mode & 0o777,
            });
        }
        Self::from_pkcs8(&pkcs8).ok_or(TransportError::Key { path })
    }

    /// Returns the file that holds the key.
    #[must_use]
    pub fn file(state_dir: &Path) -> PathBuf {
        state_dir.join(KEY_FILE)
    }

    /// Puts a new key in place of the one in `state_dir`. The old private key is not kept, because it has no
    /// further use. Its fingerprint is kept in `retired-keys`, which tells its signatures from a stranger's.
    /// Hold a [`crate::RunLock`] of your own: the runs that use the old key must have ended.
    ///
    /// # Errors
    /// As [`ServerKey::load`], because there must be a key. Also [`TransportError::File`] if the directory
    /// cannot be written.
    pub fn rotate(state_dir: &Path) -> Result<Rotated, TransportError> {
        let old = Self::load(state_dir)?;
        let (path, pkcs8) = (state_dir.join(KEY_FILE), Self::generate()?);
        let new = Self::from_pkcs8(&pkcs8).ok_or(TransportError::Random)?;
        let retired = state_dir.join(RETIRED_FILE);
        let retire = || {
            let mut file = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&retired)?;
            writeln!(file, "{}", old.fingerprint_hex())?;
            file.sync_all()
        };
        retire().map_err(|source| TransportError::file("noting the old key in", &retired, source))?;
        let staged = state_dir.join(format!("{KEY_FILE}.new{}", std::process::id()));
        let replaced = write_private(&staged, &pkcs8).and_then(|()| fs::rename(&staged, &path));
        replaced.map_err(|source| {
            fs::remove_file(&staged).ok();
            TransportError::file("writing the server key to", &path, source)
        })?;
        Ok(Rotated { old, new })
    }

    /// Returns the fingerprints of the keys that were rotated away, oldest first, in hexadecimal.
    ///
    /// # Errors
    /// [`TransportError::File`] when the list is there and cannot be read.
    pub fn retired(state_dir: &Path) -> Result<Vec<String>, TransportError> {
        let path = state_dir.join(RETIRED_FILE);
        let mut text = String::new();
        let read = fs::File::open(&path).and_then(|file| {
            std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_RETIRED_BYTES), &mut text)
        });
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(TransportError::file("reading", &path, source)),
            Ok(_) => Ok(text.lines().map(str::to_owned).collect()),
        }
    }

    /// Returns a key that is never stored: for a node, and for tests.
    ///
    /// # Errors
    /// [`TransportError::Random`] when the kernel gives no random bytes.
    pub fn ephemeral() -> Result<Self, TransportError> {
        Self::from_pkcs8(&Self::generate()?).ok_or(TransportError::Random)
    }

    /// Returns the fingerprint of this key, as a join code holds it.
    #[must_use]
    pub const fn fingerprint(&self) -> [u8; FINGERPRINT_LEN] {
        self.fingerprint
    }

    /// Returns the same in hexadecimal, for people.
    #[must_use]
    pub fn fingerprint_hex(&self) -> String {
        blake3::Hash::from_bytes(self.fingerprint).to_hex().to_string()
    }

    /// Returns the public key as a SubjectPublicKeyInfo in DER (RFC 8410 §4), whose BLAKE3 is the
    /// fingerprint.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.certified
            .cert
            .first()
            .map_or(&[], |certificate| certificate.as_ref())
    }

    /// Signs a text for `purpose` (RFC 8032, Ed25519, over purpose, line feed, text): a signature made for
    /// one purpose is none for another. `None` when the key is no Ed25519 key, which [`ServerKey::load`] does
    /// not let in.
    #[must_use]
    pub fn sign_text(&self, purpose: &str, text: &str) -> Option<[u8; SIGNATURE_LEN]> {
        self.sign(&message(purpose, text))
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// Signs `message` (RFC 8032); `None` when the key is no Ed25519 key, which [`ServerKey::load`] does not
    /// let in.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<[u8; SIGNATURE_LEN]> {
        let signer = self.certified.key.choose_scheme(&[SignatureScheme::ED25519])?;
        signer.sign(message).ok()?.try_into().ok()
    }

    fn create(state_dir: &Path, path: &Path) -> Result<Self, TransportError> {
        let pkcs8 = Self::generate()?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|source| TransportError::file("making the state directory", state_dir, source))?;
        // Written beside and linked in place: a second server that starts at the same moment gets the same
        // key.
        let staged = state_dir.join(format!("{KEY_FILE}.new{}", std::process::id()));
        let written = write_private(&staged, &pkcs8).and_then(|()| fs::hard_link(&staged, path));
        fs::remove_file(&staged).ok();
        match written {
            Ok(()) => Self::from_pkcs8(&pkcs8).ok_or(TransportError::Random),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Self::load_or_create(state_dir)
            }
            Err(source) => Err(TransportError::file("writing the server key to", path, source)),
        }
    }

    fn generate() -> Result<Vec<u8>, TransportError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| TransportError::Random)?;
        Ok(document.as_ref().to_vec())
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8)).ok()?;
        let public = key.public_key()?;
        let fingerprint = fingerprint_of(public.as_ref());
        let certificate = CertificateDer::from(public.as_ref().to_vec());
        Some(Self {
            certified: Arc::new(CertifiedKey::new(vec![certificate], key)),
            fingerprint,
        })
    }
}

/// True when `signature` is that of [`ServerKey::sign_text`] by the key with this SubjectPublicKeyInfo.
#[must_use]
pub fn is_signed_text(public_key: &[u8], purpose: &str, text: &str, signature: &[u8]) -> bool {
    public_key_of(public_key).is_some_and(|key| {
        UnparsedPublicKey::new(&ED25519, key.0)
            .verify(&message(purpose, text), signature)
            .is_ok()
    })
}

/// Returns the fingerprint of a public key as in [`ServerKey::public_key`], in hexadecimal.
#[must_use]
pub fn fingerprint_of_public_key(public_key: &[u8]) -> String {
    blake3::Hash::from_bytes(fingerprint_of(public_key))
        .to_hex()
        .to_string()
}

fn message(purpose: &str, text: &str) -> Vec<u8> {
    [purpose.as_bytes(), b"\n", text.as_bytes()].concat()
}

/// The result of a rotation.
#[derive(Debug)]
pub struct Rotated {
    /// The key that is gone.
    pub old: ServerKey,
    /// The key in its place.
    pub new: ServerKey,
}

/// Writes a new file that only its owner can read.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Shows the public part only.
impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerKey({})", self.fingerprint_hex())
    }
}

/// BLAKE3 of a SubjectPublicKeyInfo in DER (RFC 5280 §4.1), which is what RFC 7250 puts on the wire.
pub(crate) fn fingerprint_of(subject_public_key_info: &[u8]) -> [u8; FINGERPRINT_LEN] {
    *blake3::hash(subject_public_key_info).as_bytes()
}

/// Returns the key inside a SubjectPublicKeyInfo; `None` when it is not Ed25519.
pub(crate) fn public_key_of(subject_public_key_info: &[u8]) -> Option<ServerPublicKey> {
    let key = subject_public_key_info.strip_prefix(&ED25519_SPKI)?;
    key.try_into().ok().map(ServerPublicKey)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use ka_proto::block::{SignedEnd, StreamDigest};
    use ka_proto::{RunId, StreamId};

    use super::*;

    #[test]
    fn what_the_server_signs_holds_against_the_key_that_it_shows_in_tls() {
        let key = ServerKey::ephemeral().unwrap();
        let shown = public_key_of(&key.certified().cert[0]).unwrap();
        let (run, stream) = (RunId([1; 16]), StreamId(2));
        let end = StreamDigest::new().end();
        let signature = key.sign(&end.to_sign(run, stream)).unwrap();
        let signed = SignedEnd { end, signature };
        assert_eq!(signed.verify(&shown, run, stream), Ok(()));
        let other = public_key_of(&ServerKey::ephemeral().unwrap().certified().cert[0]).unwrap();
        assert!(signed.verify(&other, run, stream).is_err());
    }

    #[test]
    fn key_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let made = ServerKey::load_or_create(&state).unwrap();
        assert_eq!(
            ServerKey::load_or_create(&state).unwrap().fingerprint(),
            made.fingerprint()
        );
        assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(state.join(KEY_FILE)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    }

    #[test]
    fn a_rotated_key_is_another_one_and_the_old_one_is_remembered_by_its_fingerprint_only() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            ServerKey::rotate(dir.path()).is_err(),
            "there is nothing to rotate"
        );
        let first = ServerKey::load_or_create(dir.path()).unwrap();
        let old = fs::read(dir.path().join(KEY_FILE)).unwrap();
        let rotated = ServerKey::rotate(dir.path()).unwrap();
        assert_eq!(rotated.old.fingerprint(), first.fingerprint());
        let now = ServerKey::load(dir.path()).unwrap();
        assert_eq!(now.fingerprint(), rotated.new.fingerprint());
        assert_ne!(now.fingerprint(), first.fingerprint());
        assert_eq!(ServerKey::retired(dir.path()).unwrap(), [first.fingerprint_hex()]);
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o077, 0, "{path:?}");
            assert_ne!(
                fs::read(&path).unwrap(),
                old,
                "{path:?} holds the old private key"
            );
        }
    }

    #[test]
    fn a_signed_text_holds_for_its_words_its_purpose_and_its_key_only() {
        let key = ServerKey::ephemeral().unwrap();
        let signature = key.sign_text("purpose", "text").unwrap();
        let shown = key.public_key();
        assert!(is_signed_text(shown, "purpose", "text", &signature));
        assert!(!is_signed_text(shown, "purpose", "texts", &signature));
        assert!(!is_signed_text(shown, "other", "text", &signature));
        assert!(!is_signed_text(shown, "purpose", "text", &signature[..63]));
        let other = ServerKey::ephemeral().unwrap();
        assert!(!is_signed_text(other.public_key(), "purpose", "text", &signature));
        assert_eq!(fingerprint_of_public_key(shown), key.fingerprint_hex());
    }

    #[test]
    fn exposed_or_spoilt_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        ServerKey::load_or_create(dir.path()).unwrap();
        let path = dir.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            ServerKey::load_or_create(dir.path()),
            Err(TransportError::ExposedFile { .. })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"not a key").unwrap();
        assert!(matches!(
            ServerKey::load_or_create(dir.path()),
            Err(TransportError::Key { .. })
        ));
    }
}
