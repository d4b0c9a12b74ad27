//! Errors of making an image.

use std::io;
use std::path::{Path, PathBuf};

/// Reason why an image cannot be made or listed, one variant for each thing that the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// The kernel's modules cannot be read.
    #[error(transparent)]
    Modules(#[from] ka_kmod::KmodError),
    /// An archive cannot be written or read.
    #[error(transparent)]
    Archive(#[from] ka_cpio::CpioError),
    /// A file cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The requested kernel does not exist, or there is none at all.
    #[error("{}", no_kernel(root, wanted.as_deref(), have))]
    NoKernel {
        /// Root directory of the search.
        root: PathBuf,
        /// Requested release, if any.
        wanted: Option<String>,
        /// Releases that are complete: kernel and modules.
        have: Vec<String>,
    },
    /// The kernel cannot boot a node.
    #[error("kernel {release} cannot boot a node: {what}; choose another with --kernel")]
    UnfitKernel {
        /// Release of the kernel.
        release: String,
        /// Missing feature, or missing compression.
        what: &'static str,
    },
    /// There is no static `ka-client`.
    #[error(
        "no static ka-client ({}); `cargo xtask static` builds one, --client FILE names one",
        list(looked)
    )]
    NoClient {
        /// Paths of the search.
        looked: Vec<PathBuf>,
    },
    /// The `ka-client` is not a static program for this image.
    #[error(
        "{} is no static program for this image ({what}); `cargo xtask static` builds one",
        path.display()
    )]
    UnfitClient {
        /// Path of the program.
        path: PathBuf,
        /// The fault.
        what: String,
    },
    /// The kernel has no such driver.
    #[error("kernel {release} has no driver {name}; --drivers takes module names, such as e1000e,virtio_net")]
    NoDriver {
        /// Name as it was requested.
        name: String,
        /// Release of the kernel.
        release: String,
    },
    /// No tools are known for the file system.
    #[error("no tools are known for file system {name}; known: {known}")]
    UnknownFileSystem {
        /// Name as it was requested.
        name: String,
        /// Names of the known file systems.
        known: String,
    },
    /// The golden node lacks a tool that the clones need.
    #[error(
        "{needed_for} needs {program}, which {} does not have; install it there (Debian: apt-get install {package})",
        root.display()
    )]
    NoTool {
        /// The file system, or another purpose.
        needed_for: String,
        /// Name of the program.
        program: String,
        /// Debian package of the program.
        package: String,
        /// Root directory of the golden node.
        root: PathBuf,
    },
    /// The golden node lacks a library that a tool is linked with.
    #[error("{program} needs {library}, which is nowhere below {}; install the package that has it", root.display())]
    NoLibrary {
        /// Path of the program that needs it.
        program: String,
        /// Name of the library or interpreter.
        library: String,
        /// Root directory of the golden node.
        root: PathBuf,
    },
    /// The content of a file is invalid.
    #[error("{}: {what}", path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// The fault.
        what: String,
    },
    /// Two different files have the same name in the image.
    #[error("the image would have two different things at /{name}")]
    Clash {
        /// Name in the image.
        name: String,
    },
    /// The compressor failed.
    #[error("compressing the image: {0}")]
    Compress(io::Error),
    /// The image cannot be listed.
    #[error("segment {segment} at byte {offset}: {what}")]
    Segment {
        /// Number of the archive in the image, from 1.
        segment: usize,
        /// Offset of the archive, in bytes.
        offset: usize,
        /// The fault.
        what: String,
    },
}

impl InitrdError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            what: what.into(),
        }
    }
}

fn no_kernel(root: &Path, wanted: Option<&str>, have: &[String]) -> String {
    let root = root.display();
    match (wanted, have) {
        (Some(wanted), []) => format!("no kernel {wanted} below {root}, nor any other with its modules"),
        (None, []) => format!(
            "no kernel with its modules below {root} (boot/vmlinuz-RELEASE and lib/modules/RELEASE/modules.dep)"
        ),
        (Some(wanted), have) => format!("no kernel {wanted} below {root}; there are: {}", have.join(", ")),
        (None, have) => format!("no kernel below {root} fits; there are: {}", have.join(", ")),
    }
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    format!("looked at {}", shown.join(", "))
}
