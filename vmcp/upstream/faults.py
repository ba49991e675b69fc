"""What went wrong with a connection, as far as it matters for asking once more.

The rule: the kind of an error says what the backend can have seen of the request: nothing, perhaps all, or all for certain.
"""

from vmcp.errors import Code, Overdue, Unavailable, VmcpError, WireError


class Unsent:
    """Marks an error raised before a byte of the request was written: to send it once more is safe."""


class UnsentUnavailable(Unsent, Unavailable):
    """The backend could not be reached, and nothing was sent."""


class UnsentOverdue(Unsent, Overdue):
    """A deadline passed before anything was sent."""


class Dropped(Unavailable):
    """A kept-alive connection ended without a byte of answer. Whether the backend acted cannot be known."""


class CutOff(WireError):
    """A response ended before it was whole."""


def lost(error: VmcpError) -> bool:
    """Whether an answer was lost on the way, so that what may run twice can be asked again; a refusal is an answer."""
    if isinstance(error, Unsent):
        return False  # it was tried more than once already
    return isinstance(error, CutOff) or (isinstance(error, Unavailable) and error.vmcp_code == Code.TRANSPORT_CLOSED)
