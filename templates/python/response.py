"""A plugin for the witgate gateway: hides e-mail addresses in what the model says.

What comes in and may go out is described in wit/response.wit; `bindings/` has the same as Python types.
"""

import json
import re

from wit_world import exports
from wit_world.exports.response import Action_Keep, Action_Replace
from wit_world.imports import config

ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")


class Response(exports.Response):
    def process_llm_response(self, ctx, reply):
        """Returns an `Action_...`. To fail, raise `Err(Error_Internal("why"))` or another error of wit/types.wit."""
        text = ADDRESS.sub(lambda _address: replacement(), reply.text)
        return Action_Keep() if text == reply.text else Action_Replace(text)


def replacement():
    """From the operator's file; values are JSON text."""
    value = config.get("replacement")
    return "[e-mail]" if value is None else json.loads(value)
