//! Writing the tables: the flights of a minute commit together.

use std::collections::BTreeMap;

use lowwater::{StorageError, StorageErrorKind, Upper};
use lowwater_shard::collections::{Collections, CommitTablesError, TableTransaction, TableTrouble};
use lowwater_shard::tables::TablesError;
use timely::PartialOrder;
use tokio::runtime::Handle;

use crate::catalog::Relation;
use crate::columns;
use crate::embedding::Embedding;
use crate::minute::Minute;
use crate::past::Update;
use crate::store::{Patience, StoreError, patiently};

use super::{Unwritten, unwritable};

/// Writes the tables, and knows how far all of them are written.
pub(super) struct TableWriter<'a> {
    collections: &'a Collections<u64, Minute>,
    written: Upper<Minute>,
    /// In the order of [`Relation::ALL`]: how many updates were written.
    updates: [u64; Relation::ALL.len()],
}

/// What is to commit together, and when.
type Commits = Vec<(Minute, TableTransaction<u64, Minute>)>;

impl<'a> TableWriter<'a> {
    pub(super) fn open(runtime: &Handle, embedding: &'a Embedding) -> Result<Self, StoreError> {
        let mut writer = Self {
            collections: embedding.collections(),
            written: Upper::minimum(),
            updates: [0; Relation::ALL.len()],
        };
        runtime.block_on(writer.refresh())?;
        Ok(writer)
    }

    pub(super) fn upper(&self) -> &Upper<Minute> {
        &self.written
    }

    pub(super) fn updates(&self, relation: Relation) -> u64 {
        self.updates[relation.index()]
    }

    /// Commits what the tables have in each minute before `upper` that is not written yet: each
    /// minute's flights together, and all minutes in one write.
    pub(super) async fn commit(
        &mut self,
        upper: Minute,
        updates: &Unwritten,
    ) -> Result<(), StoreError> {
        let mut patience = Patience::default();
        while !PartialOrder::less_equal(&Upper::at(upper), &self.written) {
            let (mut commits, counts) = self.commits(updates)?;
            match self
                .collections
                .commit_all(&(upper - 1), &mut commits)
                .await
            {
                Ok(written) => {
                    self.written = written;
                    let sums = self.updates.iter_mut().zip(counts);
                    sums.for_each(|(sum, count)| *sum += count);
                }
                // A commit of ours may have come through although nobody could say so.
                Err(CommitTablesError::Passed(passed)) => self.written = passed.upper,
                Err(CommitTablesError::Trouble(TableTrouble::Storage(error))) => {
                    patience.wait(error).await?;
                    self.refresh().await?;
                }
                Err(refusal) => return Err(unwritable(Relation::Flights, &refusal)),
            }
        }
        Ok(())
    }

    /// A transaction for each minute in which there is something to be written.
    fn commits(
        &self,
        updates: &Unwritten,
    ) -> Result<(Commits, [u64; Relation::ALL.len()]), StoreError> {
        let mut minutes: BTreeMap<Minute, Vec<(Relation, Vec<&Update>)>> = BTreeMap::new();
        let mut counts = [0; Relation::ALL.len()];
        for relation in Relation::TABLES {
            for update in &updates[relation.index()] {
                let (_, at, _) = update;
                if !self.written.frontier().less_equal(at) {
                    continue;
                }
                counts[relation.index()] += 1;
                let minute = minutes.entry(*at).or_default();
                match minute.last_mut().filter(|(last, _)| *last == relation) {
                    Some((_, of_one)) => of_one.push(update),
                    None => minute.push((relation, vec![update])),
                }
            }
        }
        let commits = minutes.into_iter().map(|(at, minute)| {
            let begun = self.collections.begin();
            let mut commit = begun.map_err(|error| unwritable(Relation::Flights, &error))?;
            for (relation, updates) in minute {
                let rows = columns::encode(relation, updates.iter().map(|(row, ..)| row));
                let diffs = updates.iter().map(|(.., diff)| *diff).collect();
                let written = commit.write(relation.id(), rows, diffs);
                written.map_err(|refusal| unwritable(relation, &refusal))?;
            }
            Ok((at, commit))
        });
        Ok((commits.collect::<Result<_, StoreError>>()?, counts))
    }

    /// Finds out how far the tables are written.
    async fn refresh(&mut self) -> Result<(), StoreError> {
        if let Some(tables) = self.collections.tables() {
            self.written = patiently(async || tables.fetch_upper().await).await?;
        }
        Ok(())
    }

    /// Brings what has committed to the tables' own shards, and lets go of what says so.
    pub(super) async fn settle(&self) -> Result<(), StoreError> {
        let (Some(tables), Some(upper)) =
            (self.collections.tables(), self.written.frontier().first())
        else {
            return Ok(());
        };
        let last = upper.saturating_sub(1);
        let settled = patiently(async || {
            tables.apply_through(&last).await.map_err(trouble)?;
            tables.let_go().await.map_err(trouble)
        });
        settled.await?;
        Ok(())
    }
}

fn trouble(error: TablesError<std::convert::Infallible>) -> StorageError {
    match error {
        TablesError::Storage(error) => error,
        TablesError::Fenced(fenced) => match fenced.by {
            Some(fence) => StorageError::new(StorageErrorKind::Fenced { by: fence.epoch }, fenced),
            None => StorageError::new(StorageErrorKind::GiveUp, fenced),
        },
        read_only @ TablesError::ReadOnly => StorageError::new(StorageErrorKind::GiveUp, read_only),
        TablesError::Refused(refusal) => match refusal {},
    }
}
