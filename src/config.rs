//! The `config` room: files and environment become validated values.
