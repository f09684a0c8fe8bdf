// The official OpenAI library for Node with a gateway: a whole reply, then a streamed one.
//
//     npm install openai
//     node openai_client.mjs
//
// WITGATE_URL tells where the gateway is (default http://127.0.0.1:8000), WITGATE_API_KEY the key, if it wants one, and
// WITGATE_MODEL a model (default: the first one that the gateway lists).

import OpenAI from "openai";

const url = process.env.WITGATE_URL ?? "http://127.0.0.1:8000";
const client = new OpenAI({
  baseURL: `${url.replace(/\/+$/, "")}/v1`,
  // The library wants some key; the gateway only looks at it when it is told to.
  apiKey: process.env.WITGATE_API_KEY ?? "any string",
});

const models = (await client.models.list()).data.map((model) => model.id);
console.log("Models:", models.join(", "));
const model = process.env.WITGATE_MODEL ?? models[0];

const completion = await client.chat.completions.create({
  model,
  messages: [
    { role: "system", content: "You are a helpful assistant." },
    { role: "user", content: "Hello, please introduce yourself." },
  ],
});
console.log("Standard:", completion.choices[0].message.content);
if (completion.usage) console.log("Tokens:", completion.usage.total_tokens);

// Tools of the gateway run while the stream is open; nothing more is needed here.
const stream = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: "Tell a story about artificial intelligence." }],
  stream: true,
});
process.stdout.write("Streaming: ");
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
process.stdout.write("\n");
