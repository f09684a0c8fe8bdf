//! What one instance may use: memory, tables, handles. Asked by the runtime whenever a guest wants more.

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTableError;

/// Entries of all tables of one instance; CPython's tables have about 15,000.
const MAX_TABLE_ENTRIES: usize = 100_000;

/// Core instances, tables and memories of one plugin instance.
const MAX_INSTANCES: usize = 200;
const MAX_TABLES: usize = 64;
const MAX_MEMORIES: usize = 8;

/// Handles of resources, guest's and host's, that may be alive at the same time.
pub(super) const MAX_HANDLES: usize = 1_000;

/// Resources of the host's that may be alive at the same time. Each may hold as much as one call into the host hands
/// over, so this and the bound on that together bound what a guest can make the host keep.
pub(super) const MAX_RESOURCES: usize = 256;

/// The limits of one instance, and what it has used of them.
#[derive(Debug)]
pub(super) struct InstanceLimits {
    max_memory_bytes: usize,
    memory_bytes: usize,
    table_entries: usize,
    refused: Option<Refused>,
}

/// What an instance asked for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Linear memory, in bytes.
    Memory { wanted: usize, allowed: usize },
    /// Table entries.
    Table { wanted: usize, allowed: usize },
}

impl InstanceLimits {
    /// Limits with this much memory over all linear memories, in bytes.
    pub(super) fn new(max_memory_bytes: usize) -> Self {
        Self { max_memory_bytes, memory_bytes: 0, table_entries: 0, refused: None }
    }

    /// Linear memory in use, in bytes; it never shrinks, so this is also the most there was.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// What was last refused.
    pub(super) fn refused(&self) -> Option<Refused> {
        self.refused
    }
}

/// The words for a failure that comes from keeping more resources than a guest may, its own or the gateway's.
pub(super) fn hoarded(error: &wasmtime::Error) -> Option<String> {
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        return Some(format!("wanted more resources of the gateway's at once and may have {MAX_RESOURCES}"));
    }
    // The runtime has no type for this one.
    let is_handle_limit = error.root_cause().to_string().ends_with("store handle limit exceeded");
    is_handle_limit.then(|| format!("wanted more handles of resources at once and may have {MAX_HANDLES}"))
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory { wanted, allowed } => write!(
                f,
                "wanted {:.1} MiB of memory and may have {} MiB (limits.memory_mb)",
                *wanted as f64 / f64::from(1 << 20),
                allowed >> 20
            ),
            Self::Table { wanted, allowed } => {
                write!(f, "wanted {wanted} table entries and may have {allowed}")
            }
        }
    }
}

impl ResourceLimiter for InstanceLimits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.max_memory_bytes {
            self.refused = Some(Refused::Memory { wanted: total, allowed: self.max_memory_bytes });
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.table_entries.saturating_add(desired.saturating_sub(current));
        if total > MAX_TABLE_ENTRIES {
            self.refused = Some(Refused::Table { wanted: total, allowed: MAX_TABLE_ENTRIES });
            return Ok(false);
        }
        // One table's bound is its own type's, or the pool's, which is below that of all tables together.
        if let Some(maximum) = maximum.filter(|maximum| desired > *maximum) {
            self.refused = Some(Refused::Table { wanted: desired, allowed: maximum });
            return Ok(false);
        }
        self.table_entries = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_share_one_limit() {
        let mut limits = InstanceLimits::new(3 << 20);
        assert!(limits.memory_growing(0, 1 << 20, None).unwrap());
        assert!(limits.memory_growing(0, 2 << 20, None).unwrap());
        assert!(!limits.memory_growing(1 << 20, (1 << 20) + 65536, None).unwrap());
        assert_eq!(limits.memory_bytes(), 3 << 20);
        let text = limits.refused().unwrap().to_string();
        assert_eq!(text, "wanted 3.1 MiB of memory and may have 3 MiB (limits.memory_mb)");
    }

    #[test]
    fn tables_are_limited() {
        let mut limits = InstanceLimits::new(0);
        assert!(limits.table_growing(0, 1000, None).unwrap());
        assert!(!limits.table_growing(1000, MAX_TABLE_ENTRIES + 1, None).unwrap());
    }
}
