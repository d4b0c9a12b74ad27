//! A run, from its options to its exit code: checks, the survey of the golden node, `--dry-run`, the images, the
//! start, and the stages.

use std::path::Path;

use anyhow::Result;
use ka_disk::spec::InstallSpec;
use ka_host::privileges::NetworkUse;
use ka_lldp::{Listener, Sockets};
use ka_proto::group::probe::Wanted;
use ka_proto::run::Offer;
use ka_proto::wire::Payload;
use ka_report::run::RunEvent;

use crate::boot::{self, Images};
use crate::cli::Options;
use crate::clone::CloneStages;
use crate::failure::{Failure, OrFail};
use crate::settings::{CloneJob, Input, Job, Settings};
use crate::still::Still;
use crate::{dry_run, generic, precheck, start, survey};

/// Performs the run that `options` ask for, and returns the exit code.
///
/// # Errors
/// [`Failure`] if it ends before there is a run.
pub(super) fn perform(options: &Options) -> Result<u8, Failure> {
    let (settings, warnings) = precheck::check(options)?;
    // The sockets need a capability that the run does without.
    let lldp = match settings.output.dry_run {
        true => Sockets::default(),
        false => Sockets::open(),
    };
    let network = NetworkUse {
        boots: settings.boot.pxe.is_some(),
        multicast: settings.stream.transport != Wanted::Chain,
    };
    ka_host::privileges::keep_for_golden(network).or_nothing_done()?;
    // The survey of the golden node takes a while, so these faults are found before it. They are reported
    // before it, too; a dry run shows them beside the plan.
    let here = precheck::faults(&settings.network, &settings.files, settings.boot.pxe.as_ref());
    let in_the_way: Vec<String> = here
        .lines()
        .map(|line| format!("a run would not start now: {line}"))
        .collect();
    if !settings.output.dry_run {
        here.check().or_nothing_done()?;
    }
    match &settings.job {
        Job::Clone(job) => clone(&settings, job, &[warnings, in_the_way].concat(), lldp),
        Job::Generic(input) => send(&settings, input, &in_the_way, lldp),
    }
}

/// Clones the golden node. `warnings` are for a dry run.
fn clone(settings: &Settings, job: &CloneJob, warnings: &[String], lldp: Sockets) -> Result<u8, Failure> {
    // The survey takes a while, in which the switch may tell the port.
    let lldp = Listener::start(lldp);
    ka_host::kernel::check().or_nothing_done()?;
    let root = &job.survey.root;
    let spec = survey::survey(job, settings)?;
    let largest = survey::largest_stream(&spec);
    precheck::check_surveyed(settings, root, &spec, largest).or_usage()?;
    if settings.output.dry_run {
        dry_run::of_clone(&spec, settings, warnings).or_nothing_done()?;
        return Ok(0);
    }
    let images = make_images(settings, root, &spec).or_nothing_done()?;
    let json = spec.to_json().map_err(anyhow::Error::from).or_nothing_done()?;
    let offer = Offer::Clone(Payload(json));
    let run = start::start(settings, images.stage1, offer, lldp).or_nothing_done()?;
    run.warn(images.notes);
    for text in images.details {
        run.emit(&RunEvent::Detail { text });
    }
    run.tell_spool(Some(largest));
    run.warn(spec.notes.clone());
    let stages = CloneStages {
        root,
        spec,
        stage2: images.stage2,
    };
    Ok(run.carry_out(|run| stages.run(run)))
}

/// Sends a stream of the operator's own. `warnings` are for a dry run.
fn send(settings: &Settings, input: &Input, warnings: &[String], lldp: Sockets) -> Result<u8, Failure> {
    let size = input.size();
    settings.check_spool(size).or_usage()?;
    if settings.output.dry_run {
        dry_run::of_generic(input, settings, warnings).or_nothing_done()?;
        return Ok(0);
    }
    let run = start::start(settings, None, Offer::Stream, Listener::start(lldp)).or_nothing_done()?;
    run.tell_spool(size);
    Ok(run.carry_out(|run| generic::run(run, input)))
}

/// Makes the images. Packing a golden system's modules and tools takes seconds, on a slow machine minutes.
fn make_images(settings: &Settings, root: &Path, spec: &InstallSpec) -> Result<Images> {
    let _still = settings.boot.pxe.is_some().then(|| {
        let what = format!("Making the boot images from {}", root.display());
        Still::doing(&what, settings.output.quiet)
    });
    boot::make(&settings.boot, root, spec)
}
