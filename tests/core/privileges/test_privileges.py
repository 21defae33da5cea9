"""Giving up privileges, as ``/proc`` shows it. Each test does it in a process of its own."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from tunmesh.errors import ConfigError
from tunmesh.privileges import Account, acting_as, capabilities, find_account, hand_over

NOBODY = 65534
_users = int(Path("/proc/self/uid_map").read_text().split()[2])  # one in a user namespace
root = pytest.mark.skipif(
    os.geteuid() != 0 or _users <= NOBODY, reason="needs several users, so root"
)


def run(program: str) -> str:
    """Run a program in a process of its own, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


EVERYTHING = """
    import sys, threading
    import anyio
    from anyio.to_thread import run_sync
    from tunmesh.privileges import find_account, capabilities
    from tunmesh.privileges.threads import PrivilegesKept, drop_everything
    from pathlib import Path

    def statuses():
        return [capabilities(int(task.name)) for task in Path("/proc/self/task").iterdir()]

    async def main():
        together = threading.Barrier(3)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(run_sync, together.wait)
        await drop_everything(find_account(sys.argv[1] if sys.argv[1:] else "nobody"))
        await run_sync(int)
        found = statuses()
        assert len(found) == 4, found
        for item in found:
            assert not item.usable and not item.bounding and not item.inheritable, item
            assert item.no_new_privileges
        await run_sync(print, Path("/proc/self/status").read_text())
        import resource
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        import ctypes
        assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0  # PR_GET_DUMPABLE

    anyio.run(main, backend_options={"use_uvloop": True})
"""


@root
def test_everything_goes_in_every_thread() -> None:
    status = dict(line.split(":\t", 1) for line in run(EVERYTHING).strip().splitlines())
    assert set(status["Uid"].split()) == {str(NOBODY)}
    assert len(set(status["Gid"].split())) == 1
    assert status["Gid"].split()[0] != "0"
    assert status["Groups"].strip() == ""


@root
def test_the_same_user_loses_its_capabilities_too() -> None:
    text = EVERYTHING.replace('"nobody"', '"0"')
    status = dict(line.split(":\t", 1) for line in run(text).strip().splitlines())
    assert set(status["Uid"].split()) == {"0"}


@root
def test_a_thread_that_cannot_be_reached_is_noticed() -> None:
    output = run(
        """
        import threading
        import anyio
        from tunmesh.privileges import find_account
        from tunmesh.privileges import threads

        async def main():
            async def here(function):
                function()
            threads._everywhere = here  # as if the thread were no worker thread of ours
            event = threading.Event()
            thread = threading.Thread(target=event.wait)
            thread.start()
            try:
                await threads.drop_everything(find_account("0"))
            except threads.PrivilegesKept as error:
                print(error)
            finally:
                event.set()
                thread.join()

        anyio.run(main)
        """
    )
    assert output.startswith("cannot give up privileges: thread ")


@root
def test_keeping_one_capability() -> None:
    run(
        """
        import os
        from tunmesh.privileges import CAP_NET_ADMIN, capabilities, find_account, keep_only
        keep_only(1 << CAP_NET_ADMIN, find_account("nobody"))
        found = capabilities()
        assert found.permitted == found.effective == 1 << CAP_NET_ADMIN, found
        assert found.ambient == found.inheritable == found.bounding == 0, found
        assert found.no_new_privileges
        assert (os.getuid(), os.geteuid(), os.getgroups()) == (65534, 65534, [])
        try:
            os.setuid(0)
        except PermissionError:
            pass
        else:
            raise AssertionError("root again")
        """
    )


def test_an_ordinary_user_cannot_become_another() -> None:
    program = """
        import sys
        from tunmesh.errors import ConfigError
        from tunmesh.privileges import find_account, set_capabilities
        set_capabilities(0)
        try:
            find_account("54321")
        except ConfigError as error:
            print(error)
    """
    assert run(program).startswith('node.user: cannot become "54321" without CAP_SETUID')


def test_accounts() -> None:
    own = find_account(str(os.geteuid()))
    assert own.current
    with pytest.raises(ConfigError, match='there is no user "no-such-user"'):
        find_account("no-such-user")


@root
def test_a_number_without_a_user() -> None:
    assert find_account("54321") == Account("54321", 54321, 54321)


@root
def test_acting_as_another_user() -> None:
    account = Account("x", 54321, 54322)
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are closed to others
        Path(directory).chmod(0o777)
        file = Path(directory, "file")
        with acting_as(account):
            file.touch()
        status = file.stat()
    assert (status.st_uid, status.st_gid) == (54321, 54322)
    assert (os.geteuid(), os.getegid()) == (0, 0)
    assert capabilities().effective


def test_acting_as_oneself(tmp_path: Path) -> None:
    for account in (None, Account("me", os.geteuid(), os.getegid())):
        with acting_as(account):
            (tmp_path / "file").touch()


@root
def test_a_directory_is_handed_over(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    account = Account("x", 54321, 54322)
    hand_over(directory, account)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert directory.stat().st_uid == 54321
    os.chown(directory, 0, 0)  # as the directory of a node that was root before
    (directory / "key").touch()
    (directory / "link").symlink_to("/etc/passwd")
    (tmp_path / "other").touch()
    (directory / "other").hardlink_to(tmp_path / "other")
    hand_over(directory, account)
    assert directory.stat().st_uid == 54321
    assert (directory / "key").stat().st_uid == 54321
    assert (directory / "link").lstat().st_uid == 0
    assert (directory / "other").stat().st_uid == 0
    assert Path("/etc/passwd").stat().st_uid == 0


@root
@pytest.mark.parametrize(("owner", "mode"), [(12345, 0o700), (0, 0o777)])
def test_a_directory_that_others_had_is_left_alone(tmp_path: Path, owner: int, mode: int) -> None:
    (tmp_path / "key").touch()
    os.chown(tmp_path, owner, -1)
    tmp_path.chmod(mode)
    hand_over(tmp_path, Account("x", 54321, 54322))
    assert tmp_path.stat().st_uid == owner
    assert (tmp_path / "key").stat().st_uid == 0
