//! The commands of `ka-initrd` and their output.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ka_initrd::{Stage1Options, Stage2Options, append_join, find_static_client, list};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

use crate::cli::{Command, Options, Stage1, Stage2};

/// Largest image, unpacked, that is held in memory, in bytes. It is far above any real image.
const MAX_IMAGE_BYTES: u64 = 2 << 30;
/// Largest join-code file, in bytes. A join code is one short line.
const MAX_JOIN_BYTES: u64 = 4096;
/// Mode of an image with a join code, which makes it a secret.
const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// Runs the command. Returns the text for standard output.
pub(crate) fn run(options: &Options) -> Result<String> {
    match &options.command {
        Command::Stage1(options) => stage1(options),
        Command::Stage2(options) => stage2(options),
        Command::List { file } => list_image(file),
    }
}

fn stage1(options: &Stage1) -> Result<String> {
    let join = options.join_file.as_deref().map(read_join).transpose()?;
    let made = ka_initrd::stage1(&Stage1Options {
        root: options.source.root.clone(),
        kernel: options.source.kernel.clone(),
        client: find_static_client(options.client.as_deref())?,
        drivers: options.source.drivers.clone(),
    })?;
    let mut image = made.image;
    if let Some(code) = &join {
        append_join(&mut image, code);
    }
    fs::create_dir_all(&options.output).with_context(|| format!("making {}", options.output.display()))?;
    let kernel = options.output.join("vmlinuz");
    let bytes = fs::read(&made.kernel).with_context(|| format!("reading {}", made.kernel.display()))?;
    write_whole(&kernel, &bytes, PUBLIC)?;
    let path = options.output.join("stage1.img");
    write_whole(&path, &image, if join.is_some() { SECRET } else { PUBLIC })?;
    let mut text = format!("{}: Linux {}\n", kernel.display(), made.release);
    writeln!(
        text,
        "{}: {} bytes, {} drivers, {} bytes of memory on a node{}",
        path.display(),
        image.len(),
        made.modules,
        made.unpacked_bytes,
        if join.is_some() {
            ", with the join code"
        } else {
            ""
        }
    )?;
    note_firmware(&mut text, &made.missing_firmware)?;
    Ok(text)
}

fn stage2(options: &Stage2) -> Result<String> {
    let made = ka_initrd::stage2_image(&Stage2Options {
        root: options.source.root.clone(),
        kernel: options.source.kernel.clone(),
        drivers: options.source.drivers.clone(),
        file_systems: options.file_systems.clone(),
    })?;
    write_whole(&options.output, &made.image, PUBLIC)?;
    let mut text = format!(
        "{}: {} bytes, {} drivers of Linux {}, {} bytes of memory on a node\n",
        options.output.display(),
        made.image.len(),
        made.modules,
        made.release,
        made.unpacked_bytes
    );
    note_firmware(&mut text, &made.missing_firmware)?;
    if !made.missing_tools.is_empty() {
        writeln!(
            text,
            "note: left out, not on the golden node: {}",
            made.missing_tools.join(", ")
        )?;
    }
    Ok(text)
}

fn note_firmware(text: &mut String, missing: &BTreeMap<String, Vec<String>>) -> Result<()> {
    if !missing.is_empty() {
        let drivers: Vec<&str> = missing.keys().map(String::as_str).collect();
        writeln!(
            text,
            "note: no firmware on the golden node for {}; cards that need it want Debian's firmware-* packages there",
            drivers.join(", ")
        )?;
    }
    Ok(())
}

fn list_image(path: &Path) -> Result<String> {
    let image = read_bounded(path, MAX_IMAGE_BYTES)?;
    let named = || path.display().to_string();
    let segments = list::segments(&image, MAX_IMAGE_BYTES).with_context(named)?;
    ensure!(
        !segments.is_empty(),
        "{}: nothing but zeros, or empty",
        path.display()
    );
    let mut text = String::new();
    let (mut count, mut bytes) = (0, 0);
    for (at, segment) in segments.iter().enumerate() {
        writeln!(
            text,
            "archive {} at byte {}: {}, {} bytes",
            at + 1,
            segment.offset,
            segment.packing,
            segment.packed_bytes
        )?;
        for entry in list::entries(&segment.archive).with_context(named)? {
            writeln!(text, "{}", list::Line(&entry))?;
            count += 1;
            bytes += u64::from(entry.header.size);
        }
    }
    writeln!(
        text,
        "total: {count} entries, {bytes} bytes, {} packed",
        image.len()
    )?;
    Ok(text)
}

fn read_join(path: &Path) -> Result<String> {
    let bytes = read_bounded(path, MAX_JOIN_BYTES)?;
    let text = String::from_utf8(bytes).with_context(|| format!("{} is no text", path.display()))?;
    let code = text.trim().to_owned();
    ensure!(
        !code.is_empty() && !code.contains(char::is_whitespace),
        "{}: expected one line with the join code that ka-server printed",
        path.display()
    );
    Ok(code)
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let reading = || format!("reading {}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(reading)?;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .with_context(reading)?;
    ensure!(
        bytes.len() as u64 <= limit,
        "{}: larger than {limit} bytes",
        path.display()
    );
    Ok(bytes)
}

/// Writes a file beside its final name and renames it, so that a server of the file has either the old one or
/// the new one, whole. If the file system supports it (`O_TMPFILE`, open(2)), the data has no name until it
/// is complete, so a killed process leaves nothing behind.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    let mut name = path.file_name().with_context(writing)?.to_owned();
    name.push(".part");
    let part: PathBuf = path.with_file_name(name);
    fs::remove_file(&part).ok();
    let written = write_part(&part, bytes, mode).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        fs::remove_file(&part).ok();
    }
    written.with_context(writing)
}

fn write_part(part: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = part.parent().filter(|dir| !dir.as_os_str().is_empty());
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(unnamed) = open(dir.unwrap_or(Path::new(".")), flags, Mode::from_raw_mode(mode)) {
        let mut file = File::from(unnamed);
        file.write_all(bytes)?;
        let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
        if linkat(CWD, opened, CWD, part, AtFlags::SYMLINK_FOLLOW).is_ok() {
            return Ok(());
        }
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(part)?;
    file.write_all(bytes)
}
