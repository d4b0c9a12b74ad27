//! `ka-server key`: it shows the key by its fingerprint and changes it only while no server uses it. Codes
//! made with an old key are worth nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use ka_tests::binaries;
use ka_tests::lab::Lab;
use ka_tests::process::Program;

fn key(lab: &Lab, what: &str) -> Result<Program> {
    let program = Program::new(binaries::path("ka-server")?).args(["key", what]);
    Ok(program.arg("--state-dir").arg(state(lab)))
}

fn state(lab: &Lab) -> PathBuf {
    lab.server_state()
}

#[test]
fn a_key_is_rotated_only_while_no_run_uses_it_and_old_codes_end_with_it() -> Result<()> {
    let lab = Lab::new("key-rotate", 1, None)?;
    let nothing = key(&lab, "rotate")?.finish()?;
    nothing.expect(1)?.says("holds no server key")?;
    ensure!(!state(&lab).exists(), "a refused command made something");

    let server = lab.server(&["-n", "1", "-e", "echo precious"])?;
    let before = key(&lab, "show")?.run()?;
    let busy = key(&lab, "rotate")?.finish()?;
    busy.expect(1)?.says("let it end")?;
    ensure!(
        key(&lab, "show")?.run()? == before,
        "a refused rotation changed the key"
    );
    let old_code = server.join_file().to_owned();
    let kept = fs::read_to_string(&old_code)?;
    drop(server);

    let rotated = key(&lab, "rotate")?.finish()?;
    rotated.expect(0)?;
    let fingerprint = before.split_whitespace().next().context("a fingerprint")?;
    rotated
        .says(fingerprint)?
        .says("1 join codes of earlier runs removed")?;
    let after = key(&lab, "show")?.run()?;
    ensure!(
        !after.starts_with(fingerprint) && after.contains("(rotated away)"),
        "{after}"
    );

    // A node that holds the old code refuses the same server with its new key, and gets nothing.
    let server = lab.server(&["-n", "1", "-e", "echo precious"])?;
    let stale = lab.scratch().path().join("stale");
    fs::write(&stale, kept)?;
    fs::set_permissions(&stale, fs::Permissions::from_mode(0o600))?;
    let late = lab
        .stranger_program(1)?
        .args([
            "-h",
            ka_tests::netns::GOLDEN_ADDRESS,
            "-e",
            "cat",
            "--retries",
            "1",
            "--join-file",
        ])
        .arg(&stale)
        .finish()?;
    late.expect(1)?.says("another key than the join code says")?;
    ensure!(!late.all().contains("precious"), "{}", late.all());
    let node = lab.client(1, &server, &["-e", "cat"])?;
    let outcome = crate::kit::finish(server, vec![node])?;
    outcome.expect_success()?;
    outcome.nodes[0].says("precious").map(drop)
}

/// Any program may answer at the address: the node checks the key first, and sends nothing to another one.
#[test]
fn a_server_with_another_key_is_refused_by_the_node() -> Result<()> {
    let lab = Lab::new("key-false", 2, None)?;
    let server = lab.server(&["-n", "1", "-e", "echo precious"])?;
    let false_state = lab.scratch().path().join("false-state");
    let mut impostor = Program::new(binaries::path("ka-server")?)
        .args(["-n", "1", "-e", "echo poison", "--state-dir"])
        .arg(&false_state)
        .inside(lab.network().node(2))
        .spawn()?;
    impostor.wait_for("Nodes join with")?;
    let refused = lab
        .client_program(1, &server)?
        .args([
            "-h",
            &ka_tests::netns::node_address(2),
            "-e",
            "cat",
            "--retries",
            "1",
        ])
        .finish()?;
    refused.expect(1)?.says("another key than the join code says")?;
    ensure!(!refused.all().contains("poison"), "{}", refused.all());
    ensure!(!impostor.said().contains("joined"), "{}", impostor.said());
    drop(impostor);
    let node = lab.client(1, &server, &["-e", "cat"])?;
    crate::kit::finish(server, vec![node])?.expect_success()
}
