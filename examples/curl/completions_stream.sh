#!/bin/sh
# A chat completion of the OpenAI API as a stream. `x-gateway-events: 1` adds chunks that tell what tools are doing.
set -eu
URL="${WITGATE_URL:-http://127.0.0.1:8000}"

curl --silent --show-error --fail-with-body --no-buffer "$URL/v1/chat/completions" \
  -H "Content-Type: application/json" \
  -H "Authorization: Bearer ${WITGATE_API_KEY:-any-string}" \
  -H "x-gateway-events: 1" \
  -d '{
    "messages": [{"role": "user", "content": "Tell a story about artificial intelligence."}],
    "stream": true,
    "stream_options": {"include_usage": true}
  }'
