//! The command line of `ka-status`.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ka_cli::Answer;
use ka_proto::operator::{MAX_COMMAND, STATUS_PORT};
use ka_proto::{NodeHandle, NodeName};
use ka_transport::{CONTROL_PORT, JoinCode, OperatorConnection, ServerKey, TransportError};

/// See what nodes are doing, and run commands on them.
///
/// Shows each node's log as it grows, every line with the node's address in front. A typed line `exec COMMAND` runs
/// on the nodes. With `exec COMMAND` on the command line, runs that alone and ends with its exit code.
/// Every command is in the node's log and in the server's, with your address and how it ended.
///
/// Works on the machine that holds the server's key, while nodes are being cloned: from the moment they have
/// their address until they reboot. With --via, from the moment they have joined until they leave the server.
#[derive(Debug, Clone, Parser)]
#[command(name = "ka-status", version)]
#[command(
    after_help = "Examples:\n  ka-status 10.0.1.111\n  ka-status 10.0.1.111,10.0.1.112\n  \
                        ka-status 10.0.1.111 exec cat /proc/partitions\n  \
                        ka-status --via 10.0.1.1\n  \
                        ka-status --via 10.0.1.1 node7 exec dmesg\n\n\
                        Exit codes: without exec 0 when every node was seen, 1 when one could not be reached, 2 wrong \
                        usage; with exec that of the command (the highest of several nodes), 255 when a node could \
                        not be reached."
)]
struct Arguments {
    /// The node, or several with commas between them; ADDRESS:PORT for another port. With --via, or where the server runs on
    /// this machine, a node's name; with --via also its address or hardware address as the server has it; none lists them
    #[arg(value_name = "NODE", required_unless_present = "via")]
    address: Option<String>,

    /// `exec` and the command, which the node's sh runs; lines of several nodes have the node in front
    #[arg(
        value_name = "exec COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    exec: Vec<String>,

    /// Go through the running ka-server at this address (127.0.0.1 for one on this machine), over the connection that each
    /// node keeps to it: for nodes behind NAT or a firewall. Port 30765 unless named
    #[arg(long, value_name = "SERVER[:PORT]")]
    via: Option<String>,

    /// TCP port of the nodes
    #[arg(long, value_name = "PORT", default_value_t = STATUS_PORT)]
    port: u16,

    /// Session of the run, to find its join code in the server's state directory
    #[arg(short = 's', long, value_name = "SESSION", default_value = "kainstall")]
    session: String,

    /// Where the server's key and join codes are
    #[arg(long, value_name = "DIR", default_value = "/var/lib/ka")]
    state_dir: PathBuf,

    /// File with the run's join code, instead of the one in the state directory
    #[arg(long, value_name = "FILE")]
    join_file: Option<PathBuf>,
}

/// The checked command line.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The nodes, in the order of the command line.
    pub(crate) nodes: Vec<Target>,
    /// The mode.
    pub(crate) job: Job,
    /// Session of the run.
    pub(crate) session: String,
    /// Directory of the server's key.
    pub(crate) state_dir: PathBuf,
    /// File with the join code, if it is not in the state directory.
    pub(crate) join_file: Option<PathBuf>,
}

/// A node as the operator named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Text in front of its lines.
    pub(crate) shown: String,
    /// The way to the node.
    pub(crate) place: Place,
}

/// The way to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Directly, at the node's own address and port.
    Direct(SocketAddr),
    /// Through the server.
    Via {
        /// The server's control port.
        server: SocketAddr,
        /// The server's name for the node.
        node: NodeHandle,
    },
}

impl Target {
    /// Connects, and both ends prove their identity.
    ///
    /// # Errors
    /// [`TransportError::Operator`], with the node's name if the server reports the error.
    pub(crate) fn connect(
        &self,
        key: &ServerKey,
        code: &JoinCode,
    ) -> Result<OperatorConnection, TransportError> {
        match &self.place {
            Place::Direct(addr) => OperatorConnection::connect(*addr, key, code),
            Place::Via { server, node } => OperatorConnection::connect_via(*server, node, key, code),
        }
    }
}

/// The modes of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    /// Lists the nodes of this server.
    List(SocketAddr),
    /// Shows the logs and takes commands from standard input.
    Tail,
    /// Runs this command and ends.
    Exec(String),
}

/// Reads the command line.
///
/// # Errors
/// The text to print instead of working.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, Answer> {
    check(ka_cli::parse(args)?).map_err(Answer::Wrong)
}

fn check(arguments: Arguments) -> Result<Options, String> {
    if arguments.via.is_some() && arguments.address.as_deref() == Some("exec") {
        return Err("exec: name the node before it; --via SERVER alone lists them".into());
    }
    let job = match arguments.exec.split_first() {
        None => Job::Tail,
        Some((word, [])) if word == "exec" => return Err("exec: name the command to run".into()),
        Some((word, command)) if word == "exec" => Job::Exec(command.join(" ")),
        Some((word, _)) => {
            let named = arguments.address.as_deref().unwrap_or_default();
            let typed = arguments.exec.join(" ");
            return Err(format!(
                "{word}: after the address comes exec COMMAND, or nothing; did you mean ka-status {named} exec {typed}?"
            ));
        }
    };
    if matches!(&job, Job::Exec(command) if command.len() > MAX_COMMAND) {
        return Err(format!("exec: a command has at most {MAX_COMMAND} bytes"));
    }
    let via = match arguments.via.as_deref() {
        Some(named) => Some(server(named)?),
        None => server_here(arguments.address.as_deref().unwrap_or_default()),
    };
    let (nodes, job) = match (via, arguments.address) {
        (Some(server), None) => (Vec::new(), Job::List(server)),
        (via, named) => {
            let named = named.unwrap_or_default();
            let nodes = named.split(',').map(|name| match via {
                Some(server) => through(name.trim(), server),
                None => target(name.trim(), arguments.port),
            });
            (nodes.collect::<Result<_, _>>()?, job)
        }
    };
    Ok(Options {
        nodes,
        job,
        session: arguments.session,
        state_dir: arguments.state_dir,
        join_file: arguments.join_file,
    })
}

/// Returns the server that runs on this machine if the nodes are called by name. The server knows the
/// addresses of the names, and the machine's resolver seldom does.
fn server_here(named: &str) -> Option<SocketAddr> {
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, CONTROL_PORT));
    let is_name = |name: &str| NodeName::new(name.trim()).is_ok();
    (named.split(',').all(is_name) && TcpStream::connect_timeout(&here, LOCAL_LIMIT).is_ok()).then_some(here)
}

/// Longest time for a connection within this machine.
const LOCAL_LIMIT: Duration = Duration::from_millis(200);

fn target(name: &str, port: u16) -> Result<Target, String> {
    let found = resolve(name, port).map_err(|error| match NodeName::new(name) {
        Ok(_) => {
            format!("{error}; nodes are known by their names to their server: ka-status --via SERVER {name}")
        }
        Err(_) => error,
    });
    Ok(Target {
        shown: name.to_owned(),
        place: Place::Direct(found?),
    })
}

fn through(name: &str, server: SocketAddr) -> Result<Target, String> {
    let node = NodeHandle::new(name).map_err(|error| format!("--via: {error}"))?;
    Ok(Target {
        shown: name.to_owned(),
        place: Place::Via { server, node },
    })
}

/// Parses `HOST`, `HOST:PORT`, `ADDR` or `[ADDR]:PORT`.
fn server(named: &str) -> Result<SocketAddr, String> {
    match named.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => {
            let port = port.parse().map_err(|_| format!("{port:?} is no port"));
            port.and_then(|port| resolve(host, port))
        }
        _ => resolve(named, CONTROL_PORT),
    }
    .map_err(|error| format!("--via: {error}"))
}

fn resolve(name: &str, port: u16) -> Result<SocketAddr, String> {
    let found = match name.parse::<SocketAddr>() {
        Ok(addr) => Some(addr),
        Err(_) => (name.trim_matches(['[', ']']), port)
            .to_socket_addrs()
            .map_err(|_| format!("{name:?} is no address, and no host of that name is known here"))?
            .next(),
    };
    found.ok_or_else(|| format!("{name:?} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> Result<Options, Answer> {
        parse(["ka-status"].iter().chain(line).map(Into::into))
    }

    fn options(line: &[&str]) -> Options {
        match parsed(line) {
            Ok(options) => options,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn the_users_own_example_shows_a_log() {
        let options = options(&["10.0.1.111"]);
        let expected = Target {
            shown: "10.0.1.111".into(),
            place: Place::Direct("10.0.1.111:12345".parse().unwrap()),
        };
        assert_eq!((options.nodes, options.job), (vec![expected], Job::Tail));
    }

    #[test]
    fn a_command_keeps_its_own_options() {
        let options = options(&["10.0.1.111,10.0.1.112:99", "exec", "ls", "-l", "/dev"]);
        assert_eq!(options.job, Job::Exec("ls -l /dev".into()));
        let other = Place::Direct("10.0.1.112:99".parse().unwrap());
        assert_eq!(options.nodes[1].place, other);
    }

    #[test]
    fn through_the_server_a_node_is_named_as_the_server_has_it_and_none_lists_them() {
        let control = "10.0.1.1:30765".parse().unwrap();
        assert_eq!(options(&["--via", "10.0.1.1"]).job, Job::List(control));
        let options = options(&[
            "--via",
            "10.0.1.1:99",
            "node7,02:00:00:00:00:08",
            "exec",
            "uptime",
        ]);
        assert_eq!(options.job, Job::Exec("uptime".into()));
        let expected = Place::Via {
            server: "10.0.1.1:99".parse().unwrap(),
            node: NodeHandle::new("02:00:00:00:00:08").unwrap(),
        };
        assert_eq!(options.nodes[1].place, expected);
    }

    #[test]
    fn wrong_usage_is_one_line() {
        for (line, named) in [
            (&["10.0.1.111", "exec"][..], "exec"),
            (&["10.0.1.111", "reboot"], "reboot"),
            (&["300.0.0.1"], "300.0.0.1"),
            (&[], "NODE"),
            (&["10.0.1.111", "--port", "x"], "--port"),
            (&["--via", "10.0.1.1:x", "node7"], "--via"),
            (&["--via", "10.0.1.1", "exec", "uptime"], "name the node"),
        ] {
            let Err(Answer::Wrong(text)) = parsed(line) else {
                panic!("{line:?} was taken")
            };
            assert!(text.contains(named) && text.lines().count() == 1, "{text}");
        }
    }
}
