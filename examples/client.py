#!/usr/bin/env python3
"""A chat in the terminal over the simple API. Needs nothing but Python 3.9.

    python3 client.py                          chat; "quit" or "exit" ends it
    python3 client.py "How many tables?"       ask once
    python3 client.py --session ID             go on with an earlier session
    python3 client.py --no-stream              wait for whole replies

The gateway keeps the conversation: the client only sends the session's id again. WITGATE_URL tells where the gateway is
(default http://127.0.0.1:8000), WITGATE_API_KEY the key, if the gateway wants one.
"""

import argparse
import json
import os
import sys
import urllib.error
import urllib.request

URL = os.environ.get("WITGATE_URL", "http://127.0.0.1:8000").rstrip("/")
KEY = os.environ.get("WITGATE_API_KEY", "")
# Tools may work for a while; a stream is never silent longer than the gateway's keep-alive.
TIMEOUT_S = 600


class ChatError(Exception):
    """The gateway could not answer; says why."""


def post_chat(message, session_id, stream):
    """Sends one message; the open response."""
    body = {"message": message, "session_id": session_id, "stream": stream}
    headers = {"content-type": "application/json"}
    if KEY:
        headers["authorization"] = f"Bearer {KEY}"
    request = urllib.request.Request(f"{URL}/chat", json.dumps(body).encode(), headers)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        raise ChatError(detail_of(error.read()) or f"HTTP status {error.code}") from error
    except urllib.error.URLError as error:
        raise ChatError(f"no gateway at {URL}: {error.reason}") from error


def detail_of(body):
    """The `detail` of an error reply; empty when it is no such reply."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return ""


def events(response):
    """The (name, data) pairs of a stream of server-sent events."""
    name, data = "message", []
    for line in response:
        line = line.decode().rstrip("\r\n")
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield name, json.loads("\n".join(data))
            name, data = "message", []


def ask_whole(message, session_id):
    """Prints the reply when it is complete; the session's id."""
    with post_chat(message, session_id, stream=False) as response:
        reply = json.load(response)
    print(reply["response"])
    return reply["session_id"]


def ask_streaming(message, session_id):
    """Prints the reply while it is written, and the tools it uses; the session's id."""
    line_open = False
    with post_chat(message, session_id, stream=True) as response:
        for name, data in events(response):
            if name == "delta":
                print(data["text"], end="", flush=True)
                line_open = not data["text"].endswith("\n")
            elif name == "tool_call":
                print("\n" * line_open + f"[{data['name']} {json.dumps(data['arguments'])}]", flush=True)
                line_open = False
            elif name == "tool_result" and data["is_error"]:
                print(f"[{data['name']} failed: {data['content']}]", flush=True)
            elif name == "error":
                raise ChatError(data["detail"])
            elif name == "done":
                print()
                return data["session_id"]
    raise ChatError("the reply ended too early")


def chat(ask, session_id):
    """Asks whatever is typed, until the end of the input."""
    print(f'Chatting with {URL}. "quit" or "exit" ends it.')
    while True:
        try:
            message = input("> ").strip()
        except EOFError:
            break
        if message.lower() in ("quit", "exit"):
            break
        if not message:
            continue
        try:
            session_id = ask(message, session_id)
        except ChatError as error:
            print(f"error: {error}", file=sys.stderr)
    if session_id:
        print(f"Go on with: --session {session_id}")


def main():
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Chat with a gateway over its simple API.")
    parser.add_argument("message", nargs="?", help="ask this and leave; without it: chat")
    parser.add_argument("--session", metavar="ID", help="the session to go on with")
    parser.add_argument("--no-stream", action="store_true", help="wait for whole replies")
    arguments = parser.parse_args()
    ask = ask_whole if arguments.no_stream else ask_streaming
    try:
        if arguments.message is None:
            chat(ask, arguments.session)
        else:
            print(f"session: {ask(arguments.message, arguments.session)}", file=sys.stderr)
    except ChatError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        # Closing the connection also stops the model and its tools.
        sys.exit(130)


if __name__ == "__main__":
    main()
