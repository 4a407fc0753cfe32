//! The schemas of tables, as far as this process knows.

use std::collections::BTreeMap;

use lowwater::ShardId;
use parking_lot::Mutex;

use crate::id::SchemaId;
use crate::schema::Schema;

/// The schemas of tables, as far as this process knows: so that who writes need not read. A shard
/// is only ever given more of them, so what is known stays true.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    known: Mutex<BTreeMap<ShardId, Vec<Schema>>>,
}

impl Schemas {
    /// The shard has these.
    pub(super) fn note(&self, shard: ShardId, schemas: &[Schema]) {
        let mut known = self.known.lock();
        let known = known.entry(shard).or_default();
        if let Some(more) = schemas.get(known.len()..) {
            known.extend_from_slice(more);
        }
    }

    /// The number of a schema among those of the shard, if that is known.
    pub(super) fn number(&self, shard: ShardId, schema: &Schema) -> Option<SchemaId> {
        let known = self.known.lock();
        let at = known.get(&shard)?.iter().position(|known| known == schema);
        Some(SchemaId::new(u32::try_from(at?).ok()?))
    }

    /// The shard is no table any more, and nobody will write to it.
    pub(super) fn forget(&self, shard: ShardId) {
        self.known.lock().remove(&shard);
    }
}
