use crate::sqlite::WalTip;
pub trait ReadAt { fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize>; }
pub struct WalCapture; 
#[derive(Debug, thiserror::Error)] #[error("x")] pub struct CaptureError;
pub struct WalTransaction { pub page_size: u32, pub pages: u32, pub first_frame: u32, pub last_frame: u32, pub latest: Vec<(u32,u32)>, pub tip: WalTip }
pub enum WalEvent { Pass, CommitPoint(WalTransaction), Repeat }
impl WalCapture { pub fn begin(_: Option<WalTip>) -> Self { todo!() } pub fn write(&mut self, _: &dyn ReadAt, _: u64, _: &[u8]) -> Result<WalEvent, CaptureError> { todo!() } }
pub struct DatabaseShape { pub page_size: Option<u32>, pub pages: u32 }
pub struct JournalCapture;
pub enum JournalEvent { Pass, Empty, CommitPoint { dirty: Option<Vec<u32>> }, Refuse(CaptureError) }
impl JournalCapture { pub fn begin(_: DatabaseShape) -> Self { todo!() } pub fn db_write(&mut self, _: u64, _: u64) {} pub fn db_truncate(&mut self, _: u64) {}
 pub fn journal_write(&mut self, _: u64, _: &[u8]) -> JournalEvent { todo!() } pub fn journal_truncate(&mut self, _: u64) -> JournalEvent { todo!() } pub fn journal_unlink(&mut self) -> JournalEvent { todo!() } }
