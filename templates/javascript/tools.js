// A tool for the witgate gateway: counts words.
// What comes in and may go out is described in wit/tools.wit; names are in camelCase here.

const COUNT_WORDS = {
  name: "count_words",
  title: "Count words",
  description: "Counts the words of a text.",
  inputSchemaJson: JSON.stringify({
    type: "object",
    properties: { text: { type: "string", description: "The text." } },
    required: ["text"],
    additionalProperties: false,
  }),
  outputSchemaJson: JSON.stringify({
    type: "object",
    properties: { words: { type: "integer" } },
    required: ["words"],
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
};

export const tools = {
  listTools() {
    return [COUNT_WORDS];
  },

  // The arguments fit the schema: the gateway has checked them. A failure that the model should read is a result with
  // `isError: true`; one that nobody can do anything about is thrown, such as `throw { tag: "failed", val: "why" }`.
  callTool(ctx, name, argumentsJson) {
    if (name !== COUNT_WORDS.name) throw { tag: "not-found", val: name };
    const { text } = JSON.parse(argumentsJson);
    const words = text.split(/\s+/).filter((word) => word !== "").length;
    return {
      content: [{ tag: "text", val: `${words} words` }],
      structuredJson: JSON.stringify({ words }),
      isError: false,
    };
  },
};
