//! `--approve`: no node joins before the operator has accepted the code that the node shows.

use anyhow::{Context as _, Result, ensure};
use ka_tests::binaries;
use ka_tests::lab::{Lab, Server};
use ka_tests::process::{Program, Running};

use crate::kit::finish;

struct Asking {
    lab: Lab,
    server: Server,
}

impl Asking {
    fn new(label: &str, nodes: usize) -> Result<Self> {
        let lab = Lab::new(label, nodes, None)?;
        let count = nodes.to_string();
        let server = lab.server(&["-n", &count, "--approve", "--json", "-e", "echo precious"])?;
        Ok(Self { lab, server })
    }

    fn approve(&self, args: &[&str]) -> Result<Program> {
        let state = self.lab.server_state();
        let program = Program::new(binaries::path("ka-server")?).args(["approve", "--state-dir"]);
        Ok(program.arg(state).args(args))
    }

    /// Starts a node that waits, and returns it with the code it shows.
    fn node(&self, number: usize) -> Result<(Running, String)> {
        let mut node = self.lab.client(number, &self.server, &["-e", "cat"])?;
        node.wait_for("its code is ")?;
        let said = node.said();
        let (_, rest) = said.split_once("its code is ").context("a code")?;
        Ok((node, rest.chars().take(9).collect()))
    }
}

#[test]
fn a_node_is_let_in_by_its_code_and_another_is_sent_away() -> Result<()> {
    let mut asking = Asking::new("approve", 2)?;
    let (wanted, code) = asking.node(1)?;
    let (unwanted, other) = asking.node(2)?;
    ensure!(code != other, "two nodes show one code");
    // Both sides show the same code; a node that waits has not joined.
    let listed = asking.approve(&[])?.run()?;
    let line = |code: &str| listed.lines().find(|line| line.contains(code)).map(str::to_owned);
    let (yes, no) = (
        line(&code).context("the first code")?,
        line(&other).context("the other code")?,
    );
    ensure!(
        yes.contains("n1") && yes.contains("10.77.0.102") && yes.matches(':').count() >= 5,
        "{yes}"
    );
    ensure!(no.contains("n2"), "{no}");
    asking.server.run.wait_for("\"event\":\"approval-wanted\"")?;
    let said = asking.server.run.said();
    ensure!(said.contains(&code) && !said.contains("node-joined"), "{said}");

    let number = |line: &str| {
        line.split_whitespace()
            .next()
            .map(str::to_owned)
            .unwrap_or_default()
    };
    asking
        .approve(&["--deny", &number(&no)])?
        .finish()?
        .expect(0)?
        .says("is sent away")?;
    let refused = unwanted.wait()?;
    refused.expect(1)?.says("the operator said no")?;
    ensure!(!refused.all().contains("precious"), "{}", refused.all());
    asking
        .approve(&["99"])?
        .finish()?
        .expect(1)?
        .says("nobody waits under number 99")?;
    asking
        .approve(&[&number(&yes)])?
        .finish()?
        .expect(0)?
        .says("is let in")?;
    // This accepts all other nodes, now and later.
    asking.approve(&["--all"])?.finish()?.expect(0)?;
    let late = asking.lab.client(2, &asking.server, &["-e", "cat"])?;
    let outcome = finish(asking.server, vec![wanted, late])?;
    outcome.expect_success()?;
    for node in &outcome.nodes {
        node.says("precious")?;
    }
    let socket = asking
        .lab
        .scratch()
        .path()
        .join("server-state/approve-kainstall.sock");
    ensure!(!socket.exists(), "the run has left {}", socket.display());
    Ok(())
}

#[test]
fn a_node_that_gives_up_waiting_is_withdrawn_and_ctrl_c_works_on_both_sides() -> Result<()> {
    let mut asking = Asking::new("approve-leave", 1)?;
    let (mut node, code) = asking.node(1)?;
    ensure!(
        asking.approve(&[])?.run()?.contains(&code),
        "the question is not open"
    );
    node.signal(nix::sys::signal::Signal::SIGINT)?;
    node.wait()?.expect(1)?;
    asking
        .server
        .run
        .wait_for("went away while the operator was asked")?;
    ensure!(
        asking.approve(&[])?.run()? == "nobody waits\n",
        "a withdrawn question is still open"
    );
    let (waiting, _) = asking.node(1)?;
    asking.server.run.signal(nix::sys::signal::Signal::SIGTERM)?;
    asking.server.run.wait()?.expect(1)?;
    let told = waiting.kill_alone()?;
    ensure!(!told.all().contains("precious"), "{}", told.all());
    Ok(())
}

#[test]
fn without_such_a_run_approve_says_so() -> Result<()> {
    let lab = Lab::new("approve-none", 1, None)?;
    let program = Program::new(binaries::path("ka-server")?).args(["approve", "--state-dir"]);
    let ended = program.arg(lab.scratch().path()).finish()?;
    ended.expect(1)?.says("no run with --approve answers")?;
    ensure!(ended.all().lines().count() == 1, "{}", ended.all());
    Ok(())
}
