//! `cargo xtask repository`: an apt and a dnf repository of packages, both signed, as plain directories for any web server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ka_tests::process::Program;
use tempfile::TempDir;

use crate::cli::RepositoryOptions;

/// The name of the distribution in the apt repository, `suites` of a client.
const SUITE: &str = "stable";
/// The public key, in both repositories' common directory: for `Signed-By` of apt and for `gpgkey` of dnf.
const PUBLIC_KEY: &str = "ka.asc";

/// Makes or renews both repositories in `--out`, and prints what a client needs.
///
/// # Errors
/// There is no package, or a tool is missing or fails.
pub(crate) fn run(options: &RepositoryOptions) -> Result<()> {
    let packages = std::path::absolute(&options.packages).context("--packages")?;
    let out = std::path::absolute(&options.out).context("--out")?;
    let keyring = Keyring::new(&options.key)?;
    let url = match &options.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("file://{}", out.display()),
    };
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    keyring.export(&out.join(PUBLIC_KEY))?;
    apt(&packages, &out.join("apt"), &keyring)?;
    dnf(&packages, &out.join("rpm"), &keyring)?;
    let sources = apt_sources(&url, &out.join(PUBLIC_KEY))?;
    write(&out.join("ka.sources"), &sources)?;
    write(&out.join("ka.repo"), &dnf_repo(&url))?;
    println!(
        "{}\n{}",
        out.join("ka.sources").display(),
        out.join("ka.repo").display()
    );
    Ok(())
}

/// Signs with one key, in a directory of GnuPG that goes with it.
#[derive(Debug)]
struct Keyring {
    /// In /tmp: a socket lies in it, and the paths of sockets are short.
    home: TempDir,
    fingerprint: String,
}

impl Keyring {
    /// Reads the secret key in a file; makes it when there is no such file.
    fn new(file: &Path) -> Result<Self> {
        let home = tempfile::Builder::new()
            .prefix("ka-gnupg-")
            .tempdir()
            .context("making a directory for gpg")?;
        let mut keyring = Self {
            home,
            fingerprint: String::new(),
        };
        if file.is_file() {
            keyring.gpg().arg("--import").arg(file).run().with_context(|| {
                format!(
                    "--key {}: give a secret key as `gpg --armor --export-secret-keys` writes it",
                    file.display()
                )
            })?;
        } else {
            // RSA, because the rpm of RHEL 8 knows no Ed25519.
            keyring
                .gpg()
                .args([
                    "--passphrase",
                    "",
                    "--quick-generate-key",
                    "KA packages",
                    "rsa3072",
                    "sign",
                    "never",
                ])
                .run()
                .context("making a key")?;
            let secret = keyring.gpg().args(["--armor", "--export-secret-keys"]).run()?;
            write(file, "")?;
            fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
            write(file, &secret)?;
            println!("made a key without a passphrase, to be kept: {}", file.display());
        }
        let listed = keyring
            .gpg()
            .args(["--list-secret-keys", "--with-colons"])
            .run()?;
        let fingerprint = listed.lines().find_map(|line| line.strip_prefix("fpr:"));
        keyring.fingerprint = fingerprint
            .map(|rest| rest.trim_matches(':').to_owned())
            .with_context(|| format!("--key {}: there is no secret key in it", file.display()))?;
        Ok(keyring)
    }

    fn gpg(&self) -> Program {
        Program::new("gpg")
            .args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--homedir"])
            .arg(self.home.path())
    }

    /// Writes the public key.
    fn export(&self, to: &Path) -> Result<()> {
        let public = self
            .gpg()
            .args(["--armor", "--export", &self.fingerprint])
            .run()?;
        write(to, &public)
    }

    /// Signs a file: `words` say how, `to` is the signature.
    fn sign(&self, words: &[&str], file: &Path, to: &Path) -> Result<()> {
        self.gpg()
            .args(["--yes", "--local-user", &self.fingerprint])
            .args(words)
            .arg("--output")
            .args([to, file])
            .run()
            .map(drop)
    }

    /// Signs an RPM in place.
    fn sign_rpm(&self, package: &Path) -> Result<()> {
        Program::new("rpmsign")
            // Debian's rpm looks for a gpg2 that Debian no longer has.
            .args(["--define", "__gpg /usr/bin/gpg"])
            .args(["--define", &format!("_gpg_name {}", self.fingerprint)])
            .args(["--define", &format!("_gpg_path {}", self.home.path().display())])
            .arg("--addsign")
            .arg(package)
            .env("GNUPGHOME", self.home.path())
            .run()
            .map(drop)
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        // gpg starts an agent that would outlive its directory.
        let kill = Program::new("gpgconf").arg("--homedir").arg(self.home.path());
        let _ = kill.args(["--kill", "all"]).run();
    }
}

fn apt(packages: &Path, root: &Path, keyring: &Keyring) -> Result<()> {
    copy_all(packages, &root.join("pool"), "deb")?;
    let dist = format!("dists/{SUITE}");
    let binary = format!("{dist}/main/binary-amd64");
    fs::create_dir_all(root.join(&binary))
        .with_context(|| format!("making {}", root.join(&binary).display()))?;
    let inside = |words: &[&str]| Program::new("env").arg("-C").arg(root).args(words).run();
    let list = inside(&["apt-ftparchive", "packages", "pool"])?;
    let path = root.join(&binary).join("Packages");
    write(&path, &list)?;
    Program::new("gzip").args(["-9nkf"]).arg(&path).run()?;
    // Clients that read an old Release while the new one is put here find the lists of both (by-hash).
    for path in [path.clone(), path.with_extension("gz")] {
        let said = Program::new("sha256sum").arg(&path).run()?;
        let hash = said.split_whitespace().next().unwrap_or_default();
        let by_hash = root.join(&binary).join("by-hash/SHA256");
        fs::create_dir_all(&by_hash)?;
        fs::copy(&path, by_hash.join(hash))?;
    }
    let settings = [
        format!("Suite={SUITE}"),
        format!("Codename={SUITE}"),
        "Origin=KA".to_owned(),
        "Label=KA".to_owned(),
        "Components=main".to_owned(),
        "Architectures=amd64".to_owned(),
        "Acquire-By-Hash=yes".to_owned(),
    ];
    // Release must not list itself, nor what only by-hash names.
    let dist = root.join(dist);
    for old in ["Release", "InRelease", "Release.gpg"] {
        let _ = fs::remove_file(dist.join(old));
    }
    let mut words = vec!["apt-ftparchive".to_owned()];
    for setting in settings {
        words.extend(["-o".to_owned(), format!("APT::FTPArchive::Release::{setting}")]);
    }
    words.extend(["release".to_owned(), dist.display().to_string()]);
    let release = Program::new("env").args(words).run()?;
    let release: String = release
        .lines()
        .filter(|line| !line.contains("/by-hash/"))
        .map(|line| format!("{line}\n"))
        .collect();
    let path = dist.join("Release");
    write(&path, &release)?;
    keyring.sign(&["--clear-sign"], &path, &dist.join("InRelease"))?;
    keyring.sign(&["--armor", "--detach-sign"], &path, &dist.join("Release.gpg"))
}

fn dnf(packages: &Path, root: &Path, keyring: &Keyring) -> Result<()> {
    for package in copy_all(packages, root, "rpm")? {
        keyring.sign_rpm(&package)?;
    }
    Program::new("createrepo_c")
        .args(["--quiet", "--no-database"])
        .arg(root)
        .run()?;
    let index = root.join("repodata/repomd.xml");
    keyring.sign(
        &["--armor", "--detach-sign"],
        &index,
        &index.with_extension("xml.asc"),
    )
}

/// Copies all packages of a kind, and returns the copies.
fn copy_all(from: &Path, to: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    let mut copies = Vec::new();
    let entries = fs::read_dir(from).with_context(|| format!("--packages {}", from.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == ending) {
            let copy = to.join(path.file_name().unwrap_or_default());
            fs::copy(&path, &copy).with_context(|| format!("copying {}", path.display()))?;
            copies.push(copy);
        }
    }
    ensure!(
        !copies.is_empty(),
        "--packages {}: there is no .{ending} in it; `cargo xtask package` makes one",
        from.display()
    );
    copies.sort();
    Ok(copies)
}

/// The file for `/etc/apt/sources.list.d`, sources.list(5), with the key in it: nothing else is to be fetched first.
fn apt_sources(url: &str, key: &Path) -> Result<String> {
    let key = fs::read_to_string(key).with_context(|| format!("reading {}", key.display()))?;
    let key: String = key
        .lines()
        .map(|line| {
            if line.is_empty() {
                " .\n".to_owned()
            } else {
                format!(" {line}\n")
            }
        })
        .collect();
    Ok(format!(
        "Types: deb\nURIs: {url}/apt\nSuites: {SUITE}\nComponents: main\nArchitectures: amd64\nSigned-By:\n{key}"
    ))
}

/// The file for `/etc/yum.repos.d`.
fn dnf_repo(url: &str) -> String {
    format!(
        "[ka]\nname=KA\nbaseurl={url}/rpm\nenabled=1\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey={url}/{PUBLIC_KEY}\n"
    )
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
