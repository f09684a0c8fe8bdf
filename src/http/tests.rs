//! Tests of the whole API over scripted models: `api` without a network, `listener` with one.

mod api;
mod fakes;
mod listener;
