#!/bin/sh
# A small stdio MCP server for tests, in plain shell: tools that hang, die, tell their process id, start a
# grandchild, or wait until two calls are here. Writes what happens into the file $1, one word a line.
log="$1"
echo started >> "$log"
answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
text() { answer "{\"content\":[{\"type\":\"text\",\"text\":\"$1\"}]}"; }
tool() { printf '{"name":"%s","description":"%s","inputSchema":{"type":"object"}}' "$1" "$2"; }
while IFS= read -r line; do
  id=${line#*\"id\":}
  id=${id%%[,\}]*}
  case "$line" in
    *'"initialize"'*)
      answer '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"shell","version":"1"}}' ;;
    *'"tools/list"'*)
      answer "{\"tools\":[$(tool slow 'Never answers'),$(tool die 'Kills its own server'),$(tool whoami 'Tells the process id'),$(tool grandchild 'Starts a process that stays'),$(tool meet 'Answers once two calls are here')]}" ;;
    *'"tools/call"'*'"slow"'*) echo slow >> "$log" ;;
    *'"tools/call"'*'"die"'*) kill -9 $$ ;;
    *'"tools/call"'*'"whoami"'*) text "$$" ;;
    *'"tools/call"'*'"grandchild"'*) sleep 600 & text "$!" ;;
    *'"tools/call"'*'"meet"'*)
      echo meet >> "$log"
      while [ "$(grep -c meet "$log")" -lt 2 ]; do sleep 0.01; done
      text met ;;
    *'"notifications/cancelled"'*) echo cancelled >> "$log" ;;
    *'"ping"'*) answer '{}' ;;
    *'"notifications/'*) ;;
    *) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}\n' "$id" ;;
  esac
done
