//! The command line of `ka-initrd`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Make the images that nodes boot, from the golden node's own kernel and files.
///
/// ka-server --pxe makes them by itself; this makes them beforehand, or shows what is in them. The same files
/// give the same images, byte for byte.
#[derive(Debug, Clone, Parser)]
#[command(name = "ka-initrd", version)]
#[command(after_help = "Exit codes: 0 done; 1 not done, with the reason; 2 wrong usage.")]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// The boot image: kernel, ka-client as /init, drivers of network cards
    Stage1(Stage1),
    /// What nodes get over the chain: drivers of disks and file systems, tools with their libraries
    Stage2(Stage2),
    /// Show what is in an image
    List {
        /// One or several archives in a row, plain or in gzip, xz or zstd
        file: PathBuf,
    },
}

/// Options of `stage1`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Stage1 {
    /// Directory for the kernel (vmlinuz) and the image (stage1.img)
    #[arg(short = 'o', long = "output", value_name = "DIR")]
    pub(crate) output: PathBuf,

    /// Static ka-client; by default ka-client-static beside this program or in /usr/lib/ka, also named by
    /// KA_STATIC_CLIENT
    #[arg(long, value_name = "FILE")]
    pub(crate) client: Option<PathBuf>,

    /// File with the join code, to be put into the image: whoever can fetch the image can then join the run
    #[arg(long, value_name = "FILE")]
    pub(crate) join_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) source: Source,
}

/// Options of `stage2`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Stage2 {
    /// The image
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// File systems that will be made: without their tools there is no image (ext4,vfat,swap)
    #[arg(long = "fs", value_name = "LIST", value_delimiter = ',')]
    pub(crate) file_systems: Vec<String>,

    #[command(flatten)]
    pub(crate) source: Source,
}

/// Options that name the source of kernel, modules and tools.
#[derive(Debug, Clone, Args)]
pub(crate) struct Source {
    /// Root of the golden system
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,

    /// Release of the kernel [default: the newest there]
    #[arg(long, value_name = "RELEASE")]
    pub(crate) kernel: Option<String>,

    /// Network drivers of stage1 instead of all: module names, such as e1000e,virtio_net (for stage2 the same
    /// list)
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) drivers: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use ka_cli::Answer;

    use super::*;

    fn parsed(line: &str) -> Result<Options, Answer> {
        ka_cli::parse(line.split(' '))
    }

    #[test]
    fn the_command_definition_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn lists_are_split_at_commas() {
        let Ok(options) = parsed("ka-initrd stage1 -o d --drivers e1000e,virtio_net") else {
            panic!("refused");
        };
        let Command::Stage1(stage1) = options.command else {
            panic!("another command");
        };
        assert_eq!(stage1.source.drivers.unwrap(), ["e1000e", "virtio_net"]);
        assert_eq!(stage1.source.root, PathBuf::from("/"));
    }

    #[test]
    fn wrong_usage_is_one_line_that_names_what_is_wrong() {
        for (line, word) in [
            ("ka-initrd", "--help"),
            ("ka-initrd stage1", "--output"),
            ("ka-initrd stage3", "stage3"),
            ("ka-initrd stage2 -o f --what", "--what"),
        ] {
            let Err(Answer::Wrong(text)) = parsed(line) else {
                panic!("{line} is taken");
            };
            assert!(text.contains(word) && !text.contains('\n'), "{line}: {text}");
        }
    }

    #[test]
    fn the_manual_page_has_every_command_with_its_options() {
        let Err(Answer::Text(page)) = parsed("ka-initrd --man") else {
            panic!("no page");
        };
        for word in [
            "STAGE1",
            "STAGE2",
            "LIST",
            "\\-\\-drivers",
            "\\-\\-join\\-file",
            "\\-\\-fs",
        ] {
            assert!(page.contains(word), "{word}");
        }
    }
}
