"""What another test asks of this tree is asked of the one file too: the tutorial, in an empty folder.

Rule: it is the same test; only the program is another one (``VMCP_TEST_PROGRAM``).
"""

import os
import subprocess
import sys

import pytest

from tests.binary.conftest import FORMS, contents

pytestmark = [pytest.mark.binary, pytest.mark.timeout(400)]


def test_the_tutorial_can_be_followed_with_the_one_file() -> None:
    tests = "tests/docs/test_tutorial.py"
    words = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:cov", tests]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST_XDIST"))}
    environment["VMCP_TEST_PROGRAM"] = str(FORMS["file"])
    done = subprocess.run(words, cwd=contents.ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
