//! The command line of `ka-image`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Keep images of golden trees in a store, and take them out again.
///
/// A store is a directory. Equal files and equal pieces of large files are kept once, over all versions and images.
/// Everything is sealed with the key of --key, unless it is --public.
#[derive(Debug, Parser)]
#[command(name = "ka-image", version)]
#[command(
    after_help = "NAME is the newest version of an image, NAME@VERSION one of them, as ka-image list names it.\n\
                  Exit codes: 0 done; 1 nothing was done; 2 wrong usage; 3 verify found damage, or an export failed \
                  after it had begun to write."
)]
pub(crate) struct Options {
    /// The task
    #[command(subcommand)]
    pub(crate) verb: Verb,

    /// Directory of the store
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/ka/images")]
    pub(crate) store: PathBuf,

    /// File of the operator's key; save makes it when it is missing. Keep a copy: without it, no image can be read
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/var/lib/ka/image.key"
    )]
    pub(crate) key: PathBuf,

    /// The images that everybody may read, instead of the sealed ones
    #[arg(long, global = true)]
    pub(crate) public: bool,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// A task of `ka-image`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Save a tree as a new version of an image: one file system, nothing that is mounted beneath it
    Save(Save),
    /// List all versions
    List,
    /// Show a version
    Show {
        /// Image, or image and version
        name: String,
    },
    /// Read everything that versions need, and name what is damaged
    Verify {
        /// Image, or image and version; without it, all versions
        name: Option<String>,
    },
    /// Make a version's tree again in an empty directory
    Export {
        /// Image, or image and version
        name: String,
        /// Directory, made when it is missing
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Remove a version; prune frees its space
    Remove {
        /// Image and version
        name: String,
    },
    /// Free the space that no version needs: the first prune marks it, one after the grace deletes it
    Prune {
        /// Remove all but the newest N versions of each image first
        #[arg(long, value_name = "N")]
        keep: Option<NonZeroUsize>,

        /// Hours between mark and deletion; less than 24 only while nothing is being saved
        #[arg(long, value_name = "HOURS", default_value_t = 24)]
        grace_hours: u32,
    },
    /// Copy a version into another store
    Copy {
        /// Image, or image and version
        name: String,
        /// Directory of the other store
        #[arg(value_name = "WHERE")]
        into: PathBuf,
    },
}

/// The options of `save`.
#[derive(Debug, Args)]
pub(crate) struct Save {
    /// Name of the image: letters, digits, '.', '_', '-'
    pub(crate) name: String,

    /// Directory of the tree
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,

    /// Directory that is saved empty, as an absolute path; may be repeated
    #[arg(short = 'x', long = "exclude", value_name = "PATH")]
    pub(crate) excluded: Vec<PathBuf>,
}
