// A plugin for the witgate gateway: hides e-mail addresses in what the model says, while it says it.
// What comes in and may go out is described in wit/response.wit; bindings/stream_processor.h has the same in C.

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "stream_processor.h"

static const char DEFAULT_REPLACEMENT[] = "[e-mail]";

// A longer word is no address: it goes on in pieces.
#define LONGEST_ADDRESS 320

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
  stream_processor_string_t key, value;
  stream_processor_string_set(&key, "replacement");
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

// Text and reasoning.
#define KINDS 2

// The gateway makes one for each choice of each reply. The last word of each kind of text is held back: it may be an
// address that is not complete yet.
struct exports_witgate_plugin_response_stream_reply_stream_t {
  buffer_t held[KINDS];
};

typedef exports_witgate_plugin_response_stream_delta_t delta_t;

exports_witgate_plugin_response_stream_own_reply_stream_t
exports_witgate_plugin_response_stream_constructor_reply_stream(
    exports_witgate_plugin_response_stream_request_context_t *ctx, uint32_t choice) {
  (void)choice;
  exports_witgate_plugin_response_stream_request_context_free(ctx);
  exports_witgate_plugin_response_stream_reply_stream_t *stream = calloc(1, sizeof *stream);
  if (stream == NULL) abort();
  return exports_witgate_plugin_response_stream_reply_stream_new(stream);
}

void exports_witgate_plugin_response_stream_reply_stream_destructor(
    exports_witgate_plugin_response_stream_reply_stream_t *stream) {
  for (int kind = 0; kind < KINDS; kind++) free(stream->held[kind].ptr);
  free(stream);
}

// Takes the first `end` bytes of what is held back and makes a delta of them.
static delta_t release(buffer_t *held, uint8_t kind, size_t end) {
  buffer_t text = {0};
  redact(&text, held->ptr, end);
  memmove(held->ptr, held->ptr + end, held->len - end);
  held->len -= end;
  return (delta_t){.kind = kind, .text = {.ptr = text.ptr, .len = text.len}};
}

// Takes pieces as they come and returns what may go on now.
bool exports_witgate_plugin_response_stream_method_reply_stream_push(
    exports_witgate_plugin_response_stream_borrow_reply_stream_t self,
    exports_witgate_plugin_response_stream_list_delta_t *deltas,
    exports_witgate_plugin_response_stream_pushed_t *ret, exports_witgate_plugin_response_stream_error_t *err) {
  (void)err;
  delta_t *ready = calloc(deltas->len, sizeof *ready);
  if (deltas->len > 0 && ready == NULL) abort();
  size_t count = 0;
  for (size_t i = 0; i < deltas->len; i++) {
    delta_t *delta = &deltas->ptr[i];
    buffer_t *held = &self->held[delta->kind];
    append(held, delta->text.ptr, delta->text.len);
    size_t end = held->len;
    while (end > 0 && !isspace(held->ptr[end - 1])) end--;
    if (held->len - end > LONGEST_ADDRESS) end = held->len;
    if (end > 0) ready[count++] = release(held, delta->kind, end);
  }
  exports_witgate_plugin_response_stream_list_delta_free(deltas);
  ret->tag = EXPORTS_WITGATE_PLUGIN_RESPONSE_STREAM_PUSHED_DELTAS;
  ret->val.deltas.ptr = ready;
  ret->val.deltas.len = count;
  return true;
}

// The last chance to return what was held back.
bool exports_witgate_plugin_response_stream_method_reply_stream_finish(
    exports_witgate_plugin_response_stream_borrow_reply_stream_t self,
    exports_witgate_plugin_response_stream_reply_end_t *end,
    exports_witgate_plugin_response_stream_finished_t *ret, exports_witgate_plugin_response_stream_error_t *err) {
  (void)err;
  delta_t *rest = calloc(KINDS, sizeof *rest);
  if (rest == NULL) abort();
  size_t count = 0;
  for (uint8_t kind = 0; kind < KINDS; kind++) {
    buffer_t *held = &self->held[kind];
    if (held->len > 0) rest[count++] = release(held, kind, held->len);
  }
  exports_witgate_plugin_response_stream_reply_end_free(end);
  ret->deltas.ptr = rest;
  ret->deltas.len = count;
  ret->next.tag = EXPORTS_WITGATE_PLUGIN_RESPONSE_STREAM_NEXT_STEP_GO_ON;
  return true;
}
