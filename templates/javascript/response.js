// A plugin for the witgate gateway: hides e-mail addresses in what the model says.
// What comes in and may go out is described in wit/response.wit; names are in camelCase here.

import { get as configured } from "witgate:plugin/config@0.1.0";

const ADDRESS = /[\w.+-]+@[\w-]+(\.[\w-]+)+/g;

export const response = {
  // Returns an action: keep, replace, rewrite, call-tool, ask-again or block. To fail, throw an error of wit/types.wit,
  // such as `throw { tag: "internal", val: "why" }`.
  processLlmResponse(ctx, reply) {
    const text = reply.text.replaceAll(ADDRESS, replacement);
    return text === reply.text ? { tag: "keep" } : { tag: "replace", val: text };
  },
};

// From the operator's file; values are JSON text.
function replacement() {
  const value = configured("replacement");
  return value == null ? "[e-mail]" : JSON.parse(value);
}
