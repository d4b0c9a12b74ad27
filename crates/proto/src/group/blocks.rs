//! The blocks that come out of a group at a member.

use super::assembly::WholeStripe;
use super::cutter::{BlockCutter, CutError, Piece};
use super::member::Member;
use crate::block::{BlockHeader, HEADER_LEN};

/// A member, and the blocks that its stripes make. `B` is the memory of a payload.
///
/// Take the blocks by [`Self::next_block`]. Check the hash of each one, and then call [`Self::accept`] or
/// [`Self::reject`] before the next one. Everything else goes to the member itself.
#[derive(Debug)]
pub struct BlockReader<B> {
    member: Member,
    cutter: BlockCutter,
    /// The stripe that is being cut, and the bytes of it that are.
    stripe: Option<(WholeStripe, usize)>,
    /// The block that is being put together, and its bytes so far.
    block: Option<Partial<B>>,
    /// The beginning of the first block that was not accepted.
    begin: Begin,
}

#[derive(Debug)]
struct Partial<B> {
    header: [u8; HEADER_LEN],
    payload: B,
    filled: usize,
}

/// A place between two blocks.
#[derive(Debug, Clone)]
struct Begin {
    stripe: u32,
    /// Bytes of the stripe before the place.
    cut: usize,
    cutter: BlockCutter,
}

impl<B: AsMut<[u8]>> BlockReader<B> {
    /// Returns a reader of the blocks of a member that has received nothing.
    #[must_use]
    pub const fn new(member: Member) -> Self {
        let cutter = BlockCutter::new();
        Self {
            member,
            stripe: None,
            block: None,
            begin: Begin {
                stripe: 0,
                cut: 0,
                cutter: BlockCutter::new(),
            },
            cutter,
        }
    }

    /// Returns the member.
    #[must_use]
    pub const fn member(&self) -> &Member {
        &self.member
    }

    /// Returns the member, to change it.
    pub const fn member_mut(&mut self) -> &mut Member {
        &mut self.member
    }

    /// Returns the header and the payload of the next block, whose hash is not checked, if all of it is here.
    /// `payload` gives memory of this many bytes.
    ///
    /// # Errors
    /// [`CutError`]: the group carries no blocks. Leave it.
    pub fn next_block(
        &mut self,
        payload: impl Fn(usize) -> B,
    ) -> Result<Option<([u8; HEADER_LEN], B)>, CutError> {
        loop {
            match self.cut(&payload) {
                Err(_) if self.reject() => {}
                result => return result,
            }
        }
    }

    fn cut(&mut self, payload: &impl Fn(usize) -> B) -> Result<Option<([u8; HEADER_LEN], B)>, CutError> {
        loop {
            let is_whole = |block: &mut Partial<B>| block.filled == block.payload.as_mut().len();
            if let Some(block) = self.block.take_if(is_whole) {
                return Ok(Some((block.header, block.payload)));
            }
            let Some((stripe, cut)) = &mut self.stripe else {
                let Some(next) = self.member.next_stripe() else {
                    return Ok(None);
                };
                let is_begin = next.number() == self.begin.stripe;
                self.stripe = Some((next, if is_begin { self.begin.cut } else { 0 }));
                continue;
            };
            let shard = stripe.from(*cut);
            let mut rest = shard;
            let piece = self.cutter.next(&mut rest)?;
            *cut += shard.len() - rest.len();
            match piece {
                Some(Piece::Header(header)) => {
                    let length = BlockHeader::decode(&header).map_err(CutError::NotABlock)?.length;
                    let payload = payload(length as usize);
                    let filled = 0;
                    self.block = Some(Partial {
                        header,
                        payload,
                        filled,
                    });
                }
                Some(Piece::Payload(bytes)) => {
                    let Some(block) = &mut self.block else {
                        return Err(CutError::NoHeader);
                    };
                    let end = block.filled + bytes.len();
                    let place = block.payload.as_mut().get_mut(block.filled..end);
                    place.ok_or(CutError::NoHeader)?.copy_from_slice(bytes);
                    block.filled = end;
                }
                None if *cut >= stripe.len() || shard.is_empty() => self.stripe = None,
                None => {}
            }
        }
    }

    /// Takes in that the last block was right.
    pub fn accept(&mut self) {
        let (stripe, cut) = match &self.stripe {
            // Zeros behind a block fill up the last shard.
            Some((stripe, cut)) => match stripe.from(*cut).first() {
                None | Some(0) => (stripe.number() + 1, 0),
                Some(_) => (stripe.number(), *cut),
            },
            None => (self.begin.stripe, self.begin.cut),
        };
        let cutter = self.cutter.clone();
        self.begin = Begin { stripe, cut, cutter };
        self.member.confirm(stripe);
    }

    /// Takes in that the last block was wrong. Returns true if a stranger has forged some of its datagrams: they are
    /// dropped, and the block comes again. If it returns false, a member has forged it: leave the group.
    pub fn reject(&mut self) -> bool {
        self.stripe = None;
        self.block = None;
        self.cutter = self.begin.cutter.clone();
        self.member.recheck()
    }

    /// Returns true once the whole end block was accepted.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.begin.cutter.has_ended()
    }
}
