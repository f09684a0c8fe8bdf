//! The `response` room: what happens to a model's reply before the client sees it.
