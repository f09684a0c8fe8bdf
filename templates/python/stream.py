"""A plugin for the witgate gateway: hides e-mail addresses in what the model says, while it says it.

What comes in and may go out is described in wit/response.wit; `bindings/` has the same as Python types.
"""

import json
import re

from wit_world.exports import response_stream as types
from wit_world.imports import config

ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")

# A longer word is no address: it goes on in pieces.
LONGEST_ADDRESS = 320


class ReplyStream(types.ReplyStream):
    """The gateway makes one for each choice of each reply."""

    def __init__(self, ctx, choice):
        self.replacement = replacement()
        # The last word of each kind of text: it may be an address that is not complete yet.
        self.held = {}

    def push(self, deltas):
        """Takes pieces as they come and returns what may go on now."""
        ready = []
        for delta in deltas:
            text = self.held.get(delta.kind, "") + delta.text
            end = re.search(r"\S*\Z", text).start()
            if len(text) - end > LONGEST_ADDRESS:
                end = len(text)
            self.held[delta.kind] = text[end:]
            if end > 0:
                ready.append(types.Delta(delta.kind, self.redact(text[:end])))
        return types.Pushed_Deltas(ready)

    def finish(self, end):
        """The last chance to return what was held back."""
        rest = [types.Delta(kind, self.redact(text)) for kind, text in self.held.items() if text]
        return types.Finished(rest, types.NextStep_GoOn())

    def redact(self, text):
        return ADDRESS.sub(lambda _address: self.replacement, text)


def replacement():
    """From the operator's file; values are JSON text."""
    value = config.get("replacement")
    return "[e-mail]" if value is None else json.loads(value)
