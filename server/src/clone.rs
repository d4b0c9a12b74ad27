//! The stages of a clone: plan on every node, preparation of disks, data, finishing.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ka_disk::spec::{InstallSpec, RawSpec, STAGE2_STREAM, StreamKind, StreamPlan};
use ka_report::erasing::Erasing;
use ka_report::report::{Digest, NodePlan};
use ka_report::run::RunEvent;
use ka_report::summary::GoldenTotals;
use ka_tree::raw::{self, RawSendOptions};
use ka_tree::tree::{self, SendOptions, TreeSource};

use crate::identities::Compared;
use crate::run::Run;
use crate::survey::below;

/// The stages that clone the golden node in each round.
#[derive(Debug)]
pub(crate) struct CloneStages<'a> {
    /// Root of the golden system.
    pub(crate) root: &'a Path,
    /// The golden node, surveyed.
    pub(crate) spec: InstallSpec,
    /// Tools for nodes that were booted from the network.
    pub(crate) stage2: Option<Vec<u8>>,
}

impl CloneStages<'_> {
    /// Clones the golden node onto the nodes of a round.
    ///
    /// # Errors
    /// The golden node cannot be read, no node is left, or the run is stopped.
    pub(crate) fn run(&self, run: &mut Run<'_>) -> Result<()> {
        run.compare_identities(Compared {
            names: !self.spec.boot.keep_identity,
            uuids: !self.spec.keep_uuids,
        });
        if run.is_sending() {
            self.send(run)?;
        }
        run.collect_reports()?;
        run.finish_machines();
        run.release();
        Ok(())
    }

    /// Sends everything up to the last byte.
    fn send(&self, run: &mut Run<'_>) -> Result<()> {
        if let Some(image) = &self.stage2 {
            send_tools(run, image)?;
        }
        let mut spec = self.spec.clone();
        spec.boot.beacon = run.beacon_spec();
        prepare(run, &spec)?;
        run.await_consent()?;
        run.make_disks_ready()?;
        for stream in &spec.streams {
            run.enter(&format!("receiving {}", stream.name))?;
            match stream.kind {
                StreamKind::Tree => self.send_tree(run, stream)?,
                StreamKind::Raw { index } => {
                    let raw = usize::try_from(index).ok().and_then(|index| spec.raw.get(index));
                    send_raw(run, raw.context("a stream without its partition")?, stream)?;
                }
            }
        }
        Ok(())
    }

    fn send_tree(&self, run: &mut Run<'_>, stream: &StreamPlan) -> Result<()> {
        let sources: Vec<_> = self
            .spec
            .trees
            .iter()
            .map(|tree| TreeSource {
                mount_id: tree.id,
                root: below(self.root, Path::new(&tree.path)),
            })
            .collect();
        let expected = self.spec.trees.iter().map(|tree| tree.used_bytes).sum();
        let mut sink = run.open_stream(&stream.name, "sending files", Some(expected))?;
        let options = self.send_options(run, sink.block_len());
        let progress = sink.progress();
        let sent = tree::send(&sources, &options, |block| sink.emit(block), &progress.content);
        let sent = run.told(sent)?;
        let golden = GoldenTotals {
            files: sent.totals.files,
            bytes: sent.totals.bytes,
            digest: Digest(sent.totals.digest.to_bytes()),
        };
        run.note_problems(&sent.problems);
        run.finish_stream(sink, Some(golden))
    }

    fn send_options(&self, run: &Run<'_>, chain_block_bytes: usize) -> SendOptions {
        let defaults = SendOptions::default();
        let below = |path: &Path| below(self.root, path);
        let path = |path: &Vec<u8>| PathBuf::from(OsString::from_vec(path.clone()));
        let excluded = self.spec.excluded.iter().map(path);
        let skipped = self.spec.skipped.iter().map(path);
        let swap_files = self.spec.swap_files.iter();
        SendOptions {
            golden_root: self.root.to_owned(),
            excluded: excluded.map(|path| below(&path)).collect(),
            skip: swap_files
                .map(|file| below(Path::new(&file.path)))
                .chain(skipped.map(|path| below(&path)))
                .chain(run.own_files())
                .collect(),
            compress: run.settings().stream.compress,
            // The block size that suits the chain, unless it is more than the readers' own limit.
            block_bytes: run
                .settings()
                .block_bytes(chain_block_bytes.min(defaults.block_bytes)),
            ..defaults
        }
    }
}

/// Sends the image of tools and storage drivers (`getstage2`) once along the chain, for nodes that were booted
/// from the network. The image is compressed already.
fn send_tools(run: &mut Run<'_>, image: &[u8]) -> Result<()> {
    run.enter(&format!("receiving {STAGE2_STREAM}"))?;
    let bytes = image.len() as u64;
    let mut sink = run.open_stream(STAGE2_STREAM, "sending tools and drivers", Some(bytes))?;
    let block_bytes = run.settings().block_bytes(sink.block_len());
    let sent = image
        .chunks(block_bytes)
        .try_for_each(|block| sink.send(block.to_vec()));
    run.told(sent)?;
    run.finish_tools(sink)
}

/// Has every node plan and check. Nothing is written anywhere.
fn prepare(run: &mut Run<'_>, spec: &InstallSpec) -> Result<()> {
    run.enter("checking")?;
    run.emit(&RunEvent::SessionStarted {
        session: format!("{}1", run.settings().session),
        what: "sending partitions, file systems and mounts".into(),
        expected_bytes: None,
    });
    let mut erasing = Erasing::default();
    for (node, payload) in run.prepare(spec.to_json()?)? {
        run.emit(&match NodePlan::decode(&payload.0) {
            Ok(plan) => {
                erasing.add(&node.name, &plan);
                RunEvent::NodePrepared { node, plan }
            }
            // The node has checked its own plan. If we cannot show that plan, this is no reason to leave the
            // node out.
            Err(error) => RunEvent::Warning {
                text: format!("{node}: {error}"),
            },
        });
    }
    run.emit(&RunEvent::Erasing { erasing });
    Ok(())
}

fn send_raw(run: &mut Run<'_>, partition: &RawSpec, stream: &StreamPlan) -> Result<()> {
    let path = &partition.golden.path;
    let device = File::open(path).with_context(|| format!("opening {path}"))?;
    let options = RawSendOptions {
        compress: run.settings().stream.compress,
        ..RawSendOptions::default()
    };
    let what = format!("sending {path} raw");
    let mut sink = run.open_stream(&stream.name, &what, Some(partition.bytes))?;
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
    run.finish_stream(sink, Some(golden))
}
