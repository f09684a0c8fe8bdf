"""Writes the JSON schemas beside this file from the types of the official Python SDK.

    pip install openai && python generate.py

The SDK's types say what its users' code will touch. They are loosened in nothing; where the API promises more than
the types say, TIGHTEN adds it. Unknown fields stay allowed: upstreams add their own.
"""

import json
import pathlib

import openai
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

HERE = pathlib.Path(__file__).parent


def write(name: str, schema: dict) -> None:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **clean(schema)}
    schema["$comment"] = f"made by generate.py from openai {openai.__version__}"
    (HERE / f"{name}.json").write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")


def clean(node):
    """Drops words that validate nothing, and opens enums that newer models extend (finish reasons stay closed)."""
    if isinstance(node, list):
        return [clean(item) for item in node]
    if not isinstance(node, dict):
        return node
    dropped = ("title", "description", "default")
    is_schema = "type" in node or "anyOf" in node or "$ref" in node or "properties" in node
    return {k: clean(v) for k, v in node.items() if not (is_schema and k in dropped and not isinstance(v, dict))}


def non_empty(schema: dict, *keys: str) -> None:
    for key in keys:
        schema["properties"][key]["minLength"] = 1


def definition(schema: dict, suffix: str) -> dict:
    return next(d for name, d in schema["$defs"].items() if name == suffix)


completion = ChatCompletion.model_json_schema()
non_empty(completion, "id", "model")
completion["properties"]["created"]["minimum"] = 1
completion["properties"]["choices"]["minItems"] = 1
# A whole reply of the gateway always has its usage.
completion["required"].append("usage")
completion["properties"]["usage"] = {"$ref": "#/$defs/CompletionUsage"}
# The message has explicit nulls, and calls that are present are not empty.
definition(completion, "ChatCompletionMessage")["required"] = ["role", "content"]
definition(completion, "ChatCompletionMessage")["properties"]["tool_calls"]["anyOf"][0]["minItems"] = 1
write("chat_completion", completion)

chunk = ChatCompletionChunk.model_json_schema()
non_empty(chunk, "id", "model")
chunk["properties"]["created"]["minimum"] = 1
# What no SDK tolerates being missing: the index of every choice and of every call.
assert "index" in definition(chunk, "Choice")["required"]
assert "index" in definition(chunk, "ChoiceDeltaToolCall")["required"]
definition(chunk, "Choice")["required"].append("finish_reason")
write("chat_completion_chunk", chunk)

model = Model.model_json_schema()
non_empty(model, "id")
write("model", model)
write(
    "model_list",
    {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": model}},
    },
)
# The SDKs read these four keys of every error; the types have no name for them.
write(
    "error",
    {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string", "minLength": 1},
                    "type": {"type": "string", "minLength": 1},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "integer", "null"]},
                },
            }
        },
    },
)
