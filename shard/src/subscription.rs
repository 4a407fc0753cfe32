//! A shard's contents, and then what happens to it.

use lowwater::{Since, StorageError, StorageErrorKind, Upper};
use timely::PartialOrder;
use timely::progress::Antichain;

use crate::parts::PartError;
use crate::reader::{ReadError, Reader};
use crate::record::DataRecord;
use crate::snapshot::{SnapshotError, Source, latest_schema, read_all, settle, sources_of};
use crate::time::ShardTime;
use crate::updates::Updates;

/// How often a step begins anew because compaction was faster.
const TRIES: usize = 16;

/// A shard's contents as of a frontier, and then its updates as the shard is written.
///
/// Lets go of what it has told, as it goes.
#[derive(Debug)]
pub struct Subscription<T: ShardTime> {
    reader: Reader<T>,
    as_of: Antichain<T>,
    told: Told<T>,
}

#[derive(Debug)]
enum Told<T> {
    Nothing,
    Snapshot,
    /// All updates that are not beyond this.
    UpTo(Upper<T>),
}

/// One step of a subscription.
#[derive(Clone, Debug)]
pub struct Step<T> {
    /// The updates, equal ones added up. Times that are not beyond the frontier that the subscription
    /// began at are advanced to it.
    pub updates: Updates<T>,
    /// How far the subscriber knows the shard then: every update that is not beyond this was told.
    /// With the first step, the snapshot, that is all that is `≤` the frontier it was taken as of,
    /// and this the least of uppers.
    pub upper: Upper<T>,
}

impl<T: ShardTime> Reader<T> {
    /// First the contents as of a frontier, then, step by step, the updates that are not `≤` it.
    ///
    /// # Errors
    ///
    /// None here: what there is to refuse, the first step refuses.
    pub fn subscribe(self, as_of: Antichain<T>) -> Subscription<T> {
        Subscription {
            reader: self,
            as_of,
            told: Told::Nothing,
        }
    }
}

impl<T: ShardTime> Subscription<T> {
    /// The next step, once there is one; `None` after the shard was sealed and all was told. To drop
    /// the future loses nothing.
    ///
    /// # Errors
    ///
    /// If the lease has lapsed; if the contents cannot be read as of the frontier; if storage fails:
    /// the same step is tried once more when it is asked for again.
    pub async fn next(&mut self) -> Result<Option<Step<T>>, ReadError<T>> {
        let known = match &self.told {
            Told::Nothing => {
                let updates = self.reader.snapshot(&self.as_of).await?;
                self.told = Told::Snapshot;
                self.reader.downgrade_soon(&Since::new(self.as_of.clone()));
                let upper = Upper::minimum();
                return Ok(Some(Step { updates, upper }));
            }
            Told::Snapshot => None,
            Told::UpTo(upper) if upper.is_sealed() => return Ok(None),
            Told::UpTo(upper) => Some(upper.clone()),
        };
        let step = self.updates_behind(known.as_ref()).await?;
        self.let_go(&step.upper);
        self.told = Told::UpTo(step.upper.clone());
        Ok(Some(step))
    }

    /// The updates behind `known`, as far as the shard is written; waits until it is further.
    async fn updates_behind(&self, known: Option<&Upper<T>>) -> Result<Step<T>, ReadError<T>> {
        let shard = &self.reader.lease.shard;
        let inner = &self.reader.shards.inner;
        if let Some(known) = known {
            shard.written_beyond(known).await?;
        }
        self.reader.check().await?;
        for _ in 0..TRIES {
            let data = shard.data.lock().await;
            let record = data.record();
            let upper = record.upper().clone();
            if !self.is_as_far(&upper, known) {
                // Somebody has found the log damaged; what is wrong with it shows when it is read.
                drop(data);
                inner.hub.refresh_one::<DataRecord<T>>(shard).await?;
                continue;
            }
            let Some(sources) = self.sources(record, known) else {
                drop(data);
                // Compacted further than the lease lets, or given up: either it is gone, or it has
                // just moved.
                inner.renew(&self.reader.lease).await?;
                self.reader.check().await?;
                let since = self.reader.since();
                if since.is_gone() {
                    let refusal = SnapshotError::TooEarly { since, upper };
                    return Err(ReadError::Snapshot(refusal));
                }
                continue;
            };
            let schema = latest_schema(record);
            let reading = shard.read_version(&data);
            drop(data);
            let read = match read_all(inner, shard.id, &sources).await {
                Ok(read) => read,
                Err(PartError::Missing(name)) => {
                    drop(reading);
                    inner.check_overtaken(shard, name).await?;
                    continue;
                }
                Err(error) => return Err(StorageError::from(error).into()),
            };
            let all: Vec<_> = read
                .into_iter()
                .map(|updates| updates.filter(|time| self.is_news(time, known, &upper)))
                .collect();
            let updates = settle(all, &schema, Since::new(self.as_of.clone())).await?;
            return Ok(Step { updates, upper });
        }
        Err(StorageError::new(StorageErrorKind::Retry, Overtaken).into())
    }

    /// Whether a record that is written up to `upper` has all that was told: one that could not be
    /// read begins anew.
    fn is_as_far(&self, upper: &Upper<T>, known: Option<&Upper<T>>) -> bool {
        match known {
            None => upper.is_past(&self.as_of),
            Some(known) => PartialOrder::less_equal(known, upper),
        }
    }

    /// Where the updates behind `known` are; `None` if they cannot be told apart any more, or were
    /// given up.
    fn sources(&self, record: &DataRecord<T>, known: Option<&Upper<T>>) -> Option<Vec<Source>> {
        if record.is_emptying() {
            return None;
        }
        let since = self.reader.since();
        let mut sources = Vec::new();
        for batch in record
            .batches()
            .iter()
            .filter(|batch| !batch.contents.is_empty())
        {
            let is_told = known.is_some_and(|known| {
                PartialOrder::less_equal(batch.upper.frontier(), known.frontier())
            });
            if is_told {
                continue;
            }
            if !PartialOrder::less_equal(&batch.since, &since) {
                return None;
            }
            sources.extend(sources_of(record, batch));
        }
        Some(sources)
    }

    /// Whether an update was not told yet, and is complete. As of the frontier that the subscription
    /// began at: times that it cannot tell apart belong together.
    fn is_news(&self, time: &T, known: Option<&Upper<T>>, upper: &Upper<T>) -> bool {
        let mut advanced = time.clone();
        advanced.advance_by(self.as_of.borrow());
        let is_behind = match known {
            None => !self.as_of.iter().any(|bound| time.less_equal(bound)),
            Some(known) => known.frontier().less_equal(&advanced),
        };
        is_behind && upper.is_complete_at(&advanced)
    }

    /// Lets go of what was told: of everything before a time that is less than the upper in each
    /// coordinate, so that what is advanced to it stays on its side of the upper.
    fn let_go(&self, told: &Upper<T>) {
        if told.is_sealed() {
            self.reader.downgrade_soon(&Since::gone());
        } else if let Some(behind) = behind(told) {
            // Where that is behind what it holds, or incomparable, it is not moved.
            self.reader.downgrade_soon(&Since::at(behind));
        }
    }
}

/// The time just behind all of the upper, in each coordinate.
fn behind<T: ShardTime>(upper: &Upper<T>) -> Option<T> {
    let mut least = vec![u64::MAX; usize::from(T::COORDINATES)];
    for time in upper.frontier().iter() {
        let mut at = 0;
        time.coordinates(&mut |coordinate| {
            least[at] = least[at].min(coordinate);
            at += 1;
        });
    }
    let mut coordinates = least.into_iter().map(|least| least.saturating_sub(1));
    T::from_coordinates(&mut || coordinates.next())
}

#[derive(Debug, thiserror::Error)]
#[error("the shard is compacted faster than it can be read")]
struct Overtaken;
