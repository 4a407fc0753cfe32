//! Writing the collections: all of them in one transaction, each from where it ends.

use lowwater::{StorageError, Upper};
use lowwater_shard::{Append, AppendError, Updates, Writer, WriterError};
use timely::PartialOrder;
use timely::progress::Antichain;

use crate::catalog::Relation;
use crate::columns;
use crate::minute::Minute;
use crate::past::Update;

use super::patience::{Patience, patiently};
use super::{Contents, Store, StoreError};

/// Writes the collections, and knows how far each is written.
///
/// What is written at a time follows from the source alone, and so is the same whoever writes it.
/// What somebody else has written, an earlier incarnation perhaps whose last append has come
/// through late, is therefore taken as if we had written it.
pub struct Writers<'a> {
    store: &'a Store,
    /// In the order of [`Relation::ALL`].
    writers: Vec<RelationWriter>,
}

struct RelationWriter {
    relation: Relation,
    writer: Writer<Minute>,
    written: Upper<Minute>,
    /// How many updates were appended.
    updates: u64,
}

impl<'a> Contents<'a> {
    /// Writers of all collections.
    ///
    /// # Errors
    /// When the store does not answer for a while, or has something else in it.
    pub fn writers(&self) -> Result<Writers<'a>, StoreError> {
        let writers = Relation::ALL
            .into_iter()
            .map(|relation| self.writer(relation));
        Ok(Writers {
            store: self.store,
            writers: writers.collect::<Result<_, _>>()?,
        })
    }

    fn writer(&self, relation: Relation) -> Result<RelationWriter, StoreError> {
        let (schema, shard) = (columns::schema(relation), self.places.shard(relation));
        let opened = patiently(
            async || match self.store.shards.writer(shard, &schema).await {
                Ok(writer) => Ok(Ok(writer)),
                Err(WriterError::Schema(refusal)) => Ok(Err(refusal)),
                Err(WriterError::Storage(error)) => Err(error),
            },
        );
        let writer = self.store.runtime.block_on(opened)?;
        let writer = writer.map_err(|refusal| unwritable(relation, &refusal))?;
        Ok(RelationWriter {
            relation,
            written: writer.upper(),
            writer,
            updates: 0,
        })
    }
}

impl Writers<'_> {
    /// How far `relation` is written.
    #[must_use]
    pub fn upper(&self, relation: Relation) -> &Antichain<Minute> {
        self.writers[relation.index()].written.frontier()
    }

    /// How many updates of `relation` were written.
    #[must_use]
    pub fn updates(&self, relation: Relation) -> u64 {
        self.writers[relation.index()].updates
    }

    /// Writes all collections up to the minute `upper`, in one transaction. `updates` are those of
    /// each, in the order of [`Relation::ALL`].
    ///
    /// # Errors
    /// When the store does not answer for a while, or refuses.
    pub fn append(
        &mut self,
        upper: Minute,
        updates: [Vec<Update>; Relation::ALL.len()],
    ) -> Result<(), StoreError> {
        let Self { store, writers } = self;
        store.runtime.block_on(async {
            let mut patience = Patience::default();
            while let Some(error) = append_once(store, writers, upper, &updates).await? {
                patience.wait(error).await?;
                refresh(writers).await?;
            }
            Ok(())
        })
    }
}

/// Appends what is not written yet. Gives the trouble that may pass, if there was any.
async fn append_once(
    store: &Store,
    writers: &mut [RelationWriter],
    upper: Minute,
    updates: &[Vec<Update>],
) -> Result<Option<StorageError>, StoreError> {
    let mut trouble = None;
    loop {
        let writing = writers.iter_mut().zip(updates);
        let mut writing: Vec<_> = writing
            .filter(|(of_one, _)| !of_one.has_reached(upper))
            .collect();
        if writing.is_empty() {
            return Ok(None);
        }
        let appends = writing
            .iter()
            .map(|(of_one, updates)| of_one.append(upper, updates));
        let appends = appends.collect::<Result<Vec<_>, _>>()?;
        let counts: Vec<u64> = appends
            .iter()
            .map(|append| append.updates.len() as u64)
            .collect();
        let outcomes = store.shards.append_all(appends).await;
        for (((of_one, _), count), outcome) in writing.iter_mut().zip(counts).zip(outcomes) {
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
