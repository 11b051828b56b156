"""What an MCP server answered, as text for a model; images and other bytes go to files."""

import asyncio
import base64
import binascii
import mimetypes
from typing import Final

import orjson
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)

from modular_agent.engine.tools.output import file_name
from modular_agent.engine.tools.port import ToolContext, ToolOutcome

__all__ = ["outcome_of"]

ERROR: Final = "McpToolError"


async def outcome_of(result: CallToolResult, context: ToolContext) -> ToolOutcome:
    """`result` flattened: texts as they are, bytes as a note that names the file below `context.files`."""
    parts = [await _part(block, index, context) for index, block in enumerate(result.content, 1)]
    if not any(parts) and result.structured_content is not None:
        parts = [orjson.dumps(result.structured_content).decode()]
    content = "\n".join(part for part in parts if part)
    if result.is_error:
        return ToolOutcome(content=content or "The tool failed.", success=False, error_type=ERROR)
    return ToolOutcome(content=content)


async def _part(block: ContentBlock, index: int, context: ToolContext) -> str:
    match block:
        case TextContent():
            return block.text
        case ImageContent() | AudioContent():
            return await _file(block.data, block.mime_type, index, context)
        case ResourceLink():
            return f"[{block.title or block.name}]({block.uri})"
        case EmbeddedResource():
            resource = block.resource
            if isinstance(resource, BlobResourceContents):
                return await _file(resource.blob, resource.mime_type or "application/octet-stream", index, context)
            return resource.text


async def _file(data: str, kind: str, index: int, context: ToolContext) -> str:
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return f"[{kind}, damaged]"
    suffix = mimetypes.guess_extension(kind.partition(";")[0].strip()) or ".bin"
    path = context.files / file_name(context.tool_call_id, f"-{index}{suffix}")

    def write() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    await asyncio.to_thread(write)
    return f"[{kind}, {len(content)} bytes, in the file {path.name}]"
