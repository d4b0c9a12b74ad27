//! The server's key and the run's join code, with which an operator may look at nodes.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ka_transport::{JoinCode, ServerKey, join_file};

use crate::args::Options;

/// Loads both from the state directory.
pub(crate) fn load(options: &Options) -> Result<(ServerKey, JoinCode)> {
    let dir = &options.state_dir;
    // A new key would not open any node.
    let key = ServerKey::load(dir).with_context(|| {
        format!(
            "the server's key opens a node's door; run ka-status where ka-server runs, as its user, or name its --state-dir (tried {})",
            dir.display()
        )
    })?;
    let file = join_file(options);
    let code = join_file::read(&file).with_context(|| {
        format!(
            "no join code of a run of session {}; name its -s or --join-file",
            options.session
        )
    })?;
    ensure!(
        code.fingerprint == key.fingerprint(),
        "{} is of another server than the key in {}: run ka-status on that server's machine, with the --state-dir of its run",
        file.display(),
        dir.display()
    );
    Ok((key, code))
}

fn join_file(options: &Options) -> PathBuf {
    let in_state = || join_file::of_session(&options.state_dir, &options.session);
    options.join_file.clone().unwrap_or_else(in_state)
}
