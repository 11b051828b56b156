"""The engine: the workflow language, its compilation to LangGraph, and the execution of runs."""

import os

# Read by LangGraph's serializer when it is first imported: stored values come back as plain data, never as code.
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
