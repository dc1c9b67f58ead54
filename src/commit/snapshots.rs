use super::databases::AllDatabases; use super::database::Database; use std::sync::Arc;
impl AllDatabases { pub(super) fn put_aside(&self, _d: &Arc<Database>) -> Result<(), crate::store::StoreError> { todo!() } }
