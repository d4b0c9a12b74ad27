//! The file of a join code, which a server writes, and nodes and `ka-status` read.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::code::JoinCode;
use crate::error::TransportError;

/// A join file holds one line; anything much longer is another file.
const MAX_FILE_LEN: u64 = 4096;

/// Returns the file in which a server keeps the code of a session's last run, for `ka-status`.
#[must_use]
pub fn of_session(state_dir: &Path, session: &str) -> PathBuf {
    state_dir.join(format!("join-{}", ka_proto::text::file_name(session)))
}

/// Writes the code as one line to `path`, readable by its owner only. An existing file is replaced, so that
/// its mode cannot be wider and no link is followed.
///
/// # Errors
/// [`TransportError::File`] with the path.
pub fn write(path: &Path, code: &JoinCode) -> Result<(), TransportError> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!(".new{}", std::process::id()));
    let staged = Path::new(&staged);
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(staged)?;
        writeln!(file, "{code}")?;
        file.sync_all()?;
        fs::rename(staged, path)
    };
    write().map_err(|source| {
        // Best effort: the error that matters is the one being reported.
        fs::remove_file(staged).ok();
        TransportError::file("writing the join code to", path, source)
    })
}

/// Reads a code from `path`.
///
/// # Errors
/// [`TransportError::File`] when it cannot be read, [`TransportError::ExposedFile`] when group or others may
/// read it, [`TransportError::JoinCode`] when it holds no code.
pub fn read(path: &Path) -> Result<JoinCode, TransportError> {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn join_file_is_private_and_an_exposed_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("join");
        let code = JoinCode {
            fingerprint: [0xa5; 32],
            secret: [7; 16],
        };
        write(&path, &code).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap(), code);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
