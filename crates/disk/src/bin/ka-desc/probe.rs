//! What is on a partition now, for the comments: as far as blkid and the mount table say so.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use ka_disk::table::Partition;
use ka_host::run::Tool;
use ka_host::{blkpg, mountinfo};
use serde::Serialize;

/// blkid reads a few KiB; a disk that needs longer is failing.
const BLKID_LIMIT: Duration = Duration::from_secs(20);

/// What is known of a partition's content; nothing of it is needed for a desc file.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Content {
    /// The file system or other signature, in blkid's word.
    kind: Option<String>,
    label: Option<String>,
    /// Where it is mounted at the moment.
    mounted_on: Vec<String>,
}

/// Looks at the partition through the whole disk, so that image files work without loop devices.
pub(crate) fn content(disk: &Path, part: &Partition) -> Content {
    if part.kind.is_extended() {
        return Content::default();
    }
    let blkid = Tool::new("blkid")
        .describe(format!("looking at partition {}", part.number))
        .args([
            "--probe",
            "--output",
            "export",
            "--offset",
            &part.start_bytes.to_string(),
        ])
        .args(["--size", &part.len_bytes.to_string()])
        .arg(disk)
        .accept(2)
        .timeout(BLKID_LIMIT);
    // Without blkid the file has fewer comments, that is all.
    let text = blkid.run().map(|output| output.text()).unwrap_or_default();
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.map(|value| value.strip_prefix('=').unwrap_or(value).replace('\\', ""))
    };
    Content {
        kind: field("TYPE"),
        label: field("LABEL"),
        mounted_on: mounted_on(disk, part.number),
    }
}

fn mounted_on(disk: &Path, number: u32) -> Vec<String> {
    let known = blkpg::list(disk).unwrap_or_default();
    let Some(node) = known.into_iter().find(|part| part.number == number) else {
        return Vec::new();
    };
    let mounts = mountinfo::read().unwrap_or_default();
    let here = mounts.into_iter().filter(|mount| mount.source == node.path);
    here.map(|mount| mount.mount_point.display().to_string())
        .collect()
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_deref().unwrap_or("nothing known"))?;
        if let Some(label) = &self.label {
            // A label may hold anything; a comment ends with its line.
            write!(f, " {:?}", label)?;
        }
        if !self.mounted_on.is_empty() {
            let points = self.mounted_on.join(", ");
            write!(f, ", mounted on {}", points.replace(char::is_control, "?"))?;
        }
        Ok(())
    }
}
