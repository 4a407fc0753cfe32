//! What a collection is, as far as it matters here.

use std::collections::BTreeSet;

use bytes::Bytes;
use lowwater::{ReadPolicy, Since};

use crate::schema::Schema;

/// What a collection is. Two of one id are the same collection iff their descriptions are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionDescription<I> {
    /// Where its updates come from.
    pub kind: Kind<I>,
    /// The columns of its rows.
    pub schema: Schema,
    /// What it depends on besides what its kind says: none of it is compacted past what this one
    /// needs.
    pub dependencies: BTreeSet<I>,
    /// The collection that says how this one is doing, if there is one.
    pub status: Option<I>,
    /// What the embedder knows of it. It is compared, and never looked into.
    pub details: Bytes,
}

/// Where a collection's updates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind<I> {
    /// Users write it, in transactions.
    Table,
    /// It is read from somewhere else.
    Ingestion {
        /// Says which of its times stand for what over there. The ingestion depends on it.
        remap: I,
        /// How to get there. It is compared, and never looked into.
        connection: Bytes,
    },
    /// A part of what an ingestion reads. Depends on the ingestion's remap collection.
    IngestionExport {
        /// Which ingestion.
        ingestion: I,
    },
    /// Says how far something has come.
    Progress,
    /// Says how the system is doing.
    Introspection,
    /// Others push it.
    Webhook,
    /// It is computed from what it depends on.
    Compute,
}

/// The name of a [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KindName {
    /// [`Kind::Table`]
    Table,
    /// [`Kind::Ingestion`]
    Ingestion,
    /// [`Kind::IngestionExport`]
    IngestionExport,
    /// [`Kind::Progress`]
    Progress,
    /// [`Kind::Introspection`]
    Introspection,
    /// [`Kind::Webhook`]
    Webhook,
    /// [`Kind::Compute`]
    Compute,
}

/// A collection to be created.
#[derive(Clone, Debug)]
pub struct NewCollection<I, T> {
    /// Its id.
    pub id: I,
    /// What it is.
    pub description: CollectionDescription<I>,
    /// From when on it is kept readable.
    pub policy: ReadPolicy<T>,
    /// The since asked for; see [`Description::since`](lowwater::Description::since).
    pub since: Option<Since<T>>,
}

impl<I> CollectionDescription<I> {
    /// A collection of this kind, with these columns and nothing else.
    pub fn new(kind: Kind<I>, schema: Schema) -> Self {
        CollectionDescription {
            kind,
            schema,
            dependencies: BTreeSet::new(),
            status: None,
            details: Bytes::new(),
        }
    }
}

impl<I> Kind<I> {
    /// Which kind it is.
    pub fn name(&self) -> KindName {
        match self {
            Kind::Table => KindName::Table,
            Kind::Ingestion { .. } => KindName::Ingestion,
            Kind::IngestionExport { .. } => KindName::IngestionExport,
            Kind::Progress => KindName::Progress,
            Kind::Introspection => KindName::Introspection,
            Kind::Webhook => KindName::Webhook,
            Kind::Compute => KindName::Compute,
        }
    }
}

impl std::fmt::Display for KindName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            KindName::Table => "table",
            KindName::Ingestion => "ingestion",
            KindName::IngestionExport => "export of an ingestion",
            KindName::Progress => "progress collection",
            KindName::Introspection => "introspection collection",
            KindName::Webhook => "webhook",
            KindName::Compute => "computed collection",
        })
    }
}
