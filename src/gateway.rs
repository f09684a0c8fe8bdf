//! The composition root: builds a gateway from its configuration, runs it and drains it.
