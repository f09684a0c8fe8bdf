#!/bin/sh
# A stdio MCP server for the tests of the REST API, in plain shell: the two tools of the reference's examples, and tools
# that fail, hang, answer with more than text, or tell how they get on; with `named` as $2, one with a Chinese name. Writes
# what happens into the file $1.
log="$1"
named="$2"
echo started >> "$log"
say() { printf '%s\n' "$1"; }
answer() { say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":$1}"; }
text() { answer "{\"content\":[{\"type\":\"text\",\"text\":\"$1\"}]}"; }
value() { rest=${line#*\"$1\":\"}; say "${rest%%\"*}"; }
string() { printf '{"type":"string","description":"%s"}' "$1"; }
kind='{"type":"string","enum":["电影","电视剧","all"]}'
tool() { printf '{"name":"%s","description":"%s","inputSchema":{"type":"object","properties":{%s},"required":[%s]}%s}' "$1" "$2" "$3" "$4" "$5"; }
tools() {
  tool add_subscribe 'Add media subscription to create automated download rules' \
    "\"title\":$(string 'The title of the media to subscribe to'),\"year\":$(string 'Release year of the media'),\"media_type\":$kind" \
    '"title","year","media_type"' ',"title":"Add a subscription","annotations":{"readOnlyHint":false}'
  say ,
  tool query_subscribes 'Query media subscriptions' "\"status\":$(string 'Which ones'),\"media_type\":$kind" '' \
    ',"outputSchema":{"type":"object","properties":{"count":{"type":"integer"}},"required":["count"]},"annotations":{"readOnlyHint":true}'
  say ,
  tool fail 'Fails by itself' '' ''
  say ,
  tool slow 'Never answers' '' ''
  say ,
  tool picture 'Answers with a picture' '' ''
  say ,
  tool steps 'Tells how it gets on: größer und größer' '' ''
  if [ "$named" = named ]; then
    say ,
    tool 查询 'Has a name that model APIs do not take' '' ''
  fi
}
steps() {
  token=${line#*\"progressToken\":}
  token=${token%%[,\}]*}
  for step in 1 2 3; do
    say "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":$token,\"progress\":$step,\"total\":3,\"message\":\"第${step}步\"}}"
  done
  say '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","logger":"steps","data":"almost there"}}'
  text 'three steps'
}
while IFS= read -r line; do
  id=${line#*\"id\":}
  id=${id%%[,\}]*}
  case "$line" in
    *'"initialize"'*)
      answer '{"protocolVersion":"2025-06-18","capabilities":{"tools":{},"logging":{}},"serverInfo":{"name":"subscribe","version":"1"}}' ;;
    *'"tools/list"'*) answer "{\"tools\":[$(tools | tr -d '\n')]}" ;;
    *'"tools/call"'*'"add_subscribe"'*) text "成功添加订阅:$(value title) ($(value year))" ;;
    *'"tools/call"'*'"query_subscribes"'*) answer '{"content":[{"type":"text","text":"共 2 个订阅"}],"structuredContent":{"count":2}}' ;;
    *'"tools/call"'*'"fail"'*) answer '{"content":[{"type":"text","text":"disk full"}],"isError":true}' ;;
    *'"tools/call"'*'"slow"'*) echo slow >> "$log" ;;
    *'"tools/call"'*'"picture"'*) answer '{"content":[{"type":"image","data":"aGk=","mimeType":"image/png"}]}' ;;
    *'"tools/call"'*'"steps"'*) steps ;;
    *'"tools/call"'*'"查询"'*) text '查询' ;;
    *'notifications/cancelled'*) echo cancelled >> "$log" ;;
    *'"ping"'* | *'"logging/setLevel"'*) answer '{}' ;;
    *'"notifications/'*) ;;
    *) say "{\"jsonrpc\":\"2.0\",\"id\":$id,\"error\":{\"code\":-32601,\"message\":\"no such method\"}}" ;;
  esac
done
