"""Processes in the machine: which are unfamiliar, and which speak with the attacker?

A process is familiar by where its program lives, and on Windows by its signature; the rest is told. What only
one machine of a pool runs is told when all have been looked at (`investigation.task.peculiar`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from remediation.investigation.output import Output, number_of, text_of
from remediation.investigation.redact import shown
from remediation.investigation.task import Finding, Later, Sign, Weight
from remediation.steps.in_guest import run
from remediation.steps.step import READS_MACHINES, RUNS_COMMANDS, Step, Work

SECONDS = 300
FAMILIAR = (
    "/usr/",
    "/bin/",
    "/sbin/",
    "/lib/",
    "/lib64/",
    "/opt/microsoft/",
    "/opt/azure/",
    "/var/lib/waagent/",
    "/snap/",
    "c:\\windows\\",
    "c:\\program files\\",
    "c:\\program files (x86)\\",
    "c:\\windowsazure\\",
    "c:\\packages\\plugins\\",
    "c:\\programdata\\microsoft\\",
)
"""Where programs are expected, lower-cased."""
UNUSUAL = (
    "/tmp/",  # noqa: S108 - looked for, not written to
    "/var/tmp/",  # noqa: S108 - as above
    "/dev/shm/",  # noqa: S108 - as above
    "/run/user/",
    "/var/www/",
    "\\appdata\\",
    "\\temp\\",
    "\\users\\public\\",
    "\\$recycle.bin\\",
    "\\perflogs\\",
)
"""Where anyone may write: a program that runs from there wants an explanation."""
ESTABLISHED, TRYING = ("01", "established"), ("02", "synsent")
"""Linux has numbers for a connection's state, Windows words."""
INTERPRETERS = (
    "python",
    "perl",
    "ruby",
    "node",
    "php",
    "sh",
    "bash",
    "dash",
    "zsh",
    "ksh",
    "powershell",
    "pwsh",
    "cmd",
    "wscript",
    "cscript",
    "mshta",
    "rundll32",
    "regsvr32",
    "java",
)
"""Programs whose arguments say what really runs."""
FETCHES = (
    "curl ",
    "wget ",
    "invoke-webrequest",
    "downloadstring",
    "frombase64string",
    "base64 -d",
    "/dev/tcp/",
    "certutil -urlcache",
    "mshta ",
    "regsvr32 /i:http",
    " -enc ",
    "-encodedcommand",
)
"""What such a line seldom has a reason to do, lower-cased."""
KERNEL = re.compile(r"\[[^\]\s]+\]")
INCOMPLETE = "what the machine said of itself is not complete, and may hide something: {doubt}"
MOST_NAMED, MOST_MARKS = 8, 400


def look(work: Work) -> Finding | Later:
    """One script; what it says is judged here."""
    out = run(work, "processes", {}, seconds=SECONDS)
    if isinstance(out, Later):
        return out
    return judge(out, work.attackers, work.tools.policy.inquiry.familiar)


def judge(out: Output, attackers: Collection[str], familiar: Sequence[str] = ()) -> Finding:
    """What of it a person should know. Pure."""
    known = (*FAMILIAR, *(f.lower() for f in familiar))
    processes = {number_of(p, "pid"): p for p in out.of("process")}
    talks = _talks(out, processes, attackers)
    signs = [sign for _, sign in talks]
    strange = 0
    busy = {number_of(s, "pid") for s in (*out.of("socket"), *out.of("connection"))
            if s.get("inbound") is not True and _public(_peer(s))}
    for pid, process in processes.items():
        why = None if process.get("own") is True else _why(process, known)
        if not why:
            continue
        strange += 1
        text = f"{_named(process, pid)}: {why[1]}" + (", and speaks with the internet" if pid in busy else "")
        signs.append(Sign(Weight.LIKELY if why[0] else Weight.NOTE, text))
    signs.sort(key=lambda s: s.weight.rank)
    live = sum(confirmed for confirmed, _ in talks)
    says = (f"{len(processes)} processes, {strange or 'none'} unfamiliar, "
            f"{live or 'none'} connected to the attacker")
    kept = signs[:MOST_NAMED + len(talks)]
    if not out.whole:
        says += f" ({out.doubt})"
        kept.append(Sign(Weight.NOTE, INCOMPLETE.format(doubt=out.doubt)))
    return Finding(says, tuple(kept), {"rows": list(out.rows), "doubt": out.doubt},
                   marks=tuple(dict.fromkeys(m for p in processes.values() if (m := _mark(p))))[:MOST_MARKS])


def _why(process: Mapping[str, Any], known: Sequence[str]) -> tuple[bool, str] | None:
    """(grave, why) if the process wants an explanation."""
    exe, cmd = text_of(process, "exe"), text_of(process, "cmd")
    low = exe.lower()
    if KERNEL.fullmatch(cmd.strip()) and (exe or number_of(process, "ppid") not in (0, 2)):
        return True, "it is named like a thread of the kernel, and is none"
    if not exe:
        return None  # the kernel's own, or of somebody whose files cannot be read
    if process.get("deleted") is True:
        return True, "its program has been deleted while it runs"
    if any(u in low for u in UNUSUAL):
        return True, "it runs from where anyone may write"
    script = _script(low, cmd.lower())
    if script:
        return True, script
    signed = text_of(process, "signed").lower()
    if signed in ("hashmismatch", "nottrusted"):
        return True, f"its signature is {text_of(process, 'signed')}"
    if signed == "notsigned" and low.startswith("c:\\windows\\"):
        return False, "it lives with Windows, and is not signed"
    if not low.startswith(tuple(known)) and process.get("container") is not True:
        return False, "its program lives where none is expected"
    return None


def _script(exe: str, cmd: str) -> str:
    """What an interpreter was told to do, where that wants an explanation; else ''."""
    name = re.split(r"[/\\\\]", exe)[-1].removesuffix(".exe").rstrip("0123456789.")
    if name not in INTERPRETERS:
        return ""
    arguments = cmd.split(maxsplit=1)[1] if " " in cmd else ""
    if any(f in f" {arguments} " for f in FETCHES):
        return "it was told to fetch or to hide what it runs"
    first = next((a for a in arguments.split() if not a.startswith("-")), "")
    return "its script is where anyone may write" if any(u in first for u in UNUSUAL) else ""


def _named(process: Mapping[str, Any], pid: int | None) -> str:
    exe, cmd = text_of(process, "exe"), text_of(process, "cmd")
    what = exe or text_of(process, "name") or "a process"
    by = text_of(process, "user")
    return shown(
        f"{what} (pid {pid}" + (f", {by}" if by else "") + (f"): {cmd}" if cmd and cmd != exe else ")"), 220
    )


def _mark(process: Mapping[str, Any]) -> str:
    """What it has in common with the same program elsewhere."""
    exe = text_of(process, "exe").removesuffix(" (deleted)")
    return shown(f"{exe} {text_of(process, 'sha256')[:12].lower()}", 200).strip() if exe else ""


def _talks(
    out: Output, processes: Mapping[int | None, Mapping[str, Any]], attackers: Collection[str]
) -> list[tuple[bool, Sign]]:
    """(is it a live connection out?, what to say) of each process and peer among the attackers."""
    found: dict[tuple[int | None, str, str], tuple[bool, Sign]] = {}
    for s in (*out.of("socket"), *out.of("connection")):
        pid, peer, state = number_of(s, "pid"), _peer(s), text_of(s, "state").lower()
        if peer not in attackers or state not in (*ESTABLISHED, *TRYING):
            continue
        who = _named(processes.get(pid, {}), pid)
        if state in TRYING:
            found[pid, peer, "tries"] = False, Sign(Weight.LIKELY, f"{who} tries to connect to {peer}")
        elif s.get("inbound") is True:
            found[pid, peer, "in"] = False, Sign(Weight.NOTE, f"{peer} is connected to {who}, which listens")
        else:
            found[pid, peer, "out"] = True, Sign(Weight.CONFIRMED, f"{who} is connected to {peer} now")
    return list(found.values())


def _peer(row: Mapping[str, Any]) -> str:
    """The other side's address: as text, or as /proc/net/tcp writes it."""
    if row.get("kind") == "connection":
        return _canonical(text_of(row, "address"))
    return address_of(text_of(row, "remote"))


def address_of(text: str) -> str:
    """`0100007F:1F90` → `127.0.0.1`: words of 32 bits in the machine's own order, here the little-endian
    one."""
    host = text.partition(":")[0]
    try:
        data = bytes.fromhex(host)
    except ValueError:
        return ""
    if len(data) not in (4, 16):
        return ""
    turned = b"".join(data[i:i + 4][::-1] for i in range(0, len(data), 4))
    return _canonical(str(ipaddress.ip_address(turned)))


def _canonical(text: str) -> str:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def _public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


STEP = Step(
    name="processes",
    does="processes and their connections",
    look=look,
    guest=True, of_attackers=True,
    budget=timedelta(minutes=40),
    permissions=(*READS_MACHINES, *RUNS_COMMANDS),
)
