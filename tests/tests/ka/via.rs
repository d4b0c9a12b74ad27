//! `ka-status --via`: the holder of the server's key sees and commands nodes that only the server can reach,
//! through it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_proto::NodeHandle;
use ka_proto::operator::ToOperator;
use ka_proto::tunnel::MAX_TUNNELS_OF_NODE;
use ka_proto::via::{AskServer, VIA_ALPN};
use ka_tests::binaries;
use ka_tests::lab::{Lab, Server};
use ka_tests::netns::{GOLDEN_ADDRESS, Namespace, node_address};
use ka_tests::process::{Program, Running};
use ka_transport::{CONTROL_PORT, OperatorConnection, ServerKey, join_file};

use crate::kit::{expect_same_file, finish, other_server, payload, status_program};
use crate::tls;

/// Address of the node, behind its NAT.
const HIDDEN_ADDRESS: &str = "192.168.77.2";

/// A node behind a machine that translates its addresses and takes no connection for it: node 1's place in
/// the network.
struct Hidden {
    lab: Lab,
    inside: Namespace,
}

impl Hidden {
    fn new(label: &str) -> Result<Self> {
        let lab = Lab::new(label, 2, None)?;
        let (router, inside) = (lab.network().node(1), Namespace::new("hidden")?);
        let (router_name, inside_name) = (router.name(), inside.name());
        Program::new("ip")
            .args(
                format!("link add eth0 netns {inside_name} type veth peer name lan netns {router_name}")
                    .split(' '),
            )
            .run()?;
        router.ip("addr add 192.168.77.1/24 dev lan")?;
        router.ip("link set lan up")?;
        inside.ip(&format!("addr add {HIDDEN_ADDRESS}/24 dev eth0"))?;
        inside.ip("link set eth0 up")?;
        inside.ip("route add default via 192.168.77.1")?;
        router.run("sysctl -qw net.ipv4.ip_forward=1")?;
        let rules = "\
            table ip nat {\n chain out {\n type nat hook postrouting priority 100;\n \
            oifname \"eth0\" masquerade;\n }\n }\n\
            table ip closed {\n chain in {\n type filter hook forward priority 0;\n \
            iifname \"eth0\" ct state new drop;\n }\n }\n";
        Program::new("nft")
            .args(["-f", "-"])
            .input(rules)
            .inside(router)
            .run()?;
        Ok(Self { lab, inside })
    }

    fn client(&self, server: &Server, args: &[&str]) -> Result<Running> {
        let program = self.lab.client_program(1, server)?.inside(&self.inside);
        program.args(["-h", GOLDEN_ADDRESS]).args(args).spawn()
    }

    fn state(&self) -> PathBuf {
        self.lab.server_state()
    }

    fn status(&self, state: &Path, args: &[&str]) -> Result<Program> {
        let program = status_program(&self.lab, state)?;
        Ok(program.args(["--via", GOLDEN_ADDRESS]).args(args))
    }

    /// Connects another operator to the node, by the node's name.
    fn operator(&self, server: &Server) -> Result<OperatorConnection> {
        let code = join_file::read(server.join_file())?;
        let key = ServerKey::load_or_create(&self.state())?;
        let at = format!("{GOLDEN_ADDRESS}:{CONTROL_PORT}").parse()?;
        let name = NodeHandle::new("hidden")?;
        let connected = self
            .lab
            .network()
            .golden()
            .enter(|| OperatorConnection::connect_via(at, &name, &key, &code))?;
        Ok(connected?)
    }
}

#[test]
fn a_node_behind_nat_is_listed_and_its_log_and_commands_go_through_the_server() -> Result<()> {
    let hidden = Hidden::new("via-nat")?;
    let logs = hidden.lab.scratch().dir("logs")?;
    let logs_arg = logs.display().to_string();
    let server = hidden
        .lab
        .server(&["-n", "2", "-e", "true", "--json", "--log-dir", &logs_arg])?;
    let mut node = hidden.client(&server, &["-e", "cat", "--log-dir", &logs_arg])?;
    node.wait_for("joined session")?;
    // The node is reachable neither at its own address nor at the one that it seems to have.
    for addr in [HIDDEN_ADDRESS.to_owned(), node_address(1)] {
        let direct = Program::new(binaries::path("ka-status")?)
            .arg("--state-dir")
            .arg(hidden.state())
            .args([&addr, "exec", "true"])
            .inside(hidden.lab.network().golden())
            .finish()?;
        direct.expect(255)?;
    }

    let listed = hidden.status(&hidden.state(), &[])?.finish()?;
    listed.expect(0)?;
    ensure!(listed.stdout.lines().count() == 1, "{}", listed.stdout);
    for part in ["hidden ", &node_address(1), "waiting for other nodes"] {
        listed.says(part)?;
    }

    let command = "hostname; echo complaint >&2; exit 7";
    for called in ["hidden".to_owned(), node_address(1)] {
        let ended = hidden
            .status(&hidden.state(), &[&called, "exec", command])?
            .finish()?;
        ended.expect(7)?;
        ensure!(
            ended.stdout == "hidden\n" && ended.stderr == "complaint\n",
            "{ended:?}"
        );
    }
    both_logs_say_who_asked(&server, &logs, command)?;

    let mut screen = hidden
        .status(&hidden.state(), &["hidden"])?
        .input("exec echo typed by hand\n")
        .spawn()?;
    for expected in [
        "hidden> hidden online\n",
        "joined session",
        "hidden> typed by hand\n",
    ] {
        screen.wait_for(expected)?;
    }
    node.kill_alone()?;
    let ended = screen.wait()?;
    ended
        .expect(0)?
        .says("hidden> offline since ")?
        .says("hidden is gone: ")?;
    let gone = hidden.status(&hidden.state(), &["hidden", "exec", "true"])?;
    gone.finish()?.expect(255).map(drop)
}

/// Insists that the logs of node and server have the start and end of each of the two commands once, with the
/// operator's address as the server saw it.
fn both_logs_say_who_asked(server: &Server, logs: &Path, command: &str) -> Result<()> {
    let mut said = server.run.said();
    for _ in 0..100 {
        if said.matches(r#""exit_code":7"#).count() == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        said = server.run.said();
    }
    let events: Vec<serde_json::Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|event: &serde_json::Value| event["event"] == "operator-exec")
        .collect();
    ensure!(events.len() == 4, "{events:?}");
    for event in &events {
        let from = event["from"].as_str().unwrap_or_default();
        ensure!(
            from.starts_with(&format!("{GOLDEN_ADDRESS}:")) && event["through_server"] == true,
            "{event}"
        );
    }
    let line = format!(" through the server: exec {command:?}");
    let mut found = fs::read_dir(logs)?
        .filter_map(Result::ok)
        .map(|entry| entry.path());
    let run_dir = found.find(|path| path.is_dir()).context("no log of the run")?;
    for path in [run_dir.join("run.log"), logs.join("ka-client-hidden.log")] {
        let text = fs::read_to_string(&path)?;
        let count = |what: &str| text.lines().filter(|line| line.ends_with(what)).count();
        ensure!(
            count(&line) == 2 && count(&format!("{line} ended with 7")) == 2,
            "{}:\n{text}",
            path.display()
        );
    }
    Ok(())
}

#[test]
fn without_the_servers_key_the_server_says_nothing_about_nodes_and_passes_nothing_on() -> Result<()> {
    let hidden = Hidden::new("via-stranger")?;
    let mut server = hidden.lab.server(&["-n", "2", "-e", "true"])?;
    let mut node = hidden.client(&server, &["-e", "cat"])?;
    node.wait_for("joined session")?;
    let code = join_file::read(server.join_file())?;
    // This peer knows the join code, as every node does, and speaks the protocol.
    for asked in [AskServer::List, AskServer::Connect(NodeHandle::new("hidden")?)] {
        let socket = hidden
            .lab
            .network()
            .node(2)
            .enter(|| tls::dial(GOLDEN_ADDRESS, CONTROL_PORT))??;
        let mut stranger = tls::connect(socket, Some(code.fingerprint), Some(VIA_ALPN))?;
        stranger.write_all(&asked.encode()?).ok();
        let answer = tls::heard(&mut stranger, tls::PATIENCE);
        ensure!(answer.is_empty(), "{asked:?} was answered with {answer:?}");
    }
    server.run.wait_for("an operator without the server's key")?;
    // This is a server's key and a run's code that fits it, but not this server's.
    let other = hidden.lab.scratch().path().join("other-state");
    let _other_server = other_server(&hidden.lab, &other)?;
    let mark = hidden.lab.scratch().path().join("touched");
    let command = format!("touch {}", mark.display());
    let refused = hidden.status(&other, &["hidden", "exec", &command])?.finish()?;
    refused.expect(255)?.says("another key")?;
    ensure!(
        refused.stdout.is_empty() && refused.stderr.lines().count() == 1,
        "{refused:?}"
    );
    ensure!(!mark.exists(), "a stranger's command ran");
    // An operator with the key who asks for a missing node gets an answer.
    let unknown = hidden
        .status(&hidden.state(), &["nobody", "exec", "true"])?
        .finish()?;
    unknown
        .expect(255)?
        .says("no node of this run is called nobody")
        .map(drop)
}

#[test]
fn output_without_end_through_the_server_holds_up_no_stream_and_none_is_lost_to_who_reads() -> Result<()> {
    let hidden = Hidden::new("via-flood")?;
    let sent = payload(&hidden.lab, 20_000_000)?;
    let go = hidden.lab.scratch().path().join("go");
    let feed = format!(
        "until [ -e {0} ]; do sleep 0.1; done; cat {1}; while [ -e {0} ]; do sleep 0.1; done",
        go.display(),
        sent.display()
    );
    let server = hidden.lab.server(&["-n", "1", "-e", &feed])?;
    let got = hidden.lab.scratch().path().join("got");
    let mut node = hidden.client(&server, &["--output", &got.display().to_string()])?;
    node.wait_for("joined session")?;
    let mut silent = (1..MAX_TUNNELS_OF_NODE)
        .map(|_| hidden.operator(&server))
        .collect::<Result<Vec<_>>>()?;
    for operator in &mut silent {
        operator.exec("exec yes flood")?;
    }
    let mut reading = hidden.operator(&server)?;
    let refused = hidden.operator(&server).map(drop).unwrap_err();
    ensure!(
        format!("{refused:#}").contains("4 operators are at this node through the server already"),
        "{refused:#}"
    );
    reading.exec("seq 2000000; exit 9")?;
    fs::write(&go, "")?;
    let (mut bytes, mut code) = (Vec::new(), None);
    while code.is_none() {
        match reading.next_message(Some(Duration::from_secs(30)))? {
            Some(ToOperator::Output(_, piece)) => bytes.extend_from_slice(&piece.0),
            Some(ToOperator::Exited(ended)) => code = Some(ended),
            Some(_) => {}
            None => break,
        }
    }
    let expected: String = (1..=2_000_000).map(|number| format!("{number}\n")).collect();
    ensure!(
        code == Some(9) && bytes == expected.as_bytes(),
        "{} bytes",
        bytes.len()
    );
    // An operator who left makes room for the next.
    drop(reading);
    let mut node_again = hidden.operator(&server);
    for _ in 0..50 {
        if node_again.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        node_again = hidden.operator(&server);
    }
    node_again?;
    fs::remove_file(&go)?;
    finish(server, vec![node])?.expect_success()?;
    expect_same_file(&sent, &got)
}

#[test]
fn a_node_that_dies_ends_a_command_through_the_server_with_a_line() -> Result<()> {
    let hidden = Hidden::new("via-dies")?;
    let server = hidden.lab.server(&["-n", "2", "-e", "true"])?;
    let mut node = hidden.client(&server, &["-e", "cat"])?;
    node.wait_for("joined session")?;
    let mut running = hidden
        .status(&hidden.state(), &["hidden", "exec", "echo begun; sleep 100"])?
        .spawn()?;
    running.wait_for("begun")?;
    node.kill_alone()?;
    let ended = running.wait()?;
    ended
        .expect(255)?
        .says("hidden is gone")?
        .says("whether the command ended is not known")?;
    ensure!(ended.stderr.lines().count() == 1, "{}", ended.stderr);
    let mut server = server;
    // An operator who leaves takes the tunnel along; a server that dies ends it in the same way.
    ensure!(!server.run.has_ended()?, "the server ended with it");
    Ok(())
}
