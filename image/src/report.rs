//! Versions as text and JSON.

use jiff::Timestamp;
use ka_store::Version;
use serde_json::{Value, json};

/// Returns one line for each version, under a heading.
pub(crate) fn table(versions: &[Version]) -> String {
    let mut text = format!(
        "{:<32} {:>20} {:>10} {:>10} {:>10}\n",
        "IMAGE", "SAVED (UTC)", "FILES", "CONTENT", "ADDED"
    );
    for version in versions {
        text += &format!(
            "{:<32} {:>20} {:>10} {:>10} {:>10}\n",
            name(version),
            utc(version.saved()),
            version.totals().files,
            size(version.totals().bytes),
            size(version.added()),
        );
    }
    text
}

/// Returns everything about a version.
pub(crate) fn details(version: &Version) -> String {
    let totals = version.totals();
    format!(
        "image        {}\nversion      {}\nsaved        {}\ntree         {}\nfiles        {}\ndirectories  {}\n\
         content      {}\nadded        {}\ntree digest  {}\n",
        version.image(),
        version.label(),
        utc(version.saved()),
        version.root(),
        totals.files,
        totals.directories,
        size(totals.bytes),
        size(version.added()),
        digest(version),
    )
}

/// Returns a version as JSON.
pub(crate) fn json(version: &Version) -> Value {
    let totals = version.totals();
    json!({
        "image": version.image(),
        "version": version.label(),
        "saved": version.saved(),
        "tree": version.root(),
        "files": totals.files,
        "directories": totals.directories,
        "bytes": totals.bytes,
        "added": version.added(),
        "digest": digest(version),
    })
}

/// Returns JSON as a line.
pub(crate) fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// Returns `NAME@VERSION`.
pub(crate) fn name(version: &Version) -> String {
    format!("{}@{}", version.image(), version.label())
}

/// Returns bytes as megabytes.
pub(crate) fn size(bytes: u64) -> String {
    let tenths = bytes.div_ceil(100_000);
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

fn digest(version: &Version) -> String {
    data_encoding::HEXLOWER.encode(&version.totals().digest)
}

/// Returns seconds since 1970 as a date and a time of day. Times after the year 9999 are its end.
fn utc(seconds: u64) -> String {
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.unwrap_or(Timestamp::MAX)
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn seconds_become_a_date() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(utc(1_796_090_400), "2026-12-01 02:00:00");
    }
}
