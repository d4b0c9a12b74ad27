//! `ka-server key`: the server's key.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ka_transport::{RunLock, ServerKey};

/// Prefix of the files with join codes of old runs.
const JOIN_FILES: &str = "join-";

/// Shows the fingerprints of the key and of those that it replaced.
///
/// # Errors
/// There is no key, or it cannot be read.
pub(super) fn show(state_dir: &Path) -> Result<String> {
    let key = ServerKey::load(state_dir).context("the key is made by the first run of ka-server")?;
    let mut text = format!(
        "{}  {}\n",
        key.fingerprint_hex(),
        ServerKey::file(state_dir).display()
    );
    for retired in ServerKey::retired(state_dir)? {
        text += &format!("{retired}  (rotated away)\n");
    }
    Ok(text)
}

/// Puts a new key in place of the old one.
///
/// # Errors
/// There is no key, a run uses it, or a file cannot be replaced.
pub(super) fn rotate(state_dir: &Path) -> Result<String> {
    ensure!(
        ServerKey::file(state_dir).exists(),
        "{} holds no server key: there is nothing to rotate; the first run of ka-server makes one",
        state_dir.display()
    );
    let _alone = RunLock::for_change(state_dir)?;
    let rotated = ServerKey::rotate(state_dir)?;
    // These files pin the old key, and their runs are over.
    let removed = remove_join_files(state_dir).context("the key is new; removing the old join codes")?;
    Ok(format!(
        "old key {} is gone\nnew key {}\n{removed} join codes of earlier runs removed; boot images and join codes made \
         before are worth nothing now\n",
        rotated.old.fingerprint_hex(),
        rotated.new.fingerprint_hex()
    ))
}

fn remove_join_files(state_dir: &Path) -> Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(state_dir)? {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(JOIN_FILES.as_bytes())
            && entry.file_type()?.is_file()
        {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}
