//! ELF files: the libraries that a program needs, and the metadata of a kernel module. No file is executed.

use std::path::Path;

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::{Endianness, FileKind, Object as _, ObjectSection as _, ObjectSymbol as _};

use crate::InitrdError;

/// Dynamic section of a program or library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elf {
    /// Class (true for 64 bits) and processor. A library must match the program that needs it.
    pub(crate) machine: (bool, elf::Machine),
    /// Path of the dynamic loader (`PT_INTERP`). `None` in static programs and in libraries.
    pub(crate) interpreter: Option<String>,
    /// Names of needed libraries (`DT_NEEDED`).
    pub(crate) needed: Vec<String>,
    /// Search path (`DT_RPATH`), which also applies to the libraries' own needs.
    pub(crate) rpath: Vec<String>,
    /// Search path (`DT_RUNPATH`), which replaces `DT_RPATH`.
    pub(crate) runpath: Vec<String>,
}

impl Elf {
    /// Reads the dynamic section.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, InitrdError> {
        let parsed = match FileKind::parse(bytes) {
            Ok(FileKind::Elf64) => dynamic::<FileHeader64<Endianness>>(bytes, true),
            Ok(FileKind::Elf32) => dynamic::<FileHeader32<Endianness>>(bytes, false),
            Ok(_) => return Err(InitrdError::damaged(path, "no ELF file")),
            Err(err) => Err(err),
        };
        parsed.map_err(|err| InitrdError::damaged(path, format!("damaged ELF file: {err}")))
    }
}

/// Metadata of a kernel module.
#[derive(Debug)]
pub(crate) struct ModuleInfo {
    /// Firmware files that the module may request.
    pub(crate) firmware: Vec<String>,
    /// Processor that the module is for.
    pub(crate) machine: elf::Machine,
    /// Kernel functions that the module uses.
    pub(crate) imports: Vec<String>,
}

impl ModuleInfo {
    /// Reads `.modinfo` and the symbol table.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, InitrdError> {
        let damaged = |err: object::Error| InitrdError::damaged(path, format!("damaged module: {err}"));
        let file = object::File::parse(bytes).map_err(damaged)?;
        let machine = Elf::parse(path, bytes)?.machine.1;
        let info = match file.section_by_name_bytes(b".modinfo") {
            Some(section) => section.data().map_err(damaged)?,
            None => &[],
        };
        let records = info.split(|byte| *byte == 0);
        let firmware = records.filter_map(|record| record.strip_prefix(b"firmware="));
        let imports = file.symbols().filter(object::ObjectSymbol::is_undefined);
        Ok(Self {
            firmware: firmware
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect(),
            machine,
            imports: imports
                .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
                .collect(),
        })
    }
}

fn dynamic<H: FileHeader<Endian = Endianness>>(bytes: &[u8], is_64: bool) -> object::Result<Elf> {
    let header = H::parse(bytes)?;
    let endian = header.endian()?;
    let mut found = Elf {
        machine: (is_64, header.e_machine(endian)),
        interpreter: None,
        needed: Vec::new(),
        rpath: Vec::new(),
        runpath: Vec::new(),
    };
    let segments = header.program_headers(endian, bytes)?;
    for segment in segments {
        if let Some(name) = segment.interpreter(endian, bytes)? {
            found.interpreter = Some(String::from_utf8_lossy(name).into_owned());
        }
    }
    let Some(entries) = segments
        .iter()
        .find_map(|segment| segment.dynamic(endian, bytes).transpose())
        .transpose()?
    else {
        return Ok(found);
    };
    let entries: Vec<(elf::DynamicTag, u64)> = entries
        .iter()
        .map(|entry| (entry.d_tag(endian), entry.d_val(endian).into()))
        .take_while(|(tag, _)| *tag != elf::DT_NULL)
        .collect();
    let value = |wanted| entries.iter().find(|(tag, _)| *tag == wanted);
    let (Some((_, table)), Some((_, size))) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else {
        return Ok(found);
    };
    let strings = segments
        .iter()
        .find_map(|segment| segment.data_range(endian, bytes, *table, *size).ok().flatten())
        .unwrap_or_default();
    let text = |offset: u64| {
        let from = usize::try_from(offset).ok()?;
        let rest = strings.get(from..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    for (tag, offset) in &entries {
        let Some(text) = text(*offset) else { continue };
        let paths = || text.split(':').filter(|dir| !dir.is_empty()).map(str::to_owned);
        match *tag {
            elf::DT_NEEDED => found.needed.push(text),
            elf::DT_RPATH => found.rpath.extend(paths()),
            elf::DT_RUNPATH => found.runpath.extend(paths()),
            _ => {}
        }
    }
    Ok(found)
}
