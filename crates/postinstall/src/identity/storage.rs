//! Names under which storage servers and file systems know a machine.

use uuid::Uuid;

use super::editor::Editor;
use crate::error::PostError;
use crate::plan::Plan;

const ISCSI: &str = "/etc/iscsi/initiatorname.iscsi";
const NVME_NQN: &str = "/etc/nvme/hostnqn";
const NVME_ID: &str = "/etc/nvme/hostid";
/// gethostid(3); ZFS tells by it whose pool is whose.
const HOST_ID: &str = "/etc/hostid";

pub(super) fn plan(
    plan: &mut Plan,
    editor: &mut Editor<'_>,
    fresh: &mut dyn FnMut() -> Uuid,
) -> Result<(), PostError> {
    if let Some(old) = editor.text(ISCSI)? {
        let suffix = &fresh().simple().to_string()[..12];
        let mut changes = Vec::new();
        let lines: Vec<String> = old
            .lines()
            .map(|line| match line.strip_prefix("InitiatorName=") {
                Some(name) => {
                    // iqn.1993-08.org.debian:01:5e6f…: the part behind the last colon is the machine's.
                    let authority = name.trim().rsplit_once(':').map_or(name.trim(), |(head, _)| head);
                    let new = format!("InitiatorName={authority}:{suffix}");
                    changes.push(new.clone());
                    new
                }
                None => line.to_owned(),
            })
            .collect();
        plan.write_mode(ISCSI, format!("{}\n", lines.join("\n")), 0o600, changes);
    }
    let files = editor.files();
    let id = fresh();
    if files.exists(NVME_NQN) {
        let name = format!("nqn.2014-08.org.nvmexpress:uuid:{id}");
        plan.write(NVME_NQN, format!("{name}\n"), vec![name]);
    }
    if files.exists(NVME_ID) {
        plan.write(NVME_ID, format!("{id}\n"), vec![id.to_string()]);
    }
    if files.exists(HOST_ID) {
        let id = &fresh().simple().to_string()[..8];
        let bytes = u32::from_str_radix(id, 16).unwrap_or(1).to_ne_bytes();
        plan.write(HOST_ID, bytes, vec![format!("host id {id}")]);
    }
    Ok(())
}
