// @modelcontextprotocol/conformance, unmodified, in server mode against a gateway.
//
// The suite has no way to send a key, so it talks to a proxy here that adds it and changes nothing else.
// WITGATE_URL, WITGATE_KEY, WITGATE_PATH: the gateway. WITGATE_BASELINE: the file of expected failures.
// Arguments: those of `conformance server`, for example `--requirements 2025-11-25`.

import { spawn } from "node:child_process";
import http from "node:http";
import { fileURLToPath } from "node:url";

const { WITGATE_URL, WITGATE_KEY, WITGATE_PATH, WITGATE_BASELINE } = process.env;
const gateway = new URL(WITGATE_URL);

const proxy = http.createServer((request, response) => {
  const headers = { ...request.headers, authorization: `Bearer ${WITGATE_KEY}` };
  const { method, url: path } = request;
  const onward = http.request({ host: gateway.hostname, port: gateway.port, method, path, headers });
  onward.on("response", (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    response.flushHeaders();
    answer.pipe(response);
  });
  onward.on("error", () => response.destroy());
  response.on("close", () => onward.destroy());
  request.pipe(onward);
});
await new Promise((listening) => proxy.listen(0, "127.0.0.1", listening));

const suite = fileURLToPath(import.meta.resolve("@modelcontextprotocol/conformance/dist/index.js"));
const url = `http://localhost:${proxy.address().port}${WITGATE_PATH}`;
const more = WITGATE_BASELINE ? ["--expected-failures", WITGATE_BASELINE] : [];
const run = spawn(process.execPath, [suite, "server", "--url", url, ...more, ...process.argv.slice(2)], {
  stdio: ["ignore", "inherit", "inherit"],
});
const code = await new Promise((ended) => run.on("close", ended));
proxy.closeAllConnections();
proxy.close();
process.exitCode = code ?? 1;
