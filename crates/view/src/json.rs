//! Events as JSON lines, for machines (`--json`). The schema is `docs/events.md`.

use std::io::{self, Write};
use std::time::Duration;

use crate::View;
use ka_report::run::{RunEvent, Stamped};

/// A view that writes every event as one line of JSON and flushes it.
#[derive(Debug)]
pub struct JsonView<W> {
    out: W,
}

impl<W: Write> JsonView<W> {
    /// Returns a view that writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write + Send> View for JsonView<W> {
    fn handle(&mut self, at: Duration, event: &RunEvent) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Stamped::new(at, event))?;
        line.push(b'\n');
        self.out.write_all(&line)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::JsonView;
    use crate::View;
    use ka_report::event::{NodeEvent, Step};
    use ka_report::run::{NodeRef, RunEvent};

    #[test]
    fn every_event_is_one_line_with_its_time_and_name() {
        let mut out = Vec::new();
        let node = NodeRef {
            id: 7,
            name: "n1".into(),
            addr: "10.0.1.1".into(),
            position: 1,
        };
        let mut view = JsonView::new(&mut out);
        let step = NodeEvent::failed(Step::Format, "no\nroom");
        view.handle(Duration::from_millis(1500), &RunEvent::NodeStep { node, step })
            .unwrap();
        let expected = concat!(
            r#"{"at_ms":1500,"event":"node-step","node":{"id":7,"name":"n1","addr":"10.0.1.1","position":1},"#,
            r#""step":{"step":"format","state":"failed","text":"no\nroom"}}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
