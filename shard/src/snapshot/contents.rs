//! Reading updates where they are: in the record or in parts, several at a time.

use std::sync::Arc;

use lowwater::ShardId;
use tokio::task::JoinSet;

use crate::inline;
use crate::parts::PartError;
use crate::record::Content;
use crate::schema::Schema;
use crate::shards::Inner;
use crate::time::ShardTime;
use crate::updates::Updates;

/// Updates somewhere, and the schema that they were written with.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) content: Content,
    pub(crate) schema: Schema,
}

/// Reads all of them, in no order.
pub(crate) async fn read_all<T: ShardTime>(
    inner: &Arc<Inner<T>>,
    shard: ShardId,
    sources: &[Source],
) -> Result<Vec<Updates<T>>, PartError> {
    let mut read = Vec::with_capacity(sources.len());
    let mut reading: JoinSet<Result<Updates<T>, PartError>> = JoinSet::new();
    for Source { content, schema } in sources {
        let stored = match content {
            Content::Inline(inline) => {
                read.push(inline::decode(&inline.bytes, schema).map_err(PartError::Inline)?);
                continue;
            }
            Content::Stored(stored) => stored.clone(),
        };
        while reading.len() >= inner.settings.reads_max.max(1) {
            read.extend(next(&mut reading).await?);
        }
        let (inner_too, schema) = (Arc::clone(inner), schema.clone());
        let part = async move { inner_too.parts.read(shard, &stored, &schema).await };
        reading.spawn_on(part, &inner.runtime);
    }
    while !reading.is_empty() {
        read.extend(next(&mut reading).await?);
    }
    Ok(read)
}

async fn next<T: ShardTime>(
    reading: &mut JoinSet<Result<Updates<T>, PartError>>,
) -> Result<Option<Updates<T>>, PartError> {
    match reading.join_next().await {
        Some(Ok(read)) => read.map(Some),
        // The runtime has gone.
        Some(Err(_)) => Err(PartError::Stopped),
        None => Ok(None),
    }
}
