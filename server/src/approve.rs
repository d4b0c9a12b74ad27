//! Letting nodes in by hand (`--approve`): the questions are answered on the terminal, or through a socket in the state
//! directory, which `ka-server approve` opens.
//!
//! The socket is for its owner alone, in a directory that is; its protocol is one line each way: `list`, `yes N`, `no N`
//! or `all`, and an answer in words.

use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ka_transport::{ApprovalWanted, Approvals};

use crate::command::Answer;

/// Longest line of the socket's protocol, bytes: a word and a number.
const MAX_LINE: u64 = 64;
/// Longest answer, bytes: a line for each node that may wait.
const MAX_ANSWER: u64 = 1 << 20;
/// Whoever opens the socket says something within this time; others wait in the kernel's queue.
const LINE_LIMIT: Duration = Duration::from_secs(5);

/// Questions that an operator at the terminal has seen: a letter without a number is about one of these, and about no other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Questions(Arc<Mutex<Vec<u64>>>);

impl Questions {
    /// One is shown.
    pub(crate) fn asked(&self, request: u64) {
        self.lock().push(request);
    }

    /// Those shown since the last answer are seen; `open` are the ones that stand from now on. Gives what was seen.
    fn take(&self, open: &[ApprovalWanted]) -> Vec<u64> {
        let open = open.iter().map(|wanted| wanted.request).collect();
        std::mem::replace(&mut *self.lock(), open)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers questions until it is dropped.
#[derive(Debug)]
pub(crate) struct Desk {
    socket: PathBuf,
}

impl Desk {
    /// Opens the socket, and reads the terminal if there is one.
    ///
    /// # Errors
    /// The socket or a thread cannot be had.
    pub(crate) fn open(
        state_dir: &Path,
        session: &str,
        approvals: &Approvals,
        shown: Questions,
    ) -> Result<Self> {
        let socket = socket_of(state_dir, session);
        let binding = || format!("--approve: making {}", socket.display());
        // What an earlier run left; a run of the same session at the same time could not bind its ports.
        fs::remove_file(&socket).ok();
        let listener = UnixListener::bind(&socket).with_context(binding)?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).with_context(binding)?;
        let desk = Self { socket };
        let asked = approvals.clone();
        start("approve", move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Whoever asks sees that there is no answer.
                serve(&stream, &asked).ok();
            }
        })?;
        if io::stdin().is_terminal() && io::stderr().is_terminal() {
            let approvals = approvals.clone();
            start("approve-terminal", move || read_terminal(&approvals, &shown))?;
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

/// Where a run's questions are answered; a slash in the session's name must not lead elsewhere.
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

fn read_terminal(approvals: &Approvals, shown: &Questions) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let answer = typed(line.trim(), approvals, shown);
        // A terminal that was closed takes nothing more.
        io::stderr().write_all(answer.as_bytes()).ok();
    }
}

/// What a typed line does, and what is said about it. A letter alone is about the only question that was shown: where there
/// were several, or where that node has gone and another one waits in its place, it wants a number.
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
        let mac = wanted
            .mac
            .map_or_else(|| "unknown".to_owned(), |mac| mac.to_string());
        let (request, name, addr, code) = (wanted.request, &wanted.name, wanted.addr.ip(), &wanted.code);
        format!("{request}  {code}  {name}  {addr}  {mac}\n")
    };
    open.iter().map(line).collect()
}

/// `ka-server approve`: says it to the run and gives its answer.
///
/// # Errors
/// No such run, or nobody waits under a number.
pub(crate) fn tell(said: &Answer) -> Result<String> {
    let word = if said.deny { "no" } else { "yes" };
    let mut lines: Vec<_> = said
        .requests
        .iter()
        .map(|request| format!("{word} {request}"))
        .collect();
    if lines.is_empty() {
        lines.push(if said.all { "all" } else { "list" }.to_owned());
    }
    let mut text = String::new();
    for line in lines {
        let answer = ask(&socket_of(&said.at.state_dir, &said.session), &line)?;
        if let Some(error) = answer.strip_prefix("error: ") {
            bail!("{}", error.trim());
        }
        text += &answer;
    }
    Ok(text)
}

fn ask(socket: &Path, line: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket).with_context(|| {
        format!(
            "no run with --approve answers at {} (name its -s and --state-dir)",
            socket.display()
        )
    })?;
    let mut answer = String::new();
    stream
        .set_read_timeout(Some(LINE_LIMIT))
        .and_then(|()| writeln!(stream, "{line}"))
        .and_then(|()| stream.take(MAX_ANSWER).read_to_string(&mut answer))
        .context("asking the run")?;
    Ok(answer)
}
