//! Why an image cannot be made.

use std::io;
use std::path::{Path, PathBuf};

/// One thing each that the caller can do something about.
#[derive(Debug, thiserror::Error)]
pub enum InitrdError {
    /// The kernel's modules cannot be read.
    #[error(transparent)]
    Modules(#[from] ka_kmod::KmodError),
    /// Something cannot be put into, or read from, an archive.
    #[error(transparent)]
    Archive(#[from] ka_cpio::CpioError),
    /// A file cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No such kernel, or none at all.
    #[error("{}", no_kernel(root, wanted.as_deref(), have))]
    NoKernel {
        /// Where was looked.
        root: PathBuf,
        /// Which was asked for.
        wanted: Option<String>,
        /// Those that are complete: kernel and modules.
        have: Vec<String>,
    },
    /// A kernel that cannot boot a node.
    #[error("kernel {release} cannot boot a node: {what}; choose another with --kernel")]
    UnfitKernel {
        /// Which.
        release: String,
        /// What it lacks.
        what: &'static str,
    },
    /// No static `ka-client` anywhere.
    #[error(
        "no static ka-client ({}); `cargo xtask static` builds one, --client FILE names one",
        list(looked)
    )]
    NoClient {
        /// Where was looked.
        looked: Vec<PathBuf>,
    },
    /// A `ka-client` that needs libraries.
    #[error(
        "{} is no static program for this image ({what}); `cargo xtask static` builds one",
        path.display()
    )]
    UnfitClient {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A driver that this kernel has not.
    #[error("kernel {release} has no driver {name}; --drivers takes module names, such as e1000e,virtio_net")]
    NoDriver {
        /// As it was asked for.
        name: String,
        /// The kernel.
        release: String,
    },
    /// A file system that KA knows no tools for.
    #[error("no tools are known for file system {name}; known: {known}")]
    UnknownFileSystem {
        /// As it was asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// A tool that the clones need and the golden node has not.
    #[error(
        "{needed_for} needs {program}, which {} does not have; install it there (Debian: apt-get install {package})",
        root.display()
    )]
    NoTool {
        /// The file system, or what else it is for.
        needed_for: String,
        /// The program.
        program: String,
        /// The Debian package that has it.
        package: String,
        /// The golden root.
        root: PathBuf,
    },
    /// A library that a tool is linked with, and that is nowhere.
    #[error("{program} needs {library}, which is nowhere below {}; install the package that has it", root.display())]
    NoLibrary {
        /// Who needs it.
        program: String,
        /// The library's or interpreter's name.
        library: String,
        /// The golden root.
        root: PathBuf,
    },
    /// A file that is not what it should be.
    #[error("{}: {what}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Two things at one place of the image.
    #[error("the image would have two different things at /{name}")]
    Clash {
        /// The place.
        name: String,
    },
    /// The compressor failed.
    #[error("compressing the image: {0}")]
    Compress(io::Error),
    /// An image that cannot be listed.
    #[error("segment {segment} at byte {offset}: {what}")]
    Segment {
        /// Which of the concatenated archives, from 1.
        segment: usize,
        /// Where it begins.
        offset: usize,
        /// What is wrong.
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
