#!/bin/sh
# One message over the simple API, answered as a stream of events: delta, tool_call, tool_result, done, error.
# Usage: chat_stream.sh [message]
set -eu
URL="${WITGATE_URL:-http://127.0.0.1:8000}"

curl --silent --show-error --fail-with-body --no-buffer "$URL/chat" \
  -H "Content-Type: application/json" \
  -d "{\"message\": \"${1:-Hello, please introduce yourself.}\", \"stream\": true}"
