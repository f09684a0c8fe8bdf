//! Tokens over a day, a month, and ever: what was spent, and when a budget begins anew. All in UTC.

use std::cmp::Ordering;
use std::time::Duration;

use super::super::grants::BudgetPeriod;

const DAY_S: u64 = 86_400;

/// What somebody has spent. All three are kept, so that another period in somebody's limits finds its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    /// Days since 1970.
    pub(super) day: u64,
    pub(super) day_tokens: u64,
    /// Months since the beginning of the year 0.
    pub(super) month: u64,
    pub(super) month_tokens: u64,
    pub(super) ever_tokens: u64,
}

impl Spent {
    /// Adds what was spent at `unix_s`. A clock that went back begins no sum anew: what is spent by it counts for the latest
    /// day and month there were.
    pub(super) fn add(&mut self, tokens: u64, unix_s: u64) {
        let day = unix_s / DAY_S;
        let month = month_of(day);
        if self.day < day {
            (self.day, self.day_tokens) = (day, 0);
        }
        if self.month < month {
            (self.month, self.month_tokens) = (month, 0);
        }
        for sum in [&mut self.day_tokens, &mut self.month_tokens, &mut self.ever_tokens] {
            *sum = sum.saturating_add(tokens);
        }
    }

    /// What has come to it since it was `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let more = |is_same: bool, now: u64, then: u64| now - if is_same { then.min(now) } else { 0 };
        Self {
            day_tokens: more(self.day == before.day, self.day_tokens, before.day_tokens),
            month_tokens: more(self.month == before.month, self.month_tokens, before.month_tokens),
            ever_tokens: more(true, self.ever_tokens, before.ever_tokens),
            ..*self
        }
    }

    /// Both together; of a day and a month that are over nothing is kept.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let sum = |one: (u64, u64), other: (u64, u64)| match one.0.cmp(&other.0) {
            Ordering::Less => other,
            Ordering::Equal => (one.0, one.1.saturating_add(other.1)),
            Ordering::Greater => one,
        };
        let (day, day_tokens) = sum((self.day, self.day_tokens), (other.day, other.day_tokens));
        let (month, month_tokens) = sum((self.month, self.month_tokens), (other.month, other.month_tokens));
        let ever_tokens = self.ever_tokens.saturating_add(other.ever_tokens);
        Self { day, day_tokens, month, month_tokens, ever_tokens }
    }

    /// What was spent in the period that `unix_s` lies in, or in the latest one, where that is later.
    pub(super) fn within(&self, period: BudgetPeriod, unix_s: u64) -> u64 {
        let day = unix_s / DAY_S;
        match period {
            BudgetPeriod::Day if self.day >= day => self.day_tokens,
            BudgetPeriod::Month if self.month >= month_of(day) => self.month_tokens,
            BudgetPeriod::Day | BudgetPeriod::Month => 0,
            BudgetPeriod::Ever => self.ever_tokens,
        }
    }
}

/// How long until the next period begins; `None` where there is no next one.
pub(super) fn until_next(period: BudgetPeriod, unix_s: u64) -> Option<Duration> {
    let day = unix_s / DAY_S;
    let next_day = match period {
        BudgetPeriod::Day => day + 1,
        // No month is longer than 31 days.
        BudgetPeriod::Month => (day + 1..=day + 31).find(|next| month_of(*next) != month_of(day))?,
        BudgetPeriod::Ever => return None,
    };
    Some(Duration::from_secs(next_day * DAY_S - unix_s))
}

/// The month of a day, counted from the beginning of the year 0: Howard Hinnant's `civil_from_days`.
fn month_of(day: u64) -> u64 {
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // March is 0: the leap day is the last one of such a year.
    let from_march = (5 * day_of_year + 2) / 153;
    (era * 400 + year_of_era) * 12 + from_march + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-30, 23:00 UTC.
    const JANUARY: u64 = 1_769_814_000;

    #[test]
    fn months_are_those_of_the_calendar() {
        // (day since 1970, year, month from 1)
        for (day, year, month) in [
            (0, 1970, 1),
            (30, 1970, 1),
            (31, 1970, 2),
            (59, 1970, 3),
            (11_016, 2000, 2),
            (11_017, 2000, 3),
            (20_453, 2025, 12),
            (20_454, 2026, 1),
            (20_484, 2026, 1),
            (20_485, 2026, 2),
            (20_513, 2026, 3),
        ] {
            assert_eq!(month_of(day), year * 12 + month - 1, "day {day}");
        }
    }

    #[test]
    fn periods_begin_at_midnight() {
        assert_eq!(until_next(BudgetPeriod::Day, JANUARY), Some(Duration::from_secs(3_600)));
        assert_eq!(until_next(BudgetPeriod::Month, JANUARY), Some(Duration::from_secs(3_600 + DAY_S)));
        let first_of_february = JANUARY + 3_600 + DAY_S;
        assert_eq!(until_next(BudgetPeriod::Month, first_of_february), Some(Duration::from_secs(28 * DAY_S)));
        assert_eq!(until_next(BudgetPeriod::Ever, JANUARY), None);
    }

    #[test]
    fn what_two_spent_adds_up_within_a_period() {
        let at = |tokens, unix_s| {
            let mut spent = Spent::default();
            spent.add(tokens, unix_s);
            spent
        };
        let mut later = at(10, JANUARY);
        later.add(5, JANUARY + 3_600);
        let news = later.since(&at(10, JANUARY));
        assert_eq!((news.day_tokens, news.month_tokens, news.ever_tokens), (5, 5, 5));
        // The other one has not spent anything today yet, or is a day ahead.
        let both = at(7, JANUARY).plus(&news);
        assert_eq!((both.day_tokens, both.month_tokens, both.ever_tokens), (5, 12, 12));
        let both = at(7, JANUARY + 3_600 + DAY_S).plus(&news);
        assert_eq!((both.day_tokens, both.month_tokens, both.ever_tokens), (7, 7, 12));
        assert_eq!(later.since(&later), Spent { day_tokens: 0, month_tokens: 0, ever_tokens: 0, ..later });
    }

    #[test]
    fn each_period_has_its_own_sum() {
        let mut spent = Spent::default();
        let all = |spent: &Spent, at| {
            [BudgetPeriod::Day, BudgetPeriod::Month, BudgetPeriod::Ever]
                .map(|period| spent.within(period, at))
        };
        spent.add(10, JANUARY);
        assert_eq!(all(&spent, JANUARY), [10, 10, 10]);
        assert_eq!(all(&spent, JANUARY + 3_600), [0, 10, 10]);
        spent.add(5, JANUARY + 3_600);
        assert_eq!(all(&spent, JANUARY + 3_600), [5, 15, 15]);
        assert_eq!(all(&spent, JANUARY + 3_600 + DAY_S), [0, 0, 15]);
        spent.add(u64::MAX, JANUARY + 3_600 + DAY_S);
        assert_eq!(all(&spent, JANUARY + 3_600 + DAY_S), [u64::MAX; 3]);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_back() {
        let mut spent = Spent::default();
        let all = |spent: &Spent, at| {
            [BudgetPeriod::Day, BudgetPeriod::Month, BudgetPeriod::Ever]
                .map(|period| spent.within(period, at))
        };
        spent.add(10, JANUARY);
        let before = spent;
        // As a machine without a clock of its own starts.
        assert_eq!(all(&spent, 5), [10, 10, 10]);
        spent.add(5, 5);
        assert_eq!(all(&spent, 5), [15, 15, 15]);
        assert_eq!(all(&spent, JANUARY), [15, 15, 15]);
        assert_eq!(all(&before.plus(&spent.since(&before)), JANUARY), [15, 15, 15]);
        spent.add(1, JANUARY + 3_600);
        assert_eq!(all(&spent, JANUARY + 3_600), [1, 16, 16]);
    }
}
