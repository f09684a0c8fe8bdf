// A plugin for the witgate gateway: hides e-mail addresses in what the model says, while it says it.
// What comes in and may go out is described in wit/response.wit; names are in camelCase here.

import { get as configured } from "witgate:plugin/config@0.1.0";

const ADDRESS = /[\w.+-]+@[\w-]+(\.[\w-]+)+/g;

// A longer word is no address: it goes on in pieces.
const LONGEST_ADDRESS = 320;

// The gateway makes one ReplyStream for each choice of each reply.
class ReplyStream {
  constructor(ctx, choice) {
    this.replacement = replacement();
    // The last word of each kind of text: it may be an address that is not complete yet.
    this.held = { text: "", reasoning: "" };
  }

  // Takes pieces as they come and returns what may go on now.
  push(deltas) {
    const ready = [];
    for (const { kind, text } of deltas) {
      const all = this.held[kind] + text;
      let end = all.search(/\S*$/);
      if (all.length - end > LONGEST_ADDRESS) end = all.length;
      this.held[kind] = all.slice(end);
      if (end > 0) ready.push({ kind, text: this.redact(all.slice(0, end)) });
    }
    return { tag: "deltas", val: ready };
  }

  // The last chance to return what was held back.
  finish(end) {
    const deltas = Object.entries(this.held)
      .filter(([, text]) => text !== "")
      .map(([kind, text]) => ({ kind, text: this.redact(text) }));
    return { deltas, next: { tag: "go-on" } };
  }

  redact(text) {
    return text.replaceAll(ADDRESS, () => this.replacement);
  }
}

export const responseStream = { ReplyStream };

// From the operator's file; values are JSON text.
function replacement() {
  const value = configured("replacement");
  return value == null ? "[e-mail]" : JSON.parse(value);
}
