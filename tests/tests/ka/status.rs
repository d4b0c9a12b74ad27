//! `ka-status`: an operator with the server's key sees nodes and commands them; nobody else does.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ka_tests::lab::Lab;
use ka_tests::netns::{GOLDEN_ADDRESS, node_address};
use ka_tests::process::Ended;
use ka_transport::{OperatorConnection, ServerKey, join_file};

use crate::kit::{Waiting, expect_same_file, finish, other_server, payload, status_program};

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
    // The end by a signal is reported as a shell does.
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
    let code = join_file::read(waiting.server.join_file())?;
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
    ended
        .expect(0)?
        .says(&format!("{node}> offline since "))?
        .says("(connection closed)")?;
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
    // This is another key, with a run that is consistent in itself.
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

#[test]
fn output_that_a_full_disk_does_not_take_is_an_error_and_a_closed_pipe_is_none() -> Result<()> {
    let waiting = Waiting::new("status-full", &[])?;
    let node = node_addr(&waiting.lab)?;
    let run = |command: &str, line: &str| -> Result<Ended> {
        let args = [node.as_str(), "exec", command];
        let program = waiting.status(&waiting.state(), &args)?;
        program.wrapped(&["bash", "-c", line, "bash"]).finish()
    };
    let full = run("echo lost", "\"$@\" > /dev/full")?;
    full.expect(255)?.says(&format!(
        "error: {node}: writing the command's output to standard output: "
    ))?;
    ensure!(full.stderr.lines().count() == 1, "{}", full.stderr);
    run("echo lost >&2", "\"$@\" 2> /dev/full")?.expect(255)?;
    let closed = run("yes", "\"$@\" | true; exit ${PIPESTATUS[0]}")?;
    closed.expect(141)?;
    ensure!(closed.all().is_empty(), "{}", closed.all());
    // The log of a node, too.
    let args = [node.as_str()];
    let tail = waiting.status(&waiting.state(), &args)?;
    tail.wrapped(&["bash", "-c", "\"$@\" > /dev/full", "bash"])
        .finish()?
        .expect(1)?
        .says("error: writing to standard output: ")
        .map(drop)
}

#[test]
fn the_list_of_nodes_has_the_step_the_part_written_and_the_rate_of_each() -> Result<()> {
    let lab = Lab::new("status-list", 2, None)?;
    let source = payload(&lab, 40_000_000)?.display().to_string();
    let go = lab.scratch().path().join("go");
    let server = lab.server(&["-n", "2", "--input", &source])?;
    let slowly = format!(
        "head -c 20000000 >/dev/null; while [ ! -e {} ]; do sleep 0.1; done; cat >/dev/null",
        go.display()
    );
    let nodes = [2, 1].map(|number| lab.client(number, &server, &["-e", &slowly]));
    let nodes = nodes.into_iter().collect::<Result<Vec<_>>>()?;
    // The columns are two blanks apart.
    let listed = || -> Result<Vec<Vec<String>>> {
        let program = status_program(&lab, &lab.server_state())?;
        let ended = program.args(["--via", GOLDEN_ADDRESS]).finish()?;
        ended.expect(0)?;
        let columns = |line: &str| {
            line.split("  ")
                .map(str::trim)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let lines = ended.stdout.lines().map(columns);
        Ok(lines
            .map(|line| line.into_iter().filter(|cell| !cell.is_empty()).collect())
            .collect())
    };
    let percent = |line: &Vec<String>| line.get(2).and_then(|cell| cell.parse::<u32>().ok());
    let begun = Instant::now();
    let rows = loop {
        let rows = listed()?;
        if rows.len() == 2
            && rows
                .iter()
                .all(|row| percent(row).is_some_and(|percent| percent >= 49))
        {
            break rows;
        }
        ensure!(begun.elapsed() < Duration::from_secs(30), "{rows:#?}");
        std::thread::sleep(Duration::from_millis(300));
    };
    for (row, number) in rows.iter().zip(1..) {
        let [name, step, percent, mib, rate, since, addr, mac] = &row[..] else {
            anyhow::bail!("{row:?}");
        };
        ensure!(
            *name == format!("n{number}") && *addr == node_address(number),
            "{row:?}"
        );
        ensure!(
            step == "feeding the command" && mac.matches(':').count() == 5,
            "{row:?}"
        );
        ensure!((40..=60).contains(&percent.parse::<u32>()?), "{row:?}");
        ensure!(
            (18.0..22.0).contains(&mib.parse::<f64>()?) && rate.parse::<f64>()? >= 0.0,
            "{row:?}"
        );
        ensure!(since.starts_with("0:"), "{row:?}");
    }
    std::fs::write(&go, "")?;
    finish(server, nodes)?.expect_success()
}

#[test]
fn on_the_servers_machine_a_node_is_called_by_its_name_and_lines_of_several_have_it_in_front() -> Result<()> {
    let waiting = Waiting::new("status-name", &[])?;
    let status = |args: &[&str]| waiting.status(&waiting.state(), args)?.finish();
    let one = status(&["n1", "exec", "hostname"])?;
    one.expect(0)?;
    ensure!(one.stdout == "n1\n", "{one:?}");
    let node = node_addr(&waiting.lab)?;
    let two = status(&[
        &format!("{node},{node}"),
        "exec",
        "printf 'one\\ntwo'; echo wrong >&2; exit 3",
    ])?;
    two.expect(3)?;
    let mut lines: Vec<&str> = two.stdout.lines().collect();
    lines.sort_unstable();
    let expected = ["one", "one", "two", "two"].map(|line| format!("{node}> {line}"));
    ensure!(lines == expected, "{}", two.stdout);
    ensure!(
        two.stderr == format!("{node}> wrong\n").repeat(2),
        "{}",
        two.stderr
    );
    status(&["n1", "uptime"])?
        .expect(2)?
        .says("did you mean ka-status n1 exec uptime?")
        .map(drop)
}
