//! What was uploaded becomes a database by way of LiteFS.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::commit::{Intake, look_through};
use crate::core::DatabaseName;
use crate::core::transfer::{Imported, TransferError, Upload, UploadId};
use crate::litefs::Litefs;

pub struct LitefsIntake {
    pub litefs: Arc<Litefs>,
    /// Whether databases are in WAL mode from then on (`journal: wal`).
    pub as_wal: bool,
}

impl Intake for LitefsIntake {
    fn must_be_free(&self, name: &DatabaseName) -> Result<(), TransferError> {
        self.litefs.must_be_free(name)
    }

    fn take_in(
        self: Arc<Self>,
        _id: UploadId,
        upload: Upload,
        data: PathBuf,
    ) -> BoxFuture<'static, Result<Imported, TransferError>> {
        Box::pin(async move {
            let name = upload.database.clone();
            let looked = tokio::task::spawn_blocking(move || look_through(&upload, &data));
            let stopped = |_| TransferError::Unavailable("the node is stopping".to_owned());
            let outside = looked.await.map_err(stopped).flatten()?;
            self.litefs.bring_in(name, outside, self.as_wal).await
        })
    }
}
