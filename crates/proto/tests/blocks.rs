//! Blocks: their layout, their proofs, their encryption, and attacks on them.

#![expect(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use ka_proto::auth::ServerPublicKey;
use ka_proto::block::{
    BlockError, BlockHeader, BlockKind, Cipher, END_LEN, HEADER_LEN, Opener, Sealer, SignedEnd, StreamDigest,
    StreamKey,
};
use ka_proto::limits::MAX_BLOCK;
use ka_proto::{RunId, StreamId, StreamOffset};
use proptest::prelude::*;

const FORMS: [Option<Cipher>; 3] = [None, Some(Cipher::Aes256Gcm), Some(Cipher::ChaCha20Poly1305)];

fn stream_key() -> StreamKey {
    StreamKey::new([3; 32], RunId([4; 16]), StreamId(2))
}

fn sealer(cipher: Option<Cipher>) -> Sealer {
    Sealer::new(stream_key(), cipher).unwrap()
}

fn opener(cipher: Option<Cipher>) -> Opener {
    Opener::new(&stream_key(), cipher).unwrap()
}

/// Returns the plain bytes that a consumer gets of a block, or the reason why it gets none.
fn open(opener: &Opener, header: &BlockHeader, payload: &[u8]) -> Result<Vec<u8>, BlockError> {
    let mut plain = vec![0; payload.len()];
    opener.open(header, payload, &mut plain).map(|()| plain)
}

/// Returns a block as it travels.
fn sealed(cipher: Option<Cipher>, payload: &[u8]) -> (BlockHeader, Vec<u8>) {
    let mut payload = payload.to_vec();
    (sealer(cipher).seal(&mut payload).unwrap(), payload)
}

fn server_key(seed: u8) -> (Ed25519KeyPair, ServerPublicKey) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let public = ServerPublicKey(pair.public_key().as_ref().try_into().unwrap());
    (pair, public)
}

#[test]
fn a_block_header_has_its_layout() {
    let header = stream_key()
        .authenticate(BlockKind::Data, StreamOffset(0x0102_0304_0506), b"payload")
        .unwrap();
    let bytes = header.encode();
    assert_eq!(bytes[..8], *b"KAB1\x02\x01\0\0");
    assert_eq!(bytes[8..24], [4; 16]);
    assert_eq!(bytes[24..32], [2, 0, 0, 0, 7, 0, 0, 0]);
    assert_eq!(bytes[32..40], [6, 5, 4, 3, 2, 1, 0, 0]);
    assert_eq!(bytes[40..56], [0; 16]);
    assert_eq!(bytes[56..], header.hash);
    assert_eq!(BlockHeader::decode(&bytes), Ok(header));
    assert_eq!(stream_key().verify(&header, b"payload"), Ok(()));
    let (header, _) = sealed(Some(Cipher::Aes256Gcm), b"payload");
    assert_eq!(header.encode()[..8], *b"KAB1\x02\x01\x01\0");
    assert_eq!(header.encode()[40..56], header.tag);
}

/// These bytes are frozen, because another build of this version must be able to open them.
#[test]
fn an_encrypted_block_is_made_of_these_bytes() {
    for (cipher, expected) in [
        (
            Cipher::Aes256Gcm,
            "7981b35a6881d966734fc5743835ce09f809f2ccdfd8de",
        ),
        (
            Cipher::ChaCha20Poly1305,
            "92cc3db780a3c1b5c6a2bdc66d5fc478f5701ce0b3f3f0",
        ),
    ] {
        let (header, payload) = sealed(Some(cipher), b"payload");
        let bytes = [payload.as_slice(), &header.tag].concat();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected, "{cipher:?}");
    }
}

#[test]
fn one_flipped_bit_anywhere_in_a_block_is_found() {
    for cipher in FORMS {
        let (header, payload) = sealed(cipher, b"some payload");
        let block = [header.encode().as_slice(), &payload].concat();
        for bit in 0..block.len() * 8 {
            let mut bad = block.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (head, tail) = bad.split_first_chunk::<HEADER_LEN>().unwrap();
            let refused = BlockHeader::decode(head).and_then(|header| stream_key().verify(&header, tail));
            assert!(refused.is_err(), "{cipher:?} bit {bit}");
        }
    }
}

#[test]
fn what_travels_says_nothing_and_opens_to_what_it_was() {
    let secret = b"root:$6$salt$hash:20000:0:99999:7:::".repeat(100);
    for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
        let (header, payload) = sealed(Some(cipher), &secret);
        assert!(
            !payload
                .windows(8)
                .any(|seen| secret.windows(8).any(|part| part == seen))
        );
        assert_eq!(payload.len(), secret.len());
        assert_eq!(open(&opener(Some(cipher)), &header, &payload), Ok(secret.clone()));
    }
}

#[test]
fn without_encryption_payload_travels_as_it_is() {
    let (header, payload) = sealed(None, b"payload");
    assert_eq!(payload, b"payload");
    assert_eq!(open(&opener(None), &header, &payload), Ok(payload));
}

/// Every node of the run can make this hash. It must not be able to leave out the encryption that it cannot
/// make.
#[test]
fn a_stream_takes_no_block_of_the_other_form() {
    let (clear, clear_payload) = sealed(None, b"payload");
    let (closed, closed_payload) = sealed(Some(Cipher::Aes256Gcm), b"payload");
    let refused = |opener: Opener, header, payload: &[u8]| open(&opener, header, payload);
    let (offset, sealed) = (StreamOffset(0), false);
    assert_eq!(
        refused(opener(Some(Cipher::Aes256Gcm)), &clear, &clear_payload),
        Err(BlockError::WrongForm { offset, sealed })
    );
    let sealed = true;
    assert_eq!(
        refused(opener(None), &closed, &closed_payload),
        Err(BlockError::WrongForm { offset, sealed })
    );
    assert_eq!(
        refused(opener(Some(Cipher::ChaCha20Poly1305)), &closed, &closed_payload),
        Err(BlockError::WrongSeal { offset })
    );
}

#[test]
fn a_block_that_was_moved_or_altered_by_who_knows_the_hash_key_does_not_open() {
    let (header, payload) = sealed(Some(Cipher::Aes256Gcm), b"some payload");
    let opener = opener(Some(Cipher::Aes256Gcm));
    let open = |header: &BlockHeader, payload: &[u8]| open(&opener, header, payload);
    let moved = BlockHeader {
        offset: StreamOffset(7),
        ..header
    };
    assert!(open(&moved, &payload).is_err());
    let other_run = BlockHeader {
        run: RunId([9; 16]),
        ..header
    };
    assert!(open(&other_run, &payload).is_err());
    for bit in 0..payload.len() * 8 {
        let mut bad = payload.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&header, &bad).is_err(), "bit {bit}");
    }
    assert_eq!(open(&header, &payload), Ok(b"some payload".to_vec()));
}

#[test]
fn flags_and_tags_that_mean_nothing_are_refused() {
    let good = stream_key()
        .authenticate(BlockKind::Data, StreamOffset(0), b"x")
        .unwrap()
        .encode();
    for (at, value) in [(6, 2), (7, 1), (40, 1), (55, 1)] {
        let mut bad = good;
        bad[at] = value;
        assert_eq!(BlockHeader::decode(&bad), Err(BlockError::NotABlock), "byte {at}");
    }
    let mut idle = stream_key()
        .authenticate(BlockKind::Idle, StreamOffset(0), &[])
        .unwrap()
        .encode();
    idle[6] = 1;
    assert_eq!(BlockHeader::decode(&idle), Err(BlockError::NotABlock));
}

#[test]
fn a_block_of_another_stream_run_key_or_place_is_refused() {
    let (run, stream, offset) = (RunId([4; 16]), StreamId(2), StreamOffset(10));
    let header = stream_key().authenticate(BlockKind::Data, offset, b"x").unwrap();
    assert_eq!(header.check_place(run, stream, offset), Ok(()));
    assert_eq!(
        header.check_place(RunId([5; 16]), stream, offset),
        Err(BlockError::WrongRun)
    );
    let wrong = BlockError::WrongStream {
        got: stream,
        expected: StreamId(3),
    };
    assert_eq!(header.check_place(run, StreamId(3), offset), Err(wrong));
    let wrong = BlockError::WrongOffset {
        got: offset,
        expected: StreamOffset(9),
    };
    assert_eq!(header.check_place(run, stream, StreamOffset(9)), Err(wrong));
    let other = StreamKey::new([0; 32], run, stream);
    assert_eq!(other.verify(&header, b"x"), Err(BlockError::WrongHash { offset }));
}

#[test]
fn blocks_have_the_length_that_their_kind_allows() {
    let made = |kind, bytes: usize| {
        let made = stream_key().authenticate(kind, StreamOffset(0), &vec![0; bytes]);
        made.is_ok()
    };
    assert!(made(BlockKind::Data, MAX_BLOCK) && made(BlockKind::End, END_LEN) && made(BlockKind::Idle, 0));
    assert!(!made(BlockKind::Data, MAX_BLOCK + 1) && !made(BlockKind::Data, 0));
    assert!(!made(BlockKind::End, END_LEN - 1) && !made(BlockKind::Idle, 1));
    assert!(sealer(None).seal(&mut vec![0; MAX_BLOCK + 1]).is_err());
}

#[test]
fn the_end_of_a_stream_vouches_for_every_block_and_their_order() {
    let mut sealer = sealer(Some(Cipher::Aes256Gcm));
    let mut block = |payload: &[u8]| sealer.seal(&mut payload.to_vec()).unwrap();
    let (first, second) = (block(b"ab"), block(b"cd"));
    let mut whole = StreamDigest::new();
    [first, second].iter().for_each(|header| whole.push(header));
    let end = whole.end();
    assert_eq!((end.bytes, end.blocks), (4, 2));
    assert_eq!(whole.check(&end), Ok(()));
    let mut swapped = StreamDigest::new();
    [second, first].iter().for_each(|header| swapped.push(header));
    assert_eq!(swapped.check(&end), Err(BlockError::WrongEnd { bytes: 4 }));
    let mut cut = StreamDigest::new();
    cut.push(&first);
    assert!(cut.check(&end).is_err());
}

#[test]
fn only_the_servers_signature_ends_this_stream_of_this_run() {
    let (pair, public) = server_key(1);
    let (run, stream) = (stream_key().run(), stream_key().stream());
    let end = StreamDigest::new().end();
    let signed = SignedEnd {
        end,
        signature: pair.sign(&end.to_sign(run, stream)).as_ref().try_into().unwrap(),
    };
    assert_eq!(signed.verify(&public, run, stream), Ok(()));
    let refused = Err(BlockError::WrongSignature);
    assert_eq!(signed.verify(&server_key(2).1, run, stream), refused);
    assert_eq!(signed.verify(&public, RunId([5; 16]), stream), refused);
    assert_eq!(signed.verify(&public, run, StreamId(3)), refused);
    let encoded = signed.encode();
    assert_eq!(SignedEnd::decode(&encoded), Ok(signed));
    for bit in 0..END_LEN * 8 {
        let mut bad = encoded;
        bad[bit / 8] ^= 1 << (bit % 8);
        let bad = SignedEnd::decode(&bad).unwrap();
        assert_eq!(bad.verify(&public, run, stream), refused, "bit {bit}");
    }
    for cut in 0..END_LEN {
        assert!(SignedEnd::decode(&encoded[..cut]).is_err());
    }
}

proptest! {
    #[test]
    fn every_payload_comes_back(lens in proptest::collection::vec(1usize..3000, 1..6), form in 0usize..3) {
        let (mut sealer, opener) = (sealer(FORMS[form]), opener(FORMS[form]));
        for (number, len) in lens.into_iter().enumerate() {
            let plain = vec![u8::try_from(number).unwrap(); len];
            let mut payload = plain.clone();
            let header = sealer.seal(&mut payload).unwrap();
            let header = BlockHeader::decode(&header.encode()).unwrap();
            prop_assert_eq!(stream_key().verify(&header, &payload), Ok(()));
            prop_assert_eq!(open(&opener, &header, &payload), Ok(plain));
        }
    }
}
