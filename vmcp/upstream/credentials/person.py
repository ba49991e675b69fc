"""Who runs this process, as a caller: over stdio, over loopback where that is configured, and in a shell.

The rule: it is the user of the operating system and nobody whom a variable of the environment names.
"""

import os
import pwd
from typing import Final

from vmcp.call import Identity

OS_ISSUER: Final = "vmcp-os"
"""The issuer of the users of the operating system."""


def system_user() -> Identity:
    """Who runs this process: for stdio, and for loopback where that is configured."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Identity(OS_ISSUER, name)
