//! What can be wrong with a desc file, each with the way out.

use thiserror::Error;

use super::keys::{ATTRIBUTES, KEYS};
use super::{MAX_NAME_UNITS, MAX_PARTITIONS};
use crate::spec::FsType;
use crate::table::KnownType;

/// A refusal of a desc file: `FILE:LINE: what is wrong, what to do`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{origin}:{line}: {problem}")]
pub struct DescError {
    /// File name as the user gave it.
    pub origin: String,
    /// Line number counted from 1.
    pub line: u32,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a line, in words for the user.
#[expect(missing_docs, reason = "each variant is its message, right above it")]
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    // The line itself.
    #[error("not UTF-8 text: save the file as UTF-8 or plain ASCII")]
    NotUtf8,
    #[error("a quotation mark is not closed: add the missing \"")]
    OpenQuote,
    #[error("control character U+{0:04X}: remove it")]
    ControlCharacter(u32),
    #[error("the table is `{0}`: write `table mbr` or `table gpt`")]
    UnknownTable(String),
    #[error("`table` after a partition or a second time: make it the first line, once")]
    LateTable,
    #[error("unknown partition type `{0}`: write linux, swap, extended, typeXX (hexadecimal), {names} or a \
             GPT type GUID", names = type_names())]
    UnknownType(String),
    #[error("type00 marks an unused entry: write the type that the partition is to have, or remove the line")]
    EmptyType,
    #[error("typeee marks a GPT disk and is no partition: write `table gpt` as the first line instead")]
    ProtectiveType,
    #[error("the type is missing: write it after `logical`, as in `logical linux 500`")]
    MissingType,
    #[error("the size is missing: add whole MiB, a number with K, M, G or T, a percentage, or `fill`")]
    MissingSize,
    #[error(
        "bad size `{0}`: write whole MiB, a number with K, M, G or T (1024 each), a percentage, or `fill`"
    )]
    BadSize(String),
    #[error("bad size `{word}`: write it with {unit}, which is 1024 to the next unit")]
    DecimalUnit { word: String, unit: String },
    #[error("size `{0}` is nothing: give the partition at least 1 MiB")]
    ZeroSize(String),
    #[error("size `{0}` is more than a disk can have: make it smaller")]
    HugeSize(String),
    #[error("`{0}` is more than the whole disk: make it at most 100%")]
    PercentOver100(String),
    #[error("`{0}` is left over: after TYPE and SIZE come only key=value ({known}) and `boot`", known = KEYS.join(", "))]
    Trailing(String),
    #[error("unknown key `{0}=`: known are {known}", known = KEYS.join(", "))]
    UnknownKey(String),
    #[error("`{0}` is given twice on this line: keep one")]
    RepeatedKey(String),
    #[error("`{0}=` has no value: add one or remove the key")]
    EmptyValue(String),
    #[error("unknown file system `{0}`: write one of {known}", known = file_system_names())]
    UnknownFs(String),
    #[error("label `{label}` is longer than the {max} bytes that {fs} can keep: shorten it")]
    LongLabel { label: String, fs: FsType, max: usize },
    #[error(
        "mount point `{0}` is not an absolute path without `..`: write it as in fstab, for example /home"
    )]
    BadMount(String),
    #[error("partition name `{0}` is longer than GPT's {MAX_NAME_UNITS} UTF-16 units: shorten it")]
    LongName(String),
    #[error("bad partition number `{0}`: write 1 to {MAX_PARTITIONS}")]
    BadNumber(String),
    #[error("unknown attribute `{0}`: write bit numbers 0 to 63 or {known}", known = attribute_names())]
    UnknownAttribute(String),
    #[error("an extended partition only holds logical ones: remove `{0}` or put it on a logical line")]
    OnExtended(&'static str),
    #[error("swap space is not mounted: remove mount= or write another type")]
    MountedSwap,

    // The lines together.
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

    // The lines on one kind of table.
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

    // The lines on one disk.
    #[error(
        "does not fit: {wanted} MiB wanted, {left} MiB of {whole} are left{inside}; make this or another line \
             smaller, or take a larger disk"
    )]
    DoesNotFit {
        wanted: u64,
        left: u64,
        whole: u64,
        inside: &'static str,
    },
    #[error(
        "nothing is left to fill: the other lines take all {whole} MiB{inside}; make one of them smaller"
    )]
    NothingLeft { whole: u64, inside: &'static str },
    #[error(
        "ends at {end_mib} MiB, and an mbr with {sector_size}-byte sectors reaches {limit_mib} MiB: write `table \
             gpt` as the first line, or a smaller size"
    )]
    BeyondMbr {
        end_mib: u64,
        sector_size: u32,
        limit_mib: u64,
    },
    #[error("the disk of {disk_mib} MiB is too small for any partition: take a larger disk")]
    TinyDisk { disk_mib: u64 },
}

fn type_names() -> String {
    let others = KnownType::ALL.into_iter().map(KnownType::name);
    others
        .filter(|name| !matches!(*name, "linux" | "swap"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn file_system_names() -> String {
    FsType::ALL.map(FsType::name).join(", ")
}

fn attribute_names() -> String {
    ATTRIBUTES.map(|(name, _)| name).join(", ")
}
