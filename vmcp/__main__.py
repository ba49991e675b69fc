"""``python -m vmcp``, the command ``vmcp``, and a frozen vmcp; the latter starts itself as a nursery, which needs nothing else.

The rule: what is done first is done before anything of vmcp is imported that takes its time.
"""

import sys

from vmcp import outset

if sys.argv[1:] == ["--nursery"]:
    from vmcp.nursery import main
else:
    outset.begin()
    from vmcp.cli import main

if __name__ == "__main__":
    main()
