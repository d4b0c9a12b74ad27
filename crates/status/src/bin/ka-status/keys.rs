//! The server's key and the run's join code: who may look at nodes.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ka_transport::{JoinCode, ServerKey};

use crate::args::Options;

/// Both, from the state directory.
pub(crate) fn load(options: &Options) -> Result<(ServerKey, JoinCode)> {
    let dir = &options.state_dir;
    // A key made here and now would open no door.
    let key = ServerKey::load(dir).with_context(|| {
        format!(
            "the server's key opens a node's door; run ka-status where ka-server runs, as its user, or name its --state-dir (tried {})",
            dir.display()
        )
    })?;
    let file = join_file(options);
    let code = JoinCode::read_file(&file).with_context(|| {
        format!(
            "no join code of a run of session {}; name its -s or --join-file",
            options.session
        )
    })?;
    ensure!(
        code.fingerprint == key.fingerprint(),
        "{} is of another server than the key in {}",
        file.display(),
        dir.display()
    );
    Ok((key, code))
}

fn join_file(options: &Options) -> PathBuf {
    let in_state = || JoinCode::file_of_session(&options.state_dir, &options.session);
    options.join_file.clone().unwrap_or_else(in_state)
}
