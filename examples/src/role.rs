//! What a controller is in charge of, and from when on.

use clap::Args;

use crate::minute::Minute;

/// The options that say whether the controller takes charge of its store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct RoleArgs {
    /// Follow the controller that is in charge of the store: read as it writes, check what is read,
    /// and end when the store has reached the last day. Nothing is written there but leases.
    #[arg(long, conflicts_with_all = ["promote", "probes", "plot"])]
    pub read_only: bool,

    /// Follow the controller that is in charge of the store, then take its place and go on with the
    /// replay: at once when all that it has written was heard of, or --promote-at some minute.
    #[arg(long)]
    pub promote: bool,

    /// Take the other one's place when everything is written up to this minute.
    #[arg(long, value_name = "MINUTE", requires = "promote")]
    pub promote_at: Option<Minute>,

    /// How long nothing may be written until the other one is taken for gone, 60 seconds unless said
    /// otherwise: who only reads ends with an error then, and who is to take its place does so.
    #[arg(
        long, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub silence: Option<u64>,
}

/// What a controller is in charge of, and from when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Of its store, from the beginning.
    InCharge,
    /// Of nothing: it only reads.
    ReadOnly,
    /// Of its store, when it has followed another controller for a while.
    Promoted {
        /// Up to where everything is written by then, unless the other one is gone before; what is
        /// written when it starts, if that is not said.
        at: Option<Minute>,
    },
}

impl RoleArgs {
    /// What they say.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self {
                read_only: true, ..
            } => Role::ReadOnly,
            Self {
                promote: true,
                promote_at,
                ..
            } => Role::Promoted { at: *promote_at },
            Self { .. } => Role::InCharge,
        }
    }
}
