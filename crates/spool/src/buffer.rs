//! What goes to the disk in one write: headers and small chunks copied
//! together, large chunks of bodies as they are.

use std::io::{self, IoSlice};
use std::ops::Range;

use bytes::Bytes;

use crate::disk::DiskFile;

/// A chunk of at least this size is written from where it is; smaller ones are
/// cheaper to copy than to describe.
const SHARE_BYTES: usize = 16 << 10;
/// Most slices in one call: IOV_MAX of Linux.
const SLICE_COUNT: usize = 1024;
/// An arena that has grown beyond this is not kept.
const KEEP_BYTES: usize = 4 << 20;

enum Piece {
    Copied(Range<usize>),
    Shared(Bytes),
}

/// Bytes for one place on disk.
#[derive(Default)]
pub(crate) struct WriteBuffer {
    arena: Vec<u8>,
    pieces: Vec<Piece>,
    len: u64,
}

impl WriteBuffer {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets `write` append to the copied bytes.
    pub(crate) fn append<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.arena.len();
        let result = write(&mut self.arena);
        let end = self.arena.len();
        self.len += (end - start) as u64;
        match self.pieces.last_mut() {
            Some(Piece::Copied(range)) if range.end == start => range.end = end,
            _ if start == end => {}
            _ => self.pieces.push(Piece::Copied(start..end)),
        }
        result
    }

    pub(crate) fn push(&mut self, chunk: &Bytes) {
        if chunk.len() < SHARE_BYTES {
            self.append(|arena| arena.extend_from_slice(chunk));
        } else {
            self.len += chunk.len() as u64;
            self.pieces.push(Piece::Shared(chunk.clone()));
        }
    }

    /// Appends zeros up to a length of `len`.
    pub(crate) fn pad_to(&mut self, len: u64) {
        let zeros = usize::try_from(len - self.len).expect("padding is small");
        self.append(|arena| arena.resize(arena.len() + zeros, 0));
    }

    /// Forgets everything, chunks of bodies first of all.
    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.arena.clear();
        if self.arena.capacity() > KEEP_BYTES {
            self.arena = Vec::new();
        }
        self.len = 0;
    }

    /// Writes everything at `offset`.
    ///
    /// # Errors
    /// Those of the disk; some of it may have been written then.
    pub(crate) fn write_to(&self, file: &dyn DiskFile, mut offset: u64) -> io::Result<()> {
        for group in self.pieces.chunks(SLICE_COUNT) {
            let mut slices: Vec<IoSlice<'_>> = group
                .iter()
                .map(|piece| match piece {
                    Piece::Copied(range) => IoSlice::new(&self.arena[range.clone()]),
                    Piece::Shared(chunk) => IoSlice::new(chunk),
                })
                .collect();
            let mut rest = &mut slices[..];
            while !rest.is_empty() {
                let written = match file.write_vectored_at(rest, offset) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => written,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                offset += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
        }
        Ok(())
    }
}

/// Fills `buffer` from `offset`; an end of file before that is an error.
pub(crate) fn read_exact_at(
    file: &dyn DiskFile,
    buffer: &mut [u8],
    mut offset: u64,
) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                filled += count;
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`.
pub(crate) fn write_all_at(
    file: &dyn DiskFile,
    mut bytes: &[u8],
    mut offset: u64,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_vectored_at(&[IoSlice::new(bytes)], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
