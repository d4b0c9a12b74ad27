//! `ka-image`: a tree saved, listed, verified, exported, pruned; killed, full and damaged stores.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::binaries;
use ka_tests::process::{Ended, Program};
use ka_tests::scratch::Scratch;

/// A store, its key, and a small golden tree.
struct Room {
    scratch: Scratch,
}

impl Room {
    fn new(name: &str) -> Result<Self> {
        let room = Self {
            scratch: Scratch::new(name)?,
        };
        let golden = room.path("golden");
        fs::create_dir_all(golden.join("etc/deep"))?;
        fs::write(golden.join("etc/motd"), "hello\n")?;
        fs::write(golden.join("etc/deep/big"), noise(3 << 20))?;
        std::os::unix::fs::symlink("motd", golden.join("etc/link"))?;
        fs::hard_link(golden.join("etc/motd"), golden.join("etc/name"))?;
        Ok(room)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn arguments(&self) -> [String; 4] {
        let text = |name| self.path(name).display().to_string();
        ["--store".into(), text("store"), "--key".into(), text("key")]
    }

    fn image(&self, args: &[&str]) -> Result<Ended> {
        Program::new(binaries::path("ka-image")?)
            .args(self.arguments())
            .args(args)
            .finish()
    }

    fn save(&self) -> Result<Ended> {
        self.image(&[
            "save",
            "lab",
            "--root",
            &self.path("golden").display().to_string(),
        ])
    }

    /// The only pack of the store.
    fn pack(&self) -> Result<PathBuf> {
        let mut packs = fs::read_dir(self.path("store/packs"))?;
        Ok(packs.next().context("no pack")??.path())
    }
}

/// Bytes that do not shrink (xorshift).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(len / 8).flatten().collect()
}

/// `diff` and the listing of both trees with owner, mode, links and times.
fn same(one: &Path, other: &Path) -> Result<()> {
    let diff = Program::new("diff")
        .args(["-r", "--no-dereference"])
        .arg(one)
        .arg(other);
    diff.finish()?.expect(0)?;
    let listing = |dir: &Path| {
        let format = "%P %y %m %U %G %n %l %T@\n";
        let found = Program::new("find").arg(dir).args(["-printf", format]).finish()?;
        let mut lines: Vec<_> = found.stdout.lines().map(str::to_owned).collect();
        lines.sort();
        anyhow::Ok(lines)
    };
    ensure!(listing(one)? == listing(other)?, "the listings differ");
    Ok(())
}

#[test]
fn a_tree_is_saved_listed_shown_verified_and_exported() -> Result<()> {
    let room = Room::new("image")?;
    room.save()?.expect(0)?.says("saved lab@1-")?;
    fs::write(room.path("golden/etc/motd"), "other\n")?;
    room.save()?.expect(0)?.says("saved lab@2-")?;
    room.image(&["list"])?.expect(0)?.says("lab@1-")?.says("lab@2-")?;
    room.image(&["show", "lab"])?.expect(0)?.says("tree digest")?;
    room.image(&["verify"])?
        .expect(0)?
        .says("2 versions")?
        .says("all good")?;
    let (one, two) = (room.path("one"), room.path("two"));
    let export = |name: &str, dir: &Path| room.image(&["export", name, "--dir", &dir.display().to_string()]);
    export("lab@1", &one)?.expect(0)?;
    export("lab", &two)?.expect(0)?;
    same(&room.path("golden"), &two)?;
    ensure!(fs::read_to_string(one.join("etc/motd"))? == "hello\n");
    export("lab", &two)?.expect(1)?.says("is not empty")?;
    Ok(())
}

#[test]
fn a_flipped_bit_is_named_with_pack_and_version() -> Result<()> {
    let room = Room::new("image-bit")?;
    room.save()?.expect(0)?;
    let pack = room.pack()?;
    let mut bytes = fs::read(&pack)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes)?;
    let name = pack
        .file_name()
        .context("a pack has a name")?
        .to_string_lossy()
        .into_owned();
    room.image(&["verify"])?.expect(3)?.says(&name)?.says("lab@1-")?;
    let out = room.path("out").display().to_string();
    room.image(&["export", "lab", "--dir", &out])?
        .expect(3)?
        .says("is incomplete")?;
    Ok(())
}

#[test]
fn a_killed_save_leaves_the_older_versions_and_no_new_one() -> Result<()> {
    let room = Room::new("image-kill")?;
    room.save()?.expect(0)?;
    fs::write(room.path("golden/more"), noise(100 << 20))?;
    for millis in [5, 50, 150, 300] {
        let mut save = Command::new(binaries::path("ka-image")?)
            .args(room.arguments())
            .args(["save", "killed", "--root"])
            .arg(room.path("golden"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(millis));
        save.kill()?;
        let ended_before = save.wait()?.success();
        let list = room.image(&["list"])?;
        list.expect(0)?.says("lab@1-")?;
        ensure!(
            ended_before || !list.stdout.contains("killed@"),
            "{}",
            list.stdout
        );
        room.image(&["verify"])?.expect(0)?.says("all good")?;
        if ended_before {
            break;
        }
    }
    room.save()?.expect(0)?.says("saved lab@2-")?;
    Ok(())
}

#[test]
fn a_full_disk_is_one_line_and_older_versions_stay() -> Result<()> {
    let room = Room::new("image-full")?;
    let store = room.path("store").display().to_string();
    fs::create_dir(&store)?;
    let image = format!(
        "{} {}",
        binaries::path("ka-image")?.display(),
        room.arguments().join(" ")
    );
    let golden = room.path("golden").display().to_string();
    fs::write(room.path("more"), noise(30 << 20))?;
    let script = format!(
        "set -e; mount -t tmpfs -o size=8m none {store}; {image} save lab --root {golden}; mv {golden}/../more {golden}; \
         {image} save lab --root {golden} || echo code $?; {image} list; {image} verify; ls {store}/unfinished"
    );
    let ended = Program::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .finish()?;
    ended.expect(0)?.says("code 1")?.says("1 versions")?;
    ensure!(
        ended.stderr.lines().count() == 1 && ended.stderr.contains("No space left"),
        "{}",
        ended.stderr
    );
    ensure!(!ended.stdout.contains("lab@2"), "{}", ended.stdout);
    Ok(())
}

#[test]
fn prune_frees_what_was_removed_in_two_phases() -> Result<()> {
    let room = Room::new("image-prune")?;
    room.save()?.expect(0)?;
    fs::remove_file(room.path("golden/etc/deep/big"))?;
    room.save()?.expect(0)?;
    room.image(&["prune", "--keep", "1"])?
        .expect(0)?
        .says("removed lab@1-")?
        .says("1 packs marked")?;
    room.image(&["prune"])?.expect(0)?.says("0 deleted")?;
    room.image(&["prune", "--grace-hours", "0"])?
        .expect(0)?
        .says("1 deleted, 3.2 MB freed")?;
    room.image(&["verify"])?.expect(0)?.says("1 versions")?;
    Ok(())
}

#[test]
fn a_wrong_store_or_key_is_one_line() -> Result<()> {
    let room = Room::new("image-wrong")?;
    room.image(&["list"])?
        .expect(1)?
        .says("holds no store of images")?;
    room.save()?.expect(0)?;
    room.image(&["show", "none"])?
        .expect(1)?
        .says("the store has no image none")?;
    room.image(&["show", "lab@7"])?
        .expect(1)?
        .says("has no version 7")?;
    room.image(&["save", "a/b", "--root", "/etc"])?
        .expect(1)?
        .says("is no name of an image")?;
    fs::write(room.path("key"), "ab".repeat(32))?;
    room.image(&["list"])?
        .expect(1)?
        .says("no image that this operator's key opens")?;
    fs::remove_file(room.path("key"))?;
    room.image(&["list"])?
        .expect(1)?
        .says("it is the key of the store")?;
    Ok(())
}
