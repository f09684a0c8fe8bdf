"""A chat and a stream with a real model behind the gateway (see small_model_server.py), checked by openai-python's types.

A model this small says what it likes: the checks are about the form, and that there are words at all.
"""

import os

from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

client = OpenAI(base_url=os.environ["WITGATE_URL"] + "/v1", api_key="any string", max_retries=0, timeout=90)
model = client.models.list().data[0].id
request = {
    "model": model,
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Say hello."},
    ],
    "max_tokens": 8,
    "seed": 1,
    "temperature": 0,
}

reply = client.chat.completions.create(**request)
ChatCompletion.model_validate_json(reply.to_json(), strict=True)
text = reply.choices[0].message.content
assert text.strip(), reply
assert 0 < reply.usage.completion_tokens <= 8 and reply.usage.prompt_tokens > 10, reply.usage

parts, finishes, usages = [], [], []
for chunk in client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **request):
    ChatCompletionChunk.model_validate_json(chunk.to_json(), strict=True)
    parts += [choice.delta.content or "" for choice in chunk.choices]
    finishes += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
    usages += [chunk.usage] if chunk.usage else []
assert "".join(parts).strip() and len(parts) > 2, parts
assert finishes in (["stop"], ["length"]), finishes
assert len(usages) == 1 and usages[0].completion_tokens > 0, usages
print("ok", repr(text), repr("".join(parts)))
