//! What a plugin has done so far: calls, failures, times, memory. Outlives reloads of the plugin.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::error::PluginErrorKind;

/// The longest time the histogram tells apart, in microseconds.
const LONGEST_MICROS: u64 = 3_600_000_000;

/// Upper bounds of the groups that [`StatsSnapshot::durations`] tells apart, in microseconds: from calls of small guests to
/// tools that wait for a network.
const DURATION_BOUNDS: [u64; 16] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    5_000_000, 30_000_000,
];

/// Counters of one plugin.
pub(super) struct PluginStats {
    calls: AtomicU64,
    running: AtomicUsize,
    total_micros: AtomicU64,
    memory_high_water: AtomicUsize,
    details: Mutex<Details>,
}

struct Details {
    errors: BTreeMap<&'static str, u64>,
    micros: Option<Histogram<u32>>,
    last_fuel: Option<u64>,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatsSnapshot {
    /// Calls that ended, failed ones included.
    pub calls: u64,
    /// Calls and open streamed replies now.
    pub running: usize,
    /// Failed calls by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Half of all calls took at most this long, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 calls took at most this long, in microseconds.
    pub p99_us: u64,
    /// Linear memory of the largest instance so far, in bytes.
    pub memory_high_water_bytes: usize,
    /// Fuel that the last call or streamed reply used; where fuel is counted, which a gateway does not do.
    #[serde(skip)]
    pub last_fuel: Option<u64>,
    /// All calls together took this long, in microseconds.
    #[serde(skip)]
    pub total_us: u64,
    /// Groups of calls: the longest time of the group in microseconds (the last group has no end), and how many there were.
    /// Empty where there is nothing to tell.
    #[serde(skip)]
    pub durations: Vec<(Option<u64>, u64)>,
}

/// Counts one running call until it is dropped.
pub(super) struct RunningCall(std::sync::Arc<PluginStats>);

impl Default for PluginStats {
    fn default() -> Self {
        // The library refuses only bounds that make no sense.
        let micros = Histogram::new_with_max(LONGEST_MICROS, 2).ok();
        Self {
            calls: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            total_micros: AtomicU64::new(0),
            memory_high_water: AtomicUsize::new(0),
            details: Mutex::new(Details { errors: BTreeMap::new(), micros, last_fuel: None }),
        }
    }
}

impl PluginStats {
    /// Counts a call as running until the guard is dropped.
    pub(super) fn enter(self: &std::sync::Arc<Self>) -> RunningCall {
        self.running.fetch_add(1, Ordering::Relaxed);
        RunningCall(std::sync::Arc::clone(self))
    }

    /// Records a call that ended.
    pub(super) fn record(&self, took: Duration, memory_bytes: usize, failure: Option<PluginErrorKind>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.memory_high_water.fetch_max(memory_bytes, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(LONGEST_MICROS);
        self.total_micros.fetch_add(micros, Ordering::Relaxed);
        let mut details = self.details.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(histogram) = &mut details.micros {
            histogram.saturating_record(micros.clamp(1, LONGEST_MICROS));
        }
        if let Some(kind) = failure {
            *details.errors.entry(kind.as_str()).or_default() += 1;
        }
    }

    /// Records the fuel of a call, or of a streamed reply so far.
    pub(super) fn record_fuel(&self, used: u64) {
        self.details.lock().unwrap_or_else(PoisonError::into_inner).last_fuel = Some(used);
    }

    /// Records a call that was refused before it began.
    pub(super) fn record_refusal(&self, kind: PluginErrorKind) {
        let mut details = self.details.lock().unwrap_or_else(PoisonError::into_inner);
        *details.errors.entry(kind.as_str()).or_default() += 1;
    }

    /// The counters now.
    pub(super) fn snapshot(&self) -> StatsSnapshot {
        let details = self.details.lock().unwrap_or_else(PoisonError::into_inner);
        let quantile = |q| details.micros.as_ref().map_or(0, |histogram| histogram.value_at_quantile(q));
        StatsSnapshot {
            calls: self.calls.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed),
            errors: details.errors.clone(),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            memory_high_water_bytes: self.memory_high_water.load(Ordering::Relaxed),
            last_fuel: details.last_fuel,
            total_us: self.total_micros.load(Ordering::Relaxed),
            durations: details.micros.as_ref().map(durations).unwrap_or_default(),
        }
    }
}

/// The calls by [`DURATION_BOUNDS`]. The histogram is exact to about one percent, and so is this.
fn durations(histogram: &Histogram<u32>) -> Vec<(Option<u64>, u64)> {
    let mut groups = [0_u64; DURATION_BOUNDS.len() + 1];
    for recorded in histogram.iter_recorded() {
        let micros = histogram.lowest_equivalent(recorded.value_iterated_to());
        let group = DURATION_BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(calls) = groups.get_mut(group) {
            *calls += u64::from(recorded.count_at_value());
        }
    }
    DURATION_BOUNDS.into_iter().map(Some).chain([None]).zip(groups).collect()
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn counts() {
        let stats = Arc::new(PluginStats::default());
        let running = stats.enter();
        for micros in 1..=100 {
            stats.record(Duration::from_micros(micros), 10, None);
        }
        stats.record(Duration::from_secs(7200), 5, Some(PluginErrorKind::Trap));
        let snapshot = stats.snapshot();
        assert_eq!((snapshot.calls, snapshot.running, snapshot.memory_high_water_bytes), (101, 1, 10));
        assert!(
            (50..=52).contains(&snapshot.p50_us) && (98..=101).contains(&snapshot.p99_us),
            "{snapshot:?}"
        );
        assert_eq!(snapshot.errors, BTreeMap::from([("trap", 1)]));
        let groups: Vec<_> = snapshot.durations.iter().filter(|(_, calls)| *calls > 0).copied().collect();
        assert_eq!(groups, [(Some(25), 25), (Some(50), 25), (Some(100), 50), (None, 1)]);
        assert_eq!(snapshot.total_us, 5050 + 7_200_000_000);
        drop(running);
        assert_eq!(stats.snapshot().running, 0);
    }
}
