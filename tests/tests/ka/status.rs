//! `ka-status`: who holds the server's key sees nodes and commands them; nobody else.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use ka_tests::lab::Lab;
use ka_tests::netns::GOLDEN_ADDRESS;
use ka_transport::{JoinCode, OperatorConnection, ServerKey};

use crate::kit::{Waiting, expect_same_file, finish, other_server, payload};

fn node_addr(lab: &Lab) -> Result<String> {
    let shown = lab.network().node(1).ip("-4 -o addr show dev eth0")?;
    let addr = shown
        .split_whitespace()
        .find_map(|word| word.split_once('/').filter(|(addr, _)| addr.contains('.')));
    Ok(addr.map(|(addr, _)| addr.to_owned()).unwrap_or_default())
}

#[test]
fn a_command_runs_on_the_node_with_its_output_and_its_code() -> Result<()> {
    let waiting = Waiting::new("status-exec", &[])?;
    let node = node_addr(&waiting.lab)?;
    let command = "hostname; echo complaint >&2; exit 7";
    let ended = waiting
        .status(&waiting.state(), &[&node, "exec", command])?
        .finish()?;
    ended.expect(7)?;
    ensure!(
        ended.stdout == "n1\n" && ended.stderr == "complaint\n",
        "{ended:?}"
    );
    // What a signal ends is told as a shell tells it.
    let killed = waiting
        .status(&waiting.state(), &[&node, "exec", "kill -9 $$"])?
        .finish()?;
    killed.expect(137).map(drop)
}

#[test]
fn every_command_is_in_both_logs_with_who_asked_and_how_it_ended() -> Result<()> {
    let lab = Lab::new("status-logged", 1, None)?;
    let logs = lab.scratch().dir("logs")?;
    let args = [
        "-n",
        "2",
        "-e",
        "true",
        "--json",
        "--log-dir",
        &logs.display().to_string(),
    ];
    let server = lab.server(&args)?;
    let node_log = logs.join("ka-client-n1.log");
    let args = ["-e", "cat", "--log-dir", &logs.display().to_string()];
    let mut node = lab.client(1, &server, &args)?;
    node.wait_for("joined session")?;
    let mut waiting = Waiting { lab, server, node };
    let target = node_addr(&waiting.lab)?;
    let command = "true\n[00:00] forged; exit 7";
    let status = waiting.status(&waiting.state(), &[&target, "exec", command])?;
    status.finish()?.expect(7)?;
    let line = r#": exec "true\n[00:00] forged; exit 7""#;
    let end = format!("{line} ended with 7");
    waiting.server.run.wait_for(r#""exit_code":7"#)?;
    let events: Vec<serde_json::Value> = waiting
        .server
        .run
        .said()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|event: &serde_json::Value| event["event"] == "operator-exec")
        .collect();
    ensure!(events.len() == 2, "{events:?}");
    for (event, code) in events.iter().zip([None, Some(7)]) {
        ensure!(
            event["command"] == command && event["exit_code"].as_u64() == code,
            "{event}"
        );
        ensure!(event["node"]["addr"] == target.as_str(), "{event}");
        let from = event["from"].as_str().unwrap_or_default();
        ensure!(from.starts_with(&format!("{GOLDEN_ADDRESS}:")), "{event}");
    }
    let mut found = std::fs::read_dir(&logs)?
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    let run_dir = found.find(|path| path.is_dir()).context("no log of the run")?;
    for path in [run_dir.join("run.log"), node_log] {
        let text = std::fs::read_to_string(&path)?;
        let said = |what: &str| text.lines().filter(|line| line.ends_with(what)).count();
        ensure!(said(line) == 1 && said(&end) == 1, "{}:\n{text}", path.display());
    }
    Ok(())
}

#[test]
fn a_command_that_prints_without_end_to_an_operator_who_does_not_read_holds_up_no_stream() -> Result<()> {
    let lab = Lab::new("status-flood", 1, None)?;
    let sent = payload(&lab, 20_000_000)?;
    let go = lab.scratch().path().join("go");
    let feed = format!(
        "until [ -e {0} ]; do sleep 0.1; done; cat {1}",
        go.display(),
        sent.display()
    );
    let server = lab.server(&["-n", "1", "-e", &feed])?;
    let got = lab.scratch().path().join("got");
    let node = lab.client(1, &server, &["--output", &got.display().to_string()])?;
    let mut waiting = Waiting { lab, server, node };
    waiting.node.wait_for("joined session")?;
    let node = node_addr(&waiting.lab)?;
    let code = JoinCode::read_file(waiting.server.join_file())?;
    let key = ServerKey::load_or_create(&waiting.state())?;
    let addr = format!("{node}:12345").parse()?;
    let mut operators = waiting.lab.network().golden().enter(|| {
        (0..4)
            .map(|_| OperatorConnection::connect(addr, &key, &code))
            .collect::<Result<Vec<_>, _>>()
    })??;
    for operator in &mut operators {
        operator.exec("exec yes flood")?;
    }
    std::fs::write(&go, "")?;
    finish(waiting.server, vec![waiting.node])?.expect_success()?;
    expect_same_file(&sent, &got)
}

#[test]
fn the_log_is_shown_line_by_line_and_typed_commands_run() -> Result<()> {
    let waiting = Waiting::new("status-tail", &[])?;
    let node = node_addr(&waiting.lab)?;
    let mut screen = waiting
        .status(&waiting.state(), &[&node])?
        .input("exec echo typed by hand\nnonsense\n")
        .spawn()?;
    for expected in [
        format!("{node}> n1 online\n"),
        format!("{node}> ["),
        "joined session".to_owned(),
        format!("{node}> typed by hand\n"),
        "type exec COMMAND".to_owned(),
    ] {
        screen.wait_for(&expected)?;
    }
    waiting.node.kill_alone()?;
    let ended = screen.wait()?;
    ended.expect(0)?.says(&format!("{node}> offline"))?;
    for line in ended.stdout.lines() {
        ensure!(line.starts_with(&format!("{node}> ")), "{line:?}");
    }
    Ok(())
}

#[test]
fn an_operator_who_leaves_takes_the_command_along() -> Result<()> {
    let waiting = Waiting::new("status-leave", &[])?;
    let node = node_addr(&waiting.lab)?;
    let mark = waiting.lab.scratch().path().join("pid");
    let command = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 100", mark.display());
    let mut running = waiting
        .status(&waiting.state(), &[&node, "exec", &command])?
        .spawn()?;
    running.wait_until("the command ran", |_| Ok(mark.is_file()))?;
    let pid = std::fs::read_to_string(&mark)?;
    running.kill_alone()?;
    let command = PathBuf::from(format!("/proc/{}", pid.trim()));
    let mut node = waiting.node;
    node.wait_until("the command was ended", |_| Ok(!command.exists()))
}

#[test]
fn without_the_servers_key_there_is_no_way_in() -> Result<()> {
    let waiting = Waiting::new("status-stranger", &[])?;
    let node = node_addr(&waiting.lab)?;
    // A key of one's own, with a run of its own that is consistent in itself.
    let other = waiting.lab.scratch().path().join("other-state");
    let _stranger = other_server(&waiting.lab, &other)?;
    let mark = waiting.lab.scratch().path().join("touched");
    let command = format!("touch {}", mark.display());
    let refused = waiting.status(&other, &[&node, "exec", &command])?.finish()?;
    refused.expect(255)?.says("another server")?;
    ensure!(!mark.exists(), "a stranger's command ran");
    // The right code with the wrong key is found out before anything is sent.
    let join = waiting.server.join_file().display().to_string();
    let mixed = waiting.status(&other, &["--join-file", &join, &node])?.finish()?;
    mixed.expect(1)?.says("is of another server than the key in")?;
    let empty = waiting.lab.scratch().dir("empty-state")?;
    let without = waiting.status(&empty, &[&node])?.finish()?;
    without.expect(1)?.says("run ka-status where ka-server runs")?;
    ensure!(without.all().lines().count() == 1, "{}", without.all());
    // Nothing listens on the golden node itself.
    let nobody = waiting
        .status(&waiting.state(), &["127.0.0.1:9", "exec", "true"])?
        .finish()?;
    nobody
        .expect(255)?
        .says("127.0.0.1:9: no node is listening there")
        .map(drop)
}
