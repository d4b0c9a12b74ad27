//! What `ka-server` does beside runs: `ka-server key …`. Each ends at once and opens no port.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use ka_transport::{RunLock, ServerKey};

use crate::approve;
use crate::cli::{DEFAULT_SESSION, DEFAULT_STATE_DIR};
use crate::report_file;

/// Join codes of old runs, by the beginning of their names.
const JOIN_FILES: &str = "join-";

/// Everything that is no run.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// The server's key: what join codes pin, and what opens nodes to ka-status
    #[command(subcommand)]
    Key(KeyCommand),
    /// Let nodes of a run with --approve in, by the numbers of the questions; without a number, show who waits
    Approve(Answer),
    /// The signed reports of runs
    #[command(subcommand)]
    Report(ReportCommand),
}

/// About reports.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ReportCommand {
    /// Check every signature of a report, and that nothing was taken out; exit code 0 when it is good, else 1
    Check {
        /// The report
        file: PathBuf,
        /// Where the key is that should have signed it, or whose predecessors should have
        #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR, conflicts_with = "key")]
        state_dir: PathBuf,
        /// The fingerprint of the key that should have signed it (ka-server key show), where that key is not here
        #[arg(long, value_name = "FINGERPRINT")]
        key: Option<String>,
    },
}

/// About the server's key.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KeyCommand {
    /// Show the key's fingerprint (never the key)
    Show(StateDir),
    /// Put a new key in place of the old one, which is kept nowhere. Join codes and boot images made with the old key are
    /// worth nothing afterwards, and nodes that still wait with one find no server. Refused while a run uses the key
    Rotate(StateDir),
}

/// What is said to whom.
#[derive(Debug, Clone, Args)]
pub(crate) struct Answer {
    /// Numbers of the questions
    #[arg(value_name = "NUMBER")]
    pub(crate) requests: Vec<u64>,

    /// Send these nodes away
    #[arg(long, requires = "requests", conflicts_with = "all")]
    pub(crate) deny: bool,

    /// Let everybody in, also those who come later
    #[arg(long, conflicts_with = "requests")]
    pub(crate) all: bool,

    /// Session of the run
    #[arg(short = 's', long, value_name = "SESSION", default_value = DEFAULT_SESSION)]
    pub(crate) session: String,

    #[command(flatten)]
    pub(crate) at: StateDir,
}

/// Where the key is.
#[derive(Debug, Clone, Args)]
pub(crate) struct StateDir {
    /// Where the server's key lives
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    pub(crate) state_dir: PathBuf,
}

/// Does it and gives the exit code.
///
/// # Errors
/// One line; nothing was changed.
pub(crate) fn run(command: &Command) -> Result<u8> {
    match command {
        Command::Approve(answer) => approve::tell(answer).and_then(|text| say(&text)),
        Command::Key(KeyCommand::Show(at)) => show(&at.state_dir),
        Command::Key(KeyCommand::Rotate(at)) => rotate(&at.state_dir),
        Command::Report(ReportCommand::Check { file, state_dir, key }) => {
            report_file::check(file, state_dir, key.as_deref()).and_then(|line| say(&line))
        }
    }
    .map(|()| 0)
}

fn show(state_dir: &Path) -> Result<()> {
    let key = ServerKey::load(state_dir).context("the key is made by the first run of ka-server")?;
    let mut text = format!(
        "{}  {}\n",
        key.fingerprint_hex(),
        ServerKey::file(state_dir).display()
    );
    for retired in ServerKey::retired(state_dir)? {
        text += &format!("{retired}  (rotated away)\n");
    }
    say(&text)
}

fn rotate(state_dir: &Path) -> Result<()> {
    ensure!(
        ServerKey::file(state_dir).exists(),
        "{} holds no server key: there is nothing to rotate; the first run of ka-server makes one",
        state_dir.display()
    );
    let _alone = RunLock::for_change(state_dir)?;
    let rotated = ServerKey::rotate(state_dir)?;
    // They pin the old key, and their runs are over.
    let removed = remove_join_files(state_dir).context("the key is new; removing the old join codes")?;
    say(&format!(
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

fn say(text: &str) -> Result<()> {
    Ok(ka_cli::write(text.as_bytes())?)
}
