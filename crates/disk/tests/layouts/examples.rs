//! Every file of `desc-examples/`: read, planned on the disk it names, and found sound there.

use std::fs;
use std::path::{Path, PathBuf};

use ka_disk::desc::{Desc, MIB, Size};
use ka_disk::layout::{Geometry, Source, plan};
use ka_disk::table::TableKind;
use uuid::Uuid;

use crate::oracles;

fn examples() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../desc-examples");
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "desc"))
        .collect();
    found.sort();
    found
}

/// Returns the disk in the line `# disk: 1T, 4096-byte sectors`.
fn disk_of(text: &str) -> Geometry {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("# disk: "))
        .expect("a line `# disk: SIZE`");
    let (size, sectors) = line.split_once(", ").unwrap_or((line, "512-byte sectors"));
    let Ok(Size::Bytes(disk_bytes)) = size.parse() else {
        panic!("no size: {size}")
    };
    let sector_size = sectors
        .strip_suffix("-byte sectors")
        .and_then(|size| size.parse().ok())
        .unwrap();
    Geometry {
        disk_bytes,
        sector_size,
    }
}

#[test]
fn every_example_is_found_sound_on_the_disk_it_names() {
    let examples = examples();
    assert!(examples.len() >= 10);
    for path in examples {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let desc = Desc::parse(&text, &name).unwrap_or_else(|error| panic!("{error}"));
        let geometry = disk_of(&text);
        let plan = plan(
            &Source::Desc(desc),
            &geometry,
            TableKind::Mbr,
            false,
            &mut Uuid::new_v4,
        )
        .unwrap_or_else(|error| panic!("{error}"));
        oracles::agree_with(&plan).unwrap_or_else(|error| panic!("{name}: {error}"));
        // None of them leaves more of the disk unused than the backup table takes.
        let used = plan
            .partitions()
            .iter()
            .map(|part| part.end_bytes())
            .max()
            .unwrap();
        assert!(used + 2 * MIB > geometry.disk_bytes, "{name} leaves space unused");
    }
}

#[test]
fn every_example_is_in_the_list_of_examples() {
    let list =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../desc-examples/README.md"))
            .unwrap();
    for path in examples() {
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(list.contains(&format!("[{name}]({name})")), "{name}");
    }
}
