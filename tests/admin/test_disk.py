"""Whether the files say what runs. Rule: a file is read when it looks different, and only then."""

from pathlib import Path
from typing import Any

from vmcp.admin.disk import Disk, look


class Acts:
    """Counts how often files are read."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.disk = "same"
        self.reads = 0

    def files(self) -> list[str]:
        return self.paths

    async def config(self) -> dict[str, Any]:
        self.reads += 1
        return {"disk": self.disk}


class House:
    class config:  # noqa: N801 - as the house has it
        digest = "one"


async def test_files_are_read_when_they_have_changed_or_another_configuration_runs(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: 1")
    house: Any = House()
    acts: Any = Acts([str(file)])
    disk = Disk(house, acts)
    assert [await disk.compared() for _ in range(3)] == ["same"] * 3
    assert acts.reads == 1
    acts.disk = "differs"
    file.write_text("a: 12")
    assert [await disk.compared() for _ in range(3)] == ["differs"] * 3
    assert acts.reads == 2
    house.config.digest = "two"
    await disk.compared()
    assert acts.reads == 3
    file.unlink()
    await disk.compared()
    assert acts.reads == 4


def test_what_is_not_there_looks_like_nothing(tmp_path: Path) -> None:
    assert look([str(tmp_path / "a")]) == ((str(tmp_path / "a"), 0, -1),)
