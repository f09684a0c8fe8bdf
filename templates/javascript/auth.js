// A policy for the witgate gateway: nobody calls the tools that the operator's file lists.
// What comes in and may go out is described in wit/auth.wit; names are in camelCase here.

import { get as configured } from "witgate:plugin/config@0.1.0";

export const auth = {
  // Returns a decision: allow, deny or abstain. Whatever is thrown counts as a refusal.
  authorize(request) {
    const { action } = request;
    if (action.tag === "tool" && deniedTools().includes(action.val.name)) {
      return { tag: "deny", val: { status: 403, reason: `the tool ${action.val.name} is switched off` } };
    }
    return { tag: "abstain" };
  },
};

// From the operator's file; values are JSON text.
function deniedTools() {
  const value = configured("denied_tools");
  return value == null ? [] : JSON.parse(value);
}
