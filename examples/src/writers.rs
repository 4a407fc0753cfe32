//! Writing the collections, each from where it ends: the tables in transactions, all others in one
//! append.

mod tables;

use lowwater::{StorageError, Upper};
use lowwater_shard::{Append, AppendError, Shards, Updates, Writer, WriterError};
use timely::PartialOrder;
use timely::progress::Antichain;
use tokio::runtime::Handle;

use crate::catalog::Relation;
use crate::columns;
use crate::embedding::Embedding;
use crate::minute::Minute;
use crate::past::Update;
use crate::store::{Patience, Store, StoreError, patiently};

use tables::TableWriter;

/// What is to be written of each collection, in the order of [`Relation::ALL`].
pub type Unwritten = [Vec<Update>; Relation::ALL.len()];

/// Writes the collections, and knows how far each is written.
///
/// What is written at a time follows from the source alone, and so is the same whoever writes it.
/// What somebody else has written, an earlier incarnation perhaps whose last append has come
/// through late, is therefore taken as if we had written it.
pub struct Writers<'a> {
    shards: &'a Shards<Minute>,
    runtime: &'a Handle,
    tables: TableWriter<'a>,
    /// Of those that are no tables.
    others: Vec<RelationWriter>,
}

struct RelationWriter {
    relation: Relation,
    writer: Writer<Minute>,
    written: Upper<Minute>,
    /// How many updates were appended.
    updates: u64,
}

impl<'a> Writers<'a> {
    /// Writers of all collections.
    ///
    /// # Errors
    /// When the store does not answer for a while, or has something else in it.
    pub fn open(store: &'a Store, embedding: &'a Embedding) -> Result<Self, StoreError> {
        let (shards, runtime) = (store.shards(), store.runtime());
        let others = Relation::ALL.into_iter().filter(|of| !of.is_table());
        let others = others.map(|relation| {
            let shard = embedding.places().shard(relation);
            let schema = columns::schema(relation);
            let opened = patiently(async || match shards.writer(shard, &schema).await {
                Ok(writer) => Ok(Ok(writer)),
                Err(WriterError::Schema(refusal)) => Ok(Err(refusal)),
                Err(WriterError::Storage(error)) => Err(error),
            });
            let writer = runtime.block_on(opened)?;
            let writer = writer.map_err(|refusal| unwritable(relation, &refusal))?;
            Ok(RelationWriter {
                relation,
                written: writer.upper(),
                writer,
                updates: 0,
            })
        });
        Ok(Writers {
            shards,
            runtime,
            tables: TableWriter::open(runtime, embedding)?,
            others: others.collect::<Result<_, StoreError>>()?,
        })
    }

    /// How far `relation` is written.
    #[must_use]
    pub fn upper(&self, relation: Relation) -> &Antichain<Minute> {
        match self.other(relation) {
            Some(of_one) => of_one.written.frontier(),
            None => self.tables.upper().frontier(),
        }
    }

    /// How many updates of `relation` were written.
    #[must_use]
    pub fn updates(&self, relation: Relation) -> u64 {
        match self.other(relation) {
            Some(of_one) => of_one.updates,
            None => self.tables.updates(relation),
        }
    }

    fn other(&self, relation: Relation) -> Option<&RelationWriter> {
        self.others.iter().find(|of| of.relation == relation)
    }

    /// Writes all collections up to the minute `upper`: what the tables have in each minute commits
    /// together, all these minutes in one write; then all others in another one.
    ///
    /// # Errors
    /// When the store does not answer for a while, or refuses.
    pub fn append(&mut self, upper: Minute, updates: &Unwritten) -> Result<(), StoreError> {
        let Self {
            shards,
            tables,
            others,
            ..
        } = self;
        self.runtime.block_on(async {
            tables.commit(upper, updates).await?;
            let mut patience = Patience::default();
            while let Some(error) = append_once(shards, others, upper, updates).await? {
                patience.wait(error).await?;
                refresh(others).await?;
            }
            Ok(())
        })
    }

    /// Brings what has committed to the tables' own shards, so that nothing is left to be done.
    ///
    /// # Errors
    /// When the store does not answer for a while, or refuses.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.runtime.block_on(self.tables.settle())
    }
}

/// Appends what is not written yet. Gives the trouble that may pass, if there was any.
async fn append_once(
    shards: &Shards<Minute>,
    writers: &mut [RelationWriter],
    upper: Minute,
    updates: &Unwritten,
) -> Result<Option<StorageError>, StoreError> {
    let mut trouble = None;
    loop {
        let writing = writers.iter_mut().filter(|of| !of.has_reached(upper));
        let mut writing: Vec<_> = writing.collect();
        if writing.is_empty() {
            return Ok(None);
        }
        let appends = writing.iter().map(|of_one| {
            let updates = &updates[of_one.relation.index()];
            of_one.append(upper, updates)
        });
        let appends = appends.collect::<Result<Vec<_>, _>>()?;
        let counts: Vec<u64> = appends
            .iter()
            .map(|append| append.updates.len() as u64)
            .collect();
        let outcomes = shards.append_all(appends).await;
        for ((of_one, count), outcome) in writing.iter_mut().zip(counts).zip(outcomes) {
            match outcome {
                Ok(written) => {
                    of_one.written = written;
                    of_one.updates += count;
                }
                Err(AppendError::UpperMismatch(mismatch)) => of_one.was_written(mismatch.actual)?,
                Err(AppendError::Storage(error)) => trouble = Some(error),
                Err(refusal) => return Err(unwritable(of_one.relation, &refusal)),
            }
        }
        if trouble.is_some() {
            return Ok(trouble);
        }
    }
}

/// Finds out how far everything is written, when the outcome of an append is not known.
async fn refresh(writers: &mut [RelationWriter]) -> Result<(), StoreError> {
    for of_one in writers {
        let upper = patiently(async || of_one.writer.fetch_upper().await).await?;
        if upper != of_one.written {
            of_one.was_written(upper)?;
        }
    }
    Ok(())
}

impl RelationWriter {
    fn has_reached(&self, upper: Minute) -> bool {
        PartialOrder::less_equal(&Upper::at(upper), &self.written)
    }

    /// Somebody has written up to `actual`: what we would have written.
    fn was_written(&mut self, actual: Upper<Minute>) -> Result<(), StoreError> {
        if !PartialOrder::less_than(&self.written, &actual) {
            let why = format!(
                "it was written up to {}, and is now up to {actual}",
                self.written
            );
            return Err(unwritable(self.relation, &why));
        }
        self.written = actual;
        Ok(())
    }

    fn append(&self, upper: Minute, updates: &[Update]) -> Result<Append<'_, Minute>, StoreError> {
        let lower = &self.written;
        let unwritten = |(_, at, _): &&Update| lower.frontier().less_equal(at);
        let updates: Vec<_> = updates.iter().filter(unwritten).collect();
        let rows = columns::encode(self.relation, updates.iter().map(|(row, ..)| row));
        let times = updates.iter().map(|(_, at, _)| *at).collect();
        let diffs = updates.iter().map(|(.., diff)| *diff).collect();
        let updates = Updates::new(rows, times, diffs);
        Ok(Append {
            writer: &self.writer,
            lower: lower.clone(),
            upper: Upper::at(upper),
            updates: updates.map_err(|refusal| unwritable(self.relation, &refusal))?,
        })
    }
}

fn unwritable(relation: Relation, why: &dyn std::fmt::Display) -> StoreError {
    let why = why.to_string();
    StoreError::Unwritable { relation, why }
}
