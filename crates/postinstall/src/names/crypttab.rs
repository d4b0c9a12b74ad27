//! crypttab(5), and OpenRC's `dmcrypt`: which encrypted devices a clone opens.
//!
//! A line with a random key makes a new swap area or file system on its partition at every boot. It must name
//! the clone's own partition, by a name that no other disk can ever have. Otherwise it is removed. Any other
//! line opens what only a raw copy brings along.

use ka_disk::fstab::TaggedName;

use super::layers::Layers;
use super::text::{self, Line, Rewritten, is_comment};
use super::{Manner, Meaning, Names, spelling};
use crate::fstab::{DeviceMap, matching};

/// The usual one, and mkinitcpio's for the initramfs.
pub(crate) const FILES: [&str; 2] = ["/etc/crypttab", "/etc/crypttab.initramfs"];
const RANDOM: [&str; 3] = ["/dev/urandom", "/dev/random", "/dev/hwrng"];

/// The clone's crypttab.
#[derive(Debug, Default)]
pub(crate) struct Crypttab {
    pub(crate) file: Rewritten,
    /// The mapped devices that its lines open.
    pub(crate) opened: Vec<String>,
}

/// Plans the new text. Pure.
pub(crate) fn plan(bytes: &[u8], names: &Names<'_>) -> Crypttab {
    let mut new = Crypttab::default();
    for (number, line) in (1..).zip(text::lines(bytes)) {
        let fields: Vec<&str> = line.text().split_whitespace().collect();
        if fields.len() < 2 || is_comment(line.text()) {
            new.file.push(&line, line.text());
            continue;
        }
        match rewritten(&line, &fields, names) {
            Ok(text) => {
                new.opened.push(fields[0].to_owned());
                new.file.push(&line, &text);
            }
            Err(why) => new
                .file
                .comment_out(&line, format!("line {number}: {}: {why}", fields[0])),
        }
    }
    new
}

/// The line for the clone, or why it has no meaning there.
fn rewritten(line: &Line, fields: &[&str], names: &Names<'_>) -> Result<String, String> {
    let (device, key) = (fields[1], fields.get(2).copied().unwrap_or("none"));
    let given = fields.get(3).copied().unwrap_or_default();
    let mut edits = Vec::new();
    let options = rewritten_options(given, names)?;
    let new = if makes_anew(key, given) {
        random_device(device, given, names)?
    } else {
        opened_device(device, names)?
    };
    edits.push((1, new));
    if let Some(key) = rewritten_key(key, names) {
        edits.push((2, key));
    }
    if fields.len() > 3 {
        edits.push((3, options));
    }
    Ok(replace_fields(line.text(), fields, &edits))
}

/// The contents are made anew at each boot.
fn makes_anew(key: &str, options: &str) -> bool {
    RANDOM.contains(&spelling::plain(key).as_ref())
        || options
            .split(',')
            .any(|option| matches!(option, "swap" | "tmp") || option.starts_with("tmp="))
}

fn gone(device: &str, what: &str) -> String {
    format!("{device} names {what}: commented out")
}

const NOTHING: &str = "nothing that the clone has";

fn random_device(device: &str, options: &str, names: &Names<'_>) -> Result<String, String> {
    let plain = spelling::plain(device);
    let is_link = TaggedName::parse(&plain).is_none_or(|name| name.is_link);
    // Only what lies before an offset outlives a boot: then the UUID there is a name as good as before.
    let keeps_start = options
        .split(',')
        .any(|option| option.starts_with("offset=") && option != "offset=0");
    let by_partition = |map: &DeviceMap| {
        let kernel = names.keeps_kernel_names() && spelling::is_kernel_name(&plain);
        let path = Some(map.clone.path.clone()).filter(|_| kernel);
        path.or_else(|| matching::partition(&map.clone, is_link))
            .ok_or_else(|| gone(device, NOTHING))
    };
    match names.meaning(&plain) {
        Some(Meaning::Bare(map)) => by_partition(map),
        Some(Meaning::Clone(map)) if map.clone.fstype.as_deref() == Some("swap") => {
            if keeps_start && TaggedName::parse(&plain).is_some() {
                return names
                    .replacement(device, Manner::Usual)
                    .ok_or_else(|| gone(device, NOTHING));
            }
            by_partition(map)
        }
        Some(Meaning::Clone(_)) => Err(gone(device, "a file system of the clone, which it would destroy")),
        Some(Meaning::Disk(_)) => Err(gone(device, "a whole disk of the clone, which it would destroy")),
        // A file, or a volume that another line opens.
        None if !plain.starts_with("/dev/") => Ok(device.to_owned()),
        Some(Meaning::Own) if TaggedName::parse(&plain).is_none() => Ok(device.to_owned()),
        _ => Err(gone(device, NOTHING)),
    }
}

fn opened_device(device: &str, names: &Names<'_>) -> Result<String, String> {
    let plain = spelling::plain(device);
    let layers = Layers::of(names.facts());
    match names.meaning(&plain) {
        Some(Meaning::Clone(map)) if map.clone.fstype.is_none() => names
            .replacement(device, Manner::Usual)
            .ok_or_else(|| gone(device, NOTHING)),
        Some(Meaning::Clone(_)) => Err(gone(device, "a file system of the clone, which is not encrypted")),
        Some(Meaning::Bare(_)) => Err(gone(device, "a partition of the clone with nothing on it")),
        Some(Meaning::Disk(_)) => Err(gone(device, "a whole disk of the clone")),
        Some(Meaning::Own) => Ok(device.to_owned()),
        Some(Meaning::Gone) if layers.has_luks(&plain) => Ok(device.to_owned()),
        None if !plain.starts_with("/dev/") => Ok(device.to_owned()),
        Some(Meaning::Gone) | None => Err(gone(device, NOTHING)),
    }
}

/// A key on a device that the clone lacks is asked for instead; `None` where the field stays.
fn rewritten_key(key: &str, names: &Names<'_>) -> Option<String> {
    if RANDOM.contains(&key) {
        return None;
    }
    let at = spelling::next_name(key)?;
    let name = &key[at..at + spelling::name_len(&key[at..])];
    let (name, _) = super::words::longest(name, names)?;
    match names.replacement(name, Manner::Usual) {
        Some(new) => Some(format!("{}{new}{}", &key[..at], &key[at + name.len()..])),
        None => Some("none".to_owned()),
    }
}

/// Returns the options with their devices (`header=`, `x-initrd…`); an option that is needed and names
/// nothing takes the line with it.
fn rewritten_options(options: &str, names: &Names<'_>) -> Result<String, String> {
    let mut new = Vec::new();
    for option in options.split(',') {
        let Some(at) = spelling::next_name(option) else {
            new.push(option.to_owned());
            continue;
        };
        let name = &option[at..];
        match (names.meaning(name), names.replacement(name, Manner::Usual)) {
            (None, _) => new.push(option.to_owned()),
            (_, Some(by)) => new.push(format!("{}{by}", &option[..at])),
            (_, None) => return Err(gone(option, NOTHING)),
        }
    }
    Ok(new.join(","))
}

fn replace_fields(line: &str, fields: &[&str], edits: &[(usize, String)]) -> String {
    let mut new = String::with_capacity(line.len() + 32);
    let mut done = 0;
    for (index, field) in fields.iter().enumerate() {
        // The field's place: the fields are slices of this very line, in order.
        let Some(at) = line[done..].find(field).map(|at| at + done) else {
            continue;
        };
        new.push_str(&line[done..at]);
        match edits.iter().find(|(edited, _)| *edited == index) {
            Some((_, text)) => new.push_str(text),
            None => new.push_str(field),
        }
        done = at + field.len();
    }
    new.push_str(&line[done..]);
    new
}

/// OpenRC's `/etc/conf.d/dmcrypt`: blocks of variables, each begun by `target=` or `swap=`. One whose
/// `source=` the clone does not have is taken out; with `swap=` it would make a swap area there at every
/// boot.
pub(crate) fn dmcrypt(bytes: &[u8], names: &Names<'_>) -> Rewritten {
    let lines = text::lines(bytes);
    let key = |line: &Line| {
        let text = line.text().trim();
        let found = text.split_once('=').filter(|_| !is_comment(text));
        found.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
    };
    let is_start = |line: &Line| key(line).is_some_and(|(key, _)| matches!(key.as_str(), "target" | "swap"));
    let mut new = Rewritten::default();
    let mut block: Vec<&Line> = Vec::new();
    let flush = |block: &mut Vec<&Line>, new: &mut Rewritten| {
        let kind = block.iter().find_map(|line| key(line)).map(|(key, _)| key);
        let source = block
            .iter()
            .find_map(|line| key(line).filter(|(key, _)| key == "source"));
        let source = source.map(|(_, value)| spelling::plain(&value).into_owned());
        let made = match (kind.as_deref(), source) {
            (Some("swap"), Some(source)) => Some(random_device(&source, "", names)),
            (Some("target"), Some(source)) => Some(opened_device(&source, names)),
            _ => None,
        };
        let mut told = false;
        for line in block.drain(..) {
            match (&made, key(line)) {
                (Some(Ok(source)), Some((key, _))) if key == "source" => {
                    let end = if line.text().ends_with('\n') { "\n" } else { "" };
                    new.push(line, &format!("source='{source}'{end}"));
                }
                (Some(Err(why)), Some(_)) => {
                    if told {
                        new.push(line, &format!("{}{}", text::LEFT_OUT, line.text()));
                    } else {
                        new.comment_out(line, why.clone());
                    }
                    told = true;
                }
                _ => new.push(line, line.text()),
            }
        }
    };
    for line in &lines {
        if is_start(line) {
            flush(&mut block, &mut new);
        }
        block.push(line);
    }
    flush(&mut block, &mut new);
    new
}
