"""A policy for the witgate gateway: nobody calls the tools that the operator's file lists.

What comes in and may go out is described in wit/auth.wit; `bindings/` has the same as Python types.
"""

import json

from wit_world import exports
from wit_world.exports.auth import AccessAction_Tool, Decision_Abstain, Decision_Deny, Denial
from wit_world.imports import config


class Auth(exports.Auth):
    def authorize(self, request):
        """Returns a `Decision_...`. Whatever is raised counts as a refusal."""
        action = request.action
        if isinstance(action, AccessAction_Tool) and action.value.name in denied_tools():
            return Decision_Deny(Denial(403, f"the tool {action.value.name} is switched off"))
        return Decision_Abstain()


def denied_tools():
    """From the operator's file; values are JSON text."""
    value = config.get("denied_tools")
    return [] if value is None else json.loads(value)
