#!/bin/sh
# The models that the gateway offers.
set -eu
URL="${WITGATE_URL:-http://127.0.0.1:8000}"

curl --silent --show-error --fail-with-body "$URL/v1/models"
echo
