//! The desc grammar: the lines of the original KA method, KA's additions, and every refusal.

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::*;

fn parse(text: &str) -> Desc {
    Desc::parse(text, "desc").unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(text: &str) -> String {
    Desc::parse(text, "desc").expect_err(text).to_string()
}

#[test]
fn the_first_example_of_the_original_reads_as_it_was_meant() {
    let desc = parse(
        "# sda1 = swap, sda2 = root, sda3 = extended, sda5 = /home\n\
         swap 7993\nlinux 29996\nextended fill\nlogical linux fill\n",
    );
    let numbered = desc.numbered();
    let seen: Vec<_> = numbered
        .iter()
        .map(|(number, entry)| (*number, entry.line, entry.kind.to_string(), entry.size))
        .collect();
    assert_eq!(
        seen,
        [
            (1, 2, "swap".to_owned(), Size::Mib(7993)),
            (2, 3, "linux".to_owned(), Size::Mib(29996)),
            (3, 4, "extended".to_owned(), Size::Fill),
            (5, 5, "linux".to_owned(), Size::Fill),
        ]
    );
}

#[test]
fn the_second_example_numbers_its_logical_partitions_from_five() {
    let desc = parse("linux 3500\nextended fill\nlogical swap 500\nlogical linux fill\n");
    let numbers: Vec<_> = desc.numbered().iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 5, 6]);
    assert_eq!(desc.table, None);
}

#[test]
fn linux_is_type83_and_swap_is_type82_in_either_case_of_hexadecimal() {
    let desc = parse("type83 1\ntype82 1\ntype8E 1\ntypec 1\n");
    let known: Vec<_> = desc.entries.iter().map(|entry| entry.kind.known()).collect();
    use KnownType::{Linux, Lvm, MsData, Swap};
    assert_eq!(known, [Some(Linux), Some(Swap), Some(Lvm), Some(MsData)]);
}

#[test]
fn comments_blank_lines_tabs_and_windows_line_ends_are_nothing() {
    let desc = parse("\u{feff}\r\n\r\n  # comment\r\n\tlinux\t500\t# the system\r\n   swap    fill\r\n");
    assert_eq!(
        desc.entries.iter().map(|entry| entry.line).collect::<Vec<_>>(),
        [4, 5]
    );
}

#[test]
fn keys_are_read_in_any_order() {
    let desc = parse(
        "table gpt\nesp 512M name=\"EFI System\" fs=vfat mount=/boot//efi/ boot number=15\n\
         0fc63daf-8483-4772-8e79-3d69d8477de4 50% options=noatime,discard=async label=root attrs=read-only,0\n",
    );
    let [esp, root] = desc.entries.as_slice() else {
        panic!("{desc:?}")
    };
    assert_eq!(desc.table, Some(TableKind::Gpt));
    assert_eq!(
        (esp.name.as_deref(), esp.mount.as_deref()),
        (Some("EFI System"), Some("/boot/efi"))
    );
    assert_eq!(
        (esp.fs, esp.boot, esp.number),
        (Some(FsType::Vfat), true, Some(15))
    );
    assert_eq!(root.options.as_deref(), Some("noatime,discard=async"));
    assert_eq!(root.attrs, 1 << 60 | 1);
    assert_eq!(root.kind.known(), Some(KnownType::Linux));
}

/// Every refusal: the text, the line number, and words that must be in the message.
const REFUSALS: &[(&str, u32, &str)] = &[
    ("linus 500", 1, "unknown partition type `linus`"),
    ("Linus 500", 1, "unknown partition type `Linus`"),
    ("type 500", 1, "unknown partition type `type`"),
    ("type123 500", 1, "unknown partition type `type123`"),
    ("typexy 500", 1, "unknown partition type `typexy`"),
    ("type+1 500", 1, "unknown partition type `type+1`"),
    (
        "0fc63daf-8483-4772-8e79-3d69d8477dex 500",
        1,
        "unknown partition type",
    ),
    ("logical", 1, "the type is missing"),
    ("type00 500", 1, "type00"),
    ("00000000-0000-0000-0000-000000000000 500", 1, "type00"),
    ("typeee 500", 1, "table gpt"),
    ("\nlinux", 2, "size is missing"),
    ("linux x", 1, "bad size `x`"),
    ("linux 5.5", 1, "bad size `5.5`"),
    ("linux -5", 1, "bad size `-5`"),
    ("linux 5GB", 1, "write 5G"),
    ("linux 0", 1, "at least 1 MiB"),
    ("linux 101%", 1, "more than the whole disk"),
    ("linux 99999999999999", 1, "more than a disk can have"),
    ("linux 500 root", 1, "`root` is left over"),
    ("linux 500 500", 1, "`500` is left over"),
    ("linux fill \"\"", 1, "`` is left over"),
    ("linux 500 lable=x", 1, "unknown key `lable=`"),
    ("linux 500 boot=yes", 1, "unknown key `boot=`"),
    ("linux 500 boot boot", 1, "`boot` is given twice"),
    ("linux 500 fs=ext4 fs=xfs", 1, "`fs=` is given twice"),
    ("linux 500 attrs=1 attrs=2", 1, "`attrs=` is given twice"),
    ("linux 500 label=", 1, "`label=` has no value"),
    ("linux 500 fs=ext5", 1, "unknown file system `ext5`"),
    ("linux 500 fs=xfs label=thirteenbytes", 1, "12 bytes that xfs"),
    ("linux 500 mount=home", 1, "absolute path"),
    ("linux 500 mount=/a/../b", 1, "absolute path"),
    ("swap 500 mount=/x", 1, "swap space is not mounted"),
    (
        "linux 500 name=\"1234567890123456789012345678901234567\"",
        1,
        "36 UTF-16 units",
    ),
    ("linux 500 name=\"x", 1, "not closed"),
    ("linux 500 name=x\u{1}", 1, "control character U+0001"),
    ("linux 500 number=0", 1, "bad partition number"),
    ("linux 500 number=129", 1, "bad partition number"),
    ("linux 500 number=+1", 1, "bad partition number"),
    ("linux 500 attrs=64", 1, "unknown attribute `64`"),
    ("linux 500 attrs=secret", 1, "unknown attribute `secret`"),
    ("extended fill mount=/x", 1, "remove `mount=`"),
    ("table dos\nlinux 500", 1, "write `table mbr` or `table gpt`"),
    ("table\nlinux 500", 1, "write `table mbr` or `table gpt`"),
    ("table gpt mbr\nlinux 500", 1, "`mbr` is left over"),
    ("linux 500\ntable gpt", 2, "first line"),
    ("table gpt\ntable gpt\nlinux 500", 2, "first line"),
    ("", 1, "no partitions"),
    ("# nothing\n\n# at all\n", 3, "no partitions"),
    ("extended 10\nextended fill", 2, "first is in line 1"),
    ("extended 10\ntype0f fill", 2, "second extended"),
    ("linux 10\nlogical linux 10", 2, "without an extended one"),
    ("logical linux 10\nextended fill", 1, "without an extended one"),
    ("extended fill\nlogical extended 10", 2, "cannot be logical"),
    ("extended fill\nlogical linux 10 number=5", 2, "numbered from 5"),
    ("linux fill\nswap 10\nlinux fill", 3, "first is in line 1"),
    (
        "extended fill\nlogical swap fill\nlogical linux fill",
        3,
        "first is in line 2",
    ),
    ("linux 60%\nlinux 40.01%", 2, "101%"),
    (
        "linux 10 mount=/home\nlinux 10 mount=/home/",
        2,
        "already in line 1",
    ),
    (
        "linux 10 number=3\nlinux 10 number=3",
        2,
        "already that of line 1",
    ),
    (
        "table gpt\nextended fill\nlogical swap 10\nlinux 10 number=5",
        4,
        "already that of line 3",
    ),
    (
        "table mbr\nlinux 1\nlinux 1\nlinux 1\nlinux 1\nlinux 1",
        6,
        "fifth primary",
    ),
    ("table mbr\nlinux 1 number=7", 2, "number 7 is not possible"),
    ("table mbr\nbios 1", 2, "an mbr has no type `bios`"),
    ("table mbr\nlinux 1 name=x", 2, "an mbr keeps no partition names"),
    ("table mbr\nlinux 1 attrs=hidden", 2, "an mbr keeps no attributes"),
    ("table mbr\nlinux 1 boot\nlinux 1 boot", 3, "second `boot`"),
    ("table gpt\ntypea5 1", 2, "no counterpart of `typea5`"),
];

#[test]
fn every_mistake_is_named_with_its_line() {
    for (text, line, words) in REFUSALS {
        let message = refusal(text);
        let place = format!("desc:{line}: ");
        assert!(
            message.starts_with(&place) && message.contains(words),
            "{text:?}: {message}"
        );
    }
}

#[test]
fn every_refusal_says_what_to_do() {
    let ways_out = [
        "write",
        "add",
        "remove",
        "make",
        "give",
        "keep",
        "put",
        "shorten",
        "change",
        "save",
        "come only",
        "known are",
    ];
    for (text, _, _) in REFUSALS {
        let message = refusal(text);
        assert!(ways_out.iter().any(|way| message.contains(way)), "{message}");
    }
}

#[test]
fn bytes_that_are_no_text_are_named_with_their_line() {
    let error = Desc::parse_bytes(b"linux 500\n# caf\xe9\n", "/tmp/desc").unwrap_err();
    assert_eq!(
        error.to_string(),
        "/tmp/desc:2: not UTF-8 text: save the file as UTF-8 or plain ASCII"
    );
}

#[test]
fn more_partitions_than_a_table_has_are_refused() {
    let text = "linux 1\n".repeat(129);
    assert!(refusal(&text).starts_with("desc:129: more than 128"));
    let text = format!("extended fill\n{}", "logical linux 1\n".repeat(125));
    assert!(
        refusal(&text).starts_with("desc:126: more than 128"),
        "{}",
        refusal(&text)
    );
}

#[test]
fn a_fifth_primary_is_fine_where_the_table_may_become_a_gpt() {
    let desc = parse("linux 1\nlinux 1\nlinux 1\nlinux 1\nlinux 1\n");
    assert!(desc.check_for(TableKind::Gpt).is_ok());
    assert!(desc.check_for(TableKind::Mbr).is_err());
}

#[test]
fn numbers_that_are_not_given_are_the_lowest_free_ones() {
    let desc = parse("bios 1 number=14\nesp 100 number=2\nlinux 10\nlinux 10\nlinux fill number=1\n");
    let numbers: Vec<_> = desc.numbered().iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [14, 2, 3, 4, 1]);
}

#[test]
fn over_two_tebibytes_the_default_is_gpt() {
    let desc = parse("linux fill\n");
    assert_eq!(desc.table_for(TableKind::Mbr, GPT_ABOVE_BYTES), TableKind::Mbr);
    assert_eq!(
        desc.table_for(TableKind::Mbr, GPT_ABOVE_BYTES + 1),
        TableKind::Gpt
    );
    assert_eq!(
        parse("table mbr\nlinux 5\n").table_for(TableKind::Gpt, u64::MAX),
        TableKind::Mbr
    );
}

#[test]
fn a_desc_survives_the_wire() {
    let desc =
        parse("table gpt\nesp 512M name=\"EFI System\" boot\ntype0c 35% fs=vfat\nlinux fill mount=/\n");
    let json = serde_json::to_string(&desc).unwrap();
    assert_eq!(serde_json::from_str::<Desc>(&json).unwrap(), desc);
}

fn any_size() -> impl Strategy<Value = Size> {
    prop_oneof![
        (1_u64..1 << 40).prop_map(Size::Mib),
        (1_u64..1 << 60).prop_map(Size::Bytes),
        (1_u32..=200).prop_map(|hundredths| Size::Percent(Percent { hundredths })),
    ]
}

fn any_entry() -> impl Strategy<Value = DescEntry> {
    let kind = prop_oneof![
        Just("linux"),
        Just("swap"),
        Just("esp"),
        Just("bios"),
        Just("type8e"),
        Just("lvm"),
        Just("ca7d7ccb-63ed-4c53-861c-1742536059cc")
    ];
    let text = || proptest::option::of("[ -~é]{1,12}");
    (
        kind,
        any_size(),
        text(),
        text(),
        text(),
        any::<bool>(),
        any::<u64>(),
    )
        .prop_map(|(kind, size, label, options, name, boot, attrs)| DescEntry {
            label,
            options,
            name,
            boot,
            attrs,
            ..DescEntry::new(0, kind.parse().unwrap(), size)
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(mut entries in proptest::collection::vec(any_entry(), 1..20)) {
        for (line, entry) in (1..).zip(&mut entries) {
            entry.line = line;
        }
        let desc = Desc { origin: "desc".to_owned(), pmbr_boot: false, table: None, entries };
        prop_assert_eq!(&Desc::parse(&desc.to_string(), "desc").unwrap(), &desc);
    }

    #[test]
    fn random_bytes_are_read_or_refused_with_a_line(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Err(error) = Desc::parse_bytes(&bytes, "x") {
            prop_assert!(error.to_string().starts_with("x:"));
        }
    }

    #[test]
    fn words_of_the_grammar_in_any_order_never_panic(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "linux", "extended", "logical", "type0f", "fill", "500", "35%", "\n", "\n", "table", "gpt", "mbr",
                "boot", "number=5", "number=1", "mount=/", "\"", "#", "1.5T", "attrs=1,2", "fs=xfs",
            ]),
            0..60,
        )
    ) {
        if let Ok(desc) = Desc::parse(&words.join(" "), "x") {
            for kind in [TableKind::Mbr, TableKind::Gpt] {
                let _ = desc.check_for(kind);
            }
            prop_assert_eq!(desc.numbered().len(), desc.entries.len());
        }
    }
}
