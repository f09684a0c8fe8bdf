//! witgate: a gateway between chat clients and language models that runs MCP tools inside the conversation.
//!
//! The crate is a library so that tests and benchmarks can build a gateway in-process; the `witgate` binary is a thin
//! command line over it. `ARCHITECTURE.md` has the floor plan.

pub mod access;
pub mod audit;
pub mod chat;
pub mod cli;
pub mod config;
pub mod database;
pub mod domain;
pub mod gateway;
pub mod http;
pub mod llm;
pub mod mcp_server;
pub mod plugin_host;
pub mod response;
pub mod sessions;
pub mod telemetry;
pub mod toolbox;
pub mod tools;
