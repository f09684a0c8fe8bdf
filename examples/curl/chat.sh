#!/bin/sh
# One message over the simple API, answered whole. Usage: chat.sh [message]
# (No quotes or backslashes in the message: it is put into JSON as it is.)
set -eu
URL="${WITGATE_URL:-http://127.0.0.1:8000}"

curl --silent --show-error --fail-with-body "$URL/chat" \
  -H "Content-Type: application/json" \
  -d "{\"message\": \"${1:-Hello, please introduce yourself.}\"}"
echo
