// Runs the TypeScript in the file $SNIPPET as it is written.
//
// Its function has a parameter called `arguments`, which no strict code may have, and modules are strict: no TypeScript
// compiler takes it as one. Without its types, and as the body of an async function (it awaits at the top) in a script,
// it runs.
import { readFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { runInThisContext } from "node:vm";

const source = readFileSync(process.env.SNIPPET, "utf8");
const script = stripTypeScriptTypes(`(async () => {\n${source}\nconsole.log((await listTools()).length);\n})()`);
await runInThisContext(script);
