//! Whatever happened to a file on disk or on the way: an error, never a panic, never other content.

use std::io;

use proptest::prelude::*;

use super::*;
use crate::ltx::checksum::Crc;

/// A small change of a page that compresses and one that does not, and a small snapshot.
fn samples() -> [Vec<u8>; 2] {
    let wal = WalSpan { offset: 32, size: 4120, salt1: 7, salt2: 8 };
    let change = Header { wal, node_id: 5, ..change() };
    let pages = [go_page(2), (3, noise(3, 512))];
    let whole = [go_page(1), (2, vec![0; 512])];
    [
        encode(change, &pages, flagged(2)).unwrap().0,
        encode(snapshot(2), &whole, sum(&whole)).unwrap().0,
    ]
}

/// The bytes within LZ4 blocks: there another byte may stand for the same page.
fn in_block(bytes: &[u8], at: usize) -> bool {
    let mut offset = Header::SIZE;
    while bytes[offset..offset + 4] != [0; 4] {
        let size = u32::from_be_bytes(bytes[offset + 6..offset + 10].try_into().unwrap()) as usize;
        if (offset + 10..offset + 10 + size).contains(&at) {
            return true;
        }
        offset += 10 + size;
    }
    false
}

#[test]
fn every_change_of_one_byte_is_refused_or_says_the_same() {
    for sample in samples() {
        let content = decode(&sample).unwrap();
        let (mut refused, mut same) = (0, 0);
        for at in 0..sample.len() {
            for change in 1..=255 {
                let mut bytes = sample.clone();
                bytes[at] ^= change;
                match decode(&bytes) {
                    Err(_) => refused += 1,
                    Ok(found) => {
                        assert!(in_block(&sample, at), "byte {at} changed by {change:#x}: unseen");
                        assert_eq!(found, content, "byte {at} changed by {change:#x}");
                        same += 1;
                    }
                }
            }
        }
        assert!(same * 50 < refused, "{same} unseen of {refused} seen");
    }
}

#[test]
fn a_file_cut_short_is_refused() {
    for sample in samples() {
        for len in 0..sample.len() {
            let e = decode(&sample[..len]).unwrap_err();
            assert!(matches!(e, LtxError::Truncated { offset, .. } if offset <= len as u64), "{e}");
        }
    }
}

#[test]
fn a_file_lengthened_is_refused() {
    for mut sample in samples() {
        let len = sample.len() as u64;
        sample.push(0);
        let e = decode(&sample).unwrap_err();
        assert!(matches!(e, LtxError::Trailing { offset } if offset == len), "{e}");
    }
}

/// What the header says can be false though its checksum is right: by another program, or on
/// purpose. The page's frame of `change` begins at byte 100.
#[test]
fn each_false_field_is_named() {
    let [sample, whole] = samples();
    let with = |sample: &[u8], at: usize, field: &[u8]| {
        let mut bytes = sample.to_vec();
        bytes[at..at + field.len()].copy_from_slice(field);
        decode(&bytes).unwrap_err()
    };
    let change = |at, field: &[u8]| with(&sample, at, field);
    assert!(matches!(change(0, b"LTX2"), LtxError::Magic(found) if found == *b"LTX2"));
    assert!(matches!(change(4, &1_u32.to_be_bytes()), LtxError::Flags(1)));
    assert!(matches!(change(4, &2_u32.to_be_bytes()), LtxError::NoChecksums));
    assert!(matches!(change(8, &[0xff; 4]), LtxError::PageSize(u32::MAX)));
    assert!(matches!(change(12, &[0; 4]), LtxError::PageBeyond { pgno: 2, commit: 0 }));
    assert!(matches!(change(16, &[0; 8]), LtxError::Txids { .. }));
    assert!(matches!(change(40, &[0]), LtxError::PreApply { .. }));
    assert!(matches!(change(48, &[0xff]), LtxError::Wal(_)));
    assert!(matches!(change(100, &[0, 0, 0, 0]), LtxError::PageZero));
    assert!(matches!(change(100, &[0, 0, 0, 4]), LtxError::PageOrder { pgno: 3, previous: 4 }));
    assert!(matches!(change(104, &[0, 0]), LtxError::PageFrame { pgno: 2, offset: 100 }));
    assert!(matches!(change(104, &[0, 3]), LtxError::PageFlags { flags: 3, .. }));
    assert!(matches!(change(32, &[1]), LtxError::FileChecksum { .. }));
    assert!(matches!(change(80, &[1]), LtxError::FileChecksum { .. }));
    let size = u32::MAX;
    assert!(matches!(
        change(106, &size.to_be_bytes()),
        LtxError::BlockSize { pgno: 2, offset: 100, size: u32::MAX, max: 530 }
    ));
    assert!(matches!(change(106, &[0; 4]), LtxError::Block { pgno: 2, .. }));
    let index = sample.len() - Trailer::SIZE - 1;
    assert!(matches!(change(index, &[0]), LtxError::PageIndex { .. }));

    assert!(matches!(with(&whole, 12, &[0, 0, 0, 3]), LtxError::SnapshotShort { .. }));
    assert!(matches!(with(&whole, 100, &[0, 0, 0, 2]), LtxError::SnapshotGap { .. }));
}

/// Puts the file checksum right that belongs to the bytes before it.
fn seal(bytes: &mut [u8], pages: &[(u32, Vec<u8>)]) {
    let mut crc = Crc::new();
    let mut offset = Header::SIZE;
    crc.update(&bytes[..offset]);
    for (_, page) in pages {
        crc.update(&bytes[offset..offset + 10]);
        crc.update(page);
        let size = u32::from_be_bytes(bytes[offset + 6..offset + 10].try_into().unwrap());
        offset += 10 + size as usize;
    }
    let end = bytes.len() - 8;
    crc.update(&bytes[offset..end]);
    bytes[end..].copy_from_slice(&crc.checksum().0.to_be_bytes());
}

/// Whole by its own checksum, but its index or its trailer is not what the pages say.
#[test]
fn a_false_end_is_refused_though_sealed() {
    let [sample, _] = samples();
    let content = decode(&sample).unwrap();
    let sealed = |at: usize, change: u8| {
        let mut bytes = sample.clone();
        bytes[at] ^= change;
        seal(&mut bytes, &content.pages);
        decode(&bytes)
    };
    assert_eq!(sealed(0, 0).unwrap(), content);
    let trailer = sample.len() - Trailer::SIZE;
    let index = u64::from_be_bytes(sample[trailer - 8..trailer].try_into().unwrap());
    for at in trailer - 8 - index as usize..trailer {
        for change in [1, 0x80] {
            let e = sealed(at, change).unwrap_err();
            assert!(matches!(e, LtxError::PageIndex { .. }), "byte {at}: {e}");
        }
    }
    let e = sealed(trailer, 0x80).unwrap_err();
    assert!(matches!(e, LtxError::PostApply { commit: 16, .. }), "{e}");

    // A deletion that leads to something.
    let header = Header { commit: 0, ..change() };
    let (mut deletion, _) = encode(header, &[], Checksum(0)).unwrap();
    let last = deletion.len() - 9;
    deletion[last] = 2;
    seal(&mut deletion, &[]);
    let e = decode(&deletion).unwrap_err();
    assert!(matches!(e, LtxError::PostApply { commit: 0, found } if found == flagged(2)), "{e}");
}

/// A block may well be sound and be of another length than a page.
#[test]
fn a_block_must_fill_its_page() {
    let page = noise(1, 512);
    let (bytes, _) = encode(change(), &[(2, page.clone())], flagged(2)).unwrap();
    for len in [0, 511, 513, 520] {
        let mut short = page.clone();
        short.resize(len, 0);
        let block = lz4_flex::block::compress(&short);
        let mut file = bytes[..106].to_vec();
        file.extend((block.len() as u32).to_be_bytes());
        file.extend(block);
        let e = decode(&file).unwrap_err();
        assert!(matches!(e, LtxError::Block { pgno: 2, offset: 100, .. }), "{len}: {e}");
    }
}

/// A decoder that met an error says nothing more.
#[test]
fn an_error_is_the_end() {
    let [sample, _] = samples();
    let mut decoder = Decoder::new(&sample[..200]).unwrap();
    let mut page = Vec::new();
    while decoder.next_page(&mut page).is_ok() {}
    assert!(matches!(decoder.next_page(&mut page), Err(LtxError::Failed)));
    assert!(matches!(decoder.finish(), Err(LtxError::Failed)));
}

/// Gives what it has, then fails.
struct Broken<'a>(&'a [u8]);

impl io::Read for Broken<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.0.read(out)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            len => Ok(len),
        }
    }
}

/// Another thing than a file cut short: reading again may help.
#[test]
fn a_failed_read_is_said() {
    let [sample, _] = samples();
    for len in 0..=sample.len() {
        let read = || -> Result<Trailer, LtxError> {
            let mut decoder = Decoder::new(Broken(&sample[..len]))?;
            while decoder.next_page(&mut Vec::new())?.is_some() {}
            decoder.finish()
        };
        let e = read().unwrap_err();
        assert!(matches!(e, LtxError::Read { offset, .. } if offset <= len as u64), "{e}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(decode(&bytes).is_err());
        // With a sound header the rest is looked at too.
        let header = samples()[0][..Header::SIZE].to_vec();
        prop_assert!(decode(&[header, bytes].concat()).is_err());
    }

    /// Random LZ4 blocks where they are expected.
    #[test]
    fn random_blocks_are_refused(block in proptest::collection::vec(any::<u8>(), 0..530)) {
        let mut bytes = samples()[0][..106].to_vec();
        bytes.extend((block.len() as u32).to_be_bytes());
        bytes.extend(block);
        prop_assert!(decode(&bytes).is_err());
    }

    /// Damage at several places, parts taken out, doubled or moved.
    #[test]
    fn mangled_files_are_refused_or_say_the_same(
        which in 0..2_usize,
        bytes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        part in any::<(prop::sample::Index, prop::sample::Index, prop::sample::Index)>(),
    ) {
        let sample = samples()[which].clone();
        let content = decode(&sample).unwrap();
        let mut mangled = sample;
        for (at, byte) in bytes {
            let at = at.index(mangled.len());
            mangled[at] = byte;
        }
        let (from, to) = (part.0.index(mangled.len()), part.1.index(mangled.len()));
        let taken: Vec<u8> = mangled.drain(from.min(to)..to).collect();
        let place = part.2.index(mangled.len() + 1);
        mangled.splice(place..place, taken);
        if let Ok(found) = decode(&mangled) {
            prop_assert_eq!(found, content);
        }
    }
}
