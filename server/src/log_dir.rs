//! The log directory of a run (`--log-dir`): the run's log, one log for each node, and the report as JSON.
//!
//! It never holds a join code, because no event does.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use jiff::Timestamp;
use ka_proto::text::marked_lines;
use ka_report::run::{NodeRef, RunEvent};
use ka_report::text::clock;
use ka_view::{PlainView, Verbosity, View, event_line, prepared_lines};

/// Most runs of one session in the same second. Each gets a number behind the time; a higher number means a
/// loop.
const MAX_SAME_SECOND: u32 = 100;

/// The directory of one run.
pub(crate) struct LogDir {
    /// Its path, `DIR/SESSION-TIME`.
    pub(crate) path: PathBuf,
    /// The views that write there, each with its name in warnings.
    pub(crate) views: Vec<(String, Box<dyn View>)>,
}

impl LogDir {
    /// Makes the directory and the views that write there.
    ///
    /// # Errors
    /// The directory or a file in it cannot be made.
    pub(crate) fn make(parent: &Path, session: &str) -> Result<Self> {
        let path = make_dir(parent, session, SystemTime::now())
            .with_context(|| format!("making a log directory in {} (--log-dir)", parent.display()))?;
        let log_path = path.join("run.log");
        let log = File::create(&log_path).with_context(|| format!("making {}", log_path.display()))?;
        let report = path.join("report.json");
        let named = |path: &Path| format!("writing {} (--log-dir)", path.display());
        let views: Vec<(String, Box<dyn View>)> = vec![
            (named(&log_path), Box::new(PlainView::new(log, Verbosity::Full))),
            (
                format!("writing the nodes' logs in {} (--log-dir)", path.display()),
                Box::new(NodeLogs { dir: path.clone() }),
            ),
            (named(&report), Box::new(ReportFile { path: report.clone() })),
        ];
        Ok(Self { path, views })
    }
}

/// `node-ADDRESS-NAME.log` for each node: its steps, its plan and its end.
struct NodeLogs {
    dir: PathBuf,
}

impl NodeLogs {
    /// Appends lines. The file is opened for each of the rare lines, so a thousand nodes do not need a
    /// thousand descriptors.
    fn append(&self, at: Duration, node: &NodeRef, lines: &[String]) -> io::Result<()> {
        let path = self.dir.join(format!(
            "node-{}-{}.log",
            file_name(&node.addr),
            file_name(&node.name)
        ));
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let text: String =
            lines
                .iter()
                .flat_map(|line| marked_lines(line))
                .fold(String::new(), |mut text, line| {
                    text += &format!("[{}] {line}\n", clock(at));
                    text
                });
        file.write_all(text.as_bytes())
    }
}

impl View for NodeLogs {
    fn handle(&mut self, at: Duration, event: &RunEvent) -> io::Result<()> {
        let (RunEvent::NodeJoined { node, .. }
        | RunEvent::NodeQueued { node, .. }
        | RunEvent::NodePrepared { node, .. }
        | RunEvent::NodeStep { node, .. }
        | RunEvent::OperatorExec { node, .. }
        | RunEvent::NodeAway { node, .. }
        | RunEvent::NodeRejoined { node, .. }
        | RunEvent::NodeFailed { node, .. }
        | RunEvent::NodeBooted { node, .. }
        | RunEvent::NodeDone { node, .. }) = event
        else {
            return Ok(());
        };
        let mut lines: Vec<_> = event_line(event).into_iter().collect();
        match event {
            RunEvent::NodePrepared { plan, .. } => lines.extend(prepared_lines(node, plan)),
            RunEvent::NodeDone { report, .. } => {
                lines.extend(report.warnings.iter().map(|text| format!("warning: {text}")));
                let problems = report.streams.iter().flat_map(|stream| &stream.problems);
                lines.extend(problems.map(|text| format!("warning: {text}")));
            }
            _ => {}
        }
        self.append(at, node, &lines)
    }
}

/// `report.json`: the run's summary, written at its end.
struct ReportFile {
    path: PathBuf,
}

impl View for ReportFile {
    fn handle(&mut self, _: Duration, event: &RunEvent) -> io::Result<()> {
        let RunEvent::Ended { summary } = event else {
            return Ok(());
        };
        if summary.report_file.is_some() {
            // The signed report is here already.
            return Ok(());
        }
        let mut text = serde_json::to_vec_pretty(summary)?;
        text.push(b'\n');
        fs::write(&self.path, text)
    }
}

fn make_dir(parent: &Path, session: &str, now: SystemTime) -> io::Result<PathBuf> {
    fs::create_dir_all(parent)?;
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let name = format!("{}-{}", file_name(session), utc(seconds));
    // The logs name files of the golden node that could not be read, so other users must not see them.
    let mut builder = DirBuilder::new();
    builder.mode(0o750);
    let mut made = Err(io::ErrorKind::AlreadyExists.into());
    for number in 1..=MAX_SAME_SECOND {
        let suffix = if number == 1 {
            String::new()
        } else {
            format!("-{number}")
        };
        let dir = parent.join(format!("{name}{suffix}"));
        made = builder.create(&dir).map(|()| dir);
        if !matches!(&made, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
            break;
        }
    }
    made
}

/// Returns a safe file name for a text from elsewhere. Letters, digits and `.:_-` stay; `_` stands for the
/// rest, and goes in front of a leading dot.
pub(crate) fn file_name(text: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || ".:_-".contains(c) {
            c
        } else {
            '_'
        }
    };
    let name: String = text.chars().map(safe).collect();
    if name.starts_with('.') {
        format!("_{name}")
    } else {
        name
    }
}

/// Formats seconds since 1970 as `20261120T163012Z`. Times after the year 9999 are its end.
pub(crate) fn utc(seconds: u64) -> String {
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.unwrap_or(Timestamp::MAX)
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use ka_report::event::{NodeEvent, Step};
    use ka_report::run::{NodeRef, RunEvent};
    use ka_report::summary::RunSummary;

    use super::{LogDir, file_name, utc};

    #[test]
    fn each_node_has_its_log_and_the_run_a_report() {
        let parent = tempfile::tempdir().unwrap();
        let LogDir { path: dir, mut views } = LogDir::make(&parent.path().join("logs"), "room 12").unwrap();
        let node = NodeRef {
            id: 1,
            name: "../n1".into(),
            addr: "10.0.1.1".into(),
            position: 1,
        };
        let step = NodeEvent::news(Step::Format, "/dev/vda1 as ext4");
        for event in [
            RunEvent::NodeStep { node, step },
            RunEvent::Ended {
                summary: RunSummary::default(),
            },
        ] {
            for (_, view) in &mut views {
                view.handle(Duration::from_secs(65), &event).unwrap();
            }
        }
        let text = fs::read_to_string(dir.join("node-10.0.1.1-_.._n1.log")).unwrap();
        assert_eq!(text, "[1:05] ../n1> formatting: /dev/vda1 as ext4\n");
        assert!(
            fs::read_to_string(dir.join("run.log"))
                .unwrap()
                .contains("/dev/vda1 as ext4")
        );
        let report: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.join("report.json")).unwrap()).unwrap();
        assert_eq!(report["nodes"], serde_json::json!([]));
    }

    #[test]
    fn two_runs_in_one_second_do_not_share_a_directory() {
        let parent = tempfile::tempdir().unwrap();
        let first = LogDir::make(parent.path(), "k").unwrap().path;
        let second = LogDir::make(parent.path(), "k").unwrap().path;
        assert_ne!(first, second);
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        assert_eq!(file_name("../../etc/passwd"), "_.._.._etc_passwd");
        assert_eq!(file_name("fe80::1%eth0"), "fe80::1_eth0");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "19700101T000000Z");
        assert_eq!(utc(951_827_696), "20000229T123456Z");
        assert_eq!(utc(1_795_192_212), "20261120T163012Z");
    }
}
