"""The realtime layer: committed records and token deltas on their way to clients, over WebSocket and SSE.

`Hub` fans out; `sse.stream` and `websocket.Connection` carry; `Connections` tends all WebSockets of the process.
"""
