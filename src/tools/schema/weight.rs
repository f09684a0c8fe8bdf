//! How much work a schema makes of checking a value, before any value is there.
//!
//! References let a few lines stand for more checks than a machine can do: definitions that each name the next one
//! twice double the work with every line, be it on one value or on each level of a nested one. Such a schema would
//! hold a thread for ever, so it is found before use. What a reference points to is asked of `references`, which uses
//! the validator's own resolver: a reference that the two understood differently would be a way around.

use std::collections::{HashMap, HashSet};

use jsonschema::Draft;
use serde_json::Value;

use super::references::{GROUPS, Node, read};

/// The most checks a schema may make of one value: far more than schemas that people or programs write.
const MAX_CHECKS: usize = 20_000;

/// The same with the checks of what it is part of multiplied in: grammars whose nodes may be of many kinds need some.
const MAX_NESTED_CHECKS: usize = 500_000;

/// The most checks, each of which may fail, that are made to say in detail what is wrong with a value.
const MAX_DETAIL_CHECKS: usize = 50_000;

/// The longest chain of schemas that apply to the same value.
const MAX_CHAIN: usize = 256;

/// JSON that was read at all nests at most 128 levels, so what a schema says of deeper ones does not matter.
const MAX_LEVELS: usize = 128;

/// How long a schema may be looked at, in schemas met on the way.
pub(super) const MAX_STEPS: usize = 2_000_000;

/// What a schema makes of values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    /// The most checks of the value at one place, as long as the schema does not come back to itself.
    checks: usize,
    /// The most checks of one value because of one check of what it is part of.
    applied: usize,
    /// The most schemas that one check of a value puts on the same part of it.
    spread: usize,
    /// Whether the schema contains itself.
    is_recursive: bool,
}

/// The weight of `schema`.
///
/// # Errors
/// Why it cannot be used: it makes too many checks, or a reference leads nowhere.
pub(super) fn weigh(schema: &Value, draft: Draft) -> Result<Weight, String> {
    let nodes = read(schema, draft)?;
    let mut scale = Scale {
        nodes: &nodes,
        known: HashMap::new(),
        active: HashSet::new(),
        levels: 0,
        steps: 0,
        found: Weight::default(),
    };
    for at in 0..nodes.len() {
        scale.spread(at)?;
    }
    let (checks, _) = scale.heaviest(0)?;
    Ok(Weight { checks, ..scale.found })
}

impl Weight {
    /// Whether saying all that is wrong with `value` is little work. In detail every alternative is told of, and of
    /// its parts every alternative again.
    pub(super) fn is_light_on(&self, value: &Value) -> bool {
        let mut left = MAX_DETAIL_CHECKS;
        self.spend(value, 1, &mut left)
    }

    fn spend(&self, value: &Value, times: usize, left: &mut usize) -> bool {
        let Some(rest) = left.checked_sub(times.saturating_mul(self.applied)) else { return false };
        *left = rest;
        let most = if self.is_recursive { usize::MAX } else { self.checks };
        let times = times.saturating_mul(self.spread).min(most);
        match value {
            Value::Object(members) => members.values().all(|part| self.spend(part, times, left)),
            Value::Array(items) => items.iter().all(|part| self.spend(part, times, left)),
            _ => true,
        }
    }
}

struct Scale<'a> {
    nodes: &'a [Node],
    /// The most checks of one place because of one check with a schema, where that was weighed to the end.
    known: HashMap<usize, usize>,
    /// The schemas on the way to the one being weighed.
    active: HashSet<usize>,
    levels: usize,
    steps: usize,
    found: Weight,
}

/// One schema of those that apply to a value, each after the one that applies it.
struct Applied {
    schema: usize,
    /// How many there are on the way to it.
    depth: usize,
    /// Whether it was being weighed already: its parts are left out.
    is_within: bool,
}

/// What several schemas make of the parts of a value.
#[derive(Default)]
struct Parts<'a> {
    /// Of a part that none of them names.
    other: usize,
    /// By name: what is said of the part of that name, and what is not because it is named.
    named: HashMap<&'a str, (usize, usize)>,
}

impl<'a> Scale<'a> {
    /// Finds out how one check with the schema `at` multiplies.
    fn spread(&mut self, at: usize) -> Result<(), String> {
        let mut frame = Vec::new();
        self.apply(at, &mut Vec::new(), &mut frame)?;
        self.found.applied = self.found.applied.max(frame.len());
        for group in 0..GROUPS {
            let schemas = self.parts(&frame, group, |_, schemas| Ok(schemas.len()))?;
            self.found.spread = self.found.spread.max(schemas);
        }
        Ok(())
    }

    /// The most checks of one place because of one check with the schema `at`, and whether that is all: deep levels are
    /// left out. A schema that contains itself is counted once: the validator remembers what it found out of a value
    /// where it comes back.
    fn heaviest(&mut self, at: usize) -> Result<(usize, bool), String> {
        if let Some(known) = self.known.get(&at) {
            return Ok((*known, true));
        }
        let mut frame = Vec::new();
        self.apply(at, &mut Vec::new(), &mut frame)?;
        if let Some(reason) = frame.iter().find_map(|one| self.nodes[one.schema].missing.as_ref()) {
            return Err(reason.clone());
        }
        if self.levels == MAX_LEVELS {
            return Ok((frame.len(), false));
        }
        let mut most = frame.len();
        let mut is_all = true;
        self.levels += 1;
        for group in 0..GROUPS {
            let checks = self.parts(&frame, group, |scale, schemas| {
                let mut sum = 0;
                for schema in schemas {
                    let (checks, is_whole) = scale.heaviest(*schema)?;
                    is_all &= is_whole;
                    sum += checks;
                }
                Ok(sum)
            })?;
            most = most.max(checks);
        }
        self.levels -= 1;
        if most > MAX_NESTED_CHECKS {
            return Err(too_many());
        }
        if is_all {
            self.known.insert(at, most);
        }
        Ok((most, is_all))
    }

    /// Collects the schemas that apply to a value because the one `at` does, as often as they do.
    fn apply(&mut self, at: usize, chain: &mut Vec<usize>, frame: &mut Vec<Applied>) -> Result<(), String> {
        self.step()?;
        // A schema that applies itself to the same value again is checked once.
        if chain.contains(&at) {
            return Ok(());
        }
        if chain.len() == MAX_CHAIN || frame.len() == MAX_CHECKS {
            return Err(too_many());
        }
        let is_within = self.active.contains(&at);
        self.found.is_recursive |= is_within;
        frame.push(Applied { schema: at, depth: chain.len(), is_within });
        if is_within {
            return Ok(());
        }
        chain.push(at);
        let nodes = self.nodes;
        for next in &nodes[at].applied {
            self.apply(*next, chain, frame)?;
        }
        chain.pop();
        Ok(())
    }

    /// The most that all of `frame` together make of one part of a value, where `sum` says what some schemas make of it.
    fn parts(
        &mut self,
        frame: &[Applied],
        group: usize,
        mut sum: impl FnMut(&mut Self, &[usize]) -> Result<usize, String>,
    ) -> Result<usize, String> {
        let nodes = self.nodes;
        let mut parts = Parts::default();
        let mut chain: Vec<usize> = Vec::new();
        for one in frame.iter().filter(|one| !one.is_within) {
            self.step()?;
            for left in chain.drain(one.depth..) {
                self.active.remove(&left);
            }
            chain.push(one.schema);
            self.active.insert(one.schema);
            let those = &nodes[one.schema].parts[group];
            let rest = sum(self, &those.rest)?;
            parts.other += rest + sum(self, &those.all)?;
            for (name, schema) in &those.named {
                self.step()?;
                let one = sum(self, std::slice::from_ref(schema))?;
                let (said, unsaid) = parts.named.entry(name).or_default();
                *said += one;
                *unsaid += rest;
            }
        }
        for left in chain {
            self.active.remove(&left);
        }
        let named = parts.named.values().map(|(said, unsaid)| parts.other + said - unsaid);
        Ok(named.chain([parts.other]).max().unwrap_or(0))
    }

    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > MAX_STEPS { Err(too_many()) } else { Ok(()) }
    }
}

fn too_many() -> String {
    format!(
        "its references and alternatives multiply to more than {MAX_CHECKS} checks of one value, \
         or {MAX_NESTED_CHECKS} of one within others"
    )
}
