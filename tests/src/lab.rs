//! One run of the real binaries: a golden node and its nodes in namespaces, with their options filled in.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::binaries;
use crate::netns::Network;
use crate::process::{Program, Running};
use crate::scratch::{self, Scratch};

/// Time limit of a run of a small system: a longer one hangs.
pub const RUN_LIMIT: Duration = Duration::from_secs(150);

/// A network and a directory for one test.
#[derive(Debug)]
pub struct Lab {
    network: Network,
    scratch: Scratch,
    servers: AtomicU32,
    limit: Duration,
}

/// A `ka-server` that runs.
#[derive(Debug)]
pub struct Server {
    /// Process of the server.
    pub run: Running,
    join_file: PathBuf,
}

impl Lab {
    /// Builds the network; `rate` in bits a second.
    ///
    /// # Errors
    /// Not root, or a tool is missing.
    pub fn new(label: &str, nodes: usize, rate: Option<u64>) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the lab needs root: run `cargo xtask test` as root or with sudo"
        );
        let scratch = Scratch::new(label)?;
        Ok(Self {
            network: Network::new(nodes, rate)?,
            scratch,
            servers: AtomicU32::new(0),
            limit: RUN_LIMIT,
        })
    }

    /// Sets another time limit for runs: some build an initramfs, for example.
    #[must_use]
    pub fn patient(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Returns the scratch directory.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Returns a `ka-server` command on the golden node, with a state directory of the lab.
    ///
    /// # Errors
    /// The binary is not built.
    pub fn server_program(&self) -> Result<Program> {
        let program = Program::new(binaries::path("ka-server")?)
            .arg("--state-dir")
            .arg(self.server_state());
        Ok(program.inside(self.network.golden()).limit(self.limit))
    }

    /// Returns the directory in which the lab's servers keep their key.
    #[must_use]
    pub fn server_state(&self) -> PathBuf {
        self.scratch.path().join("server-state")
    }

    /// Starts a server that writes a join file, and waits until nodes may come.
    ///
    /// # Errors
    /// The server ends first; the error repeats its output.
    pub fn server(&self, args: &[&str]) -> Result<Server> {
        let mut server = self.server_begun(args)?;
        let join_file = server.join_file.clone();
        server
            .run
            .wait_until("it could be joined", |_| Ok(is_written(&join_file)))?;
        Ok(server)
    }

    /// Starts a server without waiting.
    ///
    /// # Errors
    /// The binary is not built.
    pub fn server_begun(&self, args: &[&str]) -> Result<Server> {
        let number = self.servers.fetch_add(1, Ordering::Relaxed);
        let join_file = self.scratch.path().join(format!("join-{number}"));
        let run = self
            .server_program()?
            .arg("--join-file")
            .arg(&join_file)
            .args(args)
            .spawn()?;
        Ok(Server { run, join_file })
    }

    /// Returns a `ka-client` command on a node (from 1) with the server's join file; it never reboots.
    ///
    /// # Errors
    /// The binary is not built.
    pub fn client_program(&self, number: usize, server: &Server) -> Result<Program> {
        Ok(self
            .stranger_program(number)?
            .arg("--join-file")
            .arg(&server.join_file))
    }

    /// Returns a `ka-client` command without a join file.
    ///
    /// # Errors
    /// The binary is not built.
    pub fn stranger_program(&self, number: usize) -> Result<Program> {
        let program = Program::new(binaries::path("ka-client")?).arg("--no-reboot");
        let program = program.arg("--mount-dir").arg(self.mount_dir(number));
        Ok(program.inside(self.network.node(number)).limit(self.limit))
    }

    /// Starts a node.
    ///
    /// # Errors
    /// The binary is not built.
    pub fn client(&self, number: usize, server: &Server, args: &[&str]) -> Result<Running> {
        self.client_program(number, server)?.args(args).spawn()
    }

    /// Returns the directory where a node mounts its new file systems.
    #[must_use]
    pub fn mount_dir(&self, number: usize) -> PathBuf {
        self.scratch.path().join(format!("mnt-n{number}"))
    }

    /// Insists that a node has left nothing mounted.
    ///
    /// # Errors
    /// A file system is still mounted.
    pub fn expect_unmounted(&self, number: usize) -> Result<()> {
        let mounted = scratch::mounts_below(&self.mount_dir(number))?;
        ensure!(mounted.is_empty(), "node {number} left {mounted:?} mounted");
        Ok(())
    }
}

impl Server {
    /// Returns the file with the server's join code.
    #[must_use]
    pub fn join_file(&self) -> &Path {
        &self.join_file
    }
}

fn is_written(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.len() > 0)
}
