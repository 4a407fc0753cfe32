//! The command queue beside `tokio`'s.

use crate::job::messages::{self, Queue, Tokio};
use crate::report::Row;
use crate::sample::{Scale, medians};

pub(super) fn measure(scale: Scale) -> [Row; 2] {
    let [ours, tokio] = medians(
        scale,
        [
            &mut messages::one_thread::<Queue>,
            &mut messages::one_thread::<Tokio>,
        ],
    );
    let one_thread = Row::nanoseconds("queue_send_and_receive", ours, tokio);
    let [ours, tokio] = medians(
        scale,
        [
            &mut messages::two_producers::<Queue>,
            &mut messages::two_producers::<Tokio>,
        ],
    );
    [
        one_thread,
        Row::nanoseconds("queue_two_producers", ours, tokio),
    ]
}
