"""openai-python, unmodified, against a gateway: every way to call it, every reply checked by the library's own types.

WITGATE_URL is a gateway with the bundled SQLite tools in front of the scripted upstream of tests/it/clients.rs, which
answers by what the user says. WITGATE_LOCKED_URL is one that wants a key. Exits with 1 at the first surprise.
"""

import asyncio
import json
import os
import time

import openai
from openai import AsyncOpenAI, OpenAI
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

URL = os.environ["WITGATE_URL"]
BASE_URL = URL + "/v1"
client = OpenAI(base_url=BASE_URL, api_key="any string", max_retries=0, timeout=120)

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def user(text):
    return {"role": "user", "content": text}


def strict(value, kind):
    """The library builds replies without checking them; this checks."""
    assert type(value) is kind or isinstance(value, kind), (type(value), kind)
    kind.model_validate_json(value.to_json(), strict=True)
    return value


def whole(text, **more):
    more = {"model": "m1", "messages": [user(text)], **more}
    return strict(client.chat.completions.create(**more), ChatCompletion)


def streamed(text, **more):
    """All chunks of a stream, checked singly and for their order."""
    more = {"model": "m1", "messages": [user(text)], **more}
    with client.chat.completions.create(stream=True, **more) as stream:
        chunks = [strict(chunk, ChatCompletionChunk) for chunk in stream]
    check_order(chunks)
    return chunks


def check_order(chunks):
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1, "one identity a stream"
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert [bool(choice.delta.role) for choice in choices].count(True) == 1, "one role delta"
    assert choices[0].delta.role == "assistant"
    finishes = [choice.finish_reason for choice in choices if choice.finish_reason]
    assert len(finishes) == 1 and choices[-1].finish_reason, f"one finish_reason, at the end: {finishes}"


def text_of(chunks):
    return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)


def models():
    listed = [strict(model, Model).id for model in client.models.list()]
    assert listed == ["m1", "org/m2:free"], listed
    assert strict(client.models.retrieve("org/m2:free"), Model).id == "org/m2:free"


def whole_reply():
    reply = whole("hello")
    assert reply.choices[0].message.content == "Hello from upstream."
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == 7
    assert reply._request_id, "every reply has a request id"


def stream():
    chunks = streamed("hello", stream_options={"include_usage": True})
    assert text_of(chunks) == "Hello from upstream."
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) == 1 and usages[0].total_tokens == 7 and not chunks[-1].choices
    assert not [chunk for chunk in streamed("hello") if chunk.usage], "no usage unless asked for"


def stream_helper():
    with client.chat.completions.stream(model="m1", messages=[user("hello")]) as events:
        kinds = {event.type for event in events}
        final = events.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds, kinds
    assert final.choices[0].message.role == "assistant"
    assert final.choices[0].message.content == "Hello from upstream."


class Weather(BaseModel):
    city: str
    degrees: int


def parsed_reply():
    reply = client.chat.completions.parse(model="m1", messages=[user("as json")], response_format=Weather)
    assert reply.choices[0].message.parsed == Weather(city="Oslo", degrees=7)
    with client.chat.completions.stream(
        model="m1", messages=[user("as json")], response_format=Weather
    ) as events:
        final = events.get_final_completion()
    assert final.choices[0].message.parsed == Weather(city="Oslo", degrees=7)


def gateway_tools():
    """The gateway runs its own tools; the client sees only what comes of it."""
    reply = whole("use your tool")
    assert reply.choices[0].message.content.startswith("Tools said:"), reply
    assert not reply.choices[0].message.tool_calls and reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == 14, "the usage of both rounds"
    chunks = streamed("use your tool", stream_options={"include_usage": True})
    assert text_of(chunks).startswith("Tools said:")
    assert not [c for chunk in chunks for c in chunk.choices if c.delta.tool_calls], "hidden from the client"
    assert chunks[-1].usage.total_tokens == 14


def call_tools(text, create):
    """The loop every client of tools writes: run the calls, send the results, take the final words."""
    messages = [user(text)]
    message = create(messages)
    assert message.tool_calls and not message.content, message
    messages.append(message.to_dict(exclude_unset=True, mode="json"))
    for call in message.tool_calls:
        assert call.function.name == "get_weather", "only the client's own calls come back"
        city = json.loads(call.function.arguments)["city"]
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"7 degrees in {city}"})
    message = create(messages)
    assert not message.tool_calls and "7 degrees in Oslo" in message.content, message
    return message


def client_tools():
    def create(messages):
        return whole("", messages=messages, tools=[WEATHER]).choices[0].message

    def create_streaming(messages):
        with client.chat.completions.stream(model="m1", messages=messages, tools=[WEATHER]) as events:
            for event in events:
                if event.type == "chunk":
                    strict(event.chunk, ChatCompletionChunk)
            return events.get_final_completion().choices[0].message

    for way in (create, create_streaming):
        call_tools("use my tool", way)
        # The gateway's part of a mixed turn is run by the gateway, and given back to the model beside the client's.
        assert call_tools("use both tools", way).content.startswith("Tools said: 2 results"), "both results"


def status_errors():
    """Each status is the exception that the library has for it, and names the request."""

    def fails(kind, call, status=None):
        try:
            call()
        except kind as error:
            assert type(error) is kind, type(error)
            assert status is None or error.status_code == status, error.status_code
            assert error.request_id and error.message, error
            assert {"message", "type", "param", "code"} <= error.body.keys(), error.body
            return error
        raise AssertionError(f"no {kind.__name__}")

    for stream in (False, True):

        def says(text, stream=stream, **more):
            more = {"model": "m1", "messages": [user(text)], **more}
            return lambda: client.chat.completions.create(stream=stream, **more)

        assert fails(openai.BadRequestError, says("", messages="no list")).param == "messages"
        fails(openai.BadRequestError, says("fail with 400"), 400)
        fails(openai.NotFoundError, says("hello", model="no-such-model"), 404)
        fails(openai.UnprocessableEntityError, says("fail with 422"), 422)
        limited = fails(openai.RateLimitError, says("fail with 429"), 429)
        assert limited.response.headers["retry-after"] == "7", "an upstream's wish is passed on"
        fails(openai.InternalServerError, says("fail with 500"))
        fails(openai.InternalServerError, says("fail with 503"))
        # The upstream's 401 is about the gateway's key, not about the client's.
        fails(openai.InternalServerError, says("fail with 401"), 502)
    missing = fails(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"), 404)
    assert missing.code == "model_not_found", missing.body
    locked = OpenAI(base_url=os.environ["WITGATE_LOCKED_URL"] + "/v1", api_key="wrong", max_retries=0)
    fails(openai.AuthenticationError, lambda: locked.models.list(), 401)
    key = os.environ["WITGATE_LOCKED_KEY"]
    assert locked.with_options(api_key=key).models.list().data, "the right key opens it"


def own_request_id():
    headers = {"x-request-id": "trace-me-42"}
    assert whole("hello", extra_headers=headers)._request_id == "trace-me-42"


def broken_stream():
    """A failure after the first byte is an exception, not a short reply."""
    received = []
    try:
        with client.chat.completions.create(model="m1", messages=[user("break off")], stream=True) as chunks:
            received.extend(strict(chunk, ChatCompletionChunk) for chunk in chunks)
    except openai.APIError as error:
        assert text_of(received).startswith("Half of"), received
        assert error.message
        return
    raise AssertionError(f"a broken stream ended in silence: {text_of(received)!r}")


def closed_upstream():
    """How many endless requests the gateway has closed at the upstream, as the upstream itself tells."""
    return int(whole("how many were closed?").choices[0].message.content)


def wait_closed(before):
    end = time.monotonic() + 60
    while closed_upstream() <= before:
        assert time.monotonic() < end, "the upstream still works for a client that has gone away"
        time.sleep(0.05)


def aborted_stream():
    before = closed_upstream()
    stream = client.chat.completions.create(model="m1", messages=[user("never end")], stream=True)
    next(iter(stream))
    stream.close()
    wait_closed(before)


def aborted_whole():
    before = closed_upstream()
    try:
        client.with_options(timeout=3).chat.completions.create(model="m1", messages=[user("never end")])
    except openai.APITimeoutError:
        wait_closed(before)
        return
    raise AssertionError("an endless reply has ended")


def unknown_fields():
    """What the library does not know still reaches the upstream, which answers with what it got."""
    reply = whole("echo top_k", extra_body={"top_k": 3, "chat_template_kwargs": {"deep": [1, None]}}, seed=7)
    got = json.loads(reply.choices[0].message.content)
    assert got == {"top_k": 3, "chat_template_kwargs": {"deep": [1, None]}, "seed": 7}, got


async def asynchronous():
    async with AsyncOpenAI(base_url=BASE_URL, api_key="x", max_retries=0, timeout=120) as client:

        async def one(number):
            if number % 2:
                reply = await client.chat.completions.create(model="m1", messages=[user("use your tool")])
                return strict(reply, ChatCompletion).choices[0].message.content
            stream = await client.chat.completions.create(
                model="m1", messages=[user("use your tool")], stream=True
            )
            return text_of([strict(chunk, ChatCompletionChunk) async for chunk in stream])

        replies = await asyncio.gather(*(one(number) for number in range(8)))
        assert len(set(replies)) == 1 and replies[0].startswith("Tools said:"), replies
        assert [model.id async for model in client.models.list()] == ["m1", "org/m2:free"]
        before = closed_upstream()
        endless = await client.chat.completions.create(
            model="m1", messages=[user("never end")], stream=True
        )
        await anext(aiter(endless))
        await endless.close()
        await asyncio.to_thread(wait_closed, before)


CHECKS = [
    models, whole_reply, stream, stream_helper, parsed_reply, gateway_tools, client_tools, status_errors,
    own_request_id, broken_stream, aborted_stream, aborted_whole, unknown_fields,
]  # fmt: skip

for check in CHECKS:
    check()
    print("ok", check.__name__)
asyncio.run(asynchronous())
print("ok asynchronous")
