//! The `http` room: every HTTP endpoint; the only room that knows axum.
