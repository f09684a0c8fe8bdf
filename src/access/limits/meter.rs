//! Counts what callers with limits do.
//!
//! The number of callers that are remembered is bounded, strangers and known ones apart, so that nobody can push others'
//! counts out by coming from many addresses. Those who have had nothing to wait for leave first.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;

use super::bucket::Bucket;
use super::budget::{self, Spent};
use super::{Clock, LimitKind, LimitReached, RateLine, RateReport, StreamKind, UsageBook};
use crate::access::grants::Limits;
use crate::access::trace::Trace;

/// Callers of each kind that are remembered.
const MAX_ACCOUNTS: usize = 50_000;

/// How many of the oldest accounts are looked at when a new one comes.
const LOOK_AT_OLDEST: usize = 4;

/// How long a client is told to wait for a stream's end, which nobody knows.
const STREAM_WAIT: Duration = Duration::from_secs(1);

/// Counts for all callers.
pub(in crate::access) struct Meter {
    shared: Arc<Shared>,
    known: Mutex<LruCache<String, Arc<Account>>>,
    strangers: Mutex<LruCache<String, Arc<Account>>>,
}

/// What every account needs.
struct Shared {
    clock: Arc<dyn Clock>,
    /// Where budgets outlive the gateway; `None`: nowhere.
    book: Option<UsageBook>,
}

/// One caller's counts.
struct Account {
    id: String,
    /// Whether its budget is kept over restarts: strangers are too many.
    is_kept: bool,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: Bucket,
    tokens: Bucket,
    /// Open streams that answer something.
    answers: u32,
    /// Open streams that wait for news.
    news: u32,
    spent: Spent,
}

/// Somebody to count for.
pub(in crate::access) enum Metered<'a> {
    /// A principal the gateway knows, by its id.
    Known(&'a str),
    /// Anybody from this address.
    Stranger(Option<IpAddr>),
}

/// The counts that one request goes into, with their limits. A clone is the same.
#[derive(Clone)]
pub struct Rates(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    accounts: Vec<(Arc<Account>, Limits)>,
}

/// A place among the streams of a caller; dropping it frees it.
#[derive(Debug, Default)]
pub struct StreamPermit(Option<(Rates, StreamKind)>);

impl Meter {
    pub(in crate::access) fn new(clock: Arc<dyn Clock>, book: Option<UsageBook>) -> Self {
        let table = || {
            // Bounded by hand: an account that is in use must not leave.
            Mutex::new(LruCache::new(
                NonZeroUsize::new(MAX_ACCOUNTS + LOOK_AT_OLDEST).unwrap_or(NonZeroUsize::MAX),
            ))
        };
        Self { shared: Arc::new(Shared { clock, book }), known: table(), strangers: table() }
    }

    /// The counts for those of `who` that have limits; `None` where nobody has any.
    pub(in crate::access) fn rates(&self, who: &[(Metered<'_>, Limits)]) -> Option<Rates> {
        if who.iter().all(|(_, limits)| limits.is_empty()) {
            return None;
        }
        let limited = who.iter().filter(|(_, limits)| !limits.is_empty());
        let accounts = limited.map(|(who, limits)| (self.account(who), limits.clone())).collect();
        Some(Rates(Arc::new(Inner { shared: Arc::clone(&self.shared), accounts })))
    }

    /// Writes down what was spent, before the end. Waits for the disk.
    pub(in crate::access) fn flush(&self) {
        if let Some(book) = &self.shared.book {
            book.flush();
        }
    }

    fn account(&self, who: &Metered<'_>) -> Arc<Account> {
        match who {
            Metered::Known(id) => self.find(&self.known, id, true),
            Metered::Stranger(peer) => self.find(&self.strangers, &network(*peer), false),
        }
    }

    fn find(&self, table: &Mutex<LruCache<String, Arc<Account>>>, id: &str, is_kept: bool) -> Arc<Account> {
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = table.get(id) {
            return Arc::clone(account);
        }
        make_room(&mut table);
        let book = self.shared.book.as_ref().filter(|_| is_kept);
        let spent = book.map(|book| book.spent(id)).unwrap_or_default();
        let counts = Mutex::new(Counts { spent, ..Counts::default() });
        let account = Arc::new(Account { id: id.to_owned(), is_kept, counts });
        table.put(id.to_owned(), Arc::clone(&account));
        account
    }
}

/// Lets the oldest go where there are too many. One that a request is using stays: its streams must go on counting.
fn make_room(table: &mut LruCache<String, Arc<Account>>) {
    for _ in 0..LOOK_AT_OLDEST {
        if table.len() < MAX_ACCOUNTS {
            return;
        }
        let Some((id, account)) = table.pop_lru() else { return };
        if Arc::strong_count(&account) > 1 {
            table.put(id, account);
        }
    }
}

/// Whom a stranger's requests count for: its address, or its network where one customer has very many addresses.
fn network(peer: Option<IpAddr>) -> String {
    match peer.map(|peer| peer.to_canonical()) {
        None => "-".to_owned(),
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

impl Account {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Brings both buckets to the moment `now_ms`.
    fn settle(&mut self, limits: &Limits, now_ms: u64) {
        self.requests.settle(limits.requests_per_minute.map_or(u64::MAX, u64::from), now_ms);
        self.tokens.settle(limits.tokens_per_minute.unwrap_or(u64::MAX), now_ms);
    }

    /// The open streams of this kind.
    fn streams(&mut self, kind: StreamKind) -> &mut u32 {
        match kind {
            StreamKind::Answer => &mut self.answers,
            StreamKind::News => &mut self.news,
        }
    }
}

impl Rates {
    /// Counts a request.
    ///
    /// # Errors
    /// When there have been too many; it does not count then.
    pub(in crate::access) fn take_request(&self) -> Result<(), LimitReached> {
        let now_ms = self.0.shared.clock.elapsed_ms();
        for (at, (account, limits)) in self.0.accounts.iter().enumerate() {
            let Some(limit) = limits.requests_per_minute else { continue };
            let mut counts = account.counts();
            counts.settle(limits, now_ms);
            let wait = counts.requests.wait(limit.into());
            if wait == Some(Duration::ZERO) {
                counts.requests.take(1);
                continue;
            }
            drop(counts);
            for (account, limits) in &self.0.accounts[..at] {
                if limits.requests_per_minute.is_some() {
                    account.counts().requests.give_back(1);
                }
            }
            return Err(LimitReached { kind: LimitKind::Requests, limit: limit.into(), retry_after: wait });
        }
        Ok(())
    }

    /// Whether there are tokens left in this minute.
    ///
    /// # Errors
    /// When there are none.
    pub(in crate::access) fn check_tokens(&self) -> Result<(), LimitReached> {
        let now_ms = self.0.shared.clock.elapsed_ms();
        for (account, limits) in &self.0.accounts {
            let Some(limit) = limits.tokens_per_minute else { continue };
            let mut counts = account.counts();
            counts.settle(limits, now_ms);
            let wait = counts.tokens.wait(limit);
            if wait != Some(Duration::ZERO) {
                return Err(LimitReached { kind: LimitKind::Tokens, limit, retry_after: wait });
            }
        }
        Ok(())
    }

    /// Whether there is something left of every budget.
    ///
    /// # Errors
    /// When there is not.
    pub(in crate::access) fn check_budget(&self) -> Result<(), LimitReached> {
        let unix_s = self.0.shared.clock.unix_s();
        for (account, limits) in &self.0.accounts {
            let Some(budget) = limits.token_budget else { continue };
            if account.counts().spent.within(budget.per, unix_s) >= budget.tokens {
                return Err(LimitReached {
                    kind: LimitKind::Budget(budget.per),
                    limit: budget.tokens,
                    retry_after: budget::until_next(budget.per, unix_s),
                });
            }
        }
        Ok(())
    }

    /// A place for a stream.
    ///
    /// # Errors
    /// When all of its kind are taken.
    pub(in crate::access) fn open_stream(&self, kind: StreamKind) -> Result<StreamPermit, LimitReached> {
        for (at, (account, limits)) in self.0.accounts.iter().enumerate() {
            let limit = limits.concurrent_streams;
            let mut counts = account.counts();
            if let Some(limit) = limit
                && *counts.streams(kind) >= limit
            {
                drop(counts);
                self.close_streams(at, kind);
                let (kind, limit) = (LimitKind::Streams, limit.into());
                return Err(LimitReached { kind, limit, retry_after: Some(STREAM_WAIT) });
            }
            *counts.streams(kind) += 1;
        }
        Ok(StreamPermit(Some((self.clone(), kind))))
    }

    /// Frees a place in the first `count` accounts.
    fn close_streams(&self, count: usize, kind: StreamKind) {
        for (account, _) in &self.0.accounts[..count] {
            let mut counts = account.counts();
            let streams = counts.streams(kind);
            *streams = streams.saturating_sub(1);
        }
    }

    /// True when somebody wants to know how many tokens a turn takes.
    pub(in crate::access) fn counts_tokens(&self) -> bool {
        let counts = |limits: &Limits| limits.tokens_per_minute.is_some() || limits.token_budget.is_some();
        self.0.accounts.iter().any(|(_, limits)| counts(limits))
    }

    /// Takes down that `tokens` were used.
    pub(in crate::access) fn charge_tokens(&self, tokens: u64) {
        let clock = &self.0.shared.clock;
        let (now_ms, unix_s) = (clock.elapsed_ms(), clock.unix_s());
        for (account, limits) in &self.0.accounts {
            let mut counts = account.counts();
            counts.settle(limits, now_ms);
            if limits.tokens_per_minute.is_some() {
                counts.tokens.take(tokens);
            }
            if limits.token_budget.is_some() {
                counts.spent.add(tokens, unix_s);
                // Under the account's lock, or an older sum could come after this one.
                if let (true, Some(book)) = (account.is_kept, &self.0.shared.book) {
                    book.note(&account.id, counts.spent);
                }
            }
        }
    }

    /// What is left now, of whichever account has less.
    #[must_use]
    pub fn report(&self) -> RateReport {
        let now_ms = self.0.shared.clock.elapsed_ms();
        let mut report = RateReport::default();
        for (account, limits) in &self.0.accounts {
            let mut counts = account.counts();
            counts.settle(limits, now_ms);
            let line = |bucket: &Bucket, limit: u64| RateLine {
                limit,
                remaining: bucket.left(limit),
                reset: bucket.until_full(limit),
            };
            if let Some(limit) = limits.requests_per_minute {
                report.requests = Some(line(&counts.requests, limit.into()).tighter(report.requests));
            }
            if let Some(limit) = limits.tokens_per_minute {
                report.tokens = Some(line(&counts.tokens, limit).tighter(report.tokens));
            }
        }
        report
    }

    /// Tells `trace` what the limits of this kind said, where there are any.
    pub(in crate::access) fn note(&self, trace: &Trace, kind: LimitKind, said: &Result<(), LimitReached>) {
        if !trace.is_listening() {
            return;
        }
        let words = self.words(kind);
        if !words.is_empty() {
            let rule = LimitReached { kind, limit: 0, retry_after: None }.rule();
            trace.outcome(rule, said, || words.join("; "));
        }
    }

    /// The limits and what has been used of them, in words for whoever looks after the gateway.
    fn words(&self, kind: LimitKind) -> Vec<String> {
        let unix_s = self.0.shared.clock.unix_s();
        let of = |(account, limits): &(Arc<Account>, Limits)| {
            let id = &account.id;
            let counts = account.counts();
            match kind {
                LimitKind::Requests => limits.requests_per_minute.map(|n| format!("{id}: {n} per minute")),
                LimitKind::Tokens => limits.tokens_per_minute.map(|n| format!("{id}: {n} per minute")),
                LimitKind::Streams => {
                    limits.concurrent_streams.map(|n| format!("{id}: {n} at the same time"))
                }
                LimitKind::Budget(_) => limits.token_budget.map(|budget| {
                    let spent = counts.spent.within(budget.per, unix_s);
                    format!("{id}: {spent} of {} tokens spent", budget.tokens)
                }),
            }
        };
        self.0.accounts.iter().filter_map(of).collect()
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        if let Some((rates, kind)) = self.0.take() {
            rates.close_streams(rates.0.accounts.len(), kind);
        }
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accounts = self.0.accounts.iter().map(|(account, limits)| (&account.id, limits));
        f.debug_map().entries(accounts).finish()
    }
}

#[cfg(test)]
mod tests;
