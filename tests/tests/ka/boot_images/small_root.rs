//! Golden roots for boot images, and the tools that unpack and judge the images.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ka_tests::process::{Ended, Program};
use ka_tests::scratch::Scratch;
use ka_tests::{binaries, kernel};

/// Time limit for compressing tens of MiB on a busy machine.
const IMAGE_LIMIT: Duration = Duration::from_secs(600);

/// A golden root with few drivers, tools of its own, and a stand-in for the client.
pub(super) struct Small {
    pub(super) scratch: Scratch,
    pub(super) root: PathBuf,
    pub(super) client: PathBuf,
}

impl Small {
    pub(super) fn new(modules: &[&str]) -> Result<Self> {
        let scratch = Scratch::new("images")?;
        let root = scratch.dir("root")?;
        kernel::small(&root, modules)?;
        let client = scratch.path().join("client");
        compile(&client, "int main(void) { return 0; }", &["-static"])?;
        Ok(Self {
            scratch,
            root,
            client,
        })
    }

    pub(super) fn stage1(&self, args: &[&str]) -> Result<Vec<u8>> {
        let out = self.scratch.path().join("out");
        self.command("stage1", &out, args).run()?;
        Ok(fs::read(out.join("stage1.img"))?)
    }

    pub(super) fn command(&self, what: &str, out: &Path, args: &[&str]) -> Program {
        let program = initrd()
            .arg(what)
            .arg("-o")
            .arg(out)
            .arg("--root")
            .arg(&self.root);
        let program = if what == "stage1" {
            program.arg("--client").arg(&self.client)
        } else {
            program
        };
        program.args(args)
    }

    /// Runs a command that must fail, and returns its error line.
    pub(super) fn error(&self, what: &str, args: &[&str]) -> Result<String> {
        let out = self.scratch.path().join("nothing");
        let ended = self.command(what, &out, args).finish()?;
        let line = error_line(&ended)?;
        ensure!(!out.exists(), "{} was written all the same", out.display());
        Ok(line)
    }

    /// Adds the programs that every stage2 must have, copied with all they need from this machine.
    pub(super) fn add_host_tools(&self, names: &[&str]) -> Result<()> {
        for name in names {
            let found = Program::new("sh").args(["-c", "command -v \"$0\"", name]).run()?;
            let path = fs::canonicalize(found.trim())?;
            self.copy(&path, &Path::new("/usr/bin").join(name))?;
            for library in Program::new("ldd").arg(&path).run()?.split_whitespace() {
                if library.starts_with('/') {
                    self.copy(&fs::canonicalize(library)?, Path::new(library))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let to = self.root.join(to.strip_prefix("/")?);
        fs::create_dir_all(to.parent().context("a file lies in a directory")?)?;
        fs::copy(from, &to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        Ok(())
    }

    pub(super) fn stage2(&self, args: &[&str]) -> Result<(Vec<u8>, String)> {
        let out = self.scratch.path().join("stage2.img");
        let said = self.command("stage2", &out, args).run()?;
        Ok((fs::read(&out)?, said))
    }

    pub(super) fn unpack(&self, image: &[u8], name: &str) -> Result<PathBuf> {
        unpack(&self.scratch, image, name)
    }
}

pub(super) fn initrd() -> Program {
    let binary = binaries::path("ka-initrd").unwrap_or_else(|_| PathBuf::from("ka-initrd"));
    Program::new(binary).limit(IMAGE_LIMIT)
}

pub(super) fn compile(output: &Path, source: &str, args: &[&str]) -> Result<()> {
    let compiler = Program::new("cc").args(["-x", "c", "-o"]).arg(output).arg("-");
    compiler.args(args).input(source).run().map(drop)
}

/// Unpacks an image with zstd and GNU cpio into a directory of its own.
pub(super) fn unpack(scratch: &Scratch, image: &[u8], name: &str) -> Result<PathBuf> {
    let dir = scratch.dir(name)?;
    let file = scratch.path().join(format!("{name}.zst"));
    // The kernel ignores padding behind the frame; zstd would warn.
    let length = image
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    fs::write(&file, &image[..length.max(4)])?;
    let line =
        "cd \"$0\" && zstd -dcq \"$1\" | cpio --extract --quiet --make-directories --no-absolute-filenames";
    Program::new("sh").args(["-c", line]).arg(&dir).arg(&file).run()?;
    Ok(dir)
}

pub(super) fn error_line(ended: &Ended) -> Result<String> {
    ensure!(ended.code == Some(1), "{}: {}", ended.how(), ended.stderr);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    ensure!(
        lines.len() == 1 && lines[0].starts_with("error: "),
        "{}",
        ended.stderr
    );
    Ok(lines[0].to_owned())
}

/// Returns the names of the modules in an unpacked image, with `_`.
pub(super) fn modules_in(unpacked: &Path) -> Result<BTreeSet<String>> {
    let found = Program::new("find").arg(unpacked).args(["-name", "*.ko"]).run()?;
    let names = found.lines().filter_map(|path| {
        let name = Path::new(path).file_stem()?.to_str()?;
        Some(name.replace('-', "_"))
    });
    Ok(names.collect())
}

/// Insists, by kmod's own account, that the image has every module that one of its modules depends on and
/// that the root has.
pub(super) fn expect_complete(unpacked: &Path, root: &Path) -> Result<()> {
    let have = modules_in(unpacked)?;
    let there = modules_in(&root.join("lib/modules").join(kernel::release(root)?))?;
    let line = "find \"$0\" -name '*.ko' -exec modinfo -F depends {} +";
    let depends = Program::new("sh").args(["-c", line]).arg(unpacked).run()?;
    let wanted = depends
        .lines()
        .flat_map(|line| line.split(','))
        .filter(|name| !name.is_empty());
    for name in wanted {
        ensure!(
            have.contains(&name.replace('-', "_")) || !there.contains(&name.replace('-', "_")),
            "{name} is needed and missing"
        );
    }
    Ok(())
}

pub(super) fn index_lines(unpacked: &Path) -> Result<(PathBuf, String)> {
    let dir = unpacked.join("lib/modules").join(kernel::release(unpacked)?);
    let text = fs::read_to_string(dir.join("modules.dep"))?;
    Ok((dir, text))
}

/// Insists that every module of an image is that of the root, byte for byte with its signature, and in
/// `modules.dep`.
pub(super) fn expect_unchanged(unpacked: &Path, root: &Path) -> Result<()> {
    let (dir, dep) = index_lines(unpacked)?;
    ensure!(
        dep.lines().count() == modules_in(unpacked)?.len(),
        "modules.dep and the modules differ in number"
    );
    for path in dep
        .split(|c: char| c.is_whitespace() || c == ':')
        .filter(|word| !word.is_empty())
    {
        ensure!(dir.join(path).is_file(), "{path} is in modules.dep only");
        // Secure Boot needs the bytes that were signed, and the signature.
        let bytes = fs::read(dir.join(path))?;
        ensure!(
            bytes.ends_with(b"~Module signature appended~\n"),
            "{path} lost its signature"
        );
        let original = fs::read(root.join("lib/modules").join(kernel::release(root)?).join(path))?;
        ensure!(bytes == original, "{path} was changed");
    }
    Ok(())
}
