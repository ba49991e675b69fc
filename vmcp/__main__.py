"""``python -m vmcp``; and what a frozen vmcp runs when it starts itself as a nursery, which needs nothing else of it."""

import sys

if sys.argv[1:] == ["--nursery"]:
    from vmcp.nursery import main
else:
    from vmcp.cli import main

main()
