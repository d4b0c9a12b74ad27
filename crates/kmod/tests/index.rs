//! Whole `lib/modules` directories, valid and damaged.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of #[test]")]

use std::fs;
use std::io::Write as _;
use std::path::Path;

use ka_kmod::{Index, ModuleName, hardware_modaliases, read_module};
use proptest::prelude::*;
use tempfile::TempDir;

/// A small directory of kernel modules.
fn small() -> TempDir {
    with(&[
        (
            "modules.dep",
            "kernel/net/e1000.ko.xz:\n\
             kernel/net/r8169.ko: kernel/net/phy/libphy.ko kernel/net/mdio/mdio-bus.ko\n\
             kernel/net/phy/libphy.ko: kernel/net/mdio/mdio-bus.ko\n\
             kernel/net/mdio/mdio-bus.ko:\n\
             kernel/net/phy/realtek.ko: kernel/net/phy/libphy.ko kernel/net/mdio/mdio-bus.ko\n\
             kernel/fs/ext4.ko: kernel/lib/crc16.ko\n\
             kernel/lib/crc16.ko:\n\
             kernel/crypto/crc32c_generic.ko:\n\
             kernel/net/after-r8169.ko: kernel/net/r8169.ko\n",
        ),
        (
            "modules.alias",
            "# Aliases extracted from modules themselves.\n\
             alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000\n\
             alias pci:v*d*sv*sd*bc02sc00i* not_there\n\
             alias pci:v000010ECd00008168sv*sd*bc*sc*i* r8169\n\
             alias pci:v000010ECd*sv*sd*bc*sc*i* after_r8169\n\
             alias pci:v000010ECd00008168* r8169\n\
             alias crypto-crc32c crc32c_generic\n\
             alias fs-ext4 ext4\n",
        ),
        (
            "modules.softdep",
            "softdep r8169 pre: realtek post: after-r8169\n\
             softdep ext4 pre: crypto-crc32c crypto-sha1\n\
             softdep nothing ignored names\n",
        ),
        ("modules.builtin", "kernel/drivers/virtio/virtio_pci.ko\n"),
        (
            "modules.builtin.modinfo",
            "virtio_pci.license=GPL\0sha1_generic.alias=crypto-sha1\0virtio_pci.firmware=a/b.bin\0",
        ),
        (
            "modules.order",
            "kernel/crypto/crc32c_generic.ko\nkernel/lib/crc16.ko\n",
        ),
    ])
}

fn with(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn names(index: &Index, wanted: &[&str]) -> Vec<String> {
    let wanted: Vec<ModuleName> = wanted.iter().map(|name| ModuleName::new(name)).collect();
    let order = index.with_dependencies(&wanted);
    order.iter().map(|module| module.name.to_string()).collect()
}

fn error(files: &[(&str, &str)]) -> String {
    let dir = with(files);
    let err = Index::load(dir.path()).unwrap_err().to_string();
    assert!(!err.contains('\n'));
    err
}

#[test]
fn dependencies_come_first_and_soft_ones_where_they_ask() {
    let dir = small();
    let index = Index::load(dir.path()).unwrap();
    assert_eq!(
        names(&index, &["r8169"]),
        ["mdio_bus", "libphy", "realtek", "r8169", "after_r8169"]
    );
    // crypto-crc32c is an alias; crypto-sha1 is built in.
    assert_eq!(names(&index, &["ext4"]), ["crc32c_generic", "crc16", "ext4"]);
    assert_eq!(names(&index, &["virtio_pci", "unknown"]), [""; 0]);
    assert_eq!(names(&index, &["mdio-bus", "mdio_bus"]), ["mdio_bus"]);
}

#[test]
fn a_modalias_finds_all_its_modules_in_file_order() {
    let dir = small();
    let index = Index::load(dir.path()).unwrap();
    let found = index.for_modalias("pci:v000010ECd00008168sv00001849sd00008168bc02sc00i00");
    assert_eq!(found, [ModuleName::new("r8169"), ModuleName::new("after-r8169")]);
    assert!(index.for_modalias("pci:v0000FFFFd0000").is_empty());
    assert_eq!(index.resolve("fs-ext4"), [ModuleName::new("ext4")]);
    assert!(index.resolve("crypto-sha1").is_empty());
    assert!(index.knows_builtin("crypto-sha1"));
    assert_eq!(
        index.builtin_firmware(&[ModuleName::new("virtio_pci")].into()),
        ["a/b.bin"]
    );
}

#[test]
fn modules_come_in_the_order_of_the_kernels_build() {
    let dir = small();
    let index = Index::load(dir.path()).unwrap();
    assert_eq!(index.modules()[0].name, ModuleName::new("crc32c_generic"));
    assert_eq!(index.modules()[1].name, ModuleName::new("crc16"));
    assert_eq!(index.below(&["kernel/net/phy", "kernel/fs"]).len(), 3);
    assert_eq!(
        index.module(&"e1000".into()).unwrap().path,
        Path::new("kernel/net/e1000.ko.xz")
    );
}

#[test]
fn cycles_end() {
    let dir = with(&[
        ("modules.dep", "a.ko: b.ko\nb.ko: c.ko\nc.ko: a.ko\nd.ko:\n"),
        ("modules.alias", ""),
        (
            "modules.softdep",
            "softdep a pre: d\nsoftdep d pre: a post: d a\n",
        ),
    ]);
    let index = Index::load(dir.path()).unwrap();
    assert_eq!(names(&index, &["a"]).len(), 4);
}

#[test]
fn a_soft_dependency_never_overrules_a_hard_one() {
    // `tool` wants `base` first; `base` softly wants `tool` first.
    let dir = with(&[
        ("modules.dep", "tool.ko: base.ko\nbase.ko:\n"),
        ("modules.alias", ""),
        ("modules.softdep", "softdep base pre: tool\n"),
    ]);
    let index = Index::load(dir.path()).unwrap();
    assert_eq!(names(&index, &["base"]), ["base", "tool"]);
    assert_eq!(names(&index, &["tool"]), ["base", "tool"]);
}

#[test]
fn weak_dependencies_are_for_images_only() {
    let dir = with(&[
        ("modules.dep", "a.ko:\nb.ko: c.ko\nc.ko:\n"),
        ("modules.alias", ""),
        ("modules.weakdep", "weakdep a b\n"),
    ]);
    let index = Index::load(dir.path()).unwrap();
    assert_eq!(index.with_dependencies(&["a".into()]).len(), 1);
    assert_eq!(index.with_all_dependencies(&["a".into()]).len(), 3);
}

#[test]
fn a_very_long_chain_of_dependencies_is_no_danger() {
    let count = 20_000;
    let dep: String = (0..count)
        .map(|n| {
            if n + 1 < count {
                format!("m{n}.ko: m{}.ko\n", n + 1)
            } else {
                format!("m{n}.ko:\n")
            }
        })
        .collect();
    let dir = with(&[("modules.dep", &dep), ("modules.alias", "")]);
    let index = Index::load(dir.path()).unwrap();
    let order = names(&index, &["m0"]);
    assert_eq!((order.len(), order[0].as_str()), (count, "m19999"));
}

#[test]
fn a_subset_reads_back_as_what_was_chosen() {
    let dir = small();
    let index = Index::load(dir.path()).unwrap();
    let chosen = index.with_dependencies(&["r8169".into(), "e1000".into()]);
    let files = index.subset(&chosen);
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let smaller = with(&files);
    let smaller = Index::load(smaller.path()).unwrap();
    assert_eq!(smaller.modules().len(), chosen.len());
    assert_eq!(names(&smaller, &["r8169"]), names(&index, &["r8169"]));
    // The image has the file uncompressed.
    assert_eq!(
        smaller.module(&"e1000".into()).unwrap().path,
        Path::new("kernel/net/e1000.ko")
    );
    assert!(smaller.resolve("fs-ext4").is_empty());
    assert_eq!(
        smaller
            .for_modalias("pci:v000010ECd00008168sv0sd0bc02sc00i00")
            .len(),
        2
    );
}

#[test]
fn errors_name_file_and_line() {
    let alias = ("modules.alias", "");
    let cases: [(&str, &[(&str, &str)]); 8] = [
        (
            "modules.dep:2: expected MODULE: DEPENDENCIES",
            &[("modules.dep", "a.ko:\nb.ko\n"), alias],
        ),
        (
            "modules.dep:1: b.ko has no line of its own",
            &[("modules.dep", "a.ko: b.ko\n"), alias],
        ),
        (
            "modules.dep:1: a.txt is no module",
            &[("modules.dep", "a.txt:\n"), alias],
        ),
        (
            "modules.dep:1: ../a.ko lies outside",
            &[("modules.dep", "../a.ko:\n"), alias],
        ),
        (
            "modules.dep:2: a second module a_b",
            &[("modules.dep", "a-b.ko:\nx/a_b.ko:\n"), alias],
        ),
        (
            "modules.alias:1: expected alias PATTERN MODULE",
            &[("modules.dep", ""), ("modules.alias", "alias x\n")],
        ),
        (
            "modules.softdep:1: expected softdep MODULE",
            &[("modules.dep", ""), alias, ("modules.softdep", "soft\n")],
        ),
        ("modules.dep is missing; `depmod", &[alias]),
    ];
    for (expected, files) in cases {
        let err = error(files);
        assert!(err.contains(expected), "{err:?} lacks {expected:?}");
    }
    let dir = with(&[("modules.alias", "")]);
    fs::write(dir.path().join("modules.dep"), b"a.ko:\n\xff.ko:\n").unwrap();
    assert!(
        Index::load(dir.path())
            .unwrap_err()
            .to_string()
            .contains("modules.dep:2: not UTF-8")
    );
}

#[test]
fn modules_are_read_however_they_are_compressed() {
    let plain: Vec<u8> = b"\x7fELF"
        .iter()
        .copied()
        .chain((0..100_000u32).map(|n| (n % 251) as u8))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
    xz.write_all(&plain).unwrap();
    let files = [
        ("a.ko", plain.clone()),
        ("a.ko.gz", gz.finish().unwrap()),
        ("a.ko.xz", xz.finish().unwrap()),
        ("a.ko.zst", zstd::encode_all(&plain[..], 19).unwrap()),
    ];
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read_module(&path).unwrap(), plain, "{name}");
        if name != "a.ko" {
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            let err = read_module(&path).unwrap_err().to_string();
            assert!(
                err.contains(name) && err.contains("cannot be decompressed"),
                "{err}"
            );
        }
    }
    let text = dir.path().join("b.ko");
    fs::write(&text, "no module").unwrap();
    assert!(
        read_module(&text)
            .unwrap_err()
            .to_string()
            .contains("is no ELF file")
    );
}

#[test]
fn hardware_is_found_wherever_it_hangs() {
    let sys = tempfile::tempdir().unwrap();
    let nic = sys.path().join("devices/pci0000:00/0000:00:03.0");
    fs::create_dir_all(nic.join("virtio0")).unwrap();
    fs::write(nic.join("modalias"), "pci:v00001AF4d00001000\n").unwrap();
    fs::write(nic.join("virtio0/modalias"), "virtio:d00000001v00001AF4\n").unwrap();
    fs::create_dir_all(sys.path().join("devices/platform/empty")).unwrap();
    fs::write(sys.path().join("devices/platform/empty/modalias"), "\n").unwrap();
    std::os::unix::fs::symlink("..", nic.join("subsystem")).unwrap();
    assert_eq!(
        hardware_modaliases(sys.path()),
        ["pci:v00001AF4d00001000", "virtio:d00000001v00001AF4"]
    );
    assert!(hardware_modaliases(Path::new("/nowhere/at/all")).is_empty());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(dep in "[a-c.ko:/ \n]{0,80}", alias in "(alias )?[a-c*\\[ \n]{0,40}", soft in "(softdep )?[a-c: \n]{0,40}") {
        let dir = with(&[("modules.dep", &dep), ("modules.alias", &alias), ("modules.softdep", &soft)]);
        if let Ok(index) = Index::load(dir.path()) {
            let all: Vec<ModuleName> = index.modules().iter().map(|module| module.name.clone()).collect();
            prop_assert_eq!(index.with_dependencies(&all).len(), all.len());
        }
    }

    /// Random graphs: every reachable module is listed once, and without cycles each comes after its
    /// dependencies.
    #[test]
    fn whatever_a_module_needs_is_there_before_it(edges in proptest::collection::vec((0usize..12, 0usize..12), 0..40), soft in proptest::collection::vec((0usize..12, 0usize..12), 0..10)) {
        let mut dep = String::new();
        for n in 0..12 {
            dep += &format!("m{n}.ko:");
            // Dependencies lead only to smaller numbers, so there are no cycles.
            for (_, need) in edges.iter().filter(|(from, to)| *from == n && to < from) {
                dep += &format!(" m{need}.ko");
            }
            dep += "\n";
        }
        let soft: String = soft.iter().map(|(from, to)| format!("softdep m{from} pre: m{to}\n")).collect();
        let dir = with(&[("modules.dep", &dep), ("modules.alias", ""), ("modules.softdep", &soft)]);
        let index = Index::load(dir.path()).unwrap();
        let order = names(&index, &["m11", "m5"]);
        for (from, to) in edges.iter().filter(|(from, to)| to < from) {
            let at = |n: &usize| order.iter().position(|name| *name == format!("m{n}"));
            if let Some(place) = at(from) {
                prop_assert!(at(to).is_some_and(|before| before < place), "m{} needs m{}: {:?}", from, to, order);
            }
        }
    }
}
