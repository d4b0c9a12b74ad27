//! The header of 110 bytes before each entry: a magic and thirteen numbers of eight hexadecimal digits.

/// Magic of the newc form.
pub(crate) const MAGIC: &[u8; 6] = b"070701";
/// Magic of the newc form with checksums. It is read like the plain form: the checksum is ignored, because an
/// attacker could forge it.
pub(crate) const MAGIC_CRC: &[u8; 6] = b"070702";
/// Length of a header, in bytes: magic and thirteen fields.
pub(crate) const HEADER_BYTES: usize = 6 + 13 * 8;

/// File type bits of a mode (inode(7)).
const TYPE_MASK: u32 = 0o170_000;

/// Type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; its data is the target.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    /// Returns the type for the type bits of a mode. `None` if they have no meaning.
    #[must_use]
    pub const fn of_mode(mode: u32) -> Option<Self> {
        Some(match mode & TYPE_MASK {
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            _ => return None,
        })
    }

    /// Type bits of a mode.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::File => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Symlink => 0o120_000,
            Self::CharDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
        }
    }
}

/// Numbers in the header of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Inode number. Entries with equal numbers and [`Self::links`] above 1 are one file.
    pub inode: u32,
    /// Type and permissions (inode(7)).
    pub mode: u32,
    /// User ID of the owner.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Number of hard links.
    pub links: u32,
    /// Time of last change, in seconds since 1970.
    pub mtime: u32,
    /// Length of the data, in bytes.
    pub size: u32,
    /// Device number of the original file system: major, minor.
    pub device: (u32, u32),
    /// Device number of a device node: major, minor.
    pub rdevice: (u32, u32),
    /// Length of the name with its NUL, in bytes.
    pub(crate) name_size: u32,
}

impl Header {
    /// Permission bits, with set-user-id, set-group-id and sticky.
    #[must_use]
    pub const fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let fields = [
            self.inode,
            self.mode,
            self.uid,
            self.gid,
            self.links,
            self.mtime,
            self.size,
            self.device.0,
            self.device.1,
            self.rdevice.0,
            self.rdevice.1,
            self.name_size,
            0,
        ];
        let mut bytes = [b'0'; HEADER_BYTES];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        for (place, field) in bytes[MAGIC.len()..].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(format!("{field:08X}").as_bytes());
        }
        bytes
    }

    /// Parses a header. The error tells the fault.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, String> {
        let (magic, fields) = bytes.split_at(MAGIC.len());
        if magic != MAGIC && magic != MAGIC_CRC {
            let shown = String::from_utf8_lossy(magic).escape_debug().to_string();
            return Err(format!("expected a newc header (070701), found {shown:?}"));
        }
        let mut numbers = [0u32; 13];
        for (number, digits) in numbers.iter_mut().zip(fields.chunks_exact(8)) {
            *number = hexadecimal(digits).ok_or_else(|| {
                let shown = String::from_utf8_lossy(digits).escape_debug().to_string();
                format!("{shown:?} is no hexadecimal number")
            })?;
        }
        let [
            inode,
            mode,
            uid,
            gid,
            links,
            mtime,
            size,
            d0,
            d1,
            r0,
            r1,
            name_size,
            _sum,
        ] = numbers;
        Ok(Self {
            inode,
            mode,
            uid,
            gid,
            links,
            mtime,
            size,
            device: (d0, d1),
            rdevice: (r0, r1),
            name_size,
        })
    }
}

/// Parses hexadecimal digits. `u32::from_str_radix` would also accept a sign.
fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |number, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(number << 4 | value)
    })
}
