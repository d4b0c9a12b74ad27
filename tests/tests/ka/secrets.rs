//! Secrets must not be in a log, a process list, an environment, a core dump or a file that others may read.
//! A real run is searched for its join code, as text and as the bytes in it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use ka_tests::lab::{Lab, Server};
use ka_tests::process::Running;
use ka_transport::JoinCode;

/// Every form in which the secret could appear.
struct Secret {
    code: String,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    fn of(server: &Server) -> Result<Self> {
        let code = fs::read_to_string(server.join_file())?.trim().to_owned();
        let secret = code.parse::<JoinCode>()?.secret;
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let json: Vec<_> = secret.iter().map(u8::to_string).collect();
        let forms = vec![
            // The code's last characters are the secret and nothing else: they are found even if the
            // beginning is cut off.
            code.as_bytes()[code.len() - 24..].to_vec(),
            hex.into_bytes(),
            json.join(",").into_bytes(),
            json.join(", ").into_bytes(),
            secret.to_vec(),
        ];
        Ok(Self { code, forms })
    }

    fn expect_absent(&self, bytes: &[u8], from: &str) -> Result<()> {
        for form in &self.forms {
            let found = bytes.windows(form.len()).any(|window| window == form);
            ensure!(!found, "{from} holds the run's secret");
        }
        Ok(())
    }
}

/// Insists that command line and environment of a process and of all its children do not have it.
fn expect_hidden(secret: &Secret, process: &Running) -> Result<()> {
    for pid in family(process.pid())? {
        for file in ["cmdline", "environ"] {
            let path = format!("/proc/{pid}/{file}");
            // A child may have ended meanwhile.
            if let Ok(bytes) = fs::read(&path) {
                secret.expect_absent(&bytes, &path)?;
            }
        }
    }
    Ok(())
}

fn family(root: u32) -> Result<Vec<u32>> {
    let mut family = vec![root];
    let mut looked = 0;
    while let Some(&pid) = family.get(looked) {
        looked += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten() {
            let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            family.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    Ok(family)
}

/// Insists that no file below a directory has it, except those in `private`, which only their owner may read.
fn expect_no_file_with(secret: &Secret, dir: &Path, private: &[PathBuf]) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let (path, meta) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        if meta.is_dir() {
            expect_no_file_with(secret, &path, private)?;
        } else if meta.is_file() {
            let bytes = fs::read(&path)?;
            if private.contains(&path) {
                ensure!(
                    meta.mode() & 0o077 == 0,
                    "{} has mode {:o}",
                    path.display(),
                    meta.mode()
                );
            } else {
                secret.expect_absent(&bytes, &path.display().to_string())?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_run_leaves_its_join_code_in_no_log_process_list_environment_or_readable_file() -> Result<()> {
    let lab = Lab::new("secrets", 3, None)?;
    let (log, go) = (lab.scratch().path().join("log"), lab.scratch().path().join("go"));
    let wait = format!(
        "while ! test -e {}; do sleep 0.1; done; echo content",
        go.display()
    );
    let mut server = lab.server(&["-n", "3", "-e", &wait, "--log-dir", &log.display().to_string()])?;
    let secret = Secret::of(&server)?;
    // One node has the code on its command line, one in its environment, one in a file; each has a child.
    let consumer = ["-e", "cat", "--log-dir"];
    let node_log = |number: usize| lab.scratch().path().join(format!("log-n{number}"));
    let mut nodes = vec![
        lab.stranger_program(1)?
            .args(["--join", &secret.code])
            .args(consumer)
            .arg(node_log(1))
            .spawn()?,
        lab.stranger_program(2)?
            .env("KA_JOIN", &secret.code)
            .args(consumer)
            .arg(node_log(2))
            .spawn()?,
        lab.client_program(3, &server)?
            .args(consumer)
            .arg(node_log(3))
            .spawn()?,
    ];
    server.run.wait_for("kainstall1:")?;
    for node in &mut nodes {
        let pid = node.pid();
        node.wait_until("its consumer runs", |_| Ok(family(pid)?.len() > 1))?;
        expect_hidden(&secret, node)?;
    }
    expect_hidden(&secret, &server.run)?;
    fs::write(&go, "")?;
    let join_file = server.join_file().to_owned();
    let outcome = crate::kit::finish(server, nodes)?;
    outcome.expect_success()?;
    for (ended, who) in outcome.nodes.iter().zip(["n1", "n2", "n3"]) {
        secret.expect_absent(ended.all().as_bytes(), who)?;
    }
    secret.expect_absent(outcome.server.all().as_bytes(), "what the server said to a log")?;
    outcome.server.says("--join-file")?;
    let state = lab.server_state();
    ensure!(
        fs::metadata(&state)?.permissions().mode() & 0o077 == 0,
        "others may look into the state directory"
    );
    expect_no_file_with(
        &secret,
        lab.scratch().path(),
        &[join_file, state.join("join-kainstall")],
    )
}
