//! The stages of a clone: survey, plan on every node, disks made ready, data, finishing. Each is a function; what
//! they share is [`Run`].

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use ka_disk::golden::{self, SurveyError, SurveyOptions};
use ka_disk::spec::{BootSpec, InstallSpec, RawSpec, StreamKind, StreamPlan};
use ka_host::mountinfo;
use ka_image::raw::{self, RawSendOptions};
use ka_image::tree::{self, SendOptions, TreeSource};
use ka_postinstall::chroot;
use ka_postinstall::golden_boot::{self, Known};
use ka_postinstall::rehearsal;
use ka_postinstall::root::Root;
use ka_proto::StreamName;
use ka_status::erasing::Erasing;
use ka_status::report::{Digest, NodePlan};
use ka_status::run::RunEvent;
use ka_status::summary::GoldenTotals;

use crate::boot;
use crate::cli::DEFAULT_STATE_DIR;
use crate::failure::Failure;
use crate::feed::Sink;
use crate::identities::Compared;
use crate::run::Run;
use crate::settings::Settings;

/// Where the kernel shows the machine.
const SYS: &str = "/sys";

/// Looks at the golden node and names the streams after the session.
///
/// # Errors
/// Not root, or the golden node cannot be cloned as asked: each names the line, device or option.
pub(crate) fn survey(options: &SurveyOptions, settings: &Settings) -> Result<InstallSpec, Failure> {
    if !ka_host::system::is_root() {
        let reason = "cloning reads every file and partition of this machine; run ka-server as root";
        return Err(Failure::NothingDone(anyhow!(reason)));
    }
    let mut spec = golden::survey(options).map_err(|error| match error {
        // What the operator wrote does not go with this machine; anything else is this machine's own trouble.
        SurveyError::Root { .. }
        | SurveyError::Desc { .. }
        | SurveyError::NoPlace { .. }
        | SurveyError::Option { .. } => Failure::Usage(error.into()),
        error => Failure::NothingDone(error.into()),
    })?;
    // Session 1 is the plan itself, as in the original; the data streams count from 2.
    for (number, stream) in (2..).zip(&mut spec.streams) {
        stream.name = format!("{}{number}", settings.session);
    }
    spec.verify = settings.verify;
    spec.boot = BootSpec {
        keep_identity: settings.boot.keep_identity,
        kernel_names: settings.boot.kernel_names,
        hooks: true,
        golden_cards: golden_cards(&options.root),
        ..BootSpec::default().with_loader_option(options.boot_loader.as_deref())
    };
    learn_boot(&mut spec, &options.root).map_err(Failure::NothingDone)?;
    Ok(spec)
}

/// The cards of this machine, where it is the golden node itself.
fn golden_cards(root: &Path) -> Vec<String> {
    if root != Path::new("/") {
        return Vec::new();
    }
    let cards = ka_host::netif::cards(Path::new("/sys"));
    cards.into_iter().map(|card| card.to_string()).collect()
}

/// How the golden node boots, so that a node can tell before its first write whether it could; and whether any clone could.
fn learn_boot(spec: &mut InstallSpec, root: &Path) -> Result<()> {
    let files = Root::open(root).with_context(|| format!("opening the golden root {}", root.display()))?;
    let is_own = root.canonicalize().is_ok_and(|root| root == Path::new("/"));
    let golden = spec.filesystems.iter().filter_map(|fs| fs.golden.as_ref());
    let known = Known {
        uuids: golden.filter_map(|device| device.uuid.clone()).collect(),
        started: is_own.then(|| chroot::started_program(Path::new(SYS))).flatten(),
    };
    spec.boot.golden = golden_boot::detect(&files, &known);
    let notes = golden_boot::check(&files, &spec.boot)?;
    spec.notes.extend(notes);
    let rehearsal = rehearsal::check(&files, spec, &|path| files.is_executable(path))?;
    spec.notes.extend(rehearsal.notes);
    spec.boot.golden.uefi_obstacle = rehearsal.uefi_obstacle;
    check_boot_travels(spec, root)
}

/// Whether the directories with kernels, modules and the boot loader come with the clone.
fn check_boot_travels(spec: &InstallSpec, root: &Path) -> Result<()> {
    if spec.boot.loader.as_deref() == Some("none") {
        return Ok(());
    }
    let mounts = mountinfo::read().unwrap_or_default();
    let esp = spec.boot.golden.esp.as_deref();
    for place in ["/boot", "/lib/modules", "/usr/lib/modules"]
        .into_iter()
        .chain(esp)
    {
        let excluded = spec
            .excluded
            .iter()
            .map(|path| Path::new(OsStr::from_bytes(path)));
        if let Some(excluded) = excluded
            .into_iter()
            .find(|excluded| Path::new(place).starts_with(excluded))
        {
            bail!(
                "-x {}: a clone without {place} could not boot; leave it out of -x, or clone without a boot loader (-r none)",
                excluded.display()
            );
        }
        let Ok(here) = below(root, Path::new(place)).canonicalize() else {
            continue;
        };
        let is_mount = mountinfo::find_at(&mounts, &here).is_some();
        let travels = spec.trees.iter().any(|tree| {
            below(root, Path::new(&tree.path))
                .canonicalize()
                .is_ok_and(|dir| dir == here)
        });
        if is_mount && !travels {
            bail!(
                "{place} is a file system of its own that is not cloned, and without it a clone could not boot: give it a line in \
                 /etc/fstab without noauto, or clone without a boot loader (-r none)"
            );
        }
    }
    Ok(())
}

/// What the largest stream may carry, bytes.
pub(crate) fn largest_stream(spec: &InstallSpec) -> u64 {
    let tree: u64 = spec.trees.iter().map(|tree| tree.used_bytes).sum();
    spec.raw.iter().map(|raw| raw.bytes).fold(tree, u64::max)
}

/// Clones the golden node that `spec` describes.
///
/// # Errors
/// The golden node cannot be read, no node is left, or the run is stopped.
pub(crate) fn run(run: &mut Run<'_>, spec: &InstallSpec) -> Result<()> {
    run.compare_identities(Compared {
        names: !spec.boot.keep_identity,
        uuids: !spec.keep_uuids,
    });
    if run.is_sending() {
        send(run, spec)?;
    }
    run.collect_reports()?;
    run.finish_machines();
    run.release();
    Ok(())
}

/// Everything up to the last byte.
fn send(run: &mut Run<'_>, spec: &InstallSpec) -> Result<()> {
    if let Some(stage2) = run.stage2.clone() {
        boot::send_tools(run, &stage2)?;
    }
    let mut spec = spec.clone();
    spec.boot.beacon = run.beacon_spec();
    let spec = &spec;
    prepare(run, spec)?;
    run.stop.disks_are_written();
    make_disks_ready(run)?;
    for stream in &spec.streams {
        run.enter(&format!("receiving {}", stream.name))?;
        match stream.kind {
            StreamKind::Tree => send_tree(run, spec, stream)?,
            StreamKind::Raw { index } => {
                let raw = usize::try_from(index).ok().and_then(|index| spec.raw.get(index));
                send_raw(run, raw.context("a stream without its partition")?, stream)?;
            }
        }
    }
    Ok(())
}

/// Every node plans and checks; nothing is written anywhere.
fn prepare(run: &mut Run<'_>, spec: &InstallSpec) -> Result<()> {
    run.enter("checking")?;
    run.monitor.emit(&RunEvent::SessionStarted {
        session: format!("{}1", run.settings.session),
        what: "sending partitions, file systems and mounts".into(),
        expected_bytes: None,
    });
    let mut erasing = Erasing::default();
    for (node, payload) in run.survivors(run.server.prepare(spec.to_json()?)?)? {
        let Some(node) = run.monitor.node(node.id.0) else {
            continue;
        };
        run.monitor.emit(&match NodePlan::decode(&payload) {
            Ok(plan) => {
                erasing.add(&node.name, &plan);
                RunEvent::NodePrepared { node, plan }
            }
            // It has checked its own plan; that we cannot show it is no reason to leave it out.
            Err(error) => RunEvent::Warning {
                text: format!("{node}: {error}"),
            },
        });
    }
    run.monitor.emit(&RunEvent::Erasing { erasing });
    Ok(())
}

/// The destructive part: partitions, file systems, mounts.
fn make_disks_ready(run: &mut Run<'_>) -> Result<()> {
    run.enter("partitioning and formatting")?;
    run.survivors(run.server.go()?)?;
    Ok(())
}

fn send_tree(run: &mut Run<'_>, spec: &InstallSpec, stream: &StreamPlan) -> Result<()> {
    let root = golden_root(run.settings);
    let sources: Vec<_> = spec
        .trees
        .iter()
        .map(|tree| TreeSource {
            mount_id: tree.id,
            root: below(&root, Path::new(&tree.path)),
        })
        .collect();
    let expected = spec.trees.iter().map(|tree| tree.used_bytes).sum();
    let mut sink = open(run, stream, "sending files", Some(expected))?;
    let options = send_options(run, spec, &root, sink.block_len());
    let progress = sink.progress();
    let sent = tree::send(&sources, &options, |block| sink.emit(block), &progress.content);
    let sent = run.told(sent)?;
    let golden = GoldenTotals {
        files: sent.totals.files,
        bytes: sent.totals.bytes,
        digest: Digest(sent.totals.digest.to_bytes()),
    };
    run.note_problems(&sent.problems);
    run.finish_stream(sink.into_writer(), Some(golden))
}

fn send_raw(run: &mut Run<'_>, partition: &RawSpec, stream: &StreamPlan) -> Result<()> {
    let path = &partition.golden.path;
    let device = File::open(path).with_context(|| format!("opening {path}"))?;
    let options = RawSendOptions {
        compress: run.settings.compress,
        ..RawSendOptions::default()
    };
    let mut sink = open(run, stream, &format!("sending {path} raw"), Some(partition.bytes))?;
    let progress = sink.progress();
    let sent = raw::send(
        &device,
        partition.bytes,
        &options,
        |block| sink.emit(block),
        &progress.content,
    );
    let sent = run.told(sent)?;
    let golden = GoldenTotals {
        files: 0,
        bytes: sent.bytes,
        digest: Digest(sent.digest.to_bytes()),
    };
    run.finish_stream(sink.into_writer(), Some(golden))
}

fn open(run: &Run<'_>, stream: &StreamPlan, what: &str, expected_bytes: Option<u64>) -> Result<Sink> {
    let name = StreamName::new(&stream.name).context("naming the stream")?;
    let writer = run.server.open_stream(&name)?;
    let progress = run.monitor.stream_started(&stream.name, what, expected_bytes);
    Ok(Sink::new(writer, progress))
}

fn send_options(run: &Run<'_>, spec: &InstallSpec, root: &Path, chain_block_len: usize) -> SendOptions {
    let defaults = SendOptions::default();
    // What suits the chain, unless it is more than the readers' own measure.
    let block_bytes = run
        .settings
        .block_bytes
        .unwrap_or(chain_block_len.min(defaults.block_bytes));
    let excluded = spec
        .excluded
        .iter()
        .map(|path| PathBuf::from(OsString::from_vec(path.clone())));
    let skipped = spec
        .skipped
        .iter()
        .map(|path| PathBuf::from(OsString::from_vec(path.clone())));
    let swap_files = spec
        .swap_files
        .iter()
        .map(|file| below(root, Path::new(&file.path)));
    SendOptions {
        golden_root: root.to_owned(),
        excluded: excluded.map(|path| below(root, &path)).collect(),
        // A clone that shared the server's key could pose as the server; logs and join code are this run's.
        skip: swap_files
            .chain(skipped.map(|path| below(root, &path)))
            .chain(run.own_files.iter().cloned())
            .chain([below(root, Path::new(DEFAULT_STATE_DIR))])
            .collect(),
        compress: run.settings.compress,
        block_bytes,
        ..defaults
    }
}

fn golden_root(settings: &Settings) -> PathBuf {
    match &settings.job {
        crate::settings::Job::Clone(survey) => survey.root.clone(),
        crate::settings::Job::Generic(_) => PathBuf::from("/"),
    }
}

/// An absolute path of the golden system as it is found below its root.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::below;

    #[test]
    fn golden_paths_stay_below_the_golden_root() {
        assert_eq!(
            below(Path::new("/mnt/golden"), Path::new("/home")),
            Path::new("/mnt/golden/home")
        );
        assert_eq!(below(Path::new("/"), Path::new("/")), Path::new("/"));
        assert_eq!(below(Path::new("/mnt"), Path::new("/")), Path::new("/mnt/"));
    }
}
