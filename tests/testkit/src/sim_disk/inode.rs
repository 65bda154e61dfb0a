//! One file of the simulated disk: what is in memory and what on the medium.

use std::collections::BTreeSet;

use super::Chance;

/// Writes reach the medium in pieces of this size, in any order.
pub(super) const SECTOR_BYTES: usize = 512;

/// One file: what programs see and what the medium has.
#[derive(Default)]
pub(super) struct Inode {
    pub(super) view: Vec<u8>,
    pub(super) medium: Vec<u8>,
    /// Written since the last sync, successful or not.
    pub(super) unsynced: Vec<(usize, Vec<u8>)>,
    /// Sectors that a failed sync has left clean in memory but not on the medium:
    /// they can be read until memory is short.
    pub(super) lost: BTreeSet<usize>,
    /// Its size has been synced once.
    pub(super) sized: bool,
    /// Sectors that take up space, on a disk which allocates only when written.
    pub(super) touched: BTreeSet<usize>,
}

impl Inode {
    /// What programs see changes, and is to be brought to the medium.
    pub(super) fn write(&mut self, offset: usize, bytes: Vec<u8>) {
        self.view[offset..offset + bytes.len()].copy_from_slice(&bytes);
        let sectors = sectors_of(offset, bytes.len());
        self.unsynced.push((offset, bytes));
        // Memory is dirty by whole sectors: one that is written to again takes
        // with it what a failed sync has left in it.
        for sector in sectors {
            if self.lost.remove(&sector) {
                let start = sector * SECTOR_BYTES;
                let end = (start + SECTOR_BYTES).min(self.view.len());
                self.unsynced.push((start, self.view[start..end].to_vec()));
            }
        }
    }

    /// A sync has failed: what has not reached the medium counts as clean.
    pub(super) fn lose(&mut self, chance: &mut Chance) {
        for (offset, bytes) in &self.unsynced {
            self.lost.extend(sectors_of(*offset, bytes.len()));
        }
        self.settle(chance);
    }

    /// Memory is short: of what no sync will save, some is forgotten.
    pub(super) fn evict(&mut self, chance: &mut Chance) {
        for sector in std::mem::take(&mut self.lost) {
            if chance.one_in(2) {
                let start = sector * SECTOR_BYTES;
                let end = (start + SECTOR_BYTES).min(self.view.len());
                self.view[start..end].copy_from_slice(&self.medium[start..end]);
            } else {
                self.lost.insert(sector);
            }
        }
    }

    /// A sector that was being written is neither old nor new.
    fn garble(&mut self, sector: usize, chance: &mut Chance) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.medium.len());
        let torn_at = start + chance.below((end - start) as u64) as usize;
        for byte in &mut self.medium[torn_at..end] {
            *byte = chance.bits() as u8;
        }
        if chance.one_in(2) {
            for byte in &mut self.medium[start..torn_at] {
                *byte = chance.bits() as u8;
            }
        }
    }

    /// Decides what of the unsynced reaches the medium.
    pub(super) fn settle(&mut self, chance: &mut Chance) {
        // All, nothing, or a mixture: the extremes are what real disks do most.
        let kept_of_four = match chance.below(4) {
            0 => 0,
            1 => 4,
            _ => 2,
        };
        for (offset, bytes) in std::mem::take(&mut self.unsynced) {
            let mut at = offset;
            while at < offset + bytes.len() {
                let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(offset + bytes.len());
                if chance.below(4) < kept_of_four {
                    self.medium[at..end].copy_from_slice(&bytes[at - offset..end - offset]);
                    if chance.one_in(16) {
                        self.garble(at / SECTOR_BYTES, chance);
                    }
                }
                at = end;
            }
        }
    }
}

fn sectors_of(offset: usize, length: usize) -> std::ops::Range<usize> {
    offset / SECTOR_BYTES..(offset + length).div_ceil(SECTOR_BYTES)
}
