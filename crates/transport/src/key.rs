//! The server's long-lived Ed25519 key, kept in its state directory, and the throw-away key of a node.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::code::FINGERPRINT_LEN;
use crate::error::TransportError;

const KEY_FILE: &str = "server-key.pk8";

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
    /// [`TransportError::File`] when directory or file cannot be made or read, [`TransportError::ExposedFile`] when
    /// others than the owner may read the key, [`TransportError::Key`] when the file holds no Ed25519 key.
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

    /// A key that is never stored: for a node, and for tests.
    ///
    /// # Errors
    /// [`TransportError::Random`] when the kernel gives no random bytes.
    pub fn ephemeral() -> Result<Self, TransportError> {
        Self::from_pkcs8(&Self::generate()?).ok_or(TransportError::Random)
    }

    /// What a join code holds of this key.
    #[must_use]
    pub const fn fingerprint(&self) -> [u8; FINGERPRINT_LEN] {
        self.fingerprint
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    fn create(state_dir: &Path, path: &Path) -> Result<Self, TransportError> {
        let pkcs8 = Self::generate()?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|source| TransportError::file("making the state directory", state_dir, source))?;
        // Written beside and linked in place: a second server that starts at the same moment gets the same key.
        let staged = state_dir.join(format!("{KEY_FILE}.new{}", std::process::id()));
        let write = || {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&staged)?;
            file.write_all(&pkcs8)?;
            file.sync_all()?;
            fs::hard_link(&staged, path)
        };
        let written = write();
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

/// Shows the public part only.
impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ServerKey({})",
            blake3::Hash::from_bytes(self.fingerprint).to_hex()
        )
    }
}

/// BLAKE3 of a SubjectPublicKeyInfo in DER (RFC 5280 §4.1), which is what RFC 7250 puts on the wire.
pub(crate) fn fingerprint_of(subject_public_key_info: &[u8]) -> [u8; FINGERPRINT_LEN] {
    *blake3::hash(subject_public_key_info).as_bytes()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

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
