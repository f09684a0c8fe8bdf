//! A stdio MCP server with six SQLite tools.

fn main() {}
