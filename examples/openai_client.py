#!/usr/bin/env python3
"""The official OpenAI library for Python with a gateway: a whole reply, then a streamed one.

    pip install openai
    python3 openai_client.py

WITGATE_URL tells where the gateway is (default http://127.0.0.1:8000), WITGATE_API_KEY the key, if it wants one, and
WITGATE_MODEL a model (default: the first one that the gateway lists).
"""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("WITGATE_URL", "http://127.0.0.1:8000").rstrip("/") + "/v1",
    # The library wants some key; the gateway only looks at it when it is told to.
    api_key=os.environ.get("WITGATE_API_KEY", "any string"),
)

models = [model.id for model in client.models.list()]
print("Models:", ", ".join(models))
model = os.environ.get("WITGATE_MODEL", models[0])

completion = client.chat.completions.create(
    model=model,
    messages=[
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Hello, please introduce yourself."},
    ],
)
print("Standard:", completion.choices[0].message.content)
if completion.usage:
    print("Tokens:", completion.usage.total_tokens)

# Tools of the gateway run while the stream is open; nothing more is needed here.
stream = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Tell a story about artificial intelligence."}],
    stream=True,
)
print("Streaming: ", end="", flush=True)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="", flush=True)
print()
