//! The tools as an MCP server: `/mcp`, `/mcp/{server}`, `/api/v1/mcp` and `witgate mcp`.

mod attacks;
mod batch;
mod clients;
mod http;
mod limits;
mod rpc;
mod running;
mod stdio;
