//! Tests of the whole API over scripted models: `api` and `access` without a network, `listener` with one.

mod access;
mod api;
mod fakes;
mod listener;
mod tools;
