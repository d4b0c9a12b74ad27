//! Admission of nodes by hand (`--approve`). The operator answers the questions on the terminal, or with
//! `ka-server approve` through a socket in the state directory.
//!
//! Socket and directory are open to their owner only. The protocol is one line each way. A request is `list`,
//! `yes N`, `no N` or `all`; the answer is plain text.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ka_report::approval::applicant;
use ka_transport::{ApprovalWanted, Approvals};

use crate::consent::{Consent, read_lines};

/// Longest request on the socket, in bytes: a word and a number.
const MAX_LINE: u64 = 64;
/// Longest answer, in bytes: a line for each node that may wait.
const MAX_ANSWER: u64 = 1 << 20;
/// Time that a client of the socket has for its request. Other clients wait in the kernel's queue.
const LINE_LIMIT: Duration = Duration::from_secs(5);

/// Questions that the operator at the terminal has seen. A letter without a number answers one of these, and
/// no other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Questions(Arc<Mutex<Vec<u64>>>);

impl Questions {
    /// Adds a question that is shown.
    pub(crate) fn asked(&self, request: u64) {
        self.lock().push(request);
    }

    /// Returns the questions that the operator has seen. From now on the seen ones are `open`.
    fn take(&self, open: &[ApprovalWanted]) -> Vec<u64> {
        let open = open.iter().map(|wanted| wanted.request).collect();
        std::mem::replace(&mut *self.lock(), open)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads that answer questions until this is dropped.
#[derive(Debug)]
pub(crate) struct Desk {
    socket: PathBuf,
}

impl Desk {
    /// Opens the socket, and reads the terminal if there is one.
    ///
    /// # Errors
    /// The socket cannot be bound, or a thread cannot be started.
    pub(crate) fn open(
        state_dir: &Path,
        session: &str,
        approvals: &Approvals,
        shown: Questions,
        consent: Consent,
    ) -> Result<Self> {
        let socket = socket_of(state_dir, session);
        let binding = || format!("--approve: making {}", socket.display());
        // A socket that an earlier run left. A run of the same session at the same time could not bind its
        // ports.
        fs::remove_file(&socket).ok();
        let listener = UnixListener::bind(&socket).with_context(binding)?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).with_context(binding)?;
        let desk = Self { socket };
        let asked = approvals.clone();
        start("approve", move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // If this fails, the client sees that there is no answer.
                serve(&stream, &asked).ok();
            }
        })?;
        if io::stdin().is_terminal() && io::stderr().is_terminal() {
            let approvals = approvals.clone();
            start("approve-terminal", move || {
                read_terminal(&approvals, &shown, &consent)
            })?;
        }
        Ok(desk)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        fs::remove_file(&self.socket).ok();
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread
        .spawn(work)
        .map(drop)
        .context("starting a thread for --approve")
}

/// Returns the path of the session's socket. A slash in the session's name must not lead out of the
/// directory.
fn socket_of(state_dir: &Path, session: &str) -> PathBuf {
    state_dir.join(format!("approve-{}.sock", ka_proto::text::file_name(session)))
}

fn serve(mut stream: &UnixStream, approvals: &Approvals) -> io::Result<()> {
    stream.set_read_timeout(Some(LINE_LIMIT))?;
    stream.set_write_timeout(Some(LINE_LIMIT))?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut line)?;
    stream.write_all(answer(line.trim(), approvals).as_bytes())
}

fn read_terminal(approvals: &Approvals, shown: &Questions, consent: &Consent) {
    read_lines(|line| {
        if consent.take(line) {
            String::new()
        } else {
            typed(line, approvals, shown)
        }
    });
}

/// Carries out a typed line and returns the reply. A letter alone answers the only question that was shown.
/// It needs a number if several were shown, or if that node has left and another one waits in its place.
fn typed(line: &str, approvals: &Approvals, shown: &Questions) -> String {
    let (letter, number) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let word = match letter {
        "y" | "yes" => "yes",
        "n" | "no" => "no",
        "a" | "all" if number.is_empty() => return answer("all", approvals),
        "" => {
            let open = approvals.open();
            shown.take(&open);
            return list(&open);
        }
        _ => return "type y, n or a (all), y or n with a number; an empty line shows who waits\n".to_owned(),
    };
    if !number.is_empty() {
        return answer(&format!("{word} {}", number.trim()), approvals);
    }
    let open = approvals.open();
    match (&shown.take(&open)[..], &open[..]) {
        (_, []) => "nobody waits\n".to_owned(),
        ([asked], [wanted]) if *asked == wanted.request => answer(&format!("{word} {asked}"), approvals),
        _ => format!(
            "name the number of the one you mean, as in {letter} {}:\n{}",
            open[0].request,
            list(&open)
        ),
    }
}

fn answer(line: &str, approvals: &Approvals) -> String {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match line
        .split_once(' ')
        .map_or((line, None), |(word, rest)| (word, number(rest)))
    {
        ("list", _) => list(&approvals.open()),
        ("all", _) => format!(
            "all: {} waited; whoever comes now is let in\n",
            approvals.welcome_everybody()
        ),
        (word @ ("yes" | "no"), Some(request)) => {
            let waited = approvals
                .open()
                .into_iter()
                .find(|wanted| wanted.request == request);
            match waited {
                Some(wanted) if approvals.answer(request, word == "yes") => {
                    let done = if word == "yes" { "let in" } else { "sent away" };
                    format!("{request}: {} ({}) is {done}\n", wanted.name, wanted.addr.ip())
                }
                _ => format!("error: nobody waits under number {request}\n"),
            }
        }
        _ => "error: not understood\n".to_owned(),
    }
}

fn list(open: &[ApprovalWanted]) -> String {
    if open.is_empty() {
        return "nobody waits\n".to_owned();
    }
    let line = |wanted: &ApprovalWanted| {
        let (mac, addr) = (
            wanted.mac.map(|mac| mac.to_string()),
            wanted.addr.ip().to_string(),
        );
        let applicant = applicant(&wanted.code, &wanted.name, &addr, mac.as_deref());
        format!("{}  {applicant}\n", wanted.request)
    };
    open.iter().map(line).collect()
}

/// A request to a run with `--approve`, one line on its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Show who waits.
    List,
    /// Let everybody in, also those who come later.
    All,
    /// Let in the node of this question.
    Admit(u64),
    /// Send the node of this question away.
    Deny(u64),
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List => f.write_str("list"),
            Self::All => f.write_str("all"),
            Self::Admit(request) => write!(f, "yes {request}"),
            Self::Deny(request) => write!(f, "no {request}"),
        }
    }
}

/// Sends requests to the run of this session and returns the run's answers.
///
/// # Errors
/// There is no such run, or no node waits under a number.
pub(crate) fn tell(state_dir: &Path, session: &str, requests: &[Request]) -> Result<String> {
    let socket = socket_of(state_dir, session);
    let mut text = String::new();
    for request in requests {
        let answer = ask(&socket, *request)?;
        if let Some(error) = answer.strip_prefix("error: ") {
            bail!("{}", error.trim());
        }
        text += &answer;
    }
    Ok(text)
}

fn ask(socket: &Path, request: Request) -> Result<String> {
    let mut stream = UnixStream::connect(socket).with_context(|| {
        format!(
            "no run with --approve answers at {} (name its -s and --state-dir)",
            socket.display()
        )
    })?;
    let mut answer = String::new();
    stream
        .set_read_timeout(Some(LINE_LIMIT))
        .and_then(|()| writeln!(stream, "{request}"))
        .and_then(|()| stream.take(MAX_ANSWER).read_to_string(&mut answer))
        .context("asking the run")?;
    Ok(answer)
}
