// A tool for the witgate gateway: counts words.
// What comes in and may go out is described in wit/tools.wit; bindings/tool_provider.h has the same in C.

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool_provider.h"

static const char NAME[] = "count_words";

bool exports_witgate_plugin_tools_list_tools(exports_witgate_plugin_tools_list_tool_definition_t *ret,
                                             exports_witgate_plugin_tools_error_t *err) {
  (void)err;
  exports_witgate_plugin_tools_tool_definition_t *tool = calloc(1, sizeof *tool);
  if (tool == NULL) abort();
  tool_provider_string_dup(&tool->name, NAME);
  tool_provider_string_dup(&tool->description, "Counts the words of a text.");
  tool_provider_string_dup(&tool->input_schema_json,
                           "{\"type\": \"object\", \"properties\": {\"text\": {\"type\": \"string\"}},"
                           " \"required\": [\"text\"], \"additionalProperties\": false}");
  tool->output_schema_json.is_some = true;
  tool_provider_string_dup(&tool->output_schema_json.val,
                           "{\"type\": \"object\", \"properties\": {\"words\": {\"type\": \"integer\"}},"
                           " \"required\": [\"words\"]}");
  tool->annotations.read_only_hint = (tool_provider_option_bool_t){.is_some = true, .val = true};
  ret->ptr = tool;
  ret->len = 1;
  return true;
}

// Counts the words of the only string in the arguments, which is the value of "text": the gateway has checked them
// against the schema. White space in JSON strings is a space or an escape: \n, \r, \t.
static size_t count_words(const tool_provider_string_t *json) {
  const uint8_t *at = json->ptr, *end = json->ptr + json->len;
  while (at < end && *at != ':') at++;
  while (at < end && *at != '"') at++;
  size_t words = 0;
  bool in_word = false;
  for (at++; at < end && *at != '"'; at++) {
    bool space = isspace(*at);
    if (*at == '\\' && ++at < end) space = *at == 'n' || *at == 'r' || *at == 't';
    if (!space && !in_word) words++;
    in_word = !space;
  }
  return words;
}

// Returns true and a result in `*ret`; a failure that the model should read is a result with `is_error`. For one that
// nobody can do anything about, fill `*err` and return false.
bool exports_witgate_plugin_tools_call_tool(exports_witgate_plugin_tools_call_context_t *ctx,
                                            tool_provider_string_t *name, tool_provider_string_t *arguments_json,
                                            exports_witgate_plugin_tools_tool_result_t *ret,
                                            exports_witgate_plugin_tools_tool_error_t *err) {
  (void)ctx;
  if (name->len != strlen(NAME) || memcmp(name->ptr, NAME, name->len) != 0) {
    err->tag = EXPORTS_WITGATE_PLUGIN_TOOLS_TOOL_ERROR_NOT_FOUND;
    err->val.not_found = *name;
    return false;
  }
  unsigned long words = (unsigned long)count_words(arguments_json);
  char text[64];
  exports_witgate_plugin_tools_content_block_t *block = calloc(1, sizeof *block);
  if (block == NULL) abort();
  snprintf(text, sizeof text, "%lu words", words);
  block->tag = EXPORTS_WITGATE_PLUGIN_TOOLS_CONTENT_BLOCK_TEXT;
  tool_provider_string_dup(&block->val.text, text);
  snprintf(text, sizeof text, "{\"words\": %lu}", words);
  ret->structured_json.is_some = true;
  tool_provider_string_dup(&ret->structured_json.val, text);
  ret->content.ptr = block;
  ret->content.len = 1;
  ret->is_error = false;
  return true;
}
