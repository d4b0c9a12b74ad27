//! The lease file, `leases-IFACE.json` in the state directory. It is replaced as a whole, so that a power cut
//! leaves either the old file or the new one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dhcp::DhcpError;
use crate::dhcp::lease::Kept;

/// Version that this program writes. Files of other versions are refused.
const VERSION: u32 = 1;
/// Largest lease file, in bytes: far more than a /16 of leases needs (about 100 bytes each).
const MAX_BYTES: u64 = 32 << 20;

#[derive(Serialize, Deserialize)]
struct Contents {
    version: u32,
    #[serde(flatten)]
    kept: Kept,
}

/// The lease file of one interface.
#[derive(Debug, Clone)]
pub(crate) struct LeaseFile {
    path: PathBuf,
}

impl LeaseFile {
    /// Creates the directory and reads the leases of the last run.
    pub(crate) fn open(state_dir: &Path, iface: &str) -> Result<(Self, Kept), DhcpError> {
        let file = Self {
            path: state_dir.join(format!("leases-{iface}.json")),
        };
        crate::state_dir::make(state_dir)
            .map_err(|err| file.error(format!("its directory cannot be made: {err}")))?;
        let kept = file.load()?;
        // An unwritable file must show now, not when the first machine waits for its address.
        file.save(&kept)?;
        Ok((file, kept))
    }

    fn load(&self) -> Result<Kept, DhcpError> {
        let bytes = match fs::metadata(&self.path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
            Err(err) => return Err(self.error(format!("cannot be read: {err}"))),
            Ok(meta) if meta.len() > MAX_BYTES => {
                return Err(self.damaged(&format!("{} bytes", meta.len())));
            }
            Ok(_) => fs::read(&self.path).map_err(|err| self.error(format!("cannot be read: {err}")))?,
        };
        let contents: Contents =
            serde_json::from_slice(&bytes).map_err(|err| self.damaged(&err.to_string()))?;
        if contents.version != VERSION {
            return Err(self.damaged(&format!("version {}", contents.version)));
        }
        Ok(contents.kept)
    }

    /// Writes the leases. They are on disk when this returns.
    pub(crate) fn save(&self, kept: &Kept) -> Result<(), DhcpError> {
        self.replace(kept)
            .map_err(|err| self.error(format!("cannot be written: {err}")))
    }

    fn replace(&self, kept: &Kept) -> io::Result<()> {
        let contents = Contents {
            version: VERSION,
            kept: kept.clone(),
        };
        let new = self.path.with_extension("json.new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&contents)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        match self.path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }

    fn damaged(&self, what: &str) -> DhcpError {
        self.error(format!(
            "is not what we wrote ({what}): remove it to start without leases"
        ))
    }

    fn error(&self, what: String) -> DhcpError {
        DhcpError::Leases {
            path: self.path.clone(),
            what,
        }
    }
}

#[cfg(test)]
mod tests {
    use ka_mac::MacAddr;

    use super::*;
    use crate::dhcp::lease::{Lease, Quarantined, UnixTime};

    fn kept() -> Kept {
        Kept {
            leases: vec![Lease {
                mac: MacAddr([0x52, 0x54, 0, 1, 2, 3]),
                address: [10, 0, 0, 7].into(),
                until: UnixTime(1_800_000_000),
            }],
            quarantined: vec![Quarantined {
                address: [10, 0, 0, 8].into(),
                until: UnixTime(1_700_000_000),
            }],
        }
    }

    #[test]
    fn what_was_saved_is_there_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("made/on/demand");
        let (file, none) = LeaseFile::open(&state, "eth0").unwrap();
        assert_eq!(none, Kept::default());
        file.save(&kept()).unwrap();
        let (_, read) = LeaseFile::open(&state, "eth0").unwrap();
        assert_eq!(read, kept());
        let (_, other) = LeaseFile::open(&state, "eth1").unwrap();
        assert_eq!(other, Kept::default());
        assert_eq!(
            fs::read_dir(&state).unwrap().count(),
            2,
            "nothing else is left behind"
        );
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = LeaseFile::open(dir.path(), "eth0").unwrap();
        file.save(&kept()).unwrap();
        let whole = fs::read(&file.path).unwrap();
        for length in 0..whole.len() {
            fs::write(&file.path, &whole[..length]).unwrap();
            let said = LeaseFile::open(dir.path(), "eth0").unwrap_err().to_string();
            assert!(
                said.contains("leases-eth0.json") && said.contains("remove it"),
                "{said}"
            );
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }

    #[test]
    fn another_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases-eth0.json");
        fs::write(&path, r#"{"version":2,"leases":[],"quarantined":[]}"#).unwrap();
        let said = LeaseFile::open(dir.path(), "eth0").unwrap_err().to_string();
        assert!(said.contains("version 2"), "{said}");
    }

    #[test]
    fn a_directory_that_cannot_be_written_shows_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("file");
        fs::write(&blocked, "").unwrap();
        let said = LeaseFile::open(&blocked, "eth0").unwrap_err().to_string();
        assert!(said.contains("directory cannot be made"), "{said}");
    }
}
