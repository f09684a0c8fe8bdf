#!/usr/bin/env bash
# Installs the build tools of JavaScript and Python plugins, pinned, into ${WITGATE_TEST_GUESTS:-target/test-guests}.
# Needs python3 with venv, and npm. Does nothing when the installed ones are those of the lists here. C and Rust plugins are
# built with what the system has: clang lld wasi-libc libclang-rt-dev-wasm32, and a Rust toolchain for
# wasm32-unknown-unknown.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${WITGATE_TEST_GUESTS:-$here/../../target/test-guests}"
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"

# A stamp beside each side tells which list was installed last.
current() { [ -f "$folder/$1.stamp" ] && [ "$(cat "$folder/$1.stamp")" = "$2" ]; }

python_list="$(sha256sum < "$here/requirements.txt")"
if ! current python "$python_list"; then
  echo "installing componentize-py into $folder/venv"
  rm -rf "$folder/venv"
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  echo "$python_list" > "$folder/python.stamp"
fi

node_list="$(cat "$here"/package.json "$here"/package-lock.json | sha256sum)"
if ! current node "$node_list"; then
  echo "installing componentize-qjs into $folder/node_modules"
  cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$folder/"
  # Not `npm ci`: some of the optional packages for other systems are in no registry.
  rm -rf "$folder/node_modules"
  (cd "$folder" && npm install --loglevel=error)
  echo "$node_list" > "$folder/node.stamp"
fi
echo "build tools for plugins are ready in $folder"
