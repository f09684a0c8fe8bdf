// A plugin for the witgate gateway: hides e-mail addresses in what the model says.
// What comes in and may go out is described in wit/response.wit; bindings/response_processor.h has the same in C.

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "response_processor.h"

static const char DEFAULT_REPLACEMENT[] = "[e-mail]";

// A text that grows.
typedef struct {
  uint8_t *ptr;
  size_t len, room;
} buffer_t;

static void append(buffer_t *to, const void *bytes, size_t len) {
  if (to->len + len > to->room) {
    to->room = 2 * (to->len + len);
    to->ptr = realloc(to->ptr, to->room);
    if (to->ptr == NULL) abort();
  }
  if (len > 0) memcpy(to->ptr + to->len, bytes, len);
  to->len += len;
}

static bool in_local_part(uint8_t c) { return isalnum(c) || c == '.' || c == '+' || c == '-' || c == '_'; }
static bool in_domain(uint8_t c) { return isalnum(c) || c == '.' || c == '-'; }

// Appends what takes an address's place. From the operator's file: values are JSON text, here a string without escapes.
static void append_replacement(buffer_t *to) {
  response_processor_string_t key, value;
  response_processor_string_set(&key, "replacement");
  if (witgate_plugin_config_get(&key, &value) && value.len >= 2 && value.ptr[0] == '"') {
    append(to, value.ptr + 1, value.len - 2);
  } else {
    append(to, DEFAULT_REPLACEMENT, strlen(DEFAULT_REPLACEMENT));
  }
}

// Appends `text` with every address replaced.
static void redact(buffer_t *to, const uint8_t *text, size_t len) {
  size_t copied = 0;
  for (size_t at = 1; at + 1 < len; at++) {
    if (text[at] != '@') continue;
    size_t start = at, end = at + 1;
    while (start > copied && in_local_part(text[start - 1])) start--;
    while (end < len && in_domain(text[end])) end++;
    while (text[end - 1] == '.' || text[end - 1] == '-') end--;  // The end of a sentence.
    bool has_dot = end > at + 2 && memchr(text + at + 2, '.', end - at - 2) != NULL;
    if (start == at || !has_dot) continue;
    append(to, text + copied, start - copied);
    append_replacement(to);
    copied = end;
  }
  append(to, text + copied, len - copied);
}

// Returns true and an action in `*ret`: keep, replace, rewrite, call-tool, ask-again or block. To fail, fill `*err` and
// return false. Each call runs in a fresh instance, so what it allocates need not be freed.
bool exports_witgate_plugin_response_process_llm_response(
    exports_witgate_plugin_response_request_context_t *ctx, exports_witgate_plugin_response_reply_t *reply,
    exports_witgate_plugin_response_action_t *ret, exports_witgate_plugin_response_error_t *err) {
  (void)ctx, (void)err;
  buffer_t text = {0};
  redact(&text, reply->text.ptr, reply->text.len);
  if (text.len == reply->text.len && memcmp(text.ptr, reply->text.ptr, text.len) == 0) {
    ret->tag = EXPORTS_WITGATE_PLUGIN_RESPONSE_ACTION_KEEP;
  } else {
    ret->tag = EXPORTS_WITGATE_PLUGIN_RESPONSE_ACTION_REPLACE;
    ret->val.replace.ptr = text.ptr;
    ret->val.replace.len = text.len;
  }
  return true;
}
