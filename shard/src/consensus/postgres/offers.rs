//! What is offered in one transaction, and what became of it.

use std::collections::BTreeSet;

use tokio_postgres::types::ToSql;

use crate::id::{LogId, SeqNo};

use super::super::{Fence, Fenced, Offer, Outcome};

/// One commit among those of a group, which have no log in common.
pub(super) struct Commit {
    fence: Option<Fence>,
    offers: Vec<Offer>,
    /// For each offer, whether an earlier one is for the same log: it is not even tried, for the
    /// database says only which logs were written.
    repeats: Vec<bool>,
}

impl Commit {
    pub(super) fn new(fence: Option<Fence>, offers: Vec<Offer>) -> Self {
        let mut logs = BTreeSet::new();
        let repeats = offers.iter().map(|offer| !logs.insert(offer.log));
        Commit {
            fence,
            repeats: repeats.collect(),
            offers,
        }
    }

    pub(super) fn fence(&self) -> Option<Fence> {
        self.fence
    }

    /// The logs that it offers to.
    pub(super) fn logs(&self) -> impl Iterator<Item = LogId> {
        self.offers.iter().map(|offer| offer.log)
    }

    /// The offers that are tried.
    fn tried(&self) -> impl Iterator<Item = &Offer> {
        let offers = self.offers.iter().zip(&self.repeats);
        offers
            .filter(|(_, repeats)| !**repeats)
            .map(|(offer, _)| offer)
    }

    /// What became of it, given who was in charge and which logs were written, in order.
    pub(super) fn outcomes(
        &self,
        current: Option<Fence>,
        taken: &[&[u8]],
    ) -> Result<Vec<Outcome>, Fenced> {
        if self.fence.is_some() && self.fence != current {
            return Err(Fenced { by: current });
        }
        let outcome = |(offer, repeats): (&Offer, &bool)| {
            let name = offer.log.to_bytes();
            match taken.binary_search(&&name[..]) {
                Ok(_) if !repeats => Outcome::Taken,
                Ok(_) | Err(_) => Outcome::Stale,
            }
        };
        let offers = self.offers.iter().zip(&self.repeats);
        Ok(offers.map(outcome).collect())
    }
}

/// The offers of a group, in columns.
pub(super) struct Offers<'a> {
    logs: Vec<Name>,
    seen: Vec<i64>,
    data: Vec<&'a [u8]>,
    fenced: Vec<bool>,
    /// Of all that have one.
    epoch: Option<i64>,
    incarnation: Option<Vec<u8>>,
    forgetful: Forgetful<'a>,
}

/// Those of the offers that forget versions.
#[derive(Default)]
struct Forgetful<'a> {
    logs: Vec<Name>,
    seen: Vec<i64>,
    data: Vec<&'a [u8]>,
    keep_from: Vec<i64>,
}

impl<'a> Offers<'a> {
    pub(super) fn new(commits: &'a [Commit]) -> Self {
        let fence = commits.iter().find_map(|commit| commit.fence);
        let count = commits.iter().map(|commit| commit.offers.len()).sum();
        let mut offers = Offers {
            logs: Vec::with_capacity(count),
            seen: Vec::with_capacity(count),
            data: Vec::with_capacity(count),
            fenced: Vec::with_capacity(count),
            epoch: fence.map(|fence| fence.epoch.number().cast_signed()),
            incarnation: fence.map(|fence| fence.incarnation.number().to_be_bytes().into()),
            forgetful: Forgetful::default(),
        };
        for commit in commits {
            let fenced = commit.fence.is_some();
            for offer in commit.tried() {
                offers.push(offer, fenced);
            }
        }
        offers
    }

    fn push(&mut self, offer: &'a Offer, fenced: bool) {
        let name = Name(offer.log.to_bytes());
        let seen = offer.seen.map_or(0, seqno_to_sql);
        if let Some(keep_from) = offer.keep_from {
            let keep_from = keep_from.min(offer.seqno());
            self.forgetful.logs.push(name);
            self.forgetful.seen.push(seen);
            self.forgetful.data.push(&offer.data);
            self.forgetful.keep_from.push(seqno_to_sql(keep_from));
        }
        self.logs.push(name);
        self.seen.push(seen);
        self.data.push(&offer.data);
        self.fenced.push(fenced);
    }

    /// Whether any of them forgets versions.
    pub(super) fn forget(&self) -> bool {
        !self.forgetful.logs.is_empty()
    }

    pub(super) fn parameters(&self) -> [&(dyn ToSql + Sync); 6] {
        [
            &self.logs,
            &self.seen,
            &self.data,
            &self.fenced,
            &self.epoch,
            &self.incarnation,
        ]
    }

    pub(super) fn parameters_to_forget(&self) -> [&(dyn ToSql + Sync); 4] {
        let Forgetful {
            logs,
            seen,
            data,
            keep_from,
        } = &self.forgetful;
        [logs, seen, data, keep_from]
    }
}

/// The name of a log, as the database has it.
#[derive(Clone, Copy, Debug)]
struct Name([u8; LogId::BYTES]);

impl ToSql for Name {
    fn to_sql(
        &self,
        kind: &tokio_postgres::types::Type,
        out: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        (&self.0[..]).to_sql(kind, out)
    }

    fn accepts(kind: &tokio_postgres::types::Type) -> bool {
        <&[u8] as ToSql>::accepts(kind)
    }

    tokio_postgres::types::to_sql_checked!();
}

/// No log has 2^63 versions; a number beyond is that of no version.
pub(super) fn seqno_to_sql(seqno: SeqNo) -> i64 {
    i64::try_from(seqno.number()).unwrap_or(i64::MAX - 1)
}
