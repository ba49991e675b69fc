"""``python -m vmcp``."""

from vmcp.cli import main

main()
