"""MCP as values: no clock, no I/O, no asyncio."""
