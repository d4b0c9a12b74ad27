//! Nodes ended by kill -9 and pulled plugs: the run ends, names the missing ones, and no half disk looks
//! whole.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ka_tests::disk::Disk;
use ka_tests::lab::{RUN_LIMIT, Server};
use ka_tests::process::Running;

use crate::kit::Kit;

/// Longest time from a node's end to the server's: heartbeats, deadlines, the rest of the stream. A longer
/// one is a hang.
const LIMIT: Duration = Duration::from_secs(90);

struct Run {
    server: Server,
    nodes: Vec<Running>,
    disks: Vec<Disk>,
}

fn three(kit: &Kit) -> Result<Run> {
    let disks = (1..=3)
        .map(|number| kit.same_disk(&format!("n{number}")))
        .collect::<Result<Vec<_>>>()?;
    // One round and one try: this is the end when no node comes back.
    let server = kit.server(&["-n", "3", "--rounds", "1"])?;
    let nodes = disks
        .iter()
        .enumerate()
        .map(|(index, disk)| kit.node(index + 1, &server, disk, &["--retries", "1"]));
    let nodes = nodes.collect::<Result<Vec<_>>>()?;
    Ok(Run { server, nodes, disks })
}

/// Kills node `victim` (from 1) once it prints `when`; the run must end in time with a report that names it.
fn kill_when(when: &str, victim: usize) -> Result<()> {
    let kit = Kit::slow(&format!("kill{victim}"), 3)?;
    let mut run = three(&kit)?;
    run.nodes[victim - 1].wait_for(when)?;
    run.nodes.remove(victim - 1).kill_alone()?;
    let killed = Instant::now();
    let ended = run.server.run.wait()?;
    ensure!(
        killed.elapsed() < LIMIT,
        "the server took {} s to end",
        killed.elapsed().as_secs()
    );
    ensure!(
        matches!(ended.code, Some(1 | 3)),
        "{}: {}",
        ended.how(),
        ended.all()
    );
    let last: Vec<&str> = ended.stderr.lines().chain(ended.stdout.lines()).collect();
    ensure!(
        last.iter().any(|line| line.contains(&format!("n{victim}"))),
        "n{victim} is not named:\n{}",
        ended.all()
    );
    let mut done = 0;
    for (node, number) in run
        .nodes
        .into_iter()
        .zip((1..=3).filter(|number| *number != victim))
    {
        let node = node.wait()?;
        ensure!(
            matches!(node.code, Some(0 | 1 | 3)),
            "node {number}: {}: {}",
            node.how(),
            node.all()
        );
        if node.code == Some(0) {
            done += 1;
            kit.expect_clone(&run.disks[number - 1])?;
        } else {
            ensure!(
                !run.disks[number - 1].looks_finished()?,
                "node {number}'s half disk looks finished"
            );
        }
    }
    ensure!(
        ended.code == Some(if done > 0 { 3 } else { 1 }) || ended.code == Some(3),
        "{}",
        ended.all()
    );
    ensure!(
        !run.disks[victim - 1].looks_finished()?,
        "the killed node's disk looks finished"
    );
    Ok(())
}

#[test]
fn a_node_killed_while_it_makes_file_systems_is_named_and_nobody_hangs() -> Result<()> {
    kill_when("ormatting", 2)
}

#[test]
fn the_first_node_killed_while_it_restores_is_named_and_nobody_hangs() -> Result<()> {
    kill_when("estoring", 1)
}

#[test]
fn the_middle_node_killed_while_it_restores_is_named_and_nobody_hangs() -> Result<()> {
    kill_when("estoring", 2)
}

#[test]
fn the_last_node_killed_while_it_restores_is_named_and_nobody_hangs() -> Result<()> {
    kill_when("estoring", 3)
}

#[test]
fn a_node_killed_while_it_waits_for_the_others_is_not_waited_for() -> Result<()> {
    let kit = Kit::small("killwait", 3)?;
    let mut run = three_but_one(&kit)?;
    run.nodes[0].wait_for("joined")?;
    run.nodes.remove(0).kill_alone()?;
    thread::sleep(Duration::from_secs(1));
    let again = kit.node(1, &run.server, &run.disks[0], &[])?;
    let last = kit.node(3, &run.server, &run.disks[2], &[])?;
    let ended = run.server.run.wait()?;
    for node in [again, last].into_iter().chain(run.nodes) {
        node.wait()?.expect(0)?;
    }
    ended.expect(0).map(drop)
}

fn three_but_one(kit: &Kit) -> Result<Run> {
    let disks = (1..=3)
        .map(|number| kit.same_disk(&format!("n{number}")))
        .collect::<Result<Vec<_>>>()?;
    let server = kit.server(&["-n", "3"])?;
    let nodes = vec![
        kit.node(1, &server, &disks[0], &[])?,
        kit.node(2, &server, &disks[1], &[])?,
    ];
    Ok(Run { server, nodes, disks })
}

#[test]
fn a_node_whose_plug_is_pulled_is_noticed_and_named() -> Result<()> {
    let kit = Kit::slow("plug", 3)?;
    let mut run = three(&kit)?;
    run.nodes[1].wait_for("estoring")?;
    kit.lab.network().set_plugged(2, false)?;
    let pulled = Instant::now();
    let ended = run.server.run.wait()?;
    ensure!(
        pulled.elapsed() < RUN_LIMIT,
        "the server took {} s",
        pulled.elapsed().as_secs()
    );
    ensure!(
        matches!(ended.code, Some(1 | 3)),
        "{}: {}",
        ended.how(),
        ended.all()
    );
    ended.says("n2")?;
    for node in run.nodes {
        let node = node.wait()?;
        ensure!(node.code.is_some(), "{}", node.how());
    }
    ensure!(
        !run.disks[1].looks_finished()?,
        "the lost node's disk looks finished"
    );
    Ok(())
}

#[test]
fn when_the_server_is_killed_every_node_ends_with_an_error_and_no_disk_looks_finished() -> Result<()> {
    let kit = Kit::slow("killserver", 3)?;
    let mut run = three(&kit)?;
    for node in &mut run.nodes {
        node.wait_for("estoring")?;
    }
    run.server.run.kill_alone()?;
    let killed = Instant::now();
    for (index, node) in run.nodes.into_iter().enumerate() {
        let node = node.wait()?;
        node.expect(3)?.says("error:")?;
        ensure!(
            killed.elapsed() < LIMIT,
            "node {} took {} s to notice",
            index + 1,
            killed.elapsed().as_secs()
        );
        ensure!(
            !run.disks[index].looks_finished()?,
            "node {}'s half disk looks finished",
            index + 1
        );
        kit.lab.expect_unmounted(index + 1)?;
    }
    Ok(())
}

#[test]
fn a_disk_of_a_broken_run_can_be_cloned_to_again() -> Result<()> {
    let kit = Kit::slow("again", 1)?;
    let disk = kit.same_disk("n1")?;
    let server = kit.server(&["-n", "1", "--rounds", "1"])?;
    let mut node = kit.node(1, &server, &disk, &[])?;
    node.wait_for("estoring")?;
    thread::sleep(Duration::from_secs(1));
    node.kill_alone()?;
    let ended = server.run.wait()?;
    ensure!(matches!(ended.code, Some(1 | 3)), "{}", ended.all());
    kit.clone_to(&[&disk], &[])?.expect_success()?;
    kit.expect_clone(&disk)
}

#[test]
fn a_finished_disk_is_unbootable_as_soon_as_a_new_run_begins_on_it() -> Result<()> {
    let kit = Kit::slow("twice", 1)?;
    let disk = kit.same_disk("n1")?;
    disk.write_table("label: gpt\nsize=100MiB\n")?;
    disk.hide_partitions();
    let server = kit.server(&["-n", "1"])?;
    let mut node = kit.node(1, &server, &disk, &[])?;
    node.wait_for("estoring")?;
    ensure!(!disk.looks_finished()?, "the old table is still there");
    drop(node);
    drop(server);
    Ok(())
}
