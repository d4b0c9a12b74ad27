//! The files that Debian's policy demands of a package: its copyright and its own change log.

use std::fs;

use anyhow::{Context as _, Result};
use ka_tests::binaries;

use super::{Release, date};

/// The file `copyright`, machine-readable (DEP 5).
///
/// # Errors
/// The licence of this workspace cannot be read.
pub(super) fn copyright() -> Result<String> {
    let mit = fs::read_to_string(binaries::workspace().join("LICENSE-MIT")).context("reading LICENSE-MIT")?;
    let (head, terms) = mit
        .split_once("\n\nPermission")
        .context("LICENSE-MIT has no terms")?;
    let holder = head
        .lines()
        .find_map(|line| line.strip_prefix("Copyright (c) "))
        .context("LICENSE-MIT names no holder")?;
    let terms: String = format!("Permission{terms}")
        .lines()
        .map(|line| {
            if line.is_empty() {
                " .\n".to_owned()
            } else {
                format!(" {line}\n")
            }
        })
        .collect();
    Ok(format!(
        "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: ka
Comment: The programs are linked with crates of other authors, and ka-client-static
 with the GNU C Library. third-party-licences.txt.gz, in this directory, lists
 them all with the texts of their licences, and sbom.cdx.json does for tools.

Files: *
Copyright: {holder}
License: MIT or Apache-2.0

License: MIT
{terms}
License: Apache-2.0
 On Debian systems the text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
"
    ))
}

/// The file `changelog.Debian`: one entry, because the changes themselves are in `changelog`.
///
/// # Errors
/// `date` fails.
pub(super) fn debian_changelog(release: &Release) -> Result<String> {
    Ok(format!(
        "ka ({}-{}) stable; urgency=medium\n\n  * New release. Its changes: /usr/share/doc/ka/changelog.gz\n\n -- {}  {}\n",
        release.version,
        release.revision,
        release.maintainer,
        date(release.epoch, "+%a, %d %b %Y %H:%M:%S +0000")?
    ))
}
