//! Errors of a desc file, each with its remedy.

use thiserror::Error;

use super::keys::{ATTRIBUTES, KEYS};
use super::meant::{self, short};
use super::{MAX_NAME_UNITS, MAX_PARTITIONS, mib_text};
use crate::fs_type::FsType;

/// A refusal of a desc file: `FILE:LINE: what is wrong, what to do`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{origin}:{line}: {problem}")]
pub struct DescError {
    /// File name as the user gave it.
    pub origin: String,
    /// Line number, from 1.
    pub line: u32,
    /// The mistake in that line.
    pub problem: Problem,
}

/// A mistake in a line, in words for the user.
#[expect(missing_docs, reason = "each variant is its message, right above it")]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    // Mistakes of one line.
    #[error("not UTF-8 text: save the file as UTF-8 or plain ASCII")]
    NotUtf8,
    #[error("a quotation mark is not closed: add the missing \"")]
    OpenQuote,
    #[error("control character U+{0:04X}: remove it")]
    ControlCharacter(u32),
    #[error("the table is `{}`: write `table mbr` or `table gpt`", short(.0))]
    UnknownTable(String),
    #[error("`table` after a partition or a second time: make it the first line, once")]
    LateTable,
    #[error("unknown partition type `{}`: {}", short(.0), meant::of_type(.0))]
    UnknownType(String),
    #[error("type00 marks an unused entry: write the type that the partition is to have, or remove the line")]
    EmptyType,
    #[error("typeee marks a GPT disk and is no partition: write `table gpt` as the first line instead")]
    ProtectiveType,
    #[error("the type is missing: write it after `logical`, as in `logical linux 500`")]
    MissingType,
    #[error("the size is missing: add whole MiB, a number with K, M, G or T, a percentage, or `fill`")]
    MissingSize,
    #[error("bad size `{}`: {}", short(.0), meant::of_size(.0))]
    BadSize(String),
    #[error(
        "bad size `{}`: write {meant} (1024 to the next unit); decimal units are not taken",
        short(word)
    )]
    DecimalUnit { word: String, meant: String },
    #[error("size `{}` is nothing: give the partition at least 1 MiB", short(.0))]
    ZeroSize(String),
    #[error("size `{}` is more than a disk can have: make it smaller", short(.0))]
    HugeSize(String),
    #[error("`{}` is more than the whole disk: make it at most 100%", short(.0))]
    PercentOver100(String),
    #[error("`{}` is left over: {}", short(.0), meant::of_rest(.0))]
    Trailing(String),
    #[error("unknown key `{}=`: known are {known}", short(.0), known = KEYS.join(", "))]
    UnknownKey(String),
    #[error("`{0}` is given twice on this line: keep one")]
    RepeatedKey(String),
    #[error("`{0}=` has no value: add one or remove the key")]
    EmptyValue(String),
    #[error("unknown file system `{}`: write one of {known}", short(.0), known = file_system_names())]
    UnknownFs(String),
    #[error(
        "label `{}` is longer than the {max} bytes that {fs} can keep: shorten it",
        short(label)
    )]
    LongLabel { label: String, fs: FsType, max: usize },
    #[error(
        "label `{}` is longer than the {max} bytes that any file system can keep: shorten it",
        short(label)
    )]
    EndlessLabel { label: String, max: usize },
    #[error("mount point `{}` is not an absolute path without `..`: write it as in fstab, for example /home", short(.0))]
    BadMount(String),
    #[error("partition name `{}` is longer than GPT's {MAX_NAME_UNITS} UTF-16 units: shorten it", short(.0))]
    LongName(String),
    #[error("bad partition number `{}`: write 1 to {MAX_PARTITIONS}", short(.0))]
    BadNumber(String),
    #[error("unknown attribute `{}`: write bit numbers 0 to 63 or {known}", short(.0), known = attribute_names())]
    UnknownAttribute(String),
    #[error("an extended partition only holds logical ones: remove `{0}` or put it on a logical line")]
    OnExtended(&'static str),
    #[error("swap space is not mounted: remove mount= or write another type")]
    MountedSwap,

    // Mistakes of the lines together.
    #[error("no partitions: add at least one line `TYPE SIZE`")]
    Empty,
    #[error("more than {MAX_PARTITIONS} partitions: remove some")]
    TooMany,
    #[error("a second extended partition (the first is in line {0}): put all logical partitions into one")]
    SecondExtended(u32),
    #[error("logical partition without an extended one: put a line `extended SIZE` above it")]
    LogicalWithoutExtended,
    #[error("an extended partition cannot be logical: remove `logical`")]
    LogicalExtended,
    #[error("a second `fill` on the same level (the first is in line {0}): give one of them a size")]
    SecondFill(u32),
    #[error("the percentages add up to {0}%, more than the whole disk: make them smaller or write `fill`")]
    PercentSum(u64),
    #[error("100% leaves nothing for this `fill`: make a percentage smaller, or leave the line out")]
    NothingToFill,
    #[error("mount point {mount} is already in line {first}: keep one of them")]
    SecondMount { mount: String, first: u32 },
    #[error("partition number {number} is already that of line {first}: change or remove number=")]
    NumberClash { number: u32, first: u32 },
    #[error("logical partitions are numbered from 5 in their order: remove number=")]
    NumberedLogical,

    // Mistakes of the lines on one kind of table.
    #[error(
        "a fifth primary partition, and an mbr holds four: make one `extended` and the rest `logical`, or \
             write `table gpt` as the first line"
    )]
    FifthPrimary,
    #[error(
        "partition number {0} is not possible for a primary partition of an mbr: use 1 to 4, or write `table \
             gpt` as the first line"
    )]
    MbrNumber(u32),
    #[error("an mbr has no type `{0}`: write another type, or `table gpt` as the first line")]
    NotOnMbr(String),
    #[error(
        "gpt has no counterpart of `{0}`: write a GPT type name or GUID, or `table mbr` as the first line"
    )]
    NotOnGpt(String),
    #[error("an mbr keeps no {0}: remove it, or write `table gpt` as the first line")]
    GptOnly(&'static str),
    #[error("a second `boot` (the first is in line {0}), and an mbr has one active partition: keep one")]
    SecondBoot(u32),

    // Mistakes of the lines on one disk.
    #[error(
        "does not fit: {} wanted, {left} MiB of {whole} are left{inside}; make this or another line smaller, or take a \
             larger disk",
        mib_text(*wanted)
    )]
    DoesNotFit {
        wanted: u64,
        left: u64,
        whole: u64,
        inside: &'static str,
    },
    #[error(
        "nothing is left to fill: the other lines take all {}{inside}; make one of them smaller",
        mib_text(*whole)
    )]
    NothingLeft { whole: u64, inside: &'static str },
    #[error(
        "ends at {}, and an mbr with {sector_size}-byte sectors reaches {limit_mib} MiB: write `table gpt` as the first line, or a \
             smaller size",
        mib_text(*end_mib)
    )]
    BeyondMbr {
        end_mib: u64,
        sector_size: u32,
        limit_mib: u64,
    },
    #[error("the disk of {disk_mib} MiB is too small for any partition: take a larger disk")]
    TinyDisk { disk_mib: u64 },
}

fn file_system_names() -> String {
    FsType::ALL.map(FsType::name).join(", ")
}

fn attribute_names() -> String {
    ATTRIBUTES.map(|(name, _)| name).join(", ")
}
