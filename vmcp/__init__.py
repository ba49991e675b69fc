"""vmcp: ten MCP servers behind one endpoint, declared in one file.

Glossary, one word per thing, everywhere:

* **backend** – an MCP server that vmcp talks to; **link** – one negotiated connection to it.
* **child** – a backend that is a process of ours; **nurse** – the process that owns one; **nursery** – where both are forked.
* **group** – backends that are served together; **face** – what a client sees of a group at one path.
* **catalog** – what one backend offers at one moment; **table** – all faces, built from config and catalogs.
* **lock** – what backends offered when somebody approved it; **drift** – what is not so any more; **sheet** – all of a face.
* **route** – one tool, prompt, resource or template: its advertised name, its backend, its original name.
* **call** – one request on its way through the chain; **outcome** – what came of it; **peer** – who sent it.
* **handshake era** – revisions 2024-11-05 to 2025-11-25 (``initialize``); **modern era** – 2026-07-28 (stateless).
"""

__version__ = "0.1.0"
