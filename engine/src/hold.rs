//! Read holds: tokens that keep a collection readable.

use std::fmt;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};
use thiserror::Error;
use timely::PartialOrder;

use lowwater_queue::PinError;

use crate::command::{CloneError, DowngradeError, HoldLost, StopReason};
use crate::frontier::{Since, Time};
use crate::id::{CollectionId, Key};
use crate::link::{Line, Pin};
use crate::message::Message;

/// Keeps a collection readable from [`since`](ReadHold::since) on. Dropping it lets go: that
/// cannot fail, block or panic, also when the engine is gone.
///
/// A hold starts as a *pin*, which any thread takes and drops in nanoseconds without asking the
/// owner. Once it is moved it is counted by the owner, and moved and released by messages.
///
/// ```
/// # use lowwater::{Config, Description, Engine, MemoryStorage, ReadPolicy, Since, Upper};
/// # let (engine, client) = Engine::<u64, u64>::new(Config::default(), MemoryStorage::new())?;
/// # let owner = engine.spawn()?;
/// # let flights = client.create(vec![Description::new(1, ReadPolicy::step_back())]).wait()?.remove(0);
/// client.report_uppers(vec![(1, Upper::at(10))]).wait()?;
/// let mut hold = flights.acquire()?;
/// assert_eq!(hold.since(), &Since::at(9));
/// client.report_uppers(vec![(1, Upper::at(20))]).wait()?;
/// assert_eq!(flights.since(), Since::at(9));
/// hold.downgrade(Since::at(15))?;
/// flights.wait_for_since_past([14]).wait()?;
/// # client.stop().wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping a hold lets go of it"]
pub struct ReadHold<I: CollectionId, T: Time> {
    /// None only while the hold is being moved or taken apart.
    token: Option<Token<I, T>>,
}

/// What a hold owns.
pub(crate) enum Token<I: CollectionId, T: Time> {
    Pinned(Pin<I, T>),
    Counted(Counted<I, T>),
}

/// A capability that the owner has counted for one hold.
pub(crate) struct Counted<I: CollectionId, T: Time> {
    pub(crate) id: I,
    pub(crate) key: Key,
    pub(crate) since: Since<T>,
    pub(crate) line: Arc<Line<I, T>>,
    /// The owner knows already that it is released.
    pub(crate) settled: bool,
}

impl<I: CollectionId, T: Time> ReadHold<I, T> {
    pub(crate) fn pinned(pin: Pin<I, T>) -> Self {
        ReadHold {
            token: Some(Token::Pinned(pin)),
        }
    }

    pub(crate) fn counted(id: I, key: Key, since: Since<T>, line: Arc<Line<I, T>>) -> Self {
        let counted = Counted {
            id,
            key,
            since,
            line,
            settled: false,
        };
        ReadHold {
            token: Some(Token::Counted(counted)),
        }
    }

    /// From when on the collection stays readable.
    pub fn since(&self) -> &Since<T> {
        self.token().since()
    }

    /// Which collection is held.
    pub fn id(&self) -> I {
        match self.token() {
            Token::Pinned(pin) => pin.capability().id,
            Token::Counted(counted) => counted.id,
        }
    }

    /// Which incarnation of it.
    pub fn key(&self) -> Key {
        self.token().key()
    }

    /// Whether it still holds, as far as was published: asks nobody, and never waits. A lease lapses
    /// in storage before anybody here hears of it, so whether what was read is right is for the
    /// shard to say.
    ///
    /// # Errors
    ///
    /// It was [revoked](HoldLost::Revoked), which happens only where storage holds by a lease; or the
    /// engine has stopped. Dropping it is all that is left to do then.
    pub fn check(&self) -> Result<(), HoldLost<T>> {
        let line = match self.token() {
            // The implied capability is counted, so since is not past it.
            Token::Pinned(pin) if pin.is_current() => return Ok(()),
            Token::Pinned(pin) => pin.table().context(),
            Token::Counted(counted) => &counted.line,
        };
        line.check()?;
        let held = self.since();
        // At the empty frontier it holds nothing, and nothing can be taken from it.
        if held.is_gone() {
            return Ok(());
        }
        match self.readable() {
            Some(since) if PartialOrder::less_equal(&since, held) => Ok(()),
            Some(since) => Err(HoldLost::Revoked { since }),
            None => {
                // The engine lets nothing be found any more once it has stopped.
                line.check()?;
                let since = Since::gone();
                Err(HoldLost::Revoked { since })
            }
        }
    }

    /// From when on its collection can be read, as was published last; none if it is gone.
    fn readable(&self) -> Option<Since<T>> {
        match self.token() {
            Token::Pinned(pin) => pin.read(|view| {
                let is_same = view.key == pin.capability().key;
                is_same.then(|| view.frontiers.since.clone())
            }),
            Token::Counted(counted) => counted.line.since_of(counted.id, counted.key),
        }
    }

    /// Another hold at the same frontier. Works on dropped collections too.
    ///
    /// # Errors
    ///
    /// Of this frontier there are too many holds, or it was revoked, or the engine has stopped and
    /// holds nothing any more.
    pub fn try_clone(&self) -> Result<Self, CloneError> {
        self.check().map_err(|lost| match lost {
            HoldLost::Revoked { .. } => CloneError::Revoked,
            HoldLost::Stopped(reason) => CloneError::Stopped(reason),
        })?;
        match self.token() {
            Token::Pinned(pin) => {
                let clone = pin.try_clone().map_err(|error| match error {
                    PinError::TooManyPins => CloneError::TooManyHolds,
                    PinError::Closed => CloneError::Stopped(pin.table().context().stop_reason()),
                })?;
                if !clone.is_current() {
                    pin.table().context().check()?;
                }
                Ok(ReadHold::pinned(clone))
            }
            Token::Counted(counted) => {
                let Counted {
                    id,
                    key,
                    since,
                    line,
                    ..
                } = counted;
                line.send(Message::Cloned {
                    key: *key,
                    since: since.clone(),
                })
                .map_err(|_| line.stop_reason())?;
                Ok(ReadHold::counted(
                    *id,
                    *key,
                    since.clone(),
                    Arc::clone(line),
                ))
            }
        }
    }

    /// Moves the hold forward: what is before `to` is needed no more. To the empty frontier, it
    /// holds nothing any more.
    ///
    /// Returns at once; the owner counts `to` first, and then lets go of the old frontier.
    ///
    /// # Errors
    ///
    /// `to` is before, or incomparable with, where the hold is; or it was revoked; or the engine has
    /// stopped. The hold stays where it is.
    pub fn downgrade(&mut self, to: Since<T>) -> Result<(), DowngradeError<T>> {
        if self.since() == &to {
            return Ok(());
        }
        if !PartialOrder::less_equal(self.since(), &to) {
            return Err(DowngradeError::NotLater {
                held: self.since().clone(),
            });
        }
        self.check().map_err(|lost| match lost {
            HoldLost::Revoked { since } => DowngradeError::Revoked { since },
            HoldLost::Stopped(reason) => DowngradeError::Stopped(reason),
        })?;
        let token = self.take_token();
        match moved(smallvec![token], to) {
            Ok(token) => self.token = Some(token),
            Err((mut tokens, reason)) => {
                self.token = tokens.pop();
                return Err(reason.into());
            }
        }
        Ok(())
    }

    /// One hold instead of two, at the greatest frontier that is not later than either.
    ///
    /// # Errors
    ///
    /// The holds are on different collections, or one of them was revoked, or the engine has stopped.
    /// The error gives both back.
    pub fn merge(mut self, mut other: Self) -> Result<Self, MergeError<I, T>> {
        if let Err(reason) = self.can_merge(&other) {
            return Err(MergeError {
                reason,
                holds: Box::new((self, other)),
            });
        }
        if PartialOrder::less_equal(self.since(), other.since()) {
            return Ok(self);
        }
        if PartialOrder::less_equal(other.since(), self.since()) {
            return Ok(other);
        }
        let meet = self.since().meet(other.since());
        let tokens = self
            .token
            .take()
            .into_iter()
            .chain(other.token.take())
            .collect();
        match moved(tokens, meet) {
            Ok(token) => Ok(ReadHold { token: Some(token) }),
            Err((mut tokens, reason)) => {
                other.token = tokens.pop();
                self.token = tokens.pop();
                let reason = MergeRefusal::Stopped(reason);
                Err(MergeError {
                    reason,
                    holds: Box::new((self, other)),
                })
            }
        }
    }

    fn can_merge(&self, other: &Self) -> Result<(), MergeRefusal> {
        if self.key() != other.key() || !self.same_engine(other) {
            return Err(MergeRefusal::Mismatch);
        }
        let is_revoked = |hold: &Self| matches!(hold.check(), Err(HoldLost::Revoked { .. }));
        if is_revoked(self) || is_revoked(other) {
            return Err(MergeRefusal::Revoked);
        }
        Ok(())
    }

    fn take_token(&mut self) -> Token<I, T> {
        self.token.take().expect("a hold owns a token")
    }

    fn same_engine(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.token().line(), other.token().line())
    }

    fn token(&self) -> &Token<I, T> {
        self.token.as_ref().expect("a hold owns a token")
    }
}

type Refused<I, T> = (SmallVec<[Token<I, T>; 1]>, StopReason);

/// Sends tokens of one collection away for one counted at `to`, which all of them may read.
fn moved<I: CollectionId, T: Time>(
    from: SmallVec<[Token<I, T>; 1]>,
    to: Since<T>,
) -> Result<Token<I, T>, Refused<I, T>> {
    let first = &from[0];
    let (id, key, line) = (first.id(), first.key(), Arc::clone(first.line()));
    match line.send(Message::Moved {
        key,
        from,
        to: to.clone(),
    }) {
        Ok(()) => Ok(Token::Counted(Counted {
            id,
            key,
            since: to,
            line,
            settled: false,
        })),
        Err(Message::Moved { from, .. }) => Err((from, line.stop_reason())),
        Err(_) => unreachable!("a refused message is given back"),
    }
}

impl<I: CollectionId, T: Time> Token<I, T> {
    pub(crate) fn since(&self) -> &Since<T> {
        match self {
            Token::Pinned(pin) => &pin.capability().since,
            Token::Counted(counted) => &counted.since,
        }
    }

    fn id(&self) -> I {
        match self {
            Token::Pinned(pin) => pin.capability().id,
            Token::Counted(counted) => counted.id,
        }
    }

    fn key(&self) -> Key {
        match self {
            Token::Pinned(pin) => pin.capability().key,
            Token::Counted(counted) => counted.key,
        }
    }

    fn line(&self) -> &Arc<Line<I, T>> {
        match self {
            Token::Pinned(pin) => pin.table().context(),
            Token::Counted(counted) => &counted.line,
        }
    }
}

impl<I: CollectionId, T: Time> Drop for Counted<I, T> {
    fn drop(&mut self) {
        if !self.settled {
            let since = std::mem::replace(&mut self.since, Since::gone());
            // Refused: the engine is gone, and with it what it held.
            let _ = self.line.queue.send(Message::Released {
                key: self.key,
                since,
            });
        }
    }
}

impl<I: CollectionId, T: Time> fmt::Debug for ReadHold<I, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.token {
            Some(token) => f
                .debug_struct("ReadHold")
                .field("id", &self.id())
                .field("since", token.since())
                .finish(),
            None => f.write_str("ReadHold(moving)"),
        }
    }
}

/// Why two holds were not merged; here they are.
#[derive(Debug, Error)]
#[error("{reason}")]
pub struct MergeError<I: CollectionId, T: Time> {
    /// What was wrong.
    pub reason: MergeRefusal,
    /// Both holds, in the order given.
    pub holds: Box<(ReadHold<I, T>, ReadHold<I, T>)>,
}

/// Why two holds cannot be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MergeRefusal {
    /// They are not on the same incarnation of the same collection of the same engine.
    #[error("the holds are on different collections")]
    Mismatch,
    /// At least one of them holds nothing any more: see [`ReadHold::check`].
    #[error("a hold was revoked")]
    Revoked,
    /// The engine has stopped.
    #[error(transparent)]
    Stopped(StopReason),
}
