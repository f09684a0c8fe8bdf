"""The official Python client, unmodified, at a gateway over streamable HTTP and over stdio; fails at the first surprise.

WITGATE_URL, WITGATE_KEY: a gateway with the tools of sqlite-server. WITGATE_PROGRAM: the binary; the working folder has the
files of the same gateway.
"""

import asyncio
import os

import httpx2
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client


async def exercise(session: ClientSession) -> None:
    opened = await session.initialize()
    assert opened.server_info.name == "witgate", opened
    listed = await session.list_tools()
    tools = {tool.name: tool for tool in listed.tools}
    assert len(tools) == 6 and tools["read_query"].annotations.read_only_hint is True, listed
    # The client checks the structured content against the output schema.
    result = await session.call_tool("read_query", {"query": "SELECT 40 + 2 AS n"})
    assert not result.is_error and result.structured_content["rows"] == [{"n": 42}], result
    failed = await session.call_tool("read_query", {"query": "SELECT * FROM nowhere"})
    assert failed.is_error and failed.content[0].text, failed
    wrong = await session.call_tool("read_query", {"query": 1})
    assert wrong.is_error, wrong
    resources = await session.list_resources()
    assert str(resources.resources[0].uri) == "memo://insights", resources
    memo = await session.read_resource("memo://insights")
    assert memo.contents[0].text, memo
    assert (await session.list_prompts()).prompts == []


async def main() -> None:
    headers = {"Authorization": f"Bearer {os.environ['WITGATE_KEY']}"}
    for path in ["/mcp", "/mcp/sqlite", "/api/v1/mcp"]:
        async with httpx2.AsyncClient(headers=headers, trust_env=False) as http:
            url = os.environ["WITGATE_URL"] + path
            async with streamable_http_client(url, http_client=http) as streams:
                async with ClientSession(*streams[:2]) as session:
                    await exercise(session)
    program, bundled = os.environ["WITGATE_PROGRAM"], os.environ["WITGATE_PLUGINS__BUNDLED"]
    env = {"WITGATE_PLUGINS__BUNDLED": bundled}
    server = StdioServerParameters(command=program, args=["mcp"], cwd=os.getcwd(), env=env)
    async with stdio_client(server) as streams:
        async with ClientSession(*streams[:2]) as session:
            await exercise(session)


asyncio.run(main())
