//! The errors of transport, one variant for each thing a caller can do about it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::code::JoinCodeError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A file of ours cannot be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// The step that failed, as "writing the join code to".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A secret lies in a file that others may read.
    #[error("{} has mode {mode:o}: others may read its secret; run: chmod 600 {}", path.display(), path.display())]
    ExposedFile {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The state directory's key file holds something else.
    #[error("{} is not a server key; restore it, or move it away for a new key (old join codes end then)", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
    },
    /// A run uses the thing that should change.
    #[error("a run of ka-server uses {}: let it end, or end it with Ctrl-C, and try again", path.display())]
    InUse {
        /// The state directory.
        path: PathBuf,
    },
    /// The kernel gave no random bytes, or the crypto library refused them.
    #[error("making a key: no random bytes from the kernel")]
    Random,
    /// A text is no join code.
    #[error(transparent)]
    JoinCode(#[from] JoinCodeError),
    /// TLS could not be set up.
    #[error("setting up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A port cannot be had.
    #[error("listening on {addr} ({port}): {source}; {}", port.remedy(*addr, source))]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The port.
        port: OwnPort,
        /// The system's reason.
        source: io::Error,
    },
    /// Any other system call on a socket, thread or timer.
    #[error("{action}: {source}")]
    System {
        /// The step that failed.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A node found no server that it may trust.
    #[error("Can't reach a valid KA server for session {session}: {tried}")]
    NoServer {
        /// The session looked for.
        session: String,
        /// The tries and their result.
        tried: String,
    },
    /// The server knows this node's code and says no.
    #[error("Can't reach a valid KA server for session {session}: the one at {server} says: {reason}")]
    Refused {
        /// The session asked for.
        session: String,
        /// The server.
        server: SocketAddr,
        /// Its reason.
        reason: String,
    },
    /// The server says that this node's clone is good already.
    #[error("the server at {server} says that this node is done")]
    DoneAlready {
        /// The server.
        server: SocketAddr,
    },
    /// The server ended the run.
    #[error("the server ended the run: {reason}")]
    Aborted {
        /// Its reason.
        reason: String,
    },
    /// The control connection ended or went silent.
    #[error("lost the server: {reason}")]
    ServerLost {
        /// The sign of it.
        reason: String,
    },
    /// No node is left that could go on.
    #[error("no node is left{reason}")]
    NoNodes {
        /// The nodes that failed, and how; begins with a separator.
        reason: String,
    },
    /// A stream cannot be completed on this node.
    #[error("stream {stream}: {reason}")]
    Stream {
        /// Name of the stream.
        stream: String,
        /// The cause, one line.
        reason: String,
    },
    /// A node does not let its operator in, or is none.
    #[error("{addr}: {reason}")]
    Operator {
        /// The node's address.
        addr: SocketAddr,
        /// The cause, one line.
        reason: String,
    },
    /// The caller did things in the wrong order, or sent more than a limit allows.
    #[error("{0}")]
    Misuse(&'static str),
}

/// A port that this program opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnPort {
    /// TCP: control connections.
    Control,
    /// TCP: the chain's data.
    Data,
    /// UDP: the search for a session.
    Discovery,
    /// TCP: operators at a node.
    Status,
}

impl OwnPort {
    /// Returns the option that changes it.
    const fn option(self) -> &'static str {
        match self {
            Self::Control | Self::Discovery => "--control-port",
            Self::Data => "--data-port",
            Self::Status => "--status-port",
        }
    }

    /// Returns the operator's remedy where the port cannot be had.
    fn remedy(self, addr: SocketAddr, source: &io::Error) -> String {
        let (port, option) = (addr.port(), self.option());
        match source.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "end what uses it (ss -lnp sport = :{port} names it), or choose another port with {option}"
                )
            }
            io::ErrorKind::AddrNotAvailable => "choose an address of this machine with --listen".to_owned(),
            io::ErrorKind::PermissionDenied => {
                format!("run it as root, or choose a port above 1023 with {option}")
            }
            _ => format!("choose another address with --listen, or another port with {option}"),
        }
    }
}

impl fmt::Display for OwnPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control connections",
            Self::Data => "data connections",
            Self::Discovery => "discovery",
            Self::Status => "the operator",
        })
    }
}

impl TransportError {
    pub(crate) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) const fn system(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}
