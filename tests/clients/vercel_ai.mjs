// The Vercel AI SDK, unmodified, against a gateway. See openai_python.py for the scene; exits with 1 at the first surprise.
// The SDK checks every reply and every chunk against schemas of its own, and reports what does not fit as an error.

import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const provider = createOpenAICompatible({
  name: "gateway",
  baseURL: `${process.env.WITGATE_URL}/v1`,
  apiKey: "any string",
  includeUsage: true,
});
const model = provider("m1");
const once = { model, maxRetries: 0 };

// A tool of the client; the model calls it beside those of the gateway.
function weather() {
  const cities = [];
  const get_weather = tool({
    description: "The weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute({ city }) {
      cities.push(city);
      return `7 degrees in ${city}`;
    },
  });
  return { tools: { get_weather }, cities };
}

// Everything a stream brought. An error part is an error here: the SDK would only log it.
async function collect(result) {
  const parts = [];
  for await (const part of result.fullStream) {
    if (part.type === "error") throw part.error;
    parts.push(part);
  }
  return parts;
}

const checks = {
  async wholeText() {
    const result = await generateText({ ...once, prompt: "hello" });
    assert.equal(result.text, "Hello from upstream.");
    assert.equal(result.finishReason, "stop");
    assert.equal(result.usage.totalTokens, 7);
  },

  async streamedText() {
    const result = streamText({ ...once, prompt: "hello" });
    const parts = await collect(result);
    assert.equal(await result.text, "Hello from upstream.");
    assert.equal(await result.finishReason, "stop");
    assert.equal((await result.usage).totalTokens, 7);
    assert.ok(parts.filter((part) => part.type === "text-delta").length > 1, "word by word");
  },

  async reasoning() {
    const result = await generateText({ ...once, prompt: "think" });
    assert.deepEqual([result.reasoningText, result.text], ["Two and two.", "Four."]);
    const streamed = streamText({ ...once, prompt: "think" });
    await collect(streamed);
    assert.deepEqual([await streamed.reasoningText, await streamed.text], ["Two and two.", "Four."]);
  },

  async parsedOutput() {
    const output = Output.object({ schema: z.object({ city: z.string(), degrees: z.number() }) });
    const result = await generateText({ ...once, prompt: "as json", output });
    assert.deepEqual(result.output, { city: "Oslo", degrees: 7 });
  },

  // The gateway runs its own tools: to the SDK it is one step without calls.
  async gatewayTools() {
    const { tools, cities } = weather();
    const whole = await generateText({ ...once, tools, prompt: "use your tool", stopWhen: stepCountIs(5) });
    assert.match(whole.text, /^Tools said: 1 results/);
    assert.equal(whole.steps.length, 1);
    assert.equal(whole.usage.totalTokens, 14);
    const streamed = streamText({ ...once, tools, prompt: "use your tool", stopWhen: stepCountIs(5) });
    const parts = await collect(streamed);
    assert.match(await streamed.text, /^Tools said: 1 results/);
    assert.ok(!parts.some((part) => part.type.startsWith("tool-")), "hidden from the client");
    assert.deepEqual(cities, []);
  },

  async clientTools() {
    for (const [prompt, results] of [["use my tool", 1], ["use both tools", 2]]) {
      const { tools, cities } = weather();
      const more = { ...once, tools, prompt, stopWhen: stepCountIs(5) };
      const whole = await generateText(more);
      const streamed = streamText(more);
      await collect(streamed);
      for (const text of [whole.text, await streamed.text]) {
        assert.ok(text.startsWith(`Tools said: ${results} results`), text);
        assert.ok(text.includes("7 degrees in Oslo"), text);
      }
      assert.deepEqual(cities, ["Oslo", "Oslo"], "the client ran its tool once each time");
      assert.equal(whole.steps.length, 2);
    }
  },

  async statusErrors() {
    for (const status of [400, 422, 429, 500, 503]) {
      const fits = (error) => {
        assert.ok(APICallError.isInstance(error), String(error));
        assert.equal(error.isRetryable, status === 429 || status >= 500);
        assert.ok(error.statusCode === status || (status >= 500 && error.statusCode >= 500), String(error.statusCode));
        // Its own message means that the SDK could read the error's body.
        assert.ok(error.data?.error.message, error.responseBody);
        return true;
      };
      await assert.rejects(generateText({ ...once, prompt: `fail with ${status}` }), fits);
      const streamed = streamText({ ...once, prompt: `fail with ${status}`, onError() {} });
      await assert.rejects(collect(streamed), fits);
    }
  },

  async brokenStream() {
    const streamed = streamText({ ...once, prompt: "break off", onError() {} });
    await assert.rejects(collect(streamed), "a failure after the first byte is an error, not a short reply");
  },

  async abortedStream() {
    const closed = async () => Number((await generateText({ ...once, prompt: "how many were closed?" })).text);
    const before = await closed();
    const stop = new AbortController();
    const streamed = streamText({ ...once, prompt: "never end", abortSignal: stop.signal, onError() {} });
    for await (const part of streamed.fullStream) if (part.type === "text-delta") stop.abort();
    const end = Date.now() + 60_000;
    while ((await closed()) <= before) {
      assert.ok(Date.now() < end, "the upstream still works for a client that has gone away");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log("ok", name);
}
