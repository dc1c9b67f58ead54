//! Databases in and out of the embedded engine.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::engine::EmbeddedEngine;
use crate::core::DatabaseName;
use crate::core::engine::Later;
use crate::core::transfer::{
    Diverged, Export, Imported, TransferError, Transfers, Upload, UploadId, Uploaded,
};

impl Transfers for EmbeddedEngine {
    fn begin_upload(&self, upload: Upload) -> Later<'_, Result<Uploaded, TransferError>> {
        let uploads = Arc::clone(&self.uploads);
        Box::pin(blocking(move || uploads.begin(&upload)))
    }

    fn upload_piece(
        &self,
        id: UploadId,
        offset: u64,
        piece: Bytes,
    ) -> Later<'_, Result<Uploaded, TransferError>> {
        let uploads = Arc::clone(&self.uploads);
        Box::pin(blocking(move || uploads.piece(&id, offset, &piece)))
    }

    fn finish_upload(
        &self,
        id: UploadId,
        timeout: Duration,
    ) -> Later<'_, Result<Option<Imported>, TransferError>> {
        Box::pin(self.uploads.finish(id, timeout))
    }

    fn drop_upload(&self, id: UploadId) -> Later<'_, Result<Uploaded, TransferError>> {
        let uploads = Arc::clone(&self.uploads);
        Box::pin(blocking(move || uploads.forget(&id)))
    }

    fn export(
        &self,
        database: DatabaseName,
        timeout: Duration,
    ) -> Later<'_, Result<Export, TransferError>> {
        let (databases, uploads) = (Arc::clone(&self.databases), Arc::clone(&self.uploads));
        Box::pin(blocking(move || databases.export(&database, uploads.folder(), timeout)))
    }

    fn diverged(&self) -> Later<'_, Result<Vec<Diverged>, TransferError>> {
        let databases = Arc::clone(&self.databases);
        Box::pin(blocking(move || databases.diverged()))
    }

    fn export_diverged(
        &self,
        id: String,
        database: Option<DatabaseName>,
    ) -> Later<'_, Result<Export, TransferError>> {
        let databases = Arc::clone(&self.databases);
        Box::pin(blocking(move || databases.export_diverged(&id, database.as_ref())))
    }

    fn drop_diverged(&self, id: String) -> Later<'_, Result<Diverged, TransferError>> {
        let databases = Arc::clone(&self.databases);
        Box::pin(blocking(move || databases.drop_diverged(&id)))
    }
}

/// Work that waits for the disk, off the threads that serve.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
) -> Result<T, TransferError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(TransferError::Unavailable("it failed; the log says why".into())))
}
