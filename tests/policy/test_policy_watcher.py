import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from myosotis.errors import UnavailableError
from myosotis.policy.files import PolicyFolder
from myosotis.policy.watcher import watch_policy_folder

from tests.policy.builders import WEAPONS

Says = PolicyFolder | UnavailableError
Wait = Callable[[], Awaitable[Says]]

KNIVES = WEAPONS.replace(b"pistol", b"knife")


@pytest.fixture(params=[False, True], ids=["notified", "polling"])
def polling(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@asynccontextmanager
async def watched(folder: Path, *, polling: bool = False) -> AsyncIterator[Wait]:
    """A function that waits for the next thing that the folder says."""
    async with aclosing(watch_policy_folder(folder, force_polling=polling)) as says:

        async def wait() -> Says:
            return await asyncio.wait_for(anext(says), 5)

        yield wait


def phrases(says: Says) -> list[str]:
    assert isinstance(says, PolicyFolder)
    return [file.policy.concepts[0].phrases[0] for file in says.files]


async def test_what_is_there_at_the_start_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(WEAPONS)

    async with watched(tmp_path) as wait:
        assert phrases(await wait()) == ["pistol"]


async def test_files_that_come_change_and_go_are_said(
    tmp_path: Path, *, polling: bool
) -> None:
    path = tmp_path / "a.yaml"
    async with watched(tmp_path, polling=polling) as wait:
        assert phrases(await wait()) == []
        path.write_bytes(WEAPONS)
        assert phrases(await wait()) == ["pistol"]
        path.write_bytes(KNIVES)
        assert phrases(await wait()) == ["knife"]
        path.unlink()
        assert phrases(await wait()) == []


async def test_a_change_is_said_within_a_quarter_of_a_second(tmp_path: Path) -> None:
    async with watched(tmp_path) as wait:
        await wait()
        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0.3)
        start = time.perf_counter()
        (tmp_path / "a.yaml").write_bytes(WEAPONS)
        await waiting
        # 100 ms of it for changes that come together; generous on a busy machine.
        assert time.perf_counter() - start < 0.5


async def test_a_file_that_is_replaced_by_renaming_is_said(
    tmp_path: Path, *, polling: bool
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(WEAPONS)
    async with watched(tmp_path, polling=polling) as wait:
        await wait()
        new = tmp_path / ".a.yaml.tmp"
        new.write_bytes(KNIVES)
        new.rename(path)
        assert phrases(await wait()) == ["knife"]


async def test_a_half_written_file_is_an_error_until_it_is_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(WEAPONS)
    async with watched(tmp_path) as wait:
        await wait()
        with path.open("wb", buffering=0) as file:
            file.write(KNIVES[:60])
            broken = await wait()
            assert broken.broken == {"a.yaml"}
            file.write(KNIVES[60:])
            assert phrases(await wait()) == ["knife"]


async def test_a_folder_that_vanishes_is_an_error_and_no_empty_folder(
    tmp_path: Path, *, polling: bool
) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "a.yaml").write_bytes(WEAPONS)
    async with watched(folder, polling=polling) as wait:
        assert phrases(await wait()) == ["pistol"]
        folder.rename(tmp_path / "elsewhere")
        assert isinstance(await wait(), UnavailableError)
        (tmp_path / "elsewhere").rename(folder)
        assert phrases(await wait()) == ["pistol"]


async def test_a_folder_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    async with watched(folder) as wait:
        assert isinstance(await wait(), UnavailableError)
        folder.mkdir()
        assert phrases(await wait()) == []


async def test_a_folder_that_is_replaced_by_another_is_still_watched(
    tmp_path: Path,
) -> None:
    folder, new = tmp_path / "policies", tmp_path / "new"
    folder.mkdir()
    new.mkdir()
    async with watched(folder) as wait:
        await wait()
        folder.rename(tmp_path / "old")
        new.rename(folder)
        (folder / "a.yaml").write_bytes(WEAPONS)
        says = await wait()
        while isinstance(says, UnavailableError):
            says = await wait()
        assert phrases(says) == ["pistol"]
