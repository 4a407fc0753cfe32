//! What is written to a shard, and how far.

use std::collections::BTreeSet;

use bytes::Bytes;
use lowwater::{Since, Time, Upper};
use timely::PartialOrder;

use crate::id::{BatchId, LogKind, PartId, PartName, SchemaId, SeqNo};
use crate::schema::Schema;

use super::{Misfit, Record, fits};

/// What is written to a shard, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataRecord<T> {
    /// How far the shard is written. Never goes back.
    upper: Upper<T>,
    /// The versions of the schema: a batch names one by its place. Each evolves the one before.
    schemas: Vec<Schema>,
    /// What is written, oldest first: each begins at the upper of the one before, the last ends at
    /// the shard's upper. When the shard is being emptied, the oldest are missing.
    batches: Vec<Batch<T>>,
    /// Greater than the ids of all batches that there ever were.
    next_batch: BatchId,
    /// Parts that no batch refers to any more, and that are still stored.
    garbage: Vec<Garbage>,
    /// Parts whose writers began before this version are no longer taken in. Never goes back.
    floor: SeqNo,
    /// The shard's batches are being given up, because nobody can read them.
    emptying: bool,
    /// The shard is gone: the upper is `[]`, there is nothing in it, nothing changes any more.
    buried: bool,
}

/// Updates at times between two frontiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<T> {
    /// Names it until it is compacted away.
    pub id: BatchId,
    /// Its times are beyond this.
    pub lower: Upper<T>,
    /// Its times are not beyond this, as they were written.
    pub upper: Upper<T>,
    /// Its times were advanced to this: it tells nothing about what was before.
    pub since: Since<T>,
    /// Its updates; none if the time has passed without any.
    pub contents: Vec<Content>,
}

/// Where updates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the record.
    Inline(Inline),
    /// In a part of its own.
    Stored(Stored),
}

/// Updates in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inline {
    /// The schema of the rows.
    pub schema: SchemaId,
    /// How many updates.
    pub updates: u64,
    /// The updates; the record does not look into them.
    pub bytes: Bytes,
}

/// Updates in a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where they are stored.
    pub part: PartId,
    /// The version of the shard's data that its writer had seen when it began.
    pub begun: SeqNo,
    /// The schema of the rows.
    pub schema: SchemaId,
    /// How many updates.
    pub updates: u64,
    /// How large the part is.
    pub bytes: u64,
    /// The CRC-32 (IEEE) of its bytes; records of format 1 do not know it.
    pub checksum: Option<u32>,
}

/// A part that no batch refers to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// The part.
    pub part: PartId,
    /// The version of the shard's data that its writer had seen when it began.
    pub begun: SeqNo,
    /// The first version of the data that does not refer to it.
    pub since_version: SeqNo,
}

/// A change of a [`DataRecord`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataChange<T> {
    /// A version of the schema is added.
    SchemaAdded(Schema),
    /// The shard is written from its upper to here.
    Appended {
        /// Its new upper.
        upper: Upper<T>,
        /// What was written; nothing if only time has passed.
        contents: Vec<Content>,
    },
    /// Batches are merged into one.
    Compacted {
        /// The oldest of them.
        first: BatchId,
        /// The latest of them.
        last: BatchId,
        /// What the times are advanced to.
        since: Since<T>,
        /// What the one batch consists of.
        contents: Vec<Content>,
    },
    /// These parts are no longer stored.
    Swept(Vec<PartId>),
    /// The oldest batches are given up, as many as this, for nobody can read them.
    Emptied(usize),
    /// The shard is gone.
    Buried,
    /// Parts whose writers began before this version are no longer taken in.
    FloorRaised(SeqNo),
}

impl Stored {
    /// What the part is called.
    pub fn name(&self) -> PartName {
        PartName {
            begun: self.begun,
            part: self.part,
        }
    }
}

impl Garbage {
    /// What the part is called.
    pub fn name(&self) -> PartName {
        PartName {
            begun: self.begun,
            part: self.part,
        }
    }
}

impl Content {
    /// The schema of its rows.
    pub fn schema(&self) -> SchemaId {
        match self {
            Content::Inline(inline) => inline.schema,
            Content::Stored(stored) => stored.schema,
        }
    }

    /// How many updates.
    pub fn updates(&self) -> u64 {
        match self {
            Content::Inline(inline) => inline.updates,
            Content::Stored(stored) => stored.updates,
        }
    }

    /// The part that they are in.
    pub fn stored(&self) -> Option<&Stored> {
        match self {
            Content::Inline(_) => None,
            Content::Stored(stored) => Some(stored),
        }
    }
}

/// A [`DataRecord`] as a full version says it, before it is checked.
pub(crate) struct DataParts<T> {
    pub(crate) upper: Upper<T>,
    pub(crate) schemas: Vec<Schema>,
    pub(crate) batches: Vec<Batch<T>>,
    pub(crate) next_batch: BatchId,
    pub(crate) garbage: Vec<Garbage>,
    pub(crate) floor: SeqNo,
    pub(crate) emptying: bool,
    pub(crate) buried: bool,
}

impl<T: Time> DataRecord<T> {
    /// Puts together what a full version says, and checks that it can be.
    pub(crate) fn from_parts(parts: DataParts<T>) -> Result<Self, Misfit> {
        let record = DataRecord {
            upper: parts.upper,
            schemas: parts.schemas,
            batches: parts.batches,
            next_batch: parts.next_batch,
            garbage: parts.garbage,
            floor: parts.floor,
            emptying: parts.emptying,
            buried: parts.buried,
        };
        record.check_batches()?;
        fits(
            record
                .schemas
                .windows(2)
                .all(|pair| pair[0].may_evolve_into(&pair[1]).is_ok()),
            "a schema does not evolve the one before",
        )?;
        fits(
            !record.emptying || record.upper.is_sealed(),
            "a shard is emptied that is not sealed",
        )?;
        let empty = record.batches.is_empty() && record.garbage.is_empty();
        fits(
            !record.buried || record.emptying && empty,
            "a tombstone has something in it",
        )?;
        Ok(record)
    }

    fn check_batches(&self) -> Result<(), Misfit> {
        for pair in self.batches.windows(2) {
            fits(
                pair[0].upper == pair[1].lower,
                "there is a gap between batches",
            )?;
        }
        let ids: BTreeSet<BatchId> = self.batches.iter().map(|batch| batch.id).collect();
        fits(ids.len() == self.batches.len(), "two batches have one id")?;
        for batch in &self.batches {
            fits(batch.id < self.next_batch, "a batch is from the future")?;
            fits(
                PartialOrder::less_equal(&batch.lower, &batch.upper),
                "a batch ends before it begins",
            )?;
            self.check_contents(&batch.contents)?;
        }
        let reached = match (self.batches.first(), self.batches.last()) {
            (Some(first), Some(last)) => {
                (self.emptying || first.lower.is_minimum()) && last.upper == self.upper
            }
            _ => self.emptying || self.upper.is_minimum(),
        };
        fits(reached, "the batches are not what was written")
    }

    fn check_contents(&self, contents: &[Content]) -> Result<(), Misfit> {
        let known = |content: &Content| self.schema(content.schema()).is_some();
        fits(contents.iter().all(known), "a schema is unknown")
    }

    fn check_new_contents(&self, contents: &[Content]) -> Result<(), Misfit> {
        self.check_contents(contents)?;
        fits(
            self.check_floor(contents).is_ok(),
            "a part was begun below the floor",
        )
    }

    /// How far the shard is written.
    pub fn upper(&self) -> &Upper<T> {
        &self.upper
    }

    /// What is written, oldest first.
    pub fn batches(&self) -> &[Batch<T>] {
        &self.batches
    }

    /// The versions of the schema, oldest first.
    pub fn schemas(&self) -> &[Schema] {
        &self.schemas
    }

    /// A version of the schema.
    pub fn schema(&self, id: SchemaId) -> Option<&Schema> {
        self.schemas.get(usize::try_from(id.number()).ok()?)
    }

    /// Greater than the ids of all batches that there ever were.
    pub fn next_batch(&self) -> BatchId {
        self.next_batch
    }

    /// Parts that no batch refers to any more.
    pub fn garbage(&self) -> &[Garbage] {
        &self.garbage
    }

    /// Parts whose writers began before this version are no longer taken in.
    pub fn floor(&self) -> SeqNo {
        self.floor
    }

    pub(super) fn set_floor(&mut self, floor: SeqNo) {
        self.floor = floor;
    }

    /// All parts that the shard still needs, or that still have to be deleted.
    pub fn parts(&self) -> impl Iterator<Item = PartName> {
        let contents = self.batches.iter().flat_map(|batch| &batch.contents);
        let stored = contents.filter_map(Content::stored).map(Stored::name);
        stored.chain(self.garbage.iter().map(Garbage::name))
    }

    /// True iff the shard's batches are being given up.
    pub fn is_emptying(&self) -> bool {
        self.emptying
    }

    /// True iff the shard is gone for good.
    pub fn is_buried(&self) -> bool {
        self.buried
    }

    /// The parts that may be deleted, given the [oldest version that is still
    /// read](super::SinceRecord::oldest_read). Ask for that once this record was read, and not
    /// before, so that who registers later finds a version that does not refer to them.
    pub fn deletable(&self, oldest_read: Option<SeqNo>) -> Vec<PartName> {
        deletable(&self.garbage, oldest_read)
    }

    fn new_batch_id(&mut self) -> Result<BatchId, Misfit> {
        let id = self.next_batch;
        let next = id
            .number()
            .checked_add(1)
            .ok_or(Misfit("batch ids have run out"))?;
        self.next_batch = BatchId::new(next);
        Ok(id)
    }

    fn discard(&mut self, contents: &[Content], seqno: SeqNo) {
        let garbage = contents
            .iter()
            .filter_map(Content::stored)
            .map(|stored| Garbage {
                part: stored.part,
                begun: stored.begun,
                since_version: seqno,
            });
        self.garbage.extend(garbage);
    }

    fn apply_append(&mut self, upper: &Upper<T>, contents: &[Content]) -> Result<(), Misfit> {
        fits(
            PartialOrder::less_equal(&self.upper, upper) && self.upper != *upper,
            "the upper does not advance",
        )?;
        self.check_new_contents(contents)?;
        let lower = std::mem::replace(&mut self.upper, upper.clone());
        match self.batches.last_mut() {
            // Where only time passes, ticks do not pile up as batches.
            Some(last) if contents.is_empty() => last.upper = upper.clone(),
            _ => {
                let batch = Batch {
                    id: self.new_batch_id()?,
                    lower,
                    upper: upper.clone(),
                    since: Since::minimum(),
                    contents: contents.to_vec(),
                };
                self.batches.push(batch);
            }
        }
        Ok(())
    }

    fn apply_compact(
        &mut self,
        (first, last): (BatchId, BatchId),
        since: &Since<T>,
        contents: &[Content],
        seqno: SeqNo,
    ) -> Result<(), Misfit> {
        let range = self
            .range(first, last)
            .ok_or(Misfit("the batches are not there"))?;
        self.check_new_contents(contents)?;
        let merged = Batch {
            id: self.new_batch_id()?,
            lower: self.batches[range.start].lower.clone(),
            upper: self.batches[range.end - 1].upper.clone(),
            since: since.clone(),
            contents: contents.to_vec(),
        };
        let replaced: Vec<Batch<T>> = self.batches.splice(range, [merged]).collect();
        for batch in replaced {
            fits(
                PartialOrder::less_equal(&batch.since, since),
                "what was compacted comes back",
            )?;
            self.discard(&batch.contents, seqno);
        }
        Ok(())
    }

    /// Where the batches from `first` to `last` are, if they are there.
    pub(super) fn range(&self, first: BatchId, last: BatchId) -> Option<std::ops::Range<usize>> {
        let at = |id| self.batches.iter().position(|batch| batch.id == id);
        let (start, end) = (at(first)?, at(last)?);
        (start <= end).then_some(start..end + 1)
    }

    fn apply_sweep(&mut self, parts: &[PartId]) -> Result<(), Misfit> {
        let before = self.garbage.len();
        self.garbage
            .retain(|garbage| !parts.contains(&garbage.part));
        fits(
            before - self.garbage.len() == parts.len(),
            "a part was swept that was no garbage",
        )
    }

    fn apply_empty(&mut self, batches: usize, seqno: SeqNo) -> Result<(), Misfit> {
        fits(
            self.upper.is_sealed(),
            "a shard is emptied that is not sealed",
        )?;
        fits(batches <= self.batches.len(), "there are fewer batches")?;
        self.emptying = true;
        let given_up: Vec<Batch<T>> = self.batches.drain(..batches).collect();
        for batch in given_up {
            self.discard(&batch.contents, seqno);
        }
        Ok(())
    }

    fn apply_bury(&mut self) -> Result<(), Misfit> {
        let empty = self.batches.is_empty() && self.garbage.is_empty();
        fits(self.emptying && empty, "something is left in the shard")?;
        self.schemas.clear();
        self.buried = true;
        Ok(())
    }
}

/// Those of these parts that may be deleted; see [`DataRecord::deletable`].
pub(crate) fn deletable(garbage: &[Garbage], oldest_read: Option<SeqNo>) -> Vec<PartName> {
    let unread =
        |garbage: &&Garbage| oldest_read.is_none_or(|oldest| garbage.since_version <= oldest);
    garbage.iter().filter(unread).map(Garbage::name).collect()
}

impl<T: Time> Record for DataRecord<T> {
    type Change = DataChange<T>;

    const KIND: LogKind = LogKind::Data;

    fn initial() -> Self {
        DataRecord {
            upper: Upper::minimum(),
            schemas: Vec::new(),
            batches: Vec::new(),
            next_batch: BatchId::new(0),
            garbage: Vec::new(),
            floor: SeqNo::NONE,
            emptying: false,
            buried: false,
        }
    }

    fn apply(&mut self, change: &DataChange<T>, seqno: SeqNo) -> Result<(), Misfit> {
        fits(!self.buried, "a tombstone changes no more")?;
        match change {
            DataChange::SchemaAdded(schema) => {
                let latest = self.schemas.last();
                fits(
                    latest.is_none_or(|latest| latest.may_evolve_into(schema).is_ok()),
                    "a schema does not evolve the one before",
                )?;
                self.schemas.push(schema.clone());
                Ok(())
            }
            DataChange::Appended { upper, contents } => self.apply_append(upper, contents),
            DataChange::Compacted {
                first,
                last,
                since,
                contents,
            } => self.apply_compact((*first, *last), since, contents, seqno),
            DataChange::Swept(parts) => self.apply_sweep(parts),
            DataChange::Emptied(batches) => self.apply_empty(*batches, seqno),
            DataChange::Buried => self.apply_bury(),
            DataChange::FloorRaised(to) => self.apply_raise_floor(*to, seqno),
        }
    }
}
