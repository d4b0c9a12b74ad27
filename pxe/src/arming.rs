//! Arming: the machines that boot `kamethod` by themselves. All other machines boot `local`. The state is
//! kept in a file, so that it survives a restart of the server.
//!
//! | state kept for a machine | its entry |
//! |---|---|
//! | none | `kamethod` if the node list has the machine, else `local` |
//! | none, `--arm all`, fewer than `n` were taken | `kamethod`, and the machine is *taken* |
//! | armed (`ka-pxe arm`) | `kamethod` |
//! | taken | `kamethod` under `--arm all` or if listed, else `local` |
//! | finished | `local` |
//! | disarmed (`ka-pxe disarm`) | `local` |
//!
//! A machine is *taken*, and counts as one of the `n`, when it is given a menu whose default is `kamethod`.
//! The state is on disk before the menu leaves. A machine keeps its place until it has finished, so that one
//! that was cut off in the middle is cloned at its next boot. Only the machine itself takes a place: a menu
//! that another card on the wire asks for takes none, so that invented addresses cannot use the places up. If
//! the file cannot be read or written, the answer is `local`: in doubt nothing is erased.
//!
//! Every change reads the file anew under a lock, so `ka-pxe arm` works while a server runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ka_mac::MacAddr;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::config::Arm;
use crate::error::PxeError;
use crate::menu::Entry;
use crate::nodes::NodeEntry;

/// Name of the file in the state directory.
const FILE: &str = "pxe-armed.json";
/// Name of the lock beside it. The file itself cannot be the lock, because each change replaces it.
const LOCK: &str = "pxe-armed.lock";
/// Largest file read, in bytes: about 200 000 machines.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Largest number of machines kept. Under `--arm all`, `n` stops a stranger that invents MAC addresses long
/// before.
const MAX_MACHINES: usize = 100_000;

/// State kept for one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Armed by `ka-pxe arm`, until it has finished.
    Armed,
    /// Given `kamethod` under `--arm all`, and not finished.
    Taken,
    /// The machine was cloned.
    Finished,
    /// Disarmed by `ka-pxe disarm`, even if the node list has the machine.
    Disarmed,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    machines: BTreeMap<MacAddr, State>,
}

/// Arming of all machines, for one run of the server.
#[derive(Debug)]
pub struct Arming {
    store: Store,
    listed: BTreeSet<MacAddr>,
    arm: Arm,
    /// Machines that were taken and have finished since the start. They still count among the `n`.
    done: Mutex<BTreeSet<MacAddr>>,
}

impl Arming {
    /// Opens the state kept in `state_dir`. Creates the directory if it does not exist.
    ///
    /// # Errors
    /// Fails if the directory cannot be created, or if the file cannot be read or parsed.
    pub fn open(state_dir: &Path, nodes: &[NodeEntry], arm: Arm) -> Result<Self, PxeError> {
        let store = Store::new(state_dir)?;
        store.read()?;
        Ok(Self {
            store,
            listed: nodes.iter().map(|node| node.mac).collect(),
            arm,
            done: Mutex::default(),
        })
    }

    /// Returns the entry that a machine would get now. Changes nothing.
    ///
    /// # Errors
    /// Fails if the state cannot be read. The caller must then treat the entry as `local`.
    pub fn entry_for(&self, mac: MacAddr) -> Result<Entry, PxeError> {
        Ok(self.decide(&self.store.read()?, mac).0)
    }

    /// Returns the entry for the menu that leaves next, and takes the machine if that entry needs it.
    ///
    /// # Errors
    /// Fails if the state cannot be read or written. The caller must then treat the entry as `local`.
    pub fn take(&self, mac: MacAddr) -> Result<Entry, PxeError> {
        match self.decide(&self.store.read()?, mac) {
            (entry, false) => Ok(entry),
            (_, true) => self.store.change(|book| {
                // Another machine may have taken the place since the state was read.
                let (entry, takes) = self.decide(book, mac);
                if takes {
                    book.machines.insert(mac, State::Taken);
                }
                entry
            }),
        }
    }

    /// Returns the entry of a machine whose menu another card asks for. Unlike [`Self::take`] it takes no
    /// place, so that one machine cannot use up the places of `--arm all` under invented addresses.
    ///
    /// # Errors
    /// Fails if the state cannot be read. The caller must then treat the entry as `local`.
    pub fn entry_without_taking(&self, mac: MacAddr) -> Result<Entry, PxeError> {
        match self.decide(&self.store.read()?, mac) {
            (entry, false) => Ok(entry),
            (_, true) => Ok(Entry::Local),
        }
    }

    /// Records that the machine was cloned: it gets `local` from its next boot on.
    ///
    /// # Errors
    /// Fails if the state cannot be written.
    pub fn finished(&self, mac: MacAddr) -> Result<(), PxeError> {
        let before = self
            .store
            .change(|book| book.machines.insert(mac, State::Finished))?;
        if before == Some(State::Taken) {
            self.done().insert(mac);
        }
        Ok(())
    }

    /// Arms a machine until it has finished.
    ///
    /// # Errors
    /// Fails if the state cannot be written.
    pub fn arm(&self, mac: MacAddr) -> Result<(), PxeError> {
        set(&self.store, mac, State::Armed)
    }

    /// Disarms a machine, even if the node list has it.
    ///
    /// # Errors
    /// Fails if the state cannot be written.
    pub fn disarm(&self, mac: MacAddr) -> Result<(), PxeError> {
        set(&self.store, mac, State::Disarmed)
    }

    /// Machines that an earlier run took and that never finished. They keep their places.
    ///
    /// # Errors
    /// Fails if the state cannot be read.
    pub fn unfinished(&self) -> Result<Vec<MacAddr>, PxeError> {
        let book = self.store.read()?;
        let taken = book.machines.iter().filter(|(_, state)| **state == State::Taken);
        Ok(taken.map(|(mac, _)| *mac).collect())
    }

    /// Returns the entry, and true if the machine must be taken to get it.
    fn decide(&self, book: &Book, mac: MacAddr) -> (Entry, bool) {
        let is_listed = self.listed.contains(&mac);
        match (book.machines.get(&mac), self.arm) {
            (Some(State::Finished | State::Disarmed), _) => (Entry::Local, false),
            (Some(State::Armed), _) | (Some(State::Taken), Arm::All(_)) => (Entry::Kamethod, false),
            _ if is_listed => (Entry::Kamethod, false),
            (None, Arm::All(places)) if self.taken(book) < places as usize => (Entry::Kamethod, true),
            _ => (Entry::Local, false),
        }
    }

    fn taken(&self, book: &Book) -> usize {
        let still = book.machines.values().filter(|state| **state == State::Taken);
        still.count() + self.done().len()
    }

    fn done(&self) -> MutexGuard<'_, BTreeSet<MacAddr>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the state of a machine. A server may be running on this state directory.
///
/// # Errors
/// Fails if the state cannot be written.
pub fn set_state(state_dir: &Path, mac: MacAddr, state: State) -> Result<(), PxeError> {
    set(&Store::new(state_dir)?, mac, state)
}

/// Returns the state of every machine, for `ka-pxe list`.
///
/// # Errors
/// Fails if the state cannot be read.
pub fn states(state_dir: &Path) -> Result<BTreeMap<MacAddr, State>, PxeError> {
    Ok(Store::at(state_dir).read()?.machines)
}

fn set(store: &Store, mac: MacAddr, state: State) -> Result<(), PxeError> {
    store.change(|book| {
        book.machines.insert(mac, state);
    })
}

/// The state file and its directory.
#[derive(Debug)]
struct Store {
    dir: PathBuf,
    file: PathBuf,
}

impl Store {
    fn new(dir: &Path) -> Result<Self, PxeError> {
        crate::state_dir::make(dir).map_err(|source| PxeError::State {
            doing: "making",
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self::at(dir))
    }

    fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            file: dir.join(FILE),
        }
    }

    fn read(&self) -> Result<Book, PxeError> {
        self.try_read().map_err(|source| self.failed("reading", source))
    }

    fn try_read(&self) -> io::Result<Book> {
        let file = match File::open(&self.file) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Book::default()),
            Err(err) => return Err(err),
        };
        let mut text = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut text)?;
        serde_json::from_slice(&text).map_err(|err| {
            let hint = "move it away to start anew: then nobody has finished, and who is listed is armed";
            io::Error::new(io::ErrorKind::InvalidData, format!("{err}; {hint}"))
        })
    }

    /// Reads, changes and replaces the file under the lock. Does not write if nothing has changed.
    fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> Result<T, PxeError> {
        let changed = || -> io::Result<T> {
            let lock = File::create(self.dir.join(LOCK))?;
            let _held =
                Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, err)| io::Error::from(err))?;
            let mut book = self.try_read()?;
            let before = book.machines.clone();
            let result = change(&mut book);
            if book.machines.len() > MAX_MACHINES {
                return Err(io::Error::other(format!("more than {MAX_MACHINES} machines")));
            }
            if book.machines != before {
                self.replace(&book)?;
            }
            Ok(result)
        };
        changed().map_err(|source| self.failed("changing", source))
    }

    fn replace(&self, book: &Book) -> io::Result<()> {
        let staged = self.dir.join(format!("{FILE}.new"));
        let mut file = File::create(&staged)?;
        serde_json::to_writer_pretty(&mut file, book).map_err(io::Error::from)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&staged, &self.file)?;
        File::open(&self.dir)?.sync_all()
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> PxeError {
        PxeError::State {
            doing,
            path: self.file.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> MacAddr {
        MacAddr([0x52, 0x54, 0, 0, 0, last])
    }

    fn listed(macs: &[u8]) -> Vec<NodeEntry> {
        let entry = |last: &u8| NodeEntry {
            mac: mac(*last),
            name: format!("n{last}"),
            address: None,
            group: None,
            disks: Vec::new(),
        };
        macs.iter().map(entry).collect()
    }

    fn open(dir: &Path, nodes: &[u8], arm: Arm) -> Arming {
        Arming::open(dir, &listed(nodes), arm).unwrap()
    }

    #[test]
    fn nobody_is_armed_but_who_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let arming = open(dir.path(), &[1], Arm::None);
        assert_eq!(arming.take(mac(1)).unwrap(), Entry::Kamethod);
        assert_eq!(arming.take(mac(2)).unwrap(), Entry::Local);
    }

    #[test]
    fn a_finished_machine_stays_local_over_restarts_until_it_is_armed_again() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), &[1], Arm::None).finished(mac(1)).unwrap();
        for arm in [Arm::None, Arm::All(10)] {
            let arming = open(dir.path(), &[1], arm);
            assert_eq!(arming.take(mac(1)).unwrap(), Entry::Local);
        }
        let running = open(dir.path(), &[1], Arm::None);
        set_state(dir.path(), mac(1), State::Armed).unwrap();
        assert_eq!(running.take(mac(1)).unwrap(), Entry::Kamethod);
        running.finished(mac(1)).unwrap();
        assert_eq!(running.take(mac(1)).unwrap(), Entry::Local);
    }

    #[test]
    fn all_means_the_next_n_machines_and_each_keeps_its_place_until_it_has_finished() {
        let dir = tempfile::tempdir().unwrap();
        let arming = open(dir.path(), &[], Arm::All(2));
        assert_eq!(arming.entry_for(mac(1)).unwrap(), Entry::Kamethod);
        assert_eq!(
            arming.entry_for(mac(3)).unwrap(),
            Entry::Kamethod,
            "looking takes no place"
        );
        assert_eq!(arming.take(mac(1)).unwrap(), Entry::Kamethod);
        assert_eq!(arming.take(mac(2)).unwrap(), Entry::Kamethod);
        assert_eq!(arming.take(mac(3)).unwrap(), Entry::Local);
        assert_eq!(
            arming.take(mac(1)).unwrap(),
            Entry::Kamethod,
            "it was cut off and comes again"
        );
        arming.finished(mac(1)).unwrap();
        assert_eq!(arming.take(mac(1)).unwrap(), Entry::Local);
        assert_eq!(
            arming.take(mac(3)).unwrap(),
            Entry::Local,
            "a finished machine frees no place"
        );
    }

    #[test]
    fn places_taken_before_a_restart_are_kept_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), &[], Arm::All(2)).take(mac(1)).unwrap();
        let again = open(dir.path(), &[], Arm::All(2));
        assert_eq!(again.unfinished().unwrap(), [mac(1)]);
        assert_eq!(again.take(mac(2)).unwrap(), Entry::Kamethod);
        assert_eq!(again.take(mac(3)).unwrap(), Entry::Local);
        assert_eq!(again.take(mac(1)).unwrap(), Entry::Kamethod);
        let nobody = open(dir.path(), &[], Arm::None);
        assert_eq!(
            nobody.take(mac(1)).unwrap(),
            Entry::Local,
            "not armed by this run"
        );
    }

    #[test]
    fn disarming_overrules_the_list_and_frees_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let arming = open(dir.path(), &[9], Arm::All(1));
        arming.disarm(mac(9)).unwrap();
        assert_eq!(arming.take(mac(9)).unwrap(), Entry::Local);
        arming.take(mac(1)).unwrap();
        arming.disarm(mac(1)).unwrap();
        assert_eq!(arming.take(mac(2)).unwrap(), Entry::Kamethod);
    }

    #[test]
    fn a_state_that_cannot_be_read_arms_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let arming = open(dir.path(), &[1], Arm::All(5));
        fs::write(dir.path().join(FILE), "{\"machines\": {\"52:54").unwrap();
        for asked in [mac(1), mac(2)] {
            let said = arming.take(asked).unwrap_err().to_string();
            assert!(said.contains(FILE), "{said}");
        }
        assert!(Arming::open(dir.path(), &[], Arm::None).is_err());
    }

    #[test]
    fn many_threads_share_n_places_exactly() {
        let dir = tempfile::tempdir().unwrap();
        let arming = open(dir.path(), &[], Arm::All(5));
        let armed: usize = std::thread::scope(|scope| {
            let (arming, mac) = (&arming, &mac);
            let ask = |last: u8| scope.spawn(move || arming.take(mac(last)).unwrap());
            let asked: Vec<_> = (0..16).map(ask).collect();
            let entries = asked.into_iter().map(|thread| thread.join().unwrap());
            entries.filter(|entry| *entry == Entry::Kamethod).count()
        });
        assert_eq!(armed, 5);
    }
}
