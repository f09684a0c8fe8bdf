// A policy for the witgate gateway: nobody calls the tools that the operator's file lists.
// What comes in and may go out is described in wit/auth.wit; bindings/auth_policy.h has the same in C.

#include <stdlib.h>
#include <string.h>

#include "auth_policy.h"

// Whether the configured list, a JSON array of names, has `name`. Names of tools need no escapes in JSON.
static bool lists(const auth_policy_string_t *json, const auth_policy_string_t *name) {
  for (size_t at = 0; at + name->len + 2 <= json->len; at++) {
    const uint8_t *here = json->ptr + at;
    if (here[0] == '"' && memcmp(here + 1, name->ptr, name->len) == 0 && here[name->len + 1] == '"') return true;
  }
  return false;
}

// Returns true and a decision in `*ret`: allow, deny or abstain. To fail, fill `*err` and return false: that counts as a
// refusal. Each call runs in a fresh instance, so what it allocates need not be freed.
bool exports_witgate_plugin_auth_authorize(exports_witgate_plugin_auth_access_request_t *request,
                                           exports_witgate_plugin_auth_decision_t *ret,
                                           exports_witgate_plugin_auth_error_t *err) {
  (void)err;
  ret->tag = EXPORTS_WITGATE_PLUGIN_AUTH_DECISION_ABSTAIN;
  if (request->action.tag != EXPORTS_WITGATE_PLUGIN_AUTH_ACCESS_ACTION_TOOL) return true;

  auth_policy_string_t key, denied;
  auth_policy_string_set(&key, "denied_tools");
  if (witgate_plugin_config_get(&key, &denied) && lists(&denied, &request->action.val.tool.name)) {
    ret->tag = EXPORTS_WITGATE_PLUGIN_AUTH_DECISION_DENY;
    ret->val.deny.status = 403;
    auth_policy_string_dup(&ret->val.deny.reason, "this tool is switched off");
  }
  return true;
}
