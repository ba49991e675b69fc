"""What somebody at a terminal sees when something happens that nobody thought of: one line, and where the rest of it is.

The rule: a traceback is for those who mend vmcp. Where stderr is kept as a log it stands there; on a terminal it goes to a file
that only this user can read, unless ``VMCP_DEBUG`` is set.
"""

import os
import sys
from types import TracebackType


def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """See ``sys.excepthook``."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(kind, error, trace))
    if not sys.stderr.isatty() or os.environ.get("VMCP_DEBUG"):
        sys.stderr.write(text)
        return
    try:
        held, path = tempfile.mkstemp(prefix="vmcp-", suffix=".txt")
        with os.fdopen(held, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError:
        sys.stderr.write(text)
        return
    sys.stderr.write(f"vmcp: something unexpected happened ({kind.__name__}); the traceback is in {path}\n")
