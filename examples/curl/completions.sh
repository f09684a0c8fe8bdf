#!/bin/sh
# A chat completion of the OpenAI API, answered whole. Without a `model` the gateway's default model answers.
set -eu
URL="${WITGATE_URL:-http://127.0.0.1:8000}"

curl --silent --show-error --fail-with-body "$URL/v1/chat/completions" \
  -H "Content-Type: application/json" \
  -H "Authorization: Bearer ${WITGATE_API_KEY:-any-string}" \
  -d '{
    "messages": [
      {"role": "system", "content": "You are a helpful assistant."},
      {"role": "user", "content": "Hello, please introduce yourself."}
    ],
    "temperature": 0.7,
    "max_tokens": 4096
  }'
echo
