//! Cut-off operators: a `ka-status` that ends takes its command on the node along, a node that ends takes an
//! operator's command along, and a terminal stays as it was.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use ka_tests::netns::{GOLDEN_ADDRESS, node_address};
use ka_tests::process::{Program, Running};
use nix::sys::signal::Signal;

use super::{ON_A_TERMINAL, ended_in_order, expect_gone, is_gone};
use crate::kit::Waiting;

fn waiting(label: &str) -> Result<Waiting> {
    Waiting::new(label, &["--name", "n1", "--retries", "1"])
}

fn status(waiting: &Waiting, args: &[&str]) -> Result<Program> {
    waiting.status(&waiting.state(), args)
}

/// Begins a command with children that lasts, through `way`; returns the program that began it, and the
/// processes.
fn begin(waiting: &Waiting, way: &[&str], number: usize) -> Result<(Running, Vec<u32>)> {
    let mark = waiting.lab.scratch().path().join(format!("pids{number}"));
    let text = mark.display();
    let command = format!(
        "sleep 500 & echo $! > {text}.new; sh -c 'echo $$ >> {text}.new; mv {text}.new {text}; sleep 501; true'; true"
    );
    let mut status = status(waiting, way)?.args(["exec", &command]).spawn()?;
    status.wait_until("the command ran", |_| Ok(mark.is_file()))?;
    let pids = fs::read_to_string(&mark)?;
    let processes = pids.lines().map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    ensure!(
        processes.len() == 2 && !processes.iter().any(|pid| is_gone(*pid)),
        "{pids}"
    );
    Ok((status, processes))
}

#[test]
fn an_operator_who_is_cut_off_takes_the_command_and_its_children_along() -> Result<()> {
    let mut waiting = waiting("cutexec")?;
    let direct = node_address(1);
    let ways: [&[&str]; 2] = [&[&direct], &["--via", GOLDEN_ADDRESS, "n1"]];
    let cuts = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .zip(ways.into_iter().cycle());
    for (number, (signal, way)) in cuts.chain([(Signal::SIGINT, ways[1])]).enumerate() {
        let (mut status, processes) = begin(&waiting, way, number)?;
        status.signal(signal)?;
        let ended = status.wait()?;
        ensure!(
            ended.signal == Some(signal as i32),
            "{way:?}: {}: {}",
            ended.how(),
            ended.all()
        );
        ensure!(ended.all().is_empty(), "{}", ended.all());
        expect_gone(&processes)?;
        ensure!(!waiting.node.has_ended()?, "the node ended, too");
    }
    Ok(())
}

#[test]
fn a_node_that_is_cut_off_takes_an_operators_command_along() -> Result<()> {
    let direct = node_address(1);
    for (number, signal) in [Signal::SIGTERM, Signal::SIGINT].into_iter().enumerate() {
        let mut waiting = waiting(&format!("cutnode{number}"))?;
        let (status, processes) = begin(&waiting, &[&direct], number)?;
        waiting.node.signal(signal)?;
        let node = ended_in_order(waiting.node)?;
        expect_gone(&processes).with_context(|| node.all())?;
        let told = status.wait()?;
        told.expect(255)?.says("whether the command ended is not known")?;
        ensure!(told.stderr.lines().count() == 1, "{}", told.stderr);
        waiting.server.run.signal(Signal::SIGTERM)?;
        ended_in_order(waiting.server.run)?;
    }
    Ok(())
}

/// No program of ours changes a terminal's mode; a screen that is cut off must not begin to.
#[test]
fn a_screen_that_is_cut_off_leaves_its_terminal_as_it_was() -> Result<()> {
    let waiting = waiting("cutscreen")?;
    let script = waiting.lab.scratch().path().join("screen");
    fs::write(
        &script,
        "stty -g\ntimeout --foreground -s INT 2 \"$@\"\nstty -g\n",
    )?;
    let program = status(&waiting, &[&node_address(1)])?;
    let program = program.wrapped(&["sh", &script.display().to_string()]);
    let ended = program.wrapped(&ON_A_TERMINAL).finish()?;
    let modes: Vec<_> = ended
        .stdout
        .lines()
        .filter(|line| line.matches(':').count() > 10)
        .collect();
    ensure!(modes.len() == 2 && modes[0] == modes[1], "{}", ended.all());
    ensure!(
        ended.stdout.contains("n1 online") && !ended.stdout.contains('\x1b'),
        "{}",
        ended.all()
    );
    Ok(())
}
