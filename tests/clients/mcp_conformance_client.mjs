// The client that `@modelcontextprotocol/conformance` tests: the MCP client of witgate ($GATEWAY_PROGRAM), by its command line.
//
// The suite starts a server for each scenario and runs `node mcp_conformance_client.mjs URL`. It lists the tools and calls
// those that the scenario names (MCP_CONFORMANCE_CONTEXT), or else every tool the server has.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const program = process.env.GATEWAY_PROGRAM;
const url = process.argv.at(-1);
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");
const folder = mkdtempSync(join(tmpdir(), "witgate-conformance-"));
const servers = join(folder, "servers_config.json");
writeFileSync(servers, JSON.stringify({ mcpServers: { test: { type: "http", url } } }));

function witgate(...args) {
  const run = spawnSync(program, [...args, "--servers", servers], { cwd: folder, encoding: "utf8", timeout: 60_000 });
  process.stderr.write(`witgate ${args.join(" ")}: status ${run.status}\n${run.stdout}${run.stderr}\n`);
  return run;
}

// A value that fits a property's schema. The echo of `json-schema-2020-12-preservation` wants the other tool's schema.
function value(schema, name, tools) {
  if (name === "schema") return tools.find((tool) => tool.name === "json_schema_2020_12_tool")?.inputSchema ?? {};
  if (schema.default !== undefined) return schema.default;
  switch (schema.type) {
    case "number": case "integer": return 5;
    case "boolean": return true;
    case "array": return [];
    case "object": return {};
    default: return schema.enum?.[0] ?? "text";
  }
}

const list = witgate("tools", "list", "--json");
const tools = list.status === 0 ? JSON.parse(list.stdout) : [];
const calls = context.toolCalls ?? tools.map((tool) => {
  const properties = Object.entries(tool.inputSchema.properties ?? {});
  const values = properties.map(([name, schema]) => [name, value(schema, name, tools)]);
  return { name: tool.name, arguments: Object.fromEntries(values) };
});
for (const call of calls) witgate("tools", "call", call.name, JSON.stringify(call.arguments ?? {}), "--json");
rmSync(folder, { recursive: true });
// Whether the calls were right the scenario's server says: some are meant to fail.
process.exit(list.status ?? 1);
