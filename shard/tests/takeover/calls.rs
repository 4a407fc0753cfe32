//! What the older controller is in the middle of.

use lowwater::{Parameters, ShardId};
use lowwater_shard::Epoch;
use lowwater_shard::collections::Kind;
use std::sync::Arc;
use std::time::Duration;

use super::fenced::{SaysWho, come_to};
use super::older::{A, B, Older, columns, new, tables, until};

macro_rules! calls {
    ($($call:ident)*) => {
        /// Each thing that writes to the store as a controller.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Call {
            $($call,)*
        }

        impl Call {
            pub(crate) fn named(name: &str) -> Self {
                match name {
                    $(stringify!($call) => Call::$call,)*
                    _ => panic!("there is no call {name}"),
                }
            }
        }
    };
}

calls! {
    Initialize Prepare Create Downgrade Drop Finalize Alter Stop
    OpenTables Register Commit Advance Apply Forget AlterTable LetGo
}

impl Call {
    /// What has to be done before, undisturbed.
    pub(crate) async fn prepare(self, older: &Older) {
        match self {
            Call::Create => drop(older.prepare(&[5, 6], &[]).await.unwrap()),
            Call::Drop => drop(older.prepare(&[], &[1]).await.unwrap()),
            Call::Stop => {
                let parameters = Parameters::new().downgrade_interval(Duration::from_secs(3_600));
                older.collections.change(parameters).await.unwrap();
                older.write(1, 200).await;
                let handle = older.collections.client().collection(1).unwrap();
                handle.wait_for_since_past([189]).await.unwrap();
            }
            Call::LetGo => {
                for at in 6..40 {
                    older.commit(at, &[(B, &[4])]).await.unwrap();
                    older.tables.apply_through(&at).await.unwrap();
                }
            }
            Call::Initialize
            | Call::Prepare
            | Call::Downgrade
            | Call::Finalize
            | Call::Alter
            | Call::OpenTables
            | Call::Register
            | Call::Commit
            | Call::Advance
            | Call::Apply
            | Call::Forget
            | Call::AlterTable => {}
        }
    }

    /// Done, or refused by who is in charge.
    pub(crate) async fn carry_out(self, older: &Older) -> Result<(), Epoch> {
        let collections = &older.collections;
        match self {
            Call::Initialize => come_to(older.initialize([1, 2, 3, 4, 9]).await),
            Call::Prepare => come_to(older.prepare(&[5, 6], &[]).await),
            Call::Create => {
                let batch = vec![new(5, Kind::Compute), new(6, Kind::Compute)];
                come_to(collections.create(None, batch).await)
            }
            Call::Downgrade => {
                let handle = collections.client().collection(1).unwrap();
                older.write(1, 200).await;
                let is_there = || !handle.durable_since().frontier().less_equal(&189);
                until("the since moves, or it hears why not", || {
                    is_there() || collections.client().stopped().is_some()
                })
                .await;
                stopped(older)
            }
            Call::Drop => {
                come_to(collections.drop_collections(vec![1]).await)?;
                finalized(older).await
            }
            Call::Finalize => {
                come_to(older.prepare(&[], &[2]).await)?;
                finalized(older).await
            }
            Call::Alter => {
                let (from, to) = (columns(&["a"]), columns(&["a", "b"]));
                come_to(collections.alter_table_schema(3, &from, &to).await)
            }
            Call::Stop => come_to(collections.stop().await),
            Call::OpenTables => {
                let (store, txns) = (Arc::new(older.store.clone()), ShardId::new(101));
                come_to(tables(store, &older.parts, txns, older.fence()).await)
            }
            Call::Register => {
                let tables = [203, 204].map(|table| (ShardId::new(table), columns(&["a"])));
                come_to(older.tables.register(&6, &tables).await)
            }
            Call::Commit => come_to(older.commit(6, &[(A, &[60]), (B, &[60])]).await),
            Call::Advance => come_to(older.tables.advance(&6).await),
            Call::Apply => come_to(older.tables.apply_through(&5).await),
            Call::Forget => come_to(older.tables.forget(&6, &[A]).await),
            Call::AlterTable => come_to(older.tables.alter(A, &columns(&["a", "b"])).await),
            Call::LetGo => come_to(older.tables.let_go().await),
        }
    }
}

/// Whether the engine has heard of another controller.
fn stopped(older: &Older) -> Result<(), Epoch> {
    let reason = older.collections.client().stopped();
    match reason.and_then(|reason| reason.fenced_by()) {
        Some(by) => Err(by),
        None => Ok(()),
    }
}

/// A shard is finalized, or the finalizer has heard of another controller.
async fn finalized(older: &Older) -> Result<(), Epoch> {
    let stats = || older.collections.finalizer_stats();
    until("it is finalized, or hears why not", || {
        stats().succeeded > 0 || stats().fenced_by.is_some()
    })
    .await;
    stats().fenced_by.map_or(Ok(()), Err)
}
