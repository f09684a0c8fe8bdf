// The server that the scenarios of @modelcontextprotocol/conformance ask for, over stdio, for a gateway to stand before it.
// Names, texts and shapes are those of the scenarios' own descriptions.

import { setTimeout as sleep } from "node:timers/promises";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import * as types from "@modelcontextprotocol/sdk/types.js";

const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
const WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAAAAA==";

const text = (words) => ({ type: "text", text: words });
const image = { type: "image", data: PNG, mimeType: "image/png" };
const nothing = { type: "object", properties: {} };

const server = new Server(
  { name: "conformance-fixture", version: "1.0.0" },
  {
    capabilities: {
      tools: { listChanged: true },
      resources: { listChanged: true, subscribe: true },
      prompts: { listChanged: true },
      logging: {},
      completions: {},
    },
  },
);

const log = (data) => server.sendLoggingMessage({ level: "info", logger: "fixture", data });

const tools = {
  test_simple_text: {
    description: "Answers a text",
    call: () => [text("This is a simple text response for testing.")],
  },
  test_image_content: { description: "Answers an image", call: () => [image] },
  test_audio_content: {
    description: "Answers a sound",
    call: () => [{ type: "audio", data: WAV, mimeType: "audio/wav" }],
  },
  test_embedded_resource: {
    description: "Answers a resource",
    call: () => [resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")],
  },
  test_multiple_content_types: {
    description: "Answers a text, an image and a resource",
    call: () => [
      text("Multiple content types test:"),
      image,
      resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ],
  },
  test_tool_with_logging: {
    description: "Writes three log lines",
    call: async () => {
      await log("Tool execution started");
      await sleep(50);
      await log("Tool processing data");
      await sleep(50);
      await log("Tool execution completed");
      return [text("Tool with logging executed successfully")];
    },
  },
  test_tool_with_progress: {
    description: "Tells its progress",
    call: async (_, { _meta, sendNotification }) => {
      for (const progress of [0, 50, 100]) {
        if (_meta?.progressToken !== undefined) {
          const params = { progressToken: _meta.progressToken, progress, total: 100 };
          await sendNotification({ method: "notifications/progress", params });
        }
        await sleep(50);
      }
      return [text("Tool with progress executed successfully")];
    },
  },
  test_error_handling: {
    description: "Fails",
    call: () => {
      throw new Error("This tool intentionally returns an error for testing");
    },
  },
  test_sampling: {
    description: "Asks the client's model",
    inputSchema: { type: "object", properties: { prompt: { type: "string" } }, required: ["prompt"] },
    call: async ({ prompt }) => {
      const messages = [{ role: "user", content: text(prompt) }];
      const reply = await server.createMessage({ messages, maxTokens: 100 });
      return [text(`LLM response: ${reply.content.text}`)];
    },
  },
  test_elicitation: {
    description: "Asks the client's user",
    inputSchema: { type: "object", properties: { message: { type: "string" } }, required: ["message"] },
    call: async ({ message }) => {
      const requestedSchema = { type: "object", properties: { response: { type: "string" } } };
      const reply = await server.elicitInput({ message, requestedSchema });
      return [text(`User response: ${JSON.stringify(reply)}`)];
    },
  },
  test_streaming_elicitation: {
    description: "Asks the client's user, as servers of older versions do",
    call: async () => {
      const reply = await server.elicitInput({ message: "Well?", requestedSchema: nothing });
      return [text(JSON.stringify(reply))];
    },
  },
  test_logging_tool: {
    description: "Writes a log line",
    call: async () => {
      await log("A line");
      return [text("A line was written")];
    },
  },
  test_trigger_tool_change: {
    description: "Adds a tool, or removes it again",
    call: async () => {
      if (tools.test_added) delete tools.test_added;
      else tools.test_added = { description: "Was added", call: () => [text("added")] };
      await server.sendToolListChanged();
      return [text("The tools are others now")];
    },
  },
  test_trigger_prompt_change: {
    description: "Adds a prompt, or removes it again",
    call: async () => {
      if (prompts.test_added) delete prompts.test_added;
      else prompts.test_added = { description: "Was added", get: () => [user(text("added"))] };
      await server.sendPromptListChanged();
      return [text("The prompts are others now")];
    },
  },
  test_custom_header: {
    description: "Says which region it was told, in a header too",
    inputSchema: {
      type: "object",
      properties: { region: { type: "string", "x-mcp-header": "Region" } },
      required: ["region"],
    },
    call: ({ region }) => [text(`region: ${region}`)],
  },
  json_schema_2020_12_tool: {
    description: "Tool with JSON Schema 2020-12 features",
    inputSchema: {
      $schema: "https://json-schema.org/draft/2020-12/schema",
      type: "object",
      $defs: {
        address: {
          $anchor: "addressDef",
          type: "object",
          properties: { street: { type: "string" }, city: { type: "string" } },
        },
      },
      properties: {
        name: { type: "string" },
        address: { $ref: "#/$defs/address" },
        contactMethod: { type: "string", enum: ["phone", "email"] },
        phone: { type: "string" },
        email: { type: "string" },
      },
      allOf: [{ anyOf: [{ required: ["phone"] }, { required: ["email"] }] }],
      if: { properties: { contactMethod: { const: "phone" } }, required: ["contactMethod"] },
      then: { required: ["phone"] },
      else: { required: ["email"] },
      additionalProperties: false,
    },
    call: () => [text("ok")],
  },
};

function resource(uri, mimeType, words) {
  return { type: "resource", resource: { uri, mimeType, text: words } };
}

server.setRequestHandler(types.ListToolsRequestSchema, () => ({
  tools: Object.entries(tools).map(([name, { description, inputSchema }]) => ({
    name,
    description,
    inputSchema: inputSchema ?? nothing,
  })),
}));

server.setRequestHandler(types.CallToolRequestSchema, async ({ params }, extra) => {
  const tool = tools[params.name];
  if (!tool) throw new types.McpError(types.ErrorCode.InvalidParams, `Unknown tool: ${params.name}`);
  try {
    return { content: await tool.call(params.arguments ?? {}, extra) };
  } catch (error) {
    return { content: [text(error.message)], isError: true };
  }
});

const resources = {
  "test://static-text": {
    name: "Static text",
    description: "A text that never changes",
    mimeType: "text/plain",
    contents: { text: "This is the content of the static text resource." },
  },
  "test://static-binary": {
    name: "Static binary",
    description: "An image that never changes",
    mimeType: "image/png",
    contents: { blob: PNG },
  },
  "test://watched-resource": {
    name: "Watched resource",
    description: "A text to subscribe to",
    mimeType: "text/plain",
    contents: { text: "Watched resource content" },
  },
};

server.setRequestHandler(types.ListResourcesRequestSchema, () => ({
  resources: Object.entries(resources).map(([uri, { contents, ...rest }]) => ({ uri, ...rest })),
}));

server.setRequestHandler(types.ListResourceTemplatesRequestSchema, () => ({
  resourceTemplates: [
    {
      uriTemplate: "test://template/{id}/data",
      name: "Template",
      description: "Data by id",
      mimeType: "application/json",
    },
  ],
}));

server.setRequestHandler(types.ReadResourceRequestSchema, ({ params: { uri } }) => {
  const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1];
  if (id) {
    const data = JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` });
    return { contents: [{ uri, mimeType: "application/json", text: data }] };
  }
  const found = resources[uri];
  if (!found) throw new types.McpError(-32002, "Resource not found", { uri });
  return { contents: [{ uri, mimeType: found.mimeType, ...found.contents }] };
});

server.setRequestHandler(types.SubscribeRequestSchema, () => ({}));
server.setRequestHandler(types.UnsubscribeRequestSchema, () => ({}));

const user = (content) => ({ role: "user", content });
const prompts = {
  test_simple_prompt: {
    description: "A prompt without arguments",
    get: () => [user(text("This is a simple prompt for testing."))],
  },
  test_prompt_with_arguments: {
    description: "A prompt with arguments",
    arguments: [
      { name: "arg1", description: "First test argument", required: true },
      { name: "arg2", description: "Second test argument", required: true },
    ],
    get: ({ arg1, arg2 }) => [user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`))],
  },
  test_prompt_with_embedded_resource: {
    description: "A prompt with a resource",
    arguments: [{ name: "resourceUri", description: "URI of the resource to embed", required: true }],
    get: ({ resourceUri }) => [
      user(resource(resourceUri, "text/plain", "Embedded resource content for testing.")),
      user(text("Please process the embedded resource above.")),
    ],
  },
  test_prompt_with_image: {
    description: "A prompt with an image",
    get: () => [user(image), user(text("Please analyze the image above."))],
  },
};

server.setRequestHandler(types.ListPromptsRequestSchema, () => ({
  prompts: Object.entries(prompts).map(([name, { get, ...rest }]) => ({ name, ...rest })),
}));

server.setRequestHandler(types.GetPromptRequestSchema, ({ params }) => {
  const prompt = prompts[params.name];
  if (!prompt) throw new types.McpError(types.ErrorCode.InvalidParams, `Unknown prompt: ${params.name}`);
  return { messages: prompt.get(params.arguments ?? {}) };
});

server.setRequestHandler(types.CompleteRequestSchema, ({ params }) => {
  const values = ["paris", "park", "party"].filter((word) => word.startsWith(params.argument.value));
  return { completion: { values, total: values.length, hasMore: false } };
});

await server.connect(new StdioServerTransport());
