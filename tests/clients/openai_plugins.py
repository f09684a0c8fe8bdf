"""openai-python, unmodified, against gateways with plugins; requests are signed by http-message-signatures, unmodified.

WITGATE_GUARDED_URL is a gateway with pii-redactor and keyword-guard in front of the scripted upstream of
tests/it/clients.rs, WITGATE_SIGNED_URL one with hmac-auth, which lets in who signs with WITGATE_SIGNING_SECRET.
Exits with 1 at the first surprise.
"""

import os
import secrets

import httpx2
import openai
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

GUARDED = OpenAI(base_url=os.environ["WITGATE_GUARDED_URL"] + "/v1", api_key="x", max_retries=0, timeout=120)
SIGNED_URL = os.environ["WITGATE_SIGNED_URL"] + "/v1"
SECRET = os.environ["WITGATE_SIGNING_SECRET"].encode()


def asks(text, **more):
    return {"model": "m1", "messages": [{"role": "user", "content": text}], **more}


def strict(value, kind):
    """The library builds replies without checking them; this checks."""
    kind.model_validate_json(value.to_json(), strict=True)
    return value


def whole(client, text):
    """Text and finish reason of a whole reply."""
    choice = strict(client.chat.completions.create(**asks(text)), ChatCompletion).choices[0]
    return choice.message.content, choice.finish_reason


def streamed(client, text):
    """Text and finish reason of a stream, and the usage at its end."""
    options = {"include_usage": True}
    with client.chat.completions.create(stream=True, stream_options=options, **asks(text)) as stream:
        chunks = [strict(chunk, ChatCompletionChunk) for chunk in stream]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1, "one identity a stream"
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert [bool(choice.delta.role) for choice in choices] == [True] + [False] * (len(choices) - 1), choices
    finishes = [choice.finish_reason for choice in choices if choice.finish_reason]
    assert len(finishes) == 1 and choices[-1].finish_reason, f"one finish_reason, at the end: {finishes}"
    return "".join(choice.delta.content or "" for choice in choices), finishes[0]


def helper(text):
    """What the library itself makes of a stream."""
    with GUARDED.chat.completions.stream(**asks(text)) as events:
        for event in events:
            if event.type == "chunk":
                strict(event.chunk, ChatCompletionChunk)
        choice = events.get_final_completion().choices[0]
    return choice.message.content, choice.finish_reason


def redacted():
    for way in (lambda text: whole(GUARDED, text), lambda text: streamed(GUARDED, text), helper):
        assert way("whom to ask?") == ("Ask [email] or call [phone].", "stop"), way
        assert way("hello") == ("Hello from upstream.", "stop"), way


def blocked():
    assert whole(GUARDED, "name the project") == ("", "content_filter")
    # What came before the phrase has been seen; nothing of the phrase has.
    assert streamed(GUARDED, "name the project") == ("We call it ", "content_filter")


class City(BaseModel):
    city: str


def blocked_in_helpers():
    """Who lets the library put the reply together gets its own exception instead."""

    def parsed(text):
        GUARDED.chat.completions.parse(response_format=City, **asks(text))

    for way in (helper, parsed):
        try:
            way("name the project")
        except openai.ContentFilterFinishReasonError:
            continue
        raise AssertionError(f"no ContentFilterFinishReasonError of {way}")


class Keys(HTTPSignatureKeyResolver):
    def __init__(self, secret):
        self.secret = secret

    def resolve_private_key(self, key_id):
        return self.secret


class Signature(httpx2.Auth):
    """Signs each request as the README of hmac-auth tells."""

    requires_request_body = True

    def __init__(self, secret=SECRET, nonce=secrets.token_urlsafe):
        self.signer = HTTPMessageSigner(signature_algorithm=algorithms.HMAC_SHA256, key_resolver=Keys(secret))
        self.nonce = nonce

    def auth_flow(self, request):
        covered = ["@method", "@authority", "@path"] + ["@query"] * bool(request.url.query)
        body = request.content or None
        self.signer.sign(request, key_id="k1", nonce=self.nonce(), body=body, covered_component_ids=covered)
        yield request


def signing(auth=None, **more):
    return OpenAI(
        base_url=SIGNED_URL, api_key="x", max_retries=0, timeout=120, http_client=httpx2.Client(auth=auth, **more)
    )


def signed():
    client = signing(Signature())
    assert whole(client, "hello") == ("Hello from upstream.", "stop")
    assert streamed(client, "hello") == ("Hello from upstream.", "stop")
    assert [model.id for model in client.models.list()] == ["m1", "org/m2:free"]
    assert client.models.list(extra_query={"a": "1", "b": " x"}).data, "a query is signed, too"


def refused(kind, call, words):
    try:
        call()
    except kind as error:
        assert type(error) is kind and words in error.message, error
        return
    raise AssertionError(f"no {kind.__name__} that says {words!r}")


def unsigned_or_wrongly_signed():
    def say(client):
        return lambda: whole(client, "hello")

    unsigned = signing()
    refused(openai.AuthenticationError, say(unsigned), "must be signed")
    refused(openai.AuthenticationError, lambda: unsigned.models.list(), "must be signed")
    another = signing(Signature(secret=b"another secret of enough bytes"))
    refused(openai.AuthenticationError, say(another), "not one of a known key")
    replayed = signing(Signature(nonce=lambda: "the same"))
    say(replayed)()
    refused(openai.AuthenticationError, say(replayed), "nonce was used before")

    def with_another_body(request):
        request.stream = httpx2.ByteStream(request.content.replace(b"hello", b"HELLO"))

    class Tampered(Signature):
        def auth_flow(self, request):
            for signed in super().auth_flow(request):
                with_another_body(signed)
                yield signed

    refused(openai.BadRequestError, say(signing(Tampered())), "sha-256 digest")


for check in [redacted, blocked, blocked_in_helpers, signed, unsigned_or_wrongly_signed]:
    check()
    print("ok", check.__name__)
