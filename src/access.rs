//! The `access` room: who is asking, and whether that is enough.
