// openai-node, unmodified, against a gateway. See openai_python.py for the scene; exits with 1 at the first surprise.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { z } from "zod";

const baseURL = `${process.env.WITGATE_URL}/v1`;
const client = new OpenAI({ baseURL, apiKey: "any string", maxRetries: 0, timeout: 160_000 });
const user = (content) => ({ role: "user", content });
const chat = (content, more = {}) =>
  client.chat.completions.create({ model: "m1", messages: [user(content)], ...more });

// The library takes what it gets; these are its types (resources/chat/completions) as checks.
const call = z.object({
  id: z.string().min(1),
  type: z.literal("function"),
  function: z.object({ name: z.string().min(1), arguments: z.string() }),
});
const finish = z.enum(["stop", "length", "tool_calls", "content_filter", "function_call"]);
const usage = z.object({ prompt_tokens: z.int(), completion_tokens: z.int(), total_tokens: z.int() });
const completion = z.object({
  id: z.string().min(1),
  object: z.literal("chat.completion"),
  created: z.int(),
  model: z.string(),
  choices: z.array(
    z.object({
      index: z.int(),
      finish_reason: finish,
      logprobs: z.null(),
      message: z.object({
        role: z.literal("assistant"),
        content: z.string().nullable(),
        refusal: z.string().nullable(),
        tool_calls: z.array(call).optional(),
      }),
    }),
  ),
  usage,
});
const chunk = z.object({
  id: z.string().min(1),
  object: z.literal("chat.completion.chunk"),
  created: z.int(),
  model: z.string(),
  choices: z.array(
    z.object({
      index: z.int(),
      finish_reason: finish.nullable(),
      delta: z.object({
        role: z.literal("assistant").optional(),
        content: z.string().nullish(),
        tool_calls: z.array(call.partial().extend({
          index: z.int(),
          function: call.shape.function.partial(),
        })).optional(),
      }),
    }),
  ),
  usage: usage.nullish(),
});

async function whole(content, more) {
  const reply = await chat(content, more);
  completion.parse(reply);
  return reply;
}

async function streamed(content, more) {
  const chunks = [];
  for await (const one of await chat(content, { stream: true, ...more })) {
    chunk.parse(one);
    chunks.push(one);
  }
  const choices = chunks.flatMap((one) => one.choices);
  assert.equal(choices.filter((choice) => choice.delta.role).length, 1, "one role delta");
  assert.equal(choices.filter((choice) => choice.finish_reason).length, 1, "one finish_reason");
  return { text: choices.map((choice) => choice.delta.content ?? "").join(""), choices, chunks };
}

const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather of a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const closed = async () => Number((await whole("how many were closed?")).choices[0].message.content);

async function untilClosed(before) {
  const end = Date.now() + 60_000;
  while ((await closed()) <= before) {
    assert.ok(Date.now() < end, "the upstream still works for a client that has gone away");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const checks = {
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assert.deepEqual(ids, ["m1", "org/m2:free"]);
    assert.equal((await client.models.retrieve("org/m2:free")).id, "org/m2:free");
  },

  async wholeReply() {
    const reply = await whole("hello");
    assert.equal(reply.choices[0].message.content, "Hello from upstream.");
    assert.ok(reply._request_id, "every reply has a request id");
  },

  async stream() {
    const { text, chunks } = await streamed("hello", { stream_options: { include_usage: true } });
    assert.equal(text, "Hello from upstream.");
    assert.equal(chunks.at(-1).usage.total_tokens, 7);
    assert.deepEqual(chunks.at(-1).choices, []);
  },

  async streamHelper() {
    const stream = client.chat.completions.stream({ model: "m1", messages: [user("hello")] });
    let text = "";
    stream.on("content", (delta) => (text += delta));
    const message = await stream.finalMessage();
    assert.deepEqual([message.role, message.content, text], [
      "assistant",
      "Hello from upstream.",
      "Hello from upstream.",
    ]);
  },

  async gatewayTools() {
    const reply = await whole("use your tool");
    assert.match(reply.choices[0].message.content, /^Tools said: 1 results/);
    assert.equal(reply.choices[0].message.tool_calls, undefined);
    const { text, choices } = await streamed("use your tool");
    assert.match(text, /^Tools said: 1 results/);
    assert.ok(choices.every((choice) => !choice.delta.tool_calls), "hidden from the client");
  },

  // The library's own loop: it runs the client's function and sends the result back.
  async clientTools() {
    const tools = [{
      type: "function",
      function: { ...weather.function, parse: JSON.parse, function: ({ city }) => `7 degrees in ${city}` },
    }];
    for (const stream of [false, true]) {
      for (const [words, results] of [["use my tool", 1], ["use both tools", 2]]) {
        const runner = client.chat.completions.runTools({ model: "m1", messages: [user(words)], tools, stream });
        const text = await runner.finalContent();
        assert.ok(text.startsWith(`Tools said: ${results} results`), text);
        assert.ok(text.includes("7 degrees in Oslo"), text);
      }
    }
  },

  async statusErrors() {
    const kinds = {
      400: OpenAI.BadRequestError,
      422: OpenAI.UnprocessableEntityError,
      429: OpenAI.RateLimitError,
      500: OpenAI.InternalServerError,
      503: OpenAI.InternalServerError,
    };
    const fails = (kind) => (error) => {
      assert.equal(error.constructor, kind, String(error));
      assert.ok(error.requestID && error.message && error.type, String(error));
      return true;
    };
    for (const stream of [false, true]) {
      for (const [status, kind] of Object.entries(kinds)) {
        await assert.rejects(chat(`fail with ${status}`, { stream }), fails(kind));
      }
      await assert.rejects(chat("hello", { stream, model: "no-such-model" }), fails(OpenAI.NotFoundError));
      await assert.rejects(chat("hello", { stream, messages: 7 }), fails(OpenAI.BadRequestError));
    }
    const locked = { baseURL: `${process.env.WITGATE_LOCKED_URL}/v1`, maxRetries: 0 };
    const wrong = new OpenAI({ ...locked, apiKey: "wrong" });
    await assert.rejects(wrong.models.list(), fails(OpenAI.AuthenticationError));
    const right = new OpenAI({ ...locked, apiKey: process.env.WITGATE_LOCKED_KEY });
    assert.ok((await right.models.list()).data.length > 0);
  },

  async brokenStream() {
    await assert.rejects(streamed("break off"), OpenAI.APIError);
  },

  async abortedStream() {
    const before = await closed();
    const stream = await chat("never end", { stream: true });
    for await (const one of stream) {
      chunk.parse(one);
      break; // Leaving the loop aborts the request.
    }
    await untilClosed(before);
  },

  async abortedWhole() {
    const before = await closed();
    const stop = new AbortController();
    const reply = client.chat.completions.create(
      { model: "m1", messages: [user("never end")] },
      { signal: stop.signal },
    );
    setTimeout(() => stop.abort(), 3000);
    await assert.rejects(reply, OpenAI.APIUserAbortError);
    await untilClosed(before);
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log("ok", name);
}
