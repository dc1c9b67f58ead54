//! Recorded file operations of SQLite: tests/fixtures/capture, made by tests/record.
#![allow(dead_code, clippy::panic)] // not every test needs all of it

pub const DATABASE: u8 = 0;
pub const JOURNAL: u8 = 1;
pub const WAL: u8 = 2;
pub const SHM: u8 = 3;

#[derive(Debug, Clone)]
pub enum Op {
    Write { file: u8, offset: u64, data: Vec<u8> },
    Truncate { file: u8, len: u64 },
    Unlink { file: u8 },
    Lock { file: u8, start: u64, len: u64, kind: u64 },
    Exit,
}

/// The format is told in tests/record/record.py.
pub fn parse(name: &str, bytes: &[u8]) -> Vec<Op> {
    let mut at = 0;
    let mut ops = Vec::new();
    let byte = |at: &mut usize| {
        *at += 1;
        bytes[*at - 1]
    };
    let number = |at: &mut usize| {
        let (mut value, mut shift) = (0, 0);
        loop {
            let next = byte(at);
            value |= u64::from(next & 127) << shift;
            shift += 7;
            if next < 128 {
                return value;
            }
        }
    };
    while at < bytes.len() {
        let (what, file) = (byte(&mut at), byte(&mut at));
        ops.push(match what {
            b'W' => {
                let (offset, len) = (number(&mut at), number(&mut at) as usize);
                let mut data = Vec::new();
                while data.len() < len {
                    let kept = number(&mut at) as usize;
                    data.extend_from_slice(&bytes[at..at + kept]);
                    at += kept;
                    data.resize(data.len() + number(&mut at) as usize, 0);
                }
                assert_eq!(data.len(), len);
                Op::Write { file, offset, data }
            }
            b'T' => Op::Truncate { file, len: number(&mut at) },
            b'U' => Op::Unlink { file },
            b'L' => {
                let (start, len, kind) = (number(&mut at), number(&mut at), number(&mut at));
                Op::Lock { file, start, len, kind }
            }
            b'X' => Op::Exit,
            _ => panic!("{name}: operation {what} at {at}"),
        });
    }
    ops
}
