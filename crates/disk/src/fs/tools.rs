//! Versions of the mkfs tools: a tool stops with an error at an option that is newer than itself.

use std::time::Duration;

use ka_host::run::Tool;

/// Time limit for printing a version, which takes no time.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// The version of a tool: major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToolVersion(pub u32, pub u32);

/// The versions that decide which options are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolVersions {
    /// Version of e2fsprogs.
    pub mke2fs: ToolVersion,
    /// Version of xfsprogs.
    pub mkfs_xfs: ToolVersion,
}

impl ToolVersions {
    /// Versions that know every option, for plans that are only shown.
    pub const NEWEST: Self = Self {
        mke2fs: ToolVersion(u32::MAX, 0),
        mkfs_xfs: ToolVersion(u32::MAX, 0),
    };

    /// Asks the installed tools. A tool that is missing, or whose answer is not understood, counts as very
    /// old: it gets only the options that every version has.
    #[must_use]
    pub fn detect() -> Self {
        Self {
            mke2fs: version_of("mke2fs"),
            mkfs_xfs: version_of("mkfs.xfs"),
        }
    }
}

fn version_of(program: &str) -> ToolVersion {
    let tool = Tool::new(program)
        .describe(format!("asking {program} for its version"))
        .arg("-V");
    match tool.timeout(VERSION_LIMIT).run() {
        // mke2fs prints its version to stderr, mkfs.xfs to stdout.
        Ok(output) => parse_version(&format!("{}\n{}", output.stderr_tail, output.text())),
        Err(error) => {
            tracing::debug!(%error, "no version");
            ToolVersion(0, 0)
        }
    }
}

fn parse_version(text: &str) -> ToolVersion {
    let numbers = |word: &str| {
        let mut parts = word.split(['.', '-']);
        Some(ToolVersion(
            parts.next()?.parse().ok()?,
            parts.next()?.parse().ok()?,
        ))
    };
    text.split_whitespace()
        .find_map(numbers)
        .unwrap_or(ToolVersion(0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_the_tools_print() {
        assert_eq!(
            parse_version("mke2fs 1.47.0 (5-Feb-2023)\n\tUsing EXT2FS Library"),
            ToolVersion(1, 47)
        );
        assert_eq!(parse_version("mkfs.xfs version 6.1.0"), ToolVersion(6, 1));
        assert_eq!(parse_version("mke2fs 1.43-WIP (18-May-2015)"), ToolVersion(1, 43));
        assert_eq!(parse_version("no number"), ToolVersion(0, 0));
    }
}
