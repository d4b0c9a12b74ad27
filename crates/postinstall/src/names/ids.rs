//! Ids that stand without a tag: `search --fs-uuid …`, `rd.luks.uuid=luks-…`, `uuid(…):/vmlinuz`.

use super::text::is_comment;
use crate::error::PostError;
use crate::facts::Facts;
use crate::fstab::DeviceMap;

/// Returns the text with the clone's ids. Names of files keep theirs: they came with the files.
pub(crate) fn replace(text: &str, facts: &Facts) -> String {
    if text.starts_with('/') && !text.starts_with("/dev/") {
        return text.to_owned();
    }
    let mut text = text.to_owned();
    for (golden, clone) in pairs(facts) {
        if golden.len() <= text.len() {
            text = replace_whole(&text, golden, clone);
        }
    }
    text
}

/// Checks that a boot loader's configuration names no file system or partition of the golden node. Neither
/// its own tool nor [`crate::references`] could reach such a name. The clone would not boot, or would mount
/// another machine's disk.
///
/// # Errors
/// The first that is named outside comments.
pub(crate) fn expect_own(path: &str, text: &str, facts: &Facts) -> Result<(), PostError> {
    if facts.keep_uuids {
        return Ok(());
    }
    let lines = text.lines().filter(|line| !is_comment(line));
    let lines: Vec<&str> = lines.collect();
    for (golden, clone) in pairs(facts) {
        if golden != clone
            && lines
                .iter()
                .any(|line| replace_whole(line, golden, clone) != *line)
        {
            return Err(PostError::Wrong(format!(
                "{path} still names the golden file system {golden}: look for what writes it (GRUB: /etc/grub.d)"
            )));
        }
    }
    Ok(())
}

/// Returns the golden id and the clone's id of each device that has both.
pub(crate) fn pairs(facts: &Facts) -> impl Iterator<Item = (&str, &str)> {
    facts.devices.iter().chain(&facts.bare).flat_map(of_map)
}

fn of_map(map: &DeviceMap) -> impl Iterator<Item = (&str, &str)> {
    let (golden, clone) = (&map.golden, &map.clone);
    [(&golden.uuid, &clone.uuid), (&golden.partuuid, &clone.partuuid)]
        .into_iter()
        .filter_map(|(golden, clone)| Some((golden.as_deref()?, clone.as_deref()?)))
        .filter(|(golden, _)| is_long_enough(golden))
}

/// FAT's `1234-ABCD` and a PARTUUID of an MBR are the shortest that nothing else looks like.
pub(crate) fn is_long_enough(id: &str) -> bool {
    id.len() >= 9 && id.contains('-')
}

/// Replaces `id` where it is not part of a longer run of letters and digits, in either letter case.
pub(crate) fn replace_whole(line: &str, id: &str, by: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let id = id.to_ascii_lowercase();
    let mut new = String::with_capacity(line.len());
    let mut done = 0;
    for (at, _) in lower.match_indices(&id) {
        let end = at + id.len();
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let inside = is_part(lower[..at].chars().next_back()) || is_part(lower[end..].chars().next());
        if inside || at < done {
            continue;
        }
        new.push_str(&line[done..at]);
        new.push_str(by);
        done = end;
    }
    new.push_str(&line[done..]);
    new
}
