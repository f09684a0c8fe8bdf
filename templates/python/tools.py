"""A tool for the witgate gateway: counts words.

What comes in and may go out is described in wit/tools.wit; `bindings/` has the same as Python types.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.tools import (
    ContentBlock_Text,
    ToolAnnotations,
    ToolDefinition,
    ToolError_NotFound,
    ToolResult,
)

COUNT_WORDS = ToolDefinition(
    name="count_words",
    title="Count words",
    description="Counts the words of a text.",
    input_schema_json=json.dumps(
        {
            "type": "object",
            "properties": {"text": {"type": "string", "description": "The text."}},
            "required": ["text"],
            "additionalProperties": False,
        }
    ),
    output_schema_json=json.dumps(
        {"type": "object", "properties": {"words": {"type": "integer"}}, "required": ["words"]}
    ),
    annotations=ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    ),
)


class Tools(exports.Tools):
    def list_tools(self):
        return [COUNT_WORDS]

    def call_tool(self, ctx, name, arguments_json):
        """The arguments fit the schema: the gateway has checked them.

        A failure that the model should read is a result with `is_error=True`; one that nobody can do anything about
        is raised, such as `Err(ToolError_Failed("why"))`.
        """
        if name != COUNT_WORDS.name:
            raise Err(ToolError_NotFound(name))
        words = len(json.loads(arguments_json)["text"].split())
        return ToolResult(
            content=[ContentBlock_Text(f"{words} words")],
            structured_json=json.dumps({"words": words}),
            is_error=False,
        )
