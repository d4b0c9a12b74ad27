//! A store as its callers see it: real trees, kills at every write, flipped bits, prune beside save.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of #[test]")]

use std::collections::VecDeque;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ka_store::{Backend, Directory, Object, OperatorKey, Result, Store, StoreError, Totals, Version};
use ka_tree::tree::{self, RestoreOptions, SendOptions, TreeSource, TreeTarget};
use ka_tree::{Compress, Progress};

const HOUR: u64 = 3600;

/// A directory whose writer is killed at a write.
#[derive(Clone)]
struct Mortal {
    inner: Directory,
    writes_left: Arc<AtomicUsize>,
}

impl Mortal {
    fn write(&self) -> Result<()> {
        let alive = self
            .writes_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        alive
            .map(|_| ())
            .map_err(|_| StoreError::Refused("killed".into()))
    }
}

impl Backend for Mortal {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write()?;
        self.inner.put(name, bytes)
    }
    fn get(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.inner.get(name, range)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        self.inner.list(prefix)
    }
    fn delete(&self, name: &str) -> Result<()> {
        self.write()?;
        self.inner.delete(name)
    }
}

fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn golden(seed: u32, big: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("etc/deep")).unwrap();
    fs::write(dir.path().join("etc/motd"), "hello\n").unwrap();
    fs::write(dir.path().join("etc/deep/same"), noise(99, 100_000)).unwrap();
    fs::write(dir.path().join("etc/same"), noise(99, 100_000)).unwrap();
    fs::write(dir.path().join("big"), noise(seed, big)).unwrap();
    std::os::unix::fs::symlink("motd", dir.path().join("etc/link")).unwrap();
    dir
}

/// The blocks of a tree, and its totals.
fn stream(root: &Path) -> (Vec<Vec<u8>>, Totals) {
    let mut blocks = Vec::new();
    let options = SendOptions {
        compress: Compress::Never,
        ..SendOptions::default()
    };
    let source = TreeSource {
        mount_id: 1,
        root: root.to_owned(),
    };
    let emit = |block| {
        blocks.push(block);
        Ok(())
    };
    let totals = tree::send(&[source], &options, emit, &Progress::new())
        .unwrap()
        .totals;
    let totals = Totals {
        files: totals.files,
        directories: totals.directories,
        bytes: totals.bytes,
        digest: totals.digest.to_bytes(),
    };
    (blocks, totals)
}

fn save(store: &Store, image: &str, root: &Path) -> Result<(Version, Vec<Vec<u8>>)> {
    let (blocks, totals) = stream(root);
    let mut saver = store.save(image, "/")?;
    blocks.iter().try_for_each(|block| saver.block(block))?;
    Ok((saver.finish(totals)?, blocks))
}

fn blocks(store: &Store, version: &Version) -> Result<Vec<Vec<u8>>> {
    let mut reader = store.read(version)?;
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block()? {
        blocks.push(block);
    }
    Ok(blocks)
}

fn store(dir: &Path) -> Store {
    Store::create(
        Box::new(Directory::create(dir).unwrap()),
        OperatorKey::random().unwrap(),
    )
    .unwrap()
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[test]
fn a_version_gives_the_stream_back_byte_for_byte_and_restores() {
    let (dir, golden) = (tempfile::tempdir().unwrap(), golden(7, 40 << 20));
    let store = store(dir.path());
    let (version, sent) = save(&store, "lab", golden.path()).unwrap();
    let read = blocks(&store, &version).unwrap();
    assert!(read == sent, "the blocks differ");
    assert!(files(&dir.path().join("packs")).len() >= 2);

    let clone = tempfile::tempdir().unwrap();
    let mut read = VecDeque::from(read);
    let target = TreeTarget {
        mount_id: 1,
        root: clone.path().to_owned(),
    };
    let restored = tree::restore(
        &[target],
        &RestoreOptions::default(),
        || Ok(read.pop_front()),
        &Progress::new(),
    )
    .unwrap();
    assert_eq!(restored.totals.digest.to_bytes(), version.totals().digest);
    assert_eq!(fs::read(clone.path().join("big")).unwrap(), noise(7, 40 << 20));
}

#[test]
fn what_is_there_is_not_kept_again_over_versions_and_images() {
    let (dir, golden) = (tempfile::tempdir().unwrap(), golden(7, 8 << 20));
    let store = store(dir.path());
    let first = save(&store, "lab", golden.path()).unwrap().0;
    assert!(first.added() > 8 << 20);
    assert!(
        first.added() < (8 << 20) + 150_000,
        "the same file is kept once: {}",
        first.added()
    );
    fs::write(golden.path().join("etc/motd"), "other\n").unwrap();
    let second = save(&store, "lab", golden.path()).unwrap().0;
    let other = save(&store, "other", golden.path()).unwrap().0;
    assert!(second.added() < 20_000, "{}", second.added());
    assert!(other.added() < 20_000, "{}", other.added());
    let labels: Vec<_> = store
        .versions()
        .unwrap()
        .iter()
        .map(|v| (v.image().to_owned(), v.label()))
        .collect();
    assert!(labels[0].1.starts_with("1-") && labels[1].1.starts_with("2-") && labels[2].0 == "other");
    assert_eq!(store.version("lab").unwrap(), second);
    assert_eq!(store.version("lab@1").unwrap(), first);
    assert_eq!(store.version(&format!("lab@{}", second.label())).unwrap(), second);
    assert!(store.version("lab@9").is_err() && store.version("none").is_err());
}

#[test]
fn a_saver_killed_at_any_write_leaves_older_versions_and_no_new_one() {
    let (one, two) = (golden(1, 1 << 20), golden(2, 40 << 20));
    let operator = OperatorKey::random().unwrap();
    for writes in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::create(dir.path()).unwrap();
        let store = Store::create(Box::new(directory.clone()), operator.clone()).unwrap();
        let (old, old_blocks) = save(&store, "lab", one.path()).unwrap();
        let mortal = Mortal {
            inner: directory,
            writes_left: Arc::new(AtomicUsize::new(writes)),
        };
        let saved = save(
            &Store::open(Box::new(mortal), operator.clone()).unwrap(),
            "lab",
            two.path(),
        );
        if saved.is_ok() {
            assert!(writes >= 4, "two packs, index, version: {writes}");
            assert_eq!(store.versions().unwrap().len(), 2);
            return;
        }
        assert_eq!(store.versions().unwrap(), std::slice::from_ref(&old));
        assert!(blocks(&store, &old).unwrap() == old_blocks);
        assert!(
            store
                .verify(&store.versions().unwrap())
                .unwrap()
                .faults
                .is_empty()
        );
        // Prune finds what was left, and a later save is whole.
        assert_eq!(store.prune(0, 24 * HOUR).unwrap().deleted, 0);
        store.prune(25 * HOUR, 24 * HOUR).unwrap();
        let (again, again_blocks) = save(&store, "lab", two.path()).unwrap();
        assert!(blocks(&store, &again).unwrap() == again_blocks);
        assert!(blocks(&store, &old).unwrap() == old_blocks);
    }
}

#[test]
fn a_flipped_bit_is_named_with_pack_and_version() {
    let (dir, golden) = (tempfile::tempdir().unwrap(), golden(7, 1 << 20));
    let store = store(dir.path());
    let (version, _) = save(&store, "lab", golden.path()).unwrap();
    let pack = files(&dir.path().join("packs")).remove(0);
    let good = fs::read(&pack).unwrap();
    for at in (0..good.len()).step_by(good.len() / 7) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(&pack, &bad).unwrap();
        let faults = store.verify(std::slice::from_ref(&version)).unwrap().faults;
        let (what, versions) = faults.first_key_value().unwrap();
        assert!(
            what.contains(&*pack.file_name().unwrap().to_string_lossy()),
            "{what}"
        );
        assert!(versions.contains(&format!("lab@{}", version.label())));
        assert!(blocks(&store, &version).is_err());
    }
    fs::remove_file(&pack).unwrap();
    let faults = store.verify(std::slice::from_ref(&version)).unwrap().faults;
    assert!(
        faults
            .first_key_value()
            .unwrap()
            .0
            .starts_with("the store has no packs/"),
        "{faults:?}"
    );
    fs::write(&pack, &good).unwrap();
    assert!(store.verify(&[version]).unwrap().faults.is_empty());
}

#[test]
fn damage_to_small_objects_is_named() {
    let (dir, golden) = (tempfile::tempdir().unwrap(), golden(7, 1 << 20));
    let store = store(dir.path());
    let (version, _) = save(&store, "lab", golden.path()).unwrap();
    for kind in ["index", "versions"] {
        let file = files(&dir.path().join(kind)).remove(0);
        let good = fs::read(&file).unwrap();
        for len in [0, 5, good.len() - 1] {
            fs::write(&file, &good[..len]).unwrap();
            let error = store
                .versions()
                .and_then(|_| store.verify(std::slice::from_ref(&version)).map(drop));
            assert!(error.unwrap_err().to_string().starts_with(kind));
        }
        fs::write(&file, good).unwrap();
    }
}

#[test]
fn another_operator_and_the_public_see_nothing() {
    let (dir, golden) = (tempfile::tempdir().unwrap(), golden(7, 1 << 20));
    let private = store(dir.path());
    save(&private, "lab", golden.path()).unwrap();
    let directory = Directory::open(dir.path()).unwrap();
    let other = OperatorKey::random().unwrap();
    assert!(Store::open(Box::new(directory.clone()), other.clone()).is_err());
    let public = Store::public(Box::new(directory), other);
    assert!(public.versions().unwrap().is_empty());
    // A prune of one key touches nothing of another.
    assert_eq!(public.prune(0, 0).unwrap(), Default::default());
    for entry in ["packs", "versions", "index"]
        .iter()
        .flat_map(|kind| files(&dir.path().join(kind)))
    {
        let bytes = fs::read(&entry).unwrap();
        for secret in [&b"motd"[..], b"lab"] {
            assert!(secret.len() == 3 || !bytes.windows(secret.len()).any(|window| window == secret));
        }
        assert!(!entry.to_string_lossy().contains("lab"));
    }
}

#[test]
fn prune_deletes_after_its_grace_what_no_version_needs() {
    let (dir, one, two) = (
        tempfile::tempdir().unwrap(),
        golden(1, 20 << 20),
        golden(2, 20 << 20),
    );
    let store = store(dir.path());
    let (old, _) = save(&store, "lab", one.path()).unwrap();
    let (new, new_blocks) = save(&store, "lab", two.path()).unwrap();
    assert_eq!(store.prune(0, 24 * HOUR).unwrap().waiting, 0);
    store.remove(&old).unwrap();
    let marked = store.prune(0, 24 * HOUR).unwrap();
    assert!(marked.marked > 0 && marked.deleted == 0);
    assert_eq!(store.prune(23 * HOUR, 24 * HOUR).unwrap().deleted, 0);
    let pruned = store.prune(24 * HOUR, 24 * HOUR).unwrap();
    assert!(
        pruned.deleted == marked.marked && pruned.freed > 15 << 20,
        "{pruned:?}"
    );
    assert!(blocks(&store, &new).unwrap() == new_blocks);
    assert!(files(&dir.path().join("doomed")).is_empty());
}

#[test]
fn a_save_beside_both_phases_of_prune_loses_nothing() {
    let (dir, one) = (tempfile::tempdir().unwrap(), golden(1, 20 << 20));
    let store = store(dir.path());
    let (old, sent) = save(&store, "lab", one.path()).unwrap();
    let (_, totals) = stream(one.path());
    // This save relies on packs that prune marks while it runs.
    let mut early = store.save("lab", "/").unwrap();
    store.remove(&old).unwrap();
    assert!(store.prune(0, 24 * HOUR).unwrap().marked > 0);
    // This one begins after the mark, and relies on none of them.
    let mut late = store.save("late", "/").unwrap();
    for block in &sent {
        early.block(block).unwrap();
        late.block(block).unwrap();
    }
    let early = early.finish(totals).unwrap();
    assert!(early.added() < 1000);
    assert_eq!(store.prune(25 * HOUR, 24 * HOUR).unwrap().deleted, 0);
    assert!(blocks(&store, &early).unwrap() == sent);
    let late = late.finish(totals).unwrap();
    assert!(late.added() > 20 << 20);
    assert!(blocks(&store, &late).unwrap() == sent);
    for now in [50, 75, 100] {
        store.prune(now * HOUR, 24 * HOUR).unwrap();
        assert!(blocks(&store, &early).unwrap() == sent);
        assert!(blocks(&store, &late).unwrap() == sent);
    }
}

#[test]
fn a_prune_killed_at_any_write_loses_nothing() {
    let (one, two) = (golden(1, 20 << 20), golden(2, 1 << 20));
    let operator = OperatorKey::random().unwrap();
    for writes in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::create(dir.path()).unwrap();
        let store = Store::create(Box::new(directory.clone()), operator.clone()).unwrap();
        let (old, _) = save(&store, "lab", one.path()).unwrap();
        let (new, sent) = save(&store, "lab", two.path()).unwrap();
        store.remove(&old).unwrap();
        let mortal = Mortal {
            inner: directory,
            writes_left: Arc::new(AtomicUsize::new(writes)),
        };
        let mortal = Store::open(Box::new(mortal), operator.clone()).unwrap();
        let done = mortal.prune(0, HOUR).and_then(|_| mortal.prune(HOUR, HOUR));
        assert!(blocks(&store, &new).unwrap() == sent);
        store.prune(HOUR, HOUR).unwrap();
        store.prune(2 * HOUR, HOUR).unwrap();
        assert!(blocks(&store, &new).unwrap() == sent);
        let (again, sent) = save(&store, "lab", one.path()).unwrap();
        assert!(blocks(&store, &again).unwrap() == sent);
        if done.is_ok() {
            assert!(writes > 3);
            return;
        }
    }
}

#[test]
fn a_version_is_copied_into_a_store_of_another_key() {
    let (here, there, golden) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        golden(7, 1 << 20),
    );
    let (from, into) = (store(here.path()), store(there.path()));
    let (version, sent) = save(&from, "lab", golden.path()).unwrap();
    let copy = from.copy(&version, &into).unwrap();
    assert_eq!((copy.image(), copy.totals()), ("lab", version.totals()));
    assert!(blocks(&into, &copy).unwrap() == sent);
}

/// No backend has a lock: both savers see an empty store, and both make its key.
#[test]
fn two_savers_who_begin_a_store_at_once_make_the_same_key() {
    let operator = OperatorKey::random().unwrap();
    let names = || {
        let dir = tempfile::tempdir().unwrap();
        let backend = Directory::create(dir.path()).unwrap();
        Store::create(Box::new(backend.clone()), operator.clone()).unwrap();
        let names = backend.list("keys/").unwrap();
        names.into_iter().map(|object| object.name).collect::<Vec<_>>()
    };
    assert_eq!(names(), names());
}
