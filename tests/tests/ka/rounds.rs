//! Nodes that come late or come back, and a server that ends or is killed: the operator has nothing to do
//! about them.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use ka_tests::lab::Lab;
use nix::sys::signal::Signal;

use crate::kit::{Kit, expect_same_file, finish, payload};

#[test]
fn a_late_node_is_cloned_in_the_second_round_and_the_first_one_is_not_disturbed() -> Result<()> {
    let kit = Kit::slow("late", 2)?;
    let (early, late) = (kit.same_disk("n1")?, kit.same_disk("n2")?);
    let server = kit.server(&["-n", "1"])?;
    let mut first = kit.node(1, &server, &early, &[])?;
    first.wait_for("estoring")?;
    let mut second = kit.node(2, &server, &late, &[])?;
    second.wait_for("waits for round 2")?;
    let outcome = finish(server, vec![first, second])?;
    outcome.expect_success()?;
    let said = outcome.server.all();
    ensure!(!said.contains("FAILED") && !said.contains("refused"), "{said}");
    outcome.server.says("done in round 2")?.says("2 nodes done")?;
    kit.expect_clone(&early)?;
    kit.expect_clone(&late)
}

#[test]
fn a_node_that_is_killed_and_started_again_is_done_in_the_second_round() -> Result<()> {
    let kit = Kit::slow("back", 2)?;
    let disks = [kit.same_disk("n1")?, kit.same_disk("n2")?];
    let mut server = kit.server(&["-n", "2"])?;
    let first = kit.node(1, &server, &disks[0], &[])?;
    let mut second = kit.node(2, &server, &disks[1], &[])?;
    second.wait_for("estoring")?;
    second.kill_alone()?;
    server.run.wait_for("FAILED")?;
    let again = kit.node(2, &server, &disks[1], &[])?;
    let outcome = finish(server, vec![first, again])?;
    outcome.expect_success()?;
    let last = outcome
        .server
        .stdout
        .lines()
        .last()
        .unwrap_or_default()
        .to_owned();
    ensure!(last.starts_with("2 nodes done in "), "{last}");
    outcome.server.says("done in round 2")?;
    disks.iter().try_for_each(|disk| kit.expect_clone(disk))
}

#[test]
fn without_rounds_a_late_node_is_refused_at_once() -> Result<()> {
    let lab = Lab::new("oneround", 2, None)?;
    let server = lab.server(&["-n", "1", "--rounds", "1", "-e", "echo hello"])?;
    let mut first = lab.client(1, &server, &["-e", "echo began; sleep 4; cat"])?;
    first.wait_for("began")?;
    let late = lab.client(2, &server, &["-e", "cat"])?.wait()?;
    late.expect(1)?.says("the run has begun")?;
    finish(server, vec![first])?.expect_success()
}

#[test]
fn in_the_generic_mode_the_command_runs_again_for_those_that_were_late() -> Result<()> {
    let lab = Lab::new("genericround", 3, None)?;
    let source = payload(&lab, 5_000_000)?;
    let runs = lab.scratch().path().join("runs");
    let command = format!("echo >> {}; cat {}", runs.display(), source.display());
    let server = lab.server(&["-n", "1", "-e", &command])?;
    let sink = |number: usize| lab.scratch().path().join(format!("sink{number}"));
    let take = |number: usize, first: &str| format!("{first}cat > {}", sink(number).display());
    let mut nodes = vec![lab.client(1, &server, &["-e", &take(1, "echo began; sleep 5; ")])?];
    nodes[0].wait_for("began")?;
    for number in [2, 3] {
        let mut node = lab.client(number, &server, &["-e", &take(number, "")])?;
        node.wait_for("waits for round 2")?;
        nodes.push(node);
    }
    let outcome = finish(server, nodes)?;
    outcome.expect_success()?;
    outcome.server.says("round 1 is over; 2 nodes wait for round 2")?;
    (1..=3).try_for_each(|number| expect_same_file(&source, &sink(number)))?;
    ensure!(
        fs::read_to_string(&runs)?.lines().count() == 2,
        "once for each round"
    );
    Ok(())
}

#[test]
fn ctrl_c_on_the_server_ends_every_node_also_those_that_wait_and_leaves_nothing_behind() -> Result<()> {
    let kit = Kit::slow("ctrlc", 3)?;
    let disks = [kit.same_disk("n1")?, kit.same_disk("n2")?, kit.same_disk("n3")?];
    let mut server = kit.server(&["-n", "2"])?;
    let mut nodes = vec![
        kit.node(1, &server, &disks[0], &[])?,
        kit.node(2, &server, &disks[1], &[])?,
    ];
    for node in &mut nodes {
        node.wait_for("estoring")?;
    }
    let mut late = kit.node(3, &server, &disks[2], &[])?;
    late.wait_for("waits for round 2")?;
    nodes.push(late);
    server.run.signal(Signal::SIGINT)?;
    let outcome = finish(server, nodes)?;
    // Two disks are erased: the outcome is not "nothing done".
    ensure!(outcome.server.code == Some(3), "{}", outcome.server.all());
    let text = &outcome.server.stdout;
    let end = "disks erased, and nothing boots from them: n1, n2; run the same command again to clone them\n";
    ensure!(text.ends_with(end), "{text}");
    for (index, (node, disk)) in outcome.nodes.iter().zip(&disks).enumerate() {
        node.expect(if index == 2 { 1 } else { 3 })?;
        node.says("stopped by SIGINT")?;
        let text = node.all();
        ensure!(
            !text.contains("looks for its server again"),
            "it comes back:\n{text}"
        );
        kit.lab.expect_unmounted(index + 1)?;
        ensure!(
            disk.listed_partitions()? == 0,
            "n{} left partitions in the kernel",
            index + 1
        );
        ensure!(
            !disk.looks_finished()?,
            "n{}'s half disk looks finished",
            index + 1
        );
    }
    let joins = fs::read_dir(kit.lab.server_state())?.flatten();
    let kept: Vec<_> = joins.map(|entry| entry.file_name()).collect();
    let open = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.starts_with("run-") && name.ends_with(".json")
    };
    ensure!(!kept.iter().any(open), "the run is still open: {kept:?}");
    Ok(())
}

#[test]
fn a_killed_server_that_is_started_again_goes_on_with_those_that_are_not_done() -> Result<()> {
    let lab = Lab::new("restart", 3, Some(20_000_000))?;
    let source = payload(&lab, 10_000_000)?;
    let input = ["-n", "3", "--input", source.to_str().unwrap_or_default()];
    let mut server = lab.server(&input)?;
    let sink = |number: usize| lab.scratch().path().join(format!("sink{number}"));
    let take = |number: usize| format!("echo began; cat > {}", sink(number).display());
    let mut nodes = (1..=3)
        .map(|number| lab.client(number, &server, &["-e", &take(number)]))
        .collect::<Result<Vec<_>>>()?;
    for node in &mut nodes {
        node.wait_for("began")?;
    }
    let code = fs::read(server.join_file())?;
    thread::sleep(Duration::from_secs(1));
    server.run.signal(Signal::SIGKILL)?;
    drop(server);
    let server = lab.server(&input)?;
    ensure!(
        fs::read(server.join_file())? == code,
        "the join code is another one"
    );
    let outcome = finish(server, nodes)?;
    outcome.expect_success()?;
    outcome.nodes[0].says("looks for its server again")?;
    outcome.server.says("was not ended")?;
    (1..=3).try_for_each(|number| expect_same_file(&source, &sink(number)))
}

#[test]
fn a_server_started_again_knows_who_is_done_and_another_job_or_fresh_begins_anew() -> Result<()> {
    let lab = Lab::new("known", 3, None)?;
    let source = payload(&lab, 2_000_000)?;
    let input = ["-n", "2", "--input", source.to_str().unwrap_or_default()];
    let runs = lab.scratch().path().join("runs");
    let count = format!("echo >> {}; cat > /dev/null", runs.display());
    // Round 1 has one node, which is done; the server dies in round 2.
    let mut server = lab.server(&[&input[..], &["--wait", "3"]].concat())?;
    let mut first = lab.client(1, &server, &["-e", &format!("{count}; sleep 4")])?;
    first.wait_until("it runs", |_| Ok(runs.exists()))?;
    let mut second = lab.client(2, &server, &["--retries", "8", "-e", "cat > /dev/null; sleep 5"])?;
    second.wait_for("waits for round 2")?;
    first.wait()?.expect(0)?;
    second.wait_for("joined session")?;
    let code = fs::read(server.join_file())?;
    server.run.signal(Signal::SIGKILL)?;
    drop(server);
    let server = lab.server(&input)?;
    ensure!(
        fs::read(server.join_file())? == code,
        "the join code is another one"
    );
    let again = lab.client(1, &server, &["-e", &count])?.wait()?;
    again.expect(0)?.says("this node is done")?;
    finish(server, vec![second])?.expect_taken_up()?;
    ensure!(
        fs::read_to_string(&runs)?.lines().count() == 1,
        "a node that was done was sent the stream again"
    );
    // That run is complete: the next one is another one, with a code of its own.
    let mut server = lab.server(&input)?;
    ensure!(
        fs::read(server.join_file())? != code,
        "the code of a complete run is still good"
    );
    let code = fs::read(server.join_file())?;
    server.run.signal(Signal::SIGKILL)?;
    drop(server);
    let mut server = lab.server(&["-n", "2", "-e", "echo another job"])?;
    ensure!(
        fs::read(server.join_file())? != code,
        "another job takes up the run"
    );
    server.run.wait_for("another job under this name")?;
    let code = fs::read(server.join_file())?;
    server.run.signal(Signal::SIGKILL)?;
    drop(server);
    let server = lab.server(&["-n", "2", "-e", "echo another job", "--fresh"])?;
    ensure!(fs::read(server.join_file())? != code, "--fresh takes up the run");
    Ok(())
}
