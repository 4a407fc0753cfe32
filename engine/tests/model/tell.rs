//! Answers and events in a few letters, as scripts expect them.

use lowwater::{
    AcquireError, Answer, Cause, CreateError, DropError, Event, LookupError, Refusal, ReportError,
    SetPoliciesError, Since, StopReason, WaitError,
};

use super::text::{TestTime, show};

/// `ok`, or why not.
pub(super) fn tell<T: TestTime>(answer: &Answer<char, T>) -> String {
    let refused = match answer {
        Answer::Created(result) => result.as_ref().err().map(create_error),
        Answer::Checked(result) => result.as_ref().err().map(create_error),
        Answer::ShardsKept => None,
        Answer::Dropped(result) => result.as_ref().err().map(|error| match error {
            DropError::UnknownCollection(id) => format!("UnknownCollection({id})"),
            DropError::Dropped(id) => format!("Dropped({id})"),
            DropError::Stopped(reason) => stopped(*reason),
        }),
        Answer::PoliciesSet(result) => result.as_ref().err().map(|error| match error {
            SetPoliciesError::UnknownCollection(id) => format!("UnknownCollection({id})"),
            SetPoliciesError::Dropped(id) => format!("Dropped({id})"),
            SetPoliciesError::Policy { collection, error } => format!("{error:?}({collection})"),
            SetPoliciesError::Stopped(reason) => stopped(*reason),
        }),
        Answer::UppersReported(result) => result.as_ref().err().map(|error| match error {
            ReportError::UnknownCollection(id) => format!("UnknownCollection({id})"),
            ReportError::Incomparable { collection, upper } => {
                format!("Incomparable({collection},{})", show(upper.frontier()))
            }
            ReportError::Stopped(reason) => stopped(*reason),
        }),
        Answer::Acquired(result) => result.as_ref().err().map(|error| match error {
            AcquireError::UnknownCollection(id) => format!("UnknownCollection({id})"),
            AcquireError::Dropped(id) => format!("Dropped({id})"),
            AcquireError::TooEarly { collection, since } => {
                format!("TooEarly({collection},{})", show(since.frontier()))
            }
            AcquireError::TooManyHolds(id) => format!("TooManyHolds({id})"),
            AcquireError::Stopped(reason) => stopped(*reason),
        }),
        Answer::Waited(result) => result.as_ref().err().map(|error| match error {
            WaitError::Never => String::from("Never"),
            WaitError::Gone => String::from("Gone"),
            WaitError::Stopped(reason) => stopped(*reason),
        }),
        Answer::Frontiers(Ok(found)) => Some(
            found
                .iter()
                .map(|one| {
                    format!(
                        "{}@{}",
                        show(one.since.frontier()),
                        show(one.upper.frontier())
                    )
                })
                .collect::<Vec<_>>()
                .join(" "),
        ),
        Answer::Explained(Ok(found)) => {
            let mut causes: Vec<_> = found.causes.iter().map(cause).collect();
            causes.sort();
            Some(causes.join(" "))
        }
        Answer::Holds(found) => {
            let found = found.iter().map(|holds| match holds {
                Some(holds) => holds.to_string(),
                None => String::from("none"),
            });
            Some(found.collect::<Vec<_>>().join(" "))
        }
        Answer::Frontiers(Err(error)) | Answer::Explained(Err(error)) => Some(match error {
            LookupError::UnknownCollection(id) => format!("UnknownCollection({id})"),
            LookupError::Stopped(reason) => stopped(*reason),
        }),
    };
    refused.unwrap_or_else(|| String::from("ok"))
}

pub(super) fn is_ok<T>(answer: &Answer<char, T>) -> bool {
    match answer {
        Answer::Created(result) => result.is_ok(),
        Answer::Dropped(result) => result.is_ok(),
        Answer::PoliciesSet(result) => result.is_ok(),
        Answer::UppersReported(result) => result.is_ok(),
        Answer::Acquired(result) => result.is_ok(),
        Answer::Waited(result) => result.is_ok(),
        Answer::Frontiers(result) => result.is_ok(),
        Answer::Explained(result) => result.is_ok(),
        Answer::Checked(result) => result.is_ok(),
        Answer::Holds(_) | Answer::ShardsKept => true,
    }
}

fn stopped(reason: StopReason) -> String {
    match reason {
        StopReason::Fenced { by } => format!("Stopped(Fenced({by}))"),
        StopReason::Stopped | StopReason::Panicked => format!("{reason:?}"),
    }
}

fn cause<T: TestTime>(cause: &Cause<char, T>) -> String {
    let at = |since: &Since<T>| show(since.frontier());
    match cause {
        Cause::Policy(since) => format!("policy@{}", at(since)),
        Cause::Dependent(id, since) => format!("{id}@{}", at(since)),
        Cause::Pins { since, holds } => format!("{holds}pins@{}", at(since)),
        Cause::Holds { since, holds } => format!("{holds}holds@{}", at(since)),
    }
}

fn create_error<T: TestTime>(error: &CreateError<char, T>) -> String {
    match error {
        CreateError::Refused(refusals) => refusals
            .iter()
            .map(|(id, refusal)| format!("{id}:{}", tell_refusal(refusal)))
            .collect::<Vec<_>>()
            .join(" "),
        CreateError::Stopped(reason) => stopped(*reason),
    }
}

fn tell_refusal<T: TestTime>(refusal: &Refusal<char, T>) -> String {
    match refusal {
        Refusal::AlreadyExists => String::from("AlreadyExists"),
        Refusal::StillDropping => String::from("StillDropping"),
        Refusal::BeingCreated => String::from("BeingCreated"),
        Refusal::Repeated => String::from("Repeated"),
        Refusal::UnfinishedDependency(id) => format!("UnfinishedDependency({id})"),
        Refusal::UnknownDependency(id) => format!("UnknownDependency({id})"),
        Refusal::DroppedDependency(id) => format!("DroppedDependency({id})"),
        Refusal::Cycle => String::from("Cycle"),
        Refusal::Policy(error) => format!("{error:?}"),
        Refusal::EmptySince => String::from("EmptySince"),
        Refusal::BehindDependencies { since, upper } => {
            let (since, upper) = (show(since.frontier()), show(upper.frontier()));
            format!("BehindDependencies({since},{upper})")
        }
        Refusal::ShardInUse { shard, owner } => format!("ShardInUse({},{owner})", shard.number()),
        Refusal::ShardGone(shard) => format!("ShardGone({})", shard.number()),
        Refusal::Storage(error) => format!("{:?}", error.kind()),
    }
}

pub(super) fn event<T: TestTime>(event: &Event<char, T>) -> String {
    let whose = |collection: &Option<char>| collection.map_or(String::from("nobody"), String::from);
    match event {
        Event::PolicyPanicked { collection } => format!("PolicyPanicked({collection})"),
        Event::SinceNotWritten {
            collection, shard, ..
        } => format!("SinceNotWritten({},{})", whose(collection), shard.number()),
        Event::ShardMoved {
            collection,
            shard,
            asked,
            actual,
        } => format!(
            "ShardMoved({},{},{},{})",
            whose(collection),
            shard.number(),
            show(asked.frontier()),
            show(actual.frontier())
        ),
        Event::LeaseLapsed { collection, since } => {
            format!("LeaseLapsed({collection},{})", show(since.frontier()))
        }
        Event::UpperIncomparable {
            collection,
            reported,
            upper,
        } => format!(
            "UpperIncomparable({collection},{},{})",
            show(reported.frontier()),
            show(upper.frontier())
        ),
    }
}
