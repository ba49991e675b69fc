"""The MCP clients of others: where they keep their servers, how they write them down, and what that is as our configuration.

The rule: texts in, texts out. It touches no file and no network, and what looks like a secret never comes out in a text.
"""
