//! The tools as an MCP server: `/mcp`, `/mcp/{server}`, `/api/v1/mcp` and `witgate mcp`.

mod http;
