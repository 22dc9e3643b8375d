"""Commands as people and scripts run them: one clear line, and an exit code."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

POLICY = """\
name: policies/arms
models: ["models/petal"]
concepts:
  - {id: knife, category: HARMFUL, phrases: [knife]}
"""


def myosotis(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "myosotis", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def problem(*arguments: str) -> str:
    """The one line that a failing command leaves."""
    done = myosotis(*arguments)
    assert done.returncode == 1, done
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[str]:
    """The address of a control plane in a process of its own."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "myosotis",
            "serve",
            "--listen=127.0.0.1:0",
            f"--database=sqlite:///{tmp_path}/state.db",
            f"--blobs={tmp_path}/blobs",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1]
    process.terminate()
    assert process.wait(15) == 0
    process.stdout.close()


def test_every_command_explains_itself() -> None:
    text = myosotis("--help").stdout
    for command in ("serve", "work", "infer", "policy", "run", "fleet", "unlearn"):
        assert command in text


def test_a_good_policy_file_is_well_formed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(POLICY)
    done = myosotis("policy", "check", str(tmp_path))
    assert (done.returncode, done.stdout.strip()) == (0, "1 policies are well-formed")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("phrases: [knife]", "phrases: []"), "phrases"),
        (("category: HARMFUL", "kategory: HARMFUL"), "kategory"),
        (("[knife]", "[knife], retain: [Knife]"), "retain[0]"),
        (("[knife]", "[no]"), ""),
        (("HARMFUL", "no"), "category"),
    ],
)
def test_a_bad_policy_file_is_named_with_its_place(
    tmp_path: Path, edit: tuple[str, str], said: str
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(POLICY.replace(*edit))
    if edit[1] == "[no]":
        # A word like any other: YAML 1.2 knows no such boolean.
        assert myosotis("policy", "check", str(file)).returncode == 0
        return
    line = problem("policy", "check", str(file))
    assert f"{file}:4:" in line
    assert said in line


def test_a_file_that_is_not_there() -> None:
    assert "nowhere.yaml" in problem("policy", "check", "nowhere.yaml")


def test_nobody_listens() -> None:
    line = problem("policy", "list", "--server=127.0.0.1:1")
    assert "127.0.0.1:1" in line


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = problem(
            "serve",
            f"--listen={address}",
            f"--database=sqlite:///{tmp_path}/a.db",
            f"--blobs={tmp_path}/blobs",
        )
    assert address in line


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    line = problem(
        "serve",
        "--listen=127.0.0.1:0",
        f"--database=sqlite:///{tmp_path}/missing/a.db",
        f"--blobs={tmp_path}/blobs",
    )
    assert "missing/a.db" in line


def test_a_model_name_of_another_form() -> None:
    assert "models/{model}" in problem("serve", "--model=sdxl")


def test_a_policy_goes_in_by_the_api_and_out(plane: str, tmp_path: Path) -> None:
    file = tmp_path / "arms.yaml"
    file.write_text(POLICY)
    server = f"--server={plane}"
    assert "+" in myosotis("policy", "diff", str(file), server).stdout
    assert "revision 1" in myosotis("policy", "apply", str(file), server).stdout
    assert "no difference" in myosotis("policy", "diff", str(file), server).stdout
    rows = json.loads(myosotis("policy", "list", "--json", server).stdout)
    assert [row["name"] for row in rows] == ["policies/arms"]
    assert "revision 2" in myosotis("policy", "delete", "policies/arms", server).stdout
    assert "does not exist" in problem("policy", "delete", "policies/arms", server)


def test_a_policy_for_an_unknown_model_is_refused(plane: str, tmp_path: Path) -> None:
    file = tmp_path / "arms.yaml"
    file.write_text(POLICY.replace("petal", "nowhere"))
    line = problem("policy", "apply", str(file), f"--server={plane}")
    assert "models/nowhere is not registered" in line


def test_a_run_is_cancelled_and_retried(plane: str) -> None:
    server = f"--server={plane}"
    deadline = time.monotonic() + 20
    while not (rows := json.loads(myosotis("run", "list", "--json", server).stdout)):
        assert time.monotonic() < deadline
    name = rows[0]["name"]
    assert "CANCELLED" in myosotis("run", "cancel", name, server).stdout
    assert "is CANCELLED" in problem("run", "cancel", name, server)
    assert "QUEUED" in myosotis("run", "retry", name, server).stdout
    assert "does not exist" in problem("run", "show", name[:-1] + "x", server)


def test_an_empty_fleet_is_a_table_and_a_list(plane: str) -> None:
    assert "server" in myosotis("fleet", f"--server={plane}").stdout
    done = myosotis("fleet", "--json", f"--server={plane}")
    assert json.loads(done.stdout) == []
