//! Bounds what a session sends to the model: oldest whole turns leave first, so a tool call never loses its result.

use super::tokens;
use crate::domain::RawMessage;

/// The messages of the latest turns that fit into `max_tokens`, in order. The tokenizer is asked only where a byte count
/// cannot already tell that everything fits.
pub(super) async fn bounded(turns: Vec<Vec<RawMessage>>, max_tokens: usize) -> Vec<RawMessage> {
    let most: usize = turns.iter().flatten().map(tokens::upper_bound).sum();
    if most <= max_tokens {
        return turns.into_iter().flatten().collect();
    }
    let mut budget = max_tokens;
    let mut kept = Vec::new();
    for turn in turns.into_iter().rev() {
        let upper: usize = turn.iter().map(tokens::upper_bound).sum();
        // A turn of many times the budget's bytes cannot fit; there is no need to count it exactly.
        let cost = if upper > budget.saturating_mul(16) {
            upper
        } else {
            tokens::count_messages(&turn).await.into_iter().sum()
        };
        if cost > budget {
            break;
        }
        budget -= cost;
        kept.push(turn);
    }
    kept.into_iter().rev().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(words: usize) -> Vec<RawMessage> {
        vec![RawMessage::user(&"word ".repeat(words)), RawMessage::assistant("ok")]
    }

    #[tokio::test]
    async fn oldest_whole_turns_leave_first() {
        let turns = vec![turn(500), turn(100), turn(10)];
        let kept = bounded(turns.clone(), 300).await;
        assert_eq!(kept, [turn(100), turn(10)].concat());
        assert_eq!(bounded(turns.clone(), 1_000_000).await, turns.concat());
        assert_eq!(bounded(turns, 5).await, vec![]);
    }
}
