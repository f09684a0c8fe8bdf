#!/bin/sh
# Two messages of one session, then the session as the gateway keeps it, the list of sessions, and the session's end.
set -eu
URL="${WITGATE_URL:-http://127.0.0.1:8000}"

ask() {
  curl --silent --show-error --fail-with-body "$URL/chat" -H "Content-Type: application/json" -d "$1"
}

first=$(ask '{"message": "My name is Ada."}')
echo "$first"
id=$(printf '%s' "$first" | sed -n 's/.*"session_id" *: *"\([^"]*\)".*/\1/p')

ask "{\"message\": \"What is my name?\", \"session_id\": \"$id\"}"
echo
curl --silent --show-error --fail-with-body "$URL/chat/sessions/$id"
echo
curl --silent --show-error --fail-with-body "$URL/chat/sessions?limit=5"
echo
curl --silent --show-error --fail-with-body -X DELETE "$URL/chat/sessions/$id"
echo "deleted $id"
