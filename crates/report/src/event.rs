//! The events of a node at work. There is one [`NodeEvent`] for each named step that starts, ends or has
//! news.
//!
//! The event travels as JSON in the opaque payload of `ToServer::Event`; the transport never looks inside.
//! Byte counters are not events: the transport has its own progress messages.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest event on the wire, in bytes. One step with its text fits many times over. A node that sends more
/// is refused, so that it cannot fill the operator's screen and log.
pub const MAX_EVENT_BYTES: usize = 16 << 10;

/// Longest text in one event, in bytes: the tail of a failing tool's output and a line about it.
pub const MAX_TEXT_BYTES: usize = 4 << 10;

/// A named step of a node. The order is that of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Looking for the server, by broadcast or by name.
    FindServer,
    /// Receiving and unpacking the tools of a node booted from the network.
    Stage2,
    /// Loading drivers by the identifiers of the hardware, and waiting for disks.
    Drivers,
    /// Choosing a disk of this node for each drive of the golden node.
    ChooseDisks,
    /// Everything that can fail before the first write: sizes, tools, directories.
    Check,
    /// Wiping the start and end of the disk and making the partitions known to the kernel.
    Partition,
    /// Making file systems and swap areas.
    Format,
    /// Mounting the new file systems below the mount directory.
    Mount,
    /// Unpacking the tree stream.
    Restore,
    /// Writing a raw partition (`-D`).
    Raw,
    /// Feeding the operator's command (`-e`).
    Command,
    /// Reading back the written data.
    VerifyData,
    /// Learning the names and identifiers of the new devices. All later steps use them.
    Learn,
    /// Checking that the excluded directories exist and are empty.
    ExcludedDirs,
    /// Writing the clone's own device names and identifiers into fstab.
    Fstab,
    /// Making swap files anew.
    SwapFiles,
    /// Writing the clone's own devices into crypttab, kernel command lines and boot entries.
    References,
    /// Giving the clone a name, ids and keys of its own.
    Identity,
    /// Writing the list of modules that this hardware needs.
    Modprobe,
    /// Running the golden node's hooks.
    Hooks,
    /// Building the initramfs of each kernel.
    Initramfs,
    /// Installing the boot loader.
    BootLoader,
    /// Installing the beacon that tells the server of the first boot.
    Beacon,
    /// Storing this log in the clone.
    StoreLog,
    /// Writing all cached data to the disks.
    Sync,
    /// Unmounting the clone's file systems.
    Unmount,
    /// Writing the partition table and the boot code. The disk becomes bootable here, last.
    WriteTable,
    /// Entering the boot loader in the firmware's boot menu (UEFI).
    BootEntry,
    /// Reading the table back and comparing it with the plan.
    Verify,
    /// Reporting to the server.
    Report,
    /// Restarting the machine.
    Reboot,
}

impl Step {
    /// Returns the work of this step for a user: "formatting".
    pub fn doing(self) -> &'static str {
        match self {
            Self::FindServer => "finding the server",
            Self::Stage2 => "getting stage2",
            Self::Drivers => "loading drivers",
            Self::ChooseDisks => "choosing disks",
            Self::Check => "checking",
            Self::Partition => "partitioning",
            Self::Format => "formatting",
            Self::Mount => "mounting",
            Self::Restore => "restoring",
            Self::Raw => "writing raw partition",
            Self::Command => "feeding the command",
            Self::VerifyData => "verifying data",
            Self::Learn => "learning the new devices",
            Self::ExcludedDirs => "checking excluded directories",
            Self::Fstab => "writing fstab",
            Self::SwapFiles => "making swap files",
            Self::References => "writing references to disks",
            Self::Identity => "writing identity",
            Self::Modprobe => "writing modprobe configuration",
            Self::Hooks => "running hooks",
            Self::Initramfs => "building initramfs",
            Self::BootLoader => "installing boot loader",
            Self::Beacon => "leaving the beacon",
            Self::StoreLog => "storing the log",
            Self::Sync => "syncing",
            Self::Unmount => "unmounting",
            Self::WriteTable => "writing partition table",
            Self::BootEntry => "making the firmware's boot entry",
            Self::Verify => "verifying",
            Self::Report => "reporting",
            Self::Reboot => "rebooting",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.doing())
    }
}

/// The state of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum StepState {
    /// The step began.
    Started,
    /// A line about the work inside the step: "Formatting /dev/sda2 as ext4".
    News,
    /// A line that the operator should read. The node goes on.
    Warning,
    /// The step succeeded.
    Done {
        /// Duration of the step, in milliseconds.
        took_ms: u64,
    },
    /// The step failed, and with it this node. The event's text has the reason.
    Failed,
}

/// One event of a node's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// The step that the event is about.
    pub step: Step,
    /// The state of that step.
    #[serde(flatten)]
    pub state: StepState,
    /// One or a few lines for a human. May be empty for `Started` and `Done`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// The reason why an event payload was refused.
#[derive(Debug, Error)]
pub enum EventError {
    /// The payload is longer than [`MAX_EVENT_BYTES`]. Holds its length.
    #[error("event of {0} bytes is longer than the {MAX_EVENT_BYTES} allowed")]
    TooLong(usize),
    /// The payload is not the JSON of an event.
    #[error("event is not readable: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl NodeEvent {
    /// Returns the event of a step that begins.
    pub fn started(step: Step) -> Self {
        Self {
            step,
            state: StepState::Started,
            text: String::new(),
        }
    }

    /// Returns a line inside a step.
    pub fn news(step: Step, text: impl Into<String>) -> Self {
        Self {
            step,
            state: StepState::News,
            text: text.into(),
        }
    }

    /// Returns a line that the operator should read. The node goes on.
    pub fn warning(step: Step, text: impl Into<String>) -> Self {
        Self {
            step,
            state: StepState::Warning,
            text: text.into(),
        }
    }

    /// Returns the event of a step that succeeded after `took_ms` milliseconds.
    pub fn done(step: Step, took_ms: u64) -> Self {
        Self {
            step,
            state: StepState::Done { took_ms },
            text: String::new(),
        }
    }

    /// Returns the event of a step that failed, and with it the node.
    pub fn failed(step: Step, reason: impl Into<String>) -> Self {
        Self {
            step,
            state: StepState::Failed,
            text: reason.into(),
        }
    }

    /// Encodes the event as JSON. A text over [`MAX_TEXT_BYTES`] keeps its end, where tools report their
    /// error.
    pub fn encode(&self) -> Vec<u8> {
        let event = Self {
            text: tail(&self.text, MAX_TEXT_BYTES).to_owned(),
            ..self.clone()
        };
        // Plain strings, numbers and unit enums always serialize.
        serde_json::to_vec(&event).unwrap_or_default()
    }

    /// Reads an event that came from a node. Control characters in the text become spaces or `?`, so that a
    /// node cannot write escape sequences to the operator's terminal.
    ///
    /// # Errors
    /// The payload is too long, or not an event.
    pub fn decode(payload: &[u8]) -> Result<Self, EventError> {
        if payload.len() > MAX_EVENT_BYTES {
            return Err(EventError::TooLong(payload.len()));
        }
        let mut event: Self = serde_json::from_slice(payload)?;
        event.text = ka_proto::text::printable(tail(&event.text, MAX_TEXT_BYTES));
        Ok(event)
    }
}

impl fmt::Display for NodeEvent {
    /// Writes the original's form: `Formatting /dev/sda2 as ext3...OK` becomes `formatting: /dev/sda2 as
    /// ext4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            StepState::Started => write!(f, "{}", self.step)?,
            StepState::News => return write!(f, "{}: {}", self.step, self.text),
            StepState::Warning => return write!(f, "warning: {}: {}", self.step, self.text),
            StepState::Done { took_ms } => {
                write!(
                    f,
                    "{}...OK ({}.{:01} s)",
                    self.step,
                    took_ms / 1000,
                    took_ms % 1000 / 100
                )?;
            }
            StepState::Failed => return write!(f, "{}...FAILED: {}", self.step, self.text),
        }
        if self.text.is_empty() {
            Ok(())
        } else {
            write!(f, " {}", self.text)
        }
    }
}

/// Returns the last `limit` bytes of a text, cut at a character.
fn tail(text: &str, limit: usize) -> &str {
    let mut start = text.len().saturating_sub(limit);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::{MAX_EVENT_BYTES, MAX_TEXT_BYTES, NodeEvent, Step, StepState};

    #[test]
    fn an_event_comes_back_as_it_was_sent() {
        for event in [
            NodeEvent::started(Step::Format),
            NodeEvent::news(Step::Format, "/dev/sda2 as ext4"),
            NodeEvent::warning(Step::Restore, "no room for trusted.overlay"),
            NodeEvent::done(Step::Sync, 1234),
            NodeEvent::failed(Step::Check, "mkfs.xfs is not installed"),
        ] {
            assert_eq!(NodeEvent::decode(&event.encode()).unwrap(), event);
        }
    }

    #[test]
    fn the_json_of_an_event_stays_as_documented() {
        let json = String::from_utf8(NodeEvent::done(Step::WriteTable, 12).encode()).unwrap();
        assert_eq!(json, r#"{"step":"write-table","state":"done","took_ms":12}"#);
    }

    #[test]
    fn a_long_text_keeps_its_end() {
        let text = format!("{}ö the end", "ä".repeat(MAX_TEXT_BYTES));
        let event = NodeEvent::decode(&NodeEvent::failed(Step::Format, text).encode()).unwrap();
        assert!(event.text.len() <= MAX_TEXT_BYTES);
        assert!(event.text.ends_with("ö the end"));
    }

    #[test]
    fn escape_sequences_do_not_reach_the_operators_terminal() {
        let event = NodeEvent::decode(&NodeEvent::news(Step::Check, "a\x1b[2Jb\tc").encode()).unwrap();
        assert_eq!(event.text, "a?[2Jb c");
    }

    #[test]
    fn garbage_truncated_and_oversized_events_are_refused() {
        let good = NodeEvent::news(Step::Check, "hello").encode();
        for len in 0..good.len() {
            assert!(NodeEvent::decode(&good[..len]).is_err(), "{len} bytes");
        }
        assert!(NodeEvent::decode(&vec![b' '; MAX_EVENT_BYTES + 1]).is_err());
        assert!(NodeEvent::decode(br#"{"step":"dance","state":"started"}"#).is_err());
    }

    #[test]
    fn steps_read_like_the_seeds_log() {
        assert_eq!(
            NodeEvent::done(Step::Format, 1550).to_string(),
            "formatting...OK (1.5 s)"
        );
        assert_eq!(
            NodeEvent::failed(Step::Mount, "no").to_string(),
            "mounting...FAILED: no"
        );
        assert_eq!(
            NodeEvent {
                step: Step::Check,
                state: StepState::Warning,
                text: "w".into()
            }
            .to_string(),
            "warning: checking: w"
        );
    }
}
