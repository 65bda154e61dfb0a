//! A disk in memory that fails as real ones do: a power cut forgets what was not
//! synced and tears what was being written, a failed sync loses what it was to
//! save, space runs out, bits flip. Everything follows from a seed.
//!
//! What it assumes, as the log does: a sector of 512 bytes is usually written
//! whole (now and then one ends up as garbage, what it held before included, and
//! its neighbours as they were), directory operations are journalled in
//! their order, and what a sync reported as done stays.

mod inode;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spool::{Disk, DiskFile};

use inode::{Inode, SECTOR_BYTES};

/// A small generator of chance (splitmix64): the same seed, the same run.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// A generator that is wholly determined by `seed`.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    /// True once in `times` on average.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

#[derive(Clone)]
enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

fn apply(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Create(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
    }
}

/// Faults to come; each counts down calls of its kind: `Some(0)` fails the next,
/// and if they persist, all after it.
#[derive(Default)]
struct Faults {
    sync_in: Option<u64>,
    write_in: Option<u64>,
    directory_in: Option<u64>,
    read_in: Option<u64>,
    cut_in: Option<u64>,
    persist: bool,
}

fn strikes(countdown: &mut Option<u64>, persists: bool) -> bool {
    match countdown {
        Some(0) => {
            if !persists {
                *countdown = None;
            }
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

struct State {
    chance: Chance,
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    names_on_medium: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    next_inode: u64,
    /// Handles of earlier lives are dead.
    life: u64,
    locked_in_life: Option<u64>,
    power_is_cut: bool,
    clock: Duration,
    capacity_bytes: u64,
    sparse: bool,
    faults: Faults,
    operation_count: u64,
    sync_count: u64,
}

/// The simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

fn eio() -> io::Error {
    // EIO, as a real disk says it.
    io::Error::from_raw_os_error(5)
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl SimDisk {
    /// An empty disk without limits.
    pub fn new(seed: u64) -> SimDisk {
        let state = State {
            chance: Chance::new(seed),
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            names_on_medium: BTreeMap::new(),
            name_changes: Vec::new(),
            next_inode: 1,
            life: 0,
            locked_in_life: None,
            power_is_cut: false,
            clock: Duration::ZERO,
            capacity_bytes: u64::MAX,
            sparse: false,
            faults: Faults::default(),
            operation_count: 0,
            sync_count: 0,
        };
        SimDisk {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Limits the space of all files together.
    pub fn set_capacity(&self, capacity_bytes: u64) {
        self.state().capacity_bytes = capacity_bytes;
    }

    /// Whether space is taken only when written, so that a write can fail for
    /// want of it, half done.
    pub fn set_sparse(&self, sparse: bool) {
        self.state().sparse = sparse;
    }

    /// The sync after `count` more of them fails, and loses what it was to save.
    pub fn fail_sync_after(&self, count: u64) {
        self.state().faults.sync_in = Some(count);
    }

    /// The write after `count` more of them fails half way.
    pub fn fail_write_after(&self, count: u64) {
        self.state().faults.write_in = Some(count);
    }

    /// The sync of the directory after `count` more of them fails.
    pub fn fail_directory_sync_after(&self, count: u64) {
        self.state().faults.directory_in = Some(count);
    }

    /// The read after `count` more of them fails.
    pub fn fail_read_after(&self, count: u64) {
        self.state().faults.read_in = Some(count);
    }

    /// Whether a fault that has struck strikes again at every further call of its
    /// kind, until [`clear_faults`](SimDisk::clear_faults).
    pub fn set_faults_persist(&self, persist: bool) {
        self.state().faults.persist = persist;
    }

    /// The power goes after `count` more operations that change something.
    pub fn cut_power_after(&self, count: u64) {
        self.state().faults.cut_in = Some(count);
    }

    /// Calls off every fault that has not struck.
    pub fn clear_faults(&self) {
        self.state().faults = Faults::default();
    }

    /// Whether the power is off.
    pub fn power_is_cut(&self) -> bool {
        self.state().power_is_cut
    }

    /// Power cut and reboot: what was not synced is partly there, or not, or
    /// torn. All open files are dead.
    pub fn power_cut(&self) {
        let mut state = self.state();
        let State {
            chance,
            inodes,
            name_changes,
            names_on_medium,
            ..
        } = &mut *state;
        // A journal keeps a beginning of what was not synced.
        let kept = chance.below(name_changes.len() as u64 + 1) as usize;
        for change in &name_changes[..kept] {
            apply(names_on_medium, change);
        }
        for inode in inodes.values_mut() {
            if !inode.sized && chance.one_in(2) {
                *inode = Inode {
                    sized: true,
                    ..Inode::default()
                };
            }
            inode.settle(chance);
            inode.view = inode.medium.clone();
            inode.lost.clear();
        }
        state.name_changes.clear();
        state.names = state.names_on_medium.clone();
        let known: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|inode, _| known.contains(inode));
        state.end_life();
    }

    /// The process is killed; what it has written is in the page cache and
    /// stays. All open files are dead.
    pub fn kill(&self) {
        self.state().end_life();
    }

    /// Flips one bit of a file, on the medium and for whoever reads it.
    pub fn flip_bit(&self, name: &str, byte: usize, bit: u8) {
        let mut state = self.state();
        let inode = state.names[name];
        let inode = state.inodes.get_mut(&inode).expect("a name has an inode");
        inode.view[byte] ^= 1 << bit;
        inode.medium[byte] ^= 1 << bit;
    }

    /// What a file holds now.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.inodes[&state.names[name]].view.clone()
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.state().clock += by;
    }

    /// Operations so far that changed something.
    pub fn operation_count(&self) -> u64 {
        self.state().operation_count
    }

    /// Syncs of files so far.
    pub fn sync_count(&self) -> u64 {
        self.state().sync_count
    }
}

impl State {
    fn end_life(&mut self) {
        self.life += 1;
        self.locked_in_life = None;
        self.power_is_cut = false;
        self.faults = Faults::default();
    }

    fn alive(&self, life: u64) -> io::Result<()> {
        if self.power_is_cut || life != self.life {
            Err(eio())
        } else {
            Ok(())
        }
    }

    /// Something is about to change; the power may go instead.
    fn change(&mut self, life: u64) -> io::Result<()> {
        self.alive(life)?;
        self.operation_count += 1;
        if strikes(&mut self.faults.cut_in, false) {
            self.power_is_cut = true;
            return Err(eio());
        }
        Ok(())
    }

    fn used_bytes(&self) -> u64 {
        let of = |inode: &Inode| {
            if self.sparse {
                inode.touched.len() * SECTOR_BYTES
            } else {
                inode.view.len()
            }
        };
        self.names
            .values()
            .map(|inode| of(&self.inodes[inode]) as u64)
            .sum()
    }

    fn note(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.name_changes.push(change);
    }

    /// How many of `length` bytes at `offset` there is space for.
    fn room(&mut self, inode: u64, offset: usize, length: usize) -> usize {
        if !self.sparse {
            return length;
        }
        let mut used = self.used_bytes();
        let file = self
            .inodes
            .get_mut(&inode)
            .expect("an open file has an inode");
        let mut at = offset;
        while at < offset + length {
            let sector = at / SECTOR_BYTES;
            if !file.touched.contains(&sector) {
                if used + SECTOR_BYTES as u64 > self.capacity_bytes {
                    return at - offset;
                }
                used += SECTOR_BYTES as u64;
                file.touched.insert(sector);
            }
            at = (sector + 1) * SECTOR_BYTES;
        }
        length
    }
}

struct SimLock {
    disk: SimDisk,
    life: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.locked_in_life == Some(self.life) {
            state.locked_in_life = None;
        }
    }
}

impl Disk for SimDisk {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = self.state();
        if state.locked_in_life.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let life = state.life;
        state.locked_in_life = Some(life);
        drop(state);
        Ok(Box::new(SimLock {
            disk: self.clone(),
            life,
        }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive(state.life)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str, size_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let life = state.life;
        state.change(life)?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let needed = if state.sparse { 0 } else { size_bytes };
        if state.used_bytes().saturating_add(needed) > state.capacity_bytes {
            return Err(full());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        let content = vec![0; size_bytes as usize];
        let file = Inode {
            view: content.clone(),
            medium: content,
            ..Inode::default()
        };
        state.inodes.insert(inode, file);
        state.note(NameChange::Create(name.to_owned(), inode));
        drop(state);
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            inode,
            life,
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        let life = state.life;
        state.alive(life)?;
        let inode = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        drop(state);
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            inode,
            life,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let life = state.life;
        state.change(life)?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.note(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let life = state.life;
        state.change(life)?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.note(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        let life = state.life;
        state.change(life)?;
        let persist = state.faults.persist;
        if strikes(&mut state.faults.directory_in, persist) {
            return Err(eio());
        }
        state.names_on_medium = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }

    fn now(&self) -> Duration {
        self.state().clock
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
    life: u64,
}

impl DiskFile for SimFile {
    fn size_bytes(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.alive(self.life)?;
        Ok(state.inodes[&self.inode].view.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.alive(self.life)?;
        let persist = state.faults.persist;
        if strikes(&mut state.faults.read_in, persist) {
            return Err(eio());
        }
        let State { chance, inodes, .. } = &mut *state;
        let inode = inodes
            .get_mut(&self.inode)
            .expect("an open file has an inode");
        if !inode.lost.is_empty() && chance.one_in(8) {
            inode.evict(chance);
        }
        let view = &inode.view;
        let start = (offset as usize).min(view.len());
        let length = buffer.len().min(view.len() - start);
        buffer[..length].copy_from_slice(&view[start..start + length]);
        Ok(length)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let mut bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        state.alive(self.life)?;
        // A power cut in the middle of a write leaves some of it.
        let cut = state.change(self.life);
        let persist = state.faults.persist;
        let failed = strikes(&mut state.faults.write_in, persist);
        let offset = offset as usize;
        let room = state.room(self.inode, offset, bytes.len());
        if room == 0 && !bytes.is_empty() {
            return Err(full());
        }
        bytes.truncate(room);
        if failed {
            let length = state.chance.below(bytes.len() as u64 + 1) as usize;
            bytes.truncate(length);
        } else if state.chance.one_in(8) && bytes.len() > 1 {
            // Short writes are legal.
            let length = 1 + state.chance.below(bytes.len() as u64 - 1) as usize;
            bytes.truncate(length);
        }
        let written = bytes.len();
        let inode = state
            .inodes
            .get_mut(&self.inode)
            .expect("an open file has an inode");
        inode.write(offset, bytes);
        match cut {
            Err(error) => Err(error),
            Ok(()) if failed => Err(eio()),
            Ok(()) => Ok(written),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change(self.life)?;
        state.sync_count += 1;
        let persist = state.faults.persist;
        let failed = strikes(&mut state.faults.sync_in, persist);
        let State { chance, inodes, .. } = &mut *state;
        let inode = inodes
            .get_mut(&self.inode)
            .expect("an open file has an inode");
        if failed {
            // The kernel marks the pages clean: what is lost now no later sync
            // will save, though it can still be read.
            inode.lose(chance);
            return Err(eio());
        }
        let Inode {
            unsynced,
            medium,
            sized,
            ..
        } = inode;
        for (offset, bytes) in unsynced.drain(..) {
            medium[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        *sized = true;
        Ok(())
    }
}
