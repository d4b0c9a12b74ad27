//! `-e`: any stream to any consumer, no disks.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use ka_tests::lab::Lab;
use ka_tests::process::Program;

use crate::kit::{expect_same_file, finish, payload};

fn relay_to(nodes: usize, bytes: usize) -> Result<()> {
    let lab = Lab::new("generic", nodes, None)?;
    let source = payload(&lab, bytes)?;
    let command = format!("cat {}", source.display());
    let server = lab.server(&["-n", &nodes.to_string(), "-e", &command])?;
    let sinks: Vec<_> = (1..=nodes)
        .map(|number| lab.scratch().path().join(format!("sink{number}")))
        .collect();
    let mut running = Vec::new();
    for (index, sink) in sinks.iter().enumerate() {
        running.push(lab.client(index + 1, &server, &["-e", &format!("cat > {}", sink.display())])?);
    }
    finish(server, running)?.expect_success()?;
    sinks.iter().try_for_each(|sink| expect_same_file(&source, sink))
}

#[test]
fn one_node_gets_every_byte() -> Result<()> {
    relay_to(1, 20_000_003)
}

#[test]
fn five_nodes_get_every_byte() -> Result<()> {
    relay_to(5, 30_000_001)
}

#[test]
fn sixteen_nodes_get_every_byte() -> Result<()> {
    relay_to(16, 5_000_000)
}

#[test]
fn an_empty_stream_is_a_stream() -> Result<()> {
    relay_to(2, 0)
}

#[test]
fn a_file_goes_to_a_file_without_a_command() -> Result<()> {
    let lab = Lab::new("input", 2, None)?;
    let source = payload(&lab, 3_000_000)?;
    let server = lab.server(&["-n", "2", "--input", &source.display().to_string()])?;
    let sinks = [1, 2].map(|number| lab.scratch().path().join(format!("out{number}")));
    let nodes = [
        lab.client(1, &server, &["--output", &sinks[0].display().to_string()])?,
        lab.client(2, &server, &["--output", &sinks[1].display().to_string()])?,
    ];
    finish(server, nodes.into())?.expect_success()?;
    sinks.iter().try_for_each(|sink| expect_same_file(&source, sink))
}

#[test]
fn a_failing_command_of_the_server_fails_every_node() -> Result<()> {
    let lab = Lab::new("badsource", 2, None)?;
    let server = lab.server(&["-n", "2", "-e", "head -c 100000 /dev/zero; exit 7"])?;
    let nodes = vec![
        lab.client(1, &server, &["-e", "cat >/dev/null"])?,
        lab.client(2, &server, &["-e", "cat >/dev/null"])?,
    ];
    let outcome = finish(server, nodes)?;
    assert_ne!(outcome.server.code, Some(0), "{}", outcome.server.all());
    outcome.server.says("7")?;
    for node in &outcome.nodes {
        assert_ne!(
            node.code,
            Some(0),
            "a stream that broke off must not pass for whole: {}",
            node.all()
        );
    }
    Ok(())
}

#[test]
fn a_failing_consumer_is_named_and_the_others_finish() -> Result<()> {
    let lab = Lab::new("badsink", 3, None)?;
    let source = payload(&lab, 10_000_000)?;
    let server = lab.server(&["-n", "3", "-e", &format!("cat {}", source.display())])?;
    let good = |number: usize| lab.scratch().path().join(format!("good{number}"));
    let nodes = vec![
        lab.client(1, &server, &["-e", &format!("cat > {}", good(1).display())])?,
        lab.client(2, &server, &["-e", "head -c 1000 >/dev/null; exit 9"])?,
        lab.client(3, &server, &["-e", &format!("cat > {}", good(3).display())])?,
    ];
    let outcome = finish(server, nodes)?;
    outcome.server.expect(3)?.says("n2")?;
    outcome.nodes[1].expect(3)?.says("9")?;
    for number in [1, 3] {
        outcome.nodes[number - 1].expect(0)?;
        expect_same_file(&source, &good(number))?;
    }
    Ok(())
}

#[test]
fn a_slow_consumer_holds_the_stream_back_without_losing_a_byte() -> Result<()> {
    let lab = Lab::new("slowsink", 2, None)?;
    let source = payload(&lab, 40_000_000)?;
    let server = lab.server(&[
        "-n",
        "2",
        "--buffer",
        "8M",
        "--input",
        &source.display().to_string(),
    ])?;
    let slow = lab.scratch().path().join("slow");
    let fast = lab.scratch().path().join("fast");
    let nodes = vec![
        lab.client(
            1,
            &server,
            &[
                "--buffer",
                "8M",
                "-e",
                &format!("sleep 2; cat > {}", slow.display()),
            ],
        )?,
        lab.client(
            2,
            &server,
            &["--buffer", "8M", "-e", &format!("cat > {}", fast.display())],
        )?,
    ];
    finish(server, nodes)?.expect_success()?;
    expect_same_file(&source, &slow)?;
    expect_same_file(&source, &fast)
}

#[test]
fn a_client_with_go_starts_the_run_with_whoever_is_there() -> Result<()> {
    let lab = Lab::new("go", 2, None)?;
    let server = lab.server(&["-n", "5", "-e", "echo hello"])?;
    let first = lab.client(1, &server, &["-e", "cat"])?;
    std::thread::sleep(Duration::from_secs(2));
    let second = lab.client(2, &server, &["-g", "-e", "cat"])?;
    let outcome = finish(server, vec![first, second])?;
    outcome.expect_success()?;
    outcome.nodes[0].says("hello")?;
    outcome.nodes[1].says("hello").map(drop)
}

#[test]
fn wait_starts_with_whoever_is_there_after_some_seconds() -> Result<()> {
    let lab = Lab::new("wait", 1, None)?;
    let server = lab.server(&["-n", "5", "--wait", "3", "-e", "echo hello"])?;
    let node = lab.client(1, &server, &["-e", "cat"])?;
    let outcome = finish(server, vec![node])?;
    outcome.expect_success()?;
    outcome.nodes[0].says("hello").map(drop)
}

#[test]
fn nodes_are_released_one_after_another() -> Result<()> {
    let lab = Lab::new("release", 3, None)?;
    let server = lab.server(&["-n", "3", "-d", "15", "-e", "echo hello"])?;
    let nodes = (1..=3)
        .map(|number| lab.client(number, &server, &["-w", "-e", "cat"]))
        .collect::<Result<Vec<_>>>()?;
    let outcome = finish(server, nodes)?;
    outcome.expect_success()?;
    let mut took: Vec<_> = outcome.nodes.iter().map(|node| node.took).collect();
    took.sort();
    assert!(
        took[2] - took[0] > Duration::from_millis(2500),
        "1.5 s apart each: {took:?}"
    );
    Ok(())
}

#[test]
fn several_nodes_on_one_machine_each_with_its_own_address() -> Result<()> {
    let lab = Lab::new("loopback", 1, None)?;
    let source = payload(&lab, 4_000_000)?;
    let server = lab.server(&[
        "-n",
        "3",
        "--listen",
        "127.0.0.1",
        "--input",
        &source.display().to_string(),
    ])?;
    let mut nodes = Vec::new();
    for number in 2..=4 {
        let sink = lab.scratch().path().join(format!("local{number}"));
        let address = format!("127.0.0.{number}");
        let program = lab.client_program(1, &server)?.inside(lab.network().golden());
        let program = program.args([
            "-h",
            "127.0.0.1",
            "--listen",
            &address,
            "--name",
            &format!("local{number}"),
        ]);
        nodes.push(program.arg("--output").arg(sink).spawn()?);
    }
    finish(server, nodes)?.expect_success()?;
    for number in 2..=4 {
        expect_same_file(&source, &lab.scratch().path().join(format!("local{number}")))?;
    }
    assert!(fs::metadata(&source)?.len() == 4_000_000);
    Ok(())
}

/// An operator pressed Ctrl-S, or the program behind `--json` does not read: no output is taken there, and
/// the run goes on as if it were.
#[test]
fn an_output_that_nobody_reads_costs_the_run_nothing_and_misses_no_outcome() -> Result<()> {
    let lab = Lab::new("unread", 1, None)?;
    let source = payload(&lab, 5_000_000)?;
    let path = |name: &str| lab.scratch().path().join(name);
    let fifo = path("events");
    Program::new("mkfifo").arg(&fifo).run()?;
    let unblocked = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut options = fs::OpenOptions::new();
    let mut pipe = options
        .read(true)
        .write(true)
        .custom_flags(unblocked)
        .open(&fifo)?;
    while pipe.write(&[b'\n'; 4096]).is_ok() {}
    while pipe.write(b"\n").is_ok() {}
    let into_pipe = format!("exec \"$@\" > {}", fifo.display());
    let server = lab
        .server_program()?
        .arg("--join-file")
        .arg(path("join"))
        .args([
            "-n",
            "1",
            "--json",
            "--input",
            source.to_str().unwrap_or_default(),
        ])
        .wrapped(&["sh", "-c", &into_pipe, "sh"])
        .spawn();
    let (join, mut server) = (path("join"), server?);
    server.wait_until("it can be joined", |_| {
        Ok(fs::metadata(&join).is_ok_and(|meta| meta.len() > 0))
    })?;
    let sink = path("sink");
    let node = lab.stranger_program(1)?.arg("--join-file").arg(&join);
    let node = node
        .args(["-e", &format!("cat > {}", sink.display())])
        .limit(Duration::from_secs(120));
    node.finish()?.expect(0)?;
    expect_same_file(&source, &sink)?;
    // The output is read at last, until the server ends.
    let mut text = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        match pipe.read(&mut buffer) {
            Ok(len) => text.extend_from_slice(&buffer[..len]),
            Err(_) if server.has_ended()? => break,
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    server.wait()?.expect(0)?;
    let text = String::from_utf8_lossy(&text);
    for event in ["node-joined", "node-done", "\"event\":\"ended\""] {
        ensure!(text.contains(event), "no {event} in\n{text}");
    }
    Ok(())
}
