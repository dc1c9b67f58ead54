//! A disk that forgets: what was not synced is lost, torn or kept at a crash, as the test likes.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::disk::{Disk, DiskFile};

/// What a crash makes of the bytes that were not synced.
#[derive(Debug, Clone, Copy)]
pub enum Tear {
    /// None of them is there.
    Nothing,
    /// All are.
    Everything,
    /// So many, in the order they were written.
    Bytes(usize),
    /// Each 64 bytes of each write are there or not, by this seed.
    Sectors(u64),
}

#[derive(Debug, Clone, Default)]
struct FileState {
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl FileState {
    fn live(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (offset, part) in &self.unsynced {
            bytes[*offset..offset + part.len()].copy_from_slice(part);
        }
        bytes
    }
}

type Names = BTreeMap<String, usize>;

#[derive(Debug, Clone, Default)]
struct World {
    files: Vec<FileState>,
    names: Names,
    /// The names as they were after each change since the folder was synced; the first: as synced.
    histories: Vec<Names>,
    operations: u64,
    crash_at: Option<u64>,
}

impl World {
    /// One more operation; an error if it is the one to crash at, and from then on.
    fn operation(&mut self) -> io::Result<()> {
        if self.crash_at.is_some_and(|at| self.operations >= at) {
            return Err(io::Error::other("the simulated machine is down"));
        }
        self.operations += 1;
        Ok(())
    }

    fn names_changed(&mut self) {
        self.histories.push(self.names.clone());
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<World>>);

struct SimFile {
    world: Arc<Mutex<World>>,
    number: usize,
}

impl SimDisk {
    pub fn new() -> Self {
        let disk = Self::default();
        disk.0.lock().unwrap().names_changed();
        disk
    }

    /// Every operation from this one on fails.
    pub fn crash_at(&self, operation: u64) {
        self.0.lock().unwrap().crash_at = Some(operation);
    }

    pub fn operations(&self) -> u64 {
        self.0.lock().unwrap().operations
    }

    /// The most bytes that a [`Tear::Bytes`] can keep.
    pub fn unsynced(&self) -> usize {
        let world = self.0.lock().unwrap();
        world.files.iter().flat_map(|f| &f.unsynced).map(|(_, part)| part.len()).sum()
    }

    /// How many states of the folder a crash can leave.
    pub fn folders(&self) -> usize {
        self.0.lock().unwrap().histories.len()
    }

    /// The disk after the crash.
    pub fn after_crash(&self, tear: Tear, folder: usize) -> SimDisk {
        let world = self.0.lock().unwrap();
        let mut left = match tear {
            Tear::Bytes(bytes) => bytes,
            _ => usize::MAX,
        };
        let mut files = world.files.clone();
        for file in &mut files {
            for (offset, part) in std::mem::take(&mut file.unsynced) {
                for (at, byte) in part.iter().enumerate() {
                    let keep = match tear {
                        Tear::Nothing => false,
                        Tear::Everything => true,
                        Tear::Bytes(_) => {
                            let keep = left > 0;
                            left = left.saturating_sub(1);
                            keep
                        }
                        Tear::Sectors(seed) => {
                            let sector = ((offset + at) / 64) as u64;
                            (sector ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 0
                        }
                    };
                    if keep {
                        file.durable[offset + at] = *byte;
                    }
                }
            }
        }
        let names = world.histories[folder].clone();
        let histories = vec![names.clone()];
        let world = World { files, names, histories, operations: 0, crash_at: None };
        SimDisk(Arc::new(Mutex::new(world)))
    }

    /// Damages what is durable.
    pub fn flip(&self, name: &str, offset: usize) {
        let mut world = self.0.lock().unwrap();
        let file = world.file(name).unwrap();
        world.files[file].durable[offset] ^= 0x10;
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let world = self.0.lock().unwrap();
        let names = world.names.iter();
        Ok(names.map(|(n, f)| (n.clone(), world.files[*f].durable.len() as u64)).collect())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.0.lock().unwrap();
        world.operation()?;
        let durable = vec![0; usize::try_from(len).unwrap()];
        world.files.push(FileState { durable, unsynced: Vec::new() });
        let number = world.files.len() - 1;
        world.names.insert(name.into(), number);
        world.names_changed();
        Ok(Arc::new(SimFile { world: Arc::clone(&self.0), number }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let number = self.0.lock().unwrap().file(name)?;
        Ok(Arc::new(SimFile { world: Arc::clone(&self.0), number }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.0.lock().unwrap();
        world.operation()?;
        let file = world.file(from)?;
        world.names.remove(from);
        world.names.insert(to.into(), file);
        world.names_changed();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.0.lock().unwrap();
        world.operation()?;
        world.file(name)?;
        world.names.remove(name);
        world.names_changed();
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut world = self.0.lock().unwrap();
        world.operation()?;
        world.histories.clear();
        world.names_changed();
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.world.lock().unwrap().files[self.number].durable.len() as u64)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let live = self.world.lock().unwrap().files[self.number].live();
        let start = usize::try_from(offset).unwrap();
        let end = start + bytes.len();
        let part = live.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(part);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.world.lock().unwrap();
        let failed = world.operation();
        let offset = usize::try_from(offset).unwrap();
        let file = &mut world.files[self.number];
        assert!(offset + bytes.len() <= file.durable.len(), "a write beyond the prepared space");
        // The machine may go down in the middle of it.
        file.unsynced.push((offset, bytes.to_vec()));
        failed
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world.lock().unwrap();
        world.operation()?;
        let file = &mut world.files[self.number];
        file.durable = file.live();
        file.unsynced.clear();
        Ok(())
    }
}
