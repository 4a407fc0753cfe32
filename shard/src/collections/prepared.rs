//! A change of the catalogue that is prepared, and counts once it is known to be committed.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use lowwater::{CollectionId, ShardId};

use crate::id::Nonce;
use crate::metadata::{MetadataError, MetadataTransaction};
use crate::time::ShardTime;

use super::plan::{self, Allotment, Plan, PrepareError};
use super::{Collections, Driving, Inner};

/// A change of the catalogue that is prepared inside a transaction.
///
/// Nothing comes of it before the embedder says that the transaction has committed: no collection is
/// created on a shard that it allots, and nothing is finalized that it gives up. To drop it is to say
/// that the transaction was aborted.
#[must_use = "nothing comes of it unless it is said to be committed"]
pub struct Prepared<I: CollectionId, T: ShardTime> {
    inner: Arc<Inner<I, T>>,
    plan: Plan<I>,
    /// What was owned all in all, when a controller starts.
    owned: Option<Vec<(I, ShardId)>>,
    /// What was finalized and is listed no more, once it has committed.
    struck: BTreeSet<ShardId>,
}

impl<I: CollectionId, T: ShardTime> Collections<I, T> {
    /// Learns who owns which shard, and changes nothing: for a controller that only reads, when it
    /// starts and whenever the catalogue has changed. Before that it creates no collection.
    ///
    /// # Errors
    ///
    /// If the transaction cannot say.
    pub fn observe(&self, transaction: &impl MetadataTransaction<I>) -> Result<(), MetadataError> {
        let (owned, txns_shard) = (transaction.owned()?, transaction.txns_shard()?);
        let mut ledger = self.inner.ledger.lock();
        ledger.observe(owned, txns_shard);
        self.inner.settle(&mut ledger, &BTreeSet::new());
        Ok(())
    }

    /// Brings the metadata in line with the catalogue, when a controller starts: records a shard for
    /// each collection that exists and has none, gives up those of collections that were dropped,
    /// and rescues what waits to be finalized although a collection owns it.
    ///
    /// # Errors
    ///
    /// If it contradicts itself, the controller only reads or has stopped, or the transaction refuses.
    /// Abort that then.
    pub fn initialize(
        &self,
        transaction: &mut impl MetadataTransaction<I>,
        existing: &BTreeSet<I>,
        dropped: &BTreeSet<I>,
    ) -> Result<Prepared<I, T>, PrepareError<I>> {
        self.in_charge()?;
        let plan = plan::initialize(transaction, existing, dropped, new_shard)?;
        let owned = transaction.owned()?;
        Ok(Prepared::new(self, plan, Some(owned), &BTreeSet::new()))
    }

    /// Prepares a change of the catalogue: allots shards to the collections that are added, gives up
    /// those of the collections that are dropped, and strikes from what waits what was finalized.
    ///
    /// The collections themselves are created and dropped when the transaction has committed.
    ///
    /// # Errors
    ///
    /// If the controller only reads or has stopped, or the transaction refuses. Abort it then.
    pub fn prepare(
        &self,
        transaction: &mut impl MetadataTransaction<I>,
        added: Vec<(I, Allotment<I>)>,
        dropped: &BTreeSet<I>,
    ) -> Result<Prepared<I, T>, PrepareError<I>> {
        let finalized = self.in_charge()?.finalizer.finalized();
        let plan = plan::prepare(transaction, added, dropped, &finalized, new_shard)?;
        Ok(Prepared::new(self, plan, None, &finalized))
    }

    /// Who knows that another one is in charge prepares nothing that could not commit.
    fn in_charge(&self) -> Result<&Driving, PrepareError<I>> {
        let driving = self.inner.driving()?;
        match self.inner.client.stopped() {
            Some(reason) => Err(reason.into()),
            None => Ok(driving),
        }
    }
}

/// A shard that there never was before.
fn new_shard() -> ShardId {
    ShardId::new(Nonce::random().number())
}

impl<I: CollectionId, T: ShardTime> Prepared<I, T> {
    fn new(
        collections: &Collections<I, T>,
        plan: Plan<I>,
        owned: Option<Vec<(I, ShardId)>>,
        finalized: &BTreeSet<ShardId>,
    ) -> Self {
        let inner = Arc::clone(&collections.inner);
        let mut ledger = inner.ledger.lock();
        ledger.pending += plan.given_up.len();
        if owned.is_some() {
            ledger.begin_to_initialize();
        }
        drop(ledger);
        let struck = finalized.difference(&plan.unfinalized).copied().collect();
        Prepared {
            inner,
            plan,
            owned,
            struck,
        }
    }

    /// The transaction has committed. What it comes to.
    ///
    /// # Panics
    ///
    /// Never: only a controller that is in charge prepares anything.
    pub fn committed(mut self) -> Plan<I> {
        let mut ledger = self.inner.ledger.lock();
        match self.owned.as_mut().map(std::mem::take) {
            Some(owned) => ledger.initialized(owned, self.plan.txns_shard),
            None => ledger.committed(&self.plan),
        }
        self.inner.settle(&mut ledger, &BTreeSet::new());
        drop(ledger);
        for (shard, owners) in &self.plan.rescued {
            tracing::warn!(%shard, ?owners, "a shard waited to be finalized that is owned");
        }
        let driving = self.inner.driving();
        let finalizer = &driving.expect("it was when this was prepared").finalizer;
        let rescued = self.plan.rescued.iter().map(|(shard, _)| *shard);
        finalizer.keep(rescued.filter(|shard| !self.plan.unfinalized.contains(shard)));
        finalizer.forget(&self.struck);
        // All that waits, not only what this one has added: so that what another has prepared, and
        // nobody has said to be committed, is taken up too.
        finalizer.give_up(self.plan.unfinalized.iter().copied());
        self.plan.clone()
    }
}

impl<I: CollectionId, T: ShardTime> Deref for Prepared<I, T> {
    type Target = Plan<I>;

    fn deref(&self) -> &Plan<I> {
        &self.plan
    }
}

impl<I: CollectionId, T: ShardTime> Drop for Prepared<I, T> {
    fn drop(&mut self) {
        let mut ledger = self.inner.ledger.lock();
        ledger.pending -= self.plan.given_up.len();
        if self.owned.is_some() {
            ledger.end_to_initialize();
        }
    }
}

impl<I: CollectionId, T: ShardTime> fmt::Debug for Prepared<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}
