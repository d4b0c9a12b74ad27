//! The machine-id of a clone when it runs. `systemd.machine_id=` on the kernel command line prevails over
//! `/etc/machine-id` (machine-id(5), kernel-command-line(7)), and kernel-install writes it into each entry
//! that it makes. With the golden one every clone would become the same machine at its first boot.

use std::ops::Range;

use crate::boot_entries;
use crate::error::PostError;
use crate::facts::Facts;
use crate::files::{Files, text_or_empty};
use crate::names::text::is_comment;
use crate::plan::Plan;
use crate::references;

pub(crate) const FILE: &str = "/etc/machine-id";
/// systemd takes either form, as of all its parameters.
const PARAMETERS: [&str; 2] = ["systemd.machine_id=", "systemd.machine-id="];
/// Files that their own tools make from others. A hand-made one is for its author to correct.
const MADE: [&str; 2] = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];

/// Plans the clone's own id for every command line and boot entry that names one. Names of files and
/// directories stay.
pub(crate) fn plan_parameters(plan: &mut Plan, files: &dyn Files, id: &str) -> Result<(), PostError> {
    for path in references::paths(files)
        .into_iter()
        .filter(|path| !MADE.contains(&path.as_str()))
    {
        let old = text_or_empty(files, &path)?;
        let new: String = old.split_inclusive('\n').map(|line| renamed(line, id)).collect();
        if new != old {
            let new = references::fitting(&path, new, old.len());
            plan.write(path, new, vec![format!("machine-id becomes {id}")]);
        }
    }
    Ok(())
}

/// Returns the machine-id that the clone will have. `None` if it makes one at its first boot, or has no use
/// for it.
///
/// # Errors
/// A file cannot be read. Or a command line of the clone names another machine-id than its own, and the
/// golden identity is not to be kept.
pub fn prevailing(files: &dyn Files, facts: &Facts) -> Result<Option<String>, PostError> {
    let own = plain(text_or_empty(files, FILE)?.trim());
    let own = is_id(&own).then_some(own);
    for (path, text) in command_lines(files)? {
        let lines = text.lines().filter(|line| !is_comment(line));
        let named = lines.flat_map(|line| values(line).into_iter().map(|range| plain(&line[range])));
        for named in named {
            match &own {
                Some(own) if *own == named => {}
                Some(own) if !facts.boot.keep_identity => {
                    return Err(PostError::Wrong(format!(
                        "{path} says {}{named}, which would prevail over the clone's own {own}: take it out on the golden \
                         node, or of what makes that file",
                        PARAMETERS[0]
                    )));
                }
                _ => return Ok(Some(named)),
            }
        }
    }
    Ok(own)
}

/// Insists on unified kernel images that make the clone no other machine, because only a hook makes those
/// anew.
///
/// # Errors
/// The first that names a machine-id, unless the golden identity is kept.
pub(crate) fn check_unified(files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    check_texts(&boot_entries::unified_command_lines(files)?, facts)
}

/// Checks, as [`check_unified`] does, the configurations that [`plan_parameters`] leaves to their tool, if
/// that tool will not run.
///
/// # Errors
/// As [`check_unified`].
pub(crate) fn check_made(files: &dyn Files, facts: &Facts) -> Result<(), PostError> {
    let read = |path: &str| Ok((path.to_owned(), text_or_empty(files, path)?));
    let texts: Vec<_> = MADE.into_iter().map(read).collect::<Result<_, PostError>>()?;
    check_texts(&texts, facts)
}

fn check_texts(texts: &[(String, String)], facts: &Facts) -> Result<(), PostError> {
    for (path, text) in texts.iter().filter(|_| !facts.boot.keep_identity) {
        let mut lines = text.lines().filter(|line| !is_comment(line));
        let named = lines.find_map(|line| Some(&line[values(line).into_iter().next()?]));
        if let Some(id) = named {
            return Err(PostError::Wrong(format!(
                "{path} says {}{id}, by which all clones would be one machine",
                PARAMETERS[0]
            )));
        }
    }
    Ok(())
}

/// Returns the files that hold a kernel command line, with their text.
fn command_lines(files: &dyn Files) -> Result<Vec<(String, String)>, PostError> {
    let mut lines = boot_entries::unified_command_lines(files)?;
    for path in references::paths(files) {
        let text = text_or_empty(files, &path)?;
        lines.push((path, text));
    }
    Ok(lines)
}

/// Returns a line with this id in the parameter, and in the field of a boot entry (Boot Loader Specification,
/// `machine-id`).
fn renamed(line: &str, id: &str) -> String {
    if is_comment(line) {
        return line.to_owned();
    }
    let mut words = line.split_whitespace();
    if let (Some("machine-id"), Some(old), None) = (words.next(), words.next(), words.next())
        && is_id(old)
    {
        return line.replace(old, id);
    }
    let mut new = line.to_owned();
    for range in values(line).into_iter().rev() {
        new.replace_range(range, id);
    }
    new
}

/// Returns the places of the parameter's values that are ids: `firmware`, for one, is none, and no other
/// machine's.
fn values(line: &str) -> Vec<Range<usize>> {
    let starts = PARAMETERS
        .iter()
        .flat_map(|name| line.match_indices(name).map(|(at, name)| at + name.len()));
    let end = |at: usize| {
        let ends = line[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        ends.map_or(line.len(), |len| at + len)
    };
    let mut found: Vec<Range<usize>> = starts
        .map(|at| at..end(at))
        .filter(|range| is_id(&line[range.clone()]))
        .collect();
    found.sort_by_key(|range| range.start);
    found
}

/// 32 hexadecimal digits, also in the form of a UUID (`sd_id128_from_string(3)`).
fn is_id(text: &str) -> bool {
    let text = plain(text);
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn plain(id: &str) -> String {
    id.replace('-', "").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_entries::tests::unified_image;
    use crate::facts::tests::facts;
    use crate::files::fixture::Texts;

    const OWN: &str = "11112222333344445555666677778888";
    const GOLDEN: &str = "00112233445566778899aabbccddeeff";
    const ENTRY: &str = "/efi/loader/entries/debian.conf";

    fn clone(entry: &str) -> Texts {
        Texts::new(&[(FILE, &format!("{OWN}\n")), (ENTRY, entry)])
    }

    #[test]
    fn only_a_real_machine_id_is_one() {
        assert!(is_id(OWN) && is_id("00112233-4455-6677-8899-AABBCCDDEEFF"));
        for text in [
            "uninitialized",
            "",
            "firmware",
            "00112233445566778899aabbccddeefg",
        ] {
            assert!(!is_id(text), "{text}");
        }
        let files = Texts::new(&[(FILE, "uninitialized\n")]);
        assert_eq!(prevailing(&files, &facts()).unwrap(), None);
    }

    #[test]
    fn every_form_of_the_parameter_gets_the_clones_own_and_nothing_else_does() {
        let line =
            format!("options a systemd.machine_id={GOLDEN} systemd.machine-id={GOLDEN},x /{GOLDEN}/linux\n");
        assert_eq!(
            renamed(&line, OWN),
            format!("options a systemd.machine_id={OWN} systemd.machine-id={OWN},x /{GOLDEN}/linux\n")
        );
        let uuid = "GRUB_CMDLINE_LINUX=\"systemd.machine_id=00112233-4455-6677-8899-aabbccddeeff\"";
        assert_eq!(
            renamed(uuid, OWN),
            format!("GRUB_CMDLINE_LINUX=\"systemd.machine_id={OWN}\"")
        );
        assert_eq!(
            renamed(&format!("machine-id {GOLDEN}\n"), OWN),
            format!("machine-id {OWN}\n")
        );
        for line in [
            format!("# systemd.machine_id={GOLDEN}"),
            "systemd.machine_id=firmware".into(),
        ] {
            assert_eq!(renamed(&line, OWN), line);
        }
    }

    #[test]
    fn an_entry_that_makes_the_clone_another_machine_fails_it() {
        let own = clone(&format!("options systemd.machine_id={OWN}\n"));
        assert_eq!(prevailing(&own, &facts()).unwrap().as_deref(), Some(OWN));
        let golden = clone(&format!("options systemd.machine_id={GOLDEN}\n"));
        let refusal = prevailing(&golden, &facts()).unwrap_err().to_string();
        assert!(refusal.contains(ENTRY) && refusal.contains(GOLDEN), "{refusal}");
        let config = format!("\tlinux /vmlinuz systemd.machine_id={GOLDEN}\n");
        let grub = clone("").with("/boot/grub/grub.cfg", &config);
        assert!(prevailing(&grub, &facts()).is_err());
        let mut unified = clone("");
        let image = unified_image(&format!("quiet systemd.machine_id={GOLDEN}"));
        unified.0.insert("/efi/EFI/Linux/debian.efi".to_owned(), image);
        let refusal = prevailing(&unified, &facts()).unwrap_err().to_string();
        assert!(refusal.contains("/efi/EFI/Linux/debian.efi"), "{refusal}");
    }

    #[test]
    fn what_is_told_of_a_clone_is_what_prevails() {
        let entry = format!("options systemd.machine_id={GOLDEN}\n");
        let mut kept = facts();
        kept.boot.keep_identity = true;
        assert_eq!(
            prevailing(&clone(&entry), &kept).unwrap().as_deref(),
            Some(GOLDEN)
        );
        // Nothing in /etc: the first boot would take the entry's.
        let bare = Texts::new(&[(ENTRY, entry.as_str())]);
        assert_eq!(prevailing(&bare, &facts()).unwrap().as_deref(), Some(GOLDEN));
    }
}
