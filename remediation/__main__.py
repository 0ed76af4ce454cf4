"""The command line: `explain` works offline, and asks an app for more if it is given one; the others speak
to a deployed app's HTTP API.

    python -m remediation explain FILE [--json] [--url URL --key KEY]
    python -m remediation blocks|replay|revoke|approvals|approve|pause|resume|protected|alert|pack|
        investigate|firewall|selftest|health … --url URL --key KEY
    python -m remediation evidence verify FOLDER-OR-ALERT [--seal SEAL | --url URL --key KEY]
"""

from __future__ import annotations

import argparse
import codecs
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from remediation.errors import BadPolicy
from remediation.explain import as_json, as_text, explain
from remediation.model import ENDED_STATES
from remediation.policy import DEFAULT_POLICY, load_policy

EXIT_BAD = 2
NO_URL = "--url is missing: the app's address, such as https://NAME.azurewebsites.net"
POLL_SECONDS = 3.0
BUSY = 503


def main(argv: Sequence[str] | None = None) -> int:
    """The command → its exit code: 0 done, 1 the API said no, 2 it could not be asked."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except BrokenPipeError:
        # The reader went away: nothing is left to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m remediation", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    one = _remote(verbs, "explain", "what an alert says and what the policy would do, offline; with --url "
                  "also the machines behind it, and what would be proven", _explain)
    one.set_defaults(url="")  # offline unless it is asked for here
    one.add_argument("file", type=Path, help="an alert, a list, an export, an event, a dead letter")
    one.add_argument("--json", action="store_true", help="a list of objects instead of text")
    one.add_argument("--policy", type=Path, default=DEFAULT_POLICY, help="another policy.toml")

    one = _remote(verbs, "blocks", "list blocks", _blocks)
    for name in ("state", "address", "nsg"):
        one.add_argument(f"--{name}", default="")
    one.add_argument("--live", action="store_true", help="those that have not ended, of all pages")
    one = _remote(verbs, "replay", "replay an alert by id or from a file", _replay)
    one.add_argument("alert", help="an alert id, or a file that holds alerts")
    one.add_argument("--dry-run", action="store_true", help="show the plan and the difference only")
    one.add_argument("--override", action="store_true", help="answer all questions with yes")
    one = _remote(verbs, "revoke", "lift blocks now and hold the address", _revoke)
    one.add_argument("what", help="an address or a block id")
    one.add_argument("--reason", required=True)
    one.add_argument("--hold-hours", type=int)
    one = _remote(verbs, "approvals", "list open questions", _approvals)
    one = _remote(verbs, "approve", "answer a question", _approve)
    one.add_argument("id")
    one.add_argument("decision", choices=["approve", "reject"])
    one.add_argument("--reason", required=True)
    one = _remote(verbs, "pause", "stop acting", _pause)
    one.add_argument("--reason", required=True)
    one.add_argument("--lift", choices=["due", "none", "all"], default="due",
                     help="meanwhile lift what is due (unless told), nothing, or every block now")
    one = _remote(verbs, "resume", "act again", _resume)
    one.add_argument("--reason", required=True)
    one = _remote(
        verbs, "protected", "the addresses that are never blocked; with a file, replace them", _protected)
    one.add_argument("file", nargs="?", type=Path, help='a list of {"prefix": "…", "reason": "…"}')
    one = _remote(verbs, "firewall", "rogue firewall rules: list, scan, say yes or no, approve, put back",
                  _firewall)
    one.add_argument("verb", choices=["list", "scan", *ABOUT_ONE])
    one.add_argument("id", nargs="?", default="",
                     help=f"the incident ({', '.join(ABOUT_ONE)}), or the firewall to scan (all unless told)")
    one.add_argument("--reason", default="", help="why; asked for wherever something is decided")
    one.add_argument("--state", default="", help="list: only those in this state")
    one.add_argument("--digest", default="", help="remove, keep, approve: the incident's, as it was shown")
    one.add_argument("--days", type=int, help="approve: so long (90 unless told)")
    one = _remote(verbs, "alert", "normal form, plan and timeline of an alert", _alert)
    one.add_argument("id")
    one = _remote(verbs, "pack", "the message to the security team about an alert, as it would be now", _pack)
    one.add_argument("id")
    one.add_argument("--json", action="store_true", help="an object instead of text")
    one = _remote(verbs, "investigate", "look into an alert's machines, or do steps anew", _investigate)
    one.add_argument("id", help="the alert's id")
    one.add_argument("--machine", default="", help="a machine's resource id (all of the alert's unless told)")
    one.add_argument("--steps", default="", help="step,step (those of the policy unless told)")
    one.add_argument("--reason", required=True)
    one = _remote(
        verbs,
        "evidence",
        "has an alert's evidence been changed? Checks every file, the chain of the "
        "manifests and, with --seal or --url, the last seal that the ledger holds",
        _evidence,
    )
    one.add_argument("verb", choices=["verify"])
    one.add_argument(
        "what",
        help="a folder with the alert's files, or the alert's id: then EVIDENCE__blobServiceUri "
        "names the account, read as whoever is signed in",
    )
    one.add_argument("--seal", default="", help="the last seal, as `alert` shows it")
    one = _remote(verbs, "selftest", "send a sample alert the whole way, and see each hop; changes nothing",
                  _selftest)
    one.add_argument("--machine", default="", help="the machine it is about (any unless told)")
    one.add_argument("--last", action="store_true", help="begin none: what the last one came to")
    one.add_argument("--wait", type=int, default=660, metavar="SECONDS", help="for its end (660 unless told)")
    _remote(verbs, "health", "what is reachable", _health)
    return parser


def _remote(verbs: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    one: argparse.ArgumentParser = verbs.add_parser(name, help=text)
    one.add_argument("--url", default=os.environ.get("RESPONDER_URL", ""),
                     help="the app's address (or RESPONDER_URL)")
    one.add_argument("--key", default=os.environ.get("RESPONDER_KEY", ""),
                     help="a function key (or RESPONDER_KEY)")
    one.add_argument("--token", default=os.environ.get("RESPONDER_TOKEN", ""),
                     help="a bearer token, where sign-in is on (or RESPONDER_TOKEN)")
    one.set_defaults(run=run)
    return one


def _explain(args: argparse.Namespace) -> int:
    try:
        text = decode(args.file.read_bytes())
        policy = load_policy(args.policy)
    except (OSError, ValueError) as error:
        print(f"{args.file}: cannot be read: {error}", file=sys.stderr)
        return EXIT_BAD
    except BadPolicy as error:
        print(error, file=sys.stderr)
        return EXIT_BAD
    entries = explain(text, policy)
    if args.url:
        code = _look(args, text, entries)
        if code:
            return code
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an alert may hold half a character
    print(as_json(entries) if args.json else as_text(entries))
    return 0


def _look(args: argparse.Namespace, text: str, entries: list[dict[str, Any]]) -> int:
    """Ask the app what it would do, changing nothing; put what it finds beside what the alert says."""
    try:
        answer = _request(args, "POST", "replay", text, {"dryRun": "true"})
        answer.raise_for_status()
        results = answer.json()["results"]
    except (OSError, ValueError, KeyError) as error:
        print(f"{args.url}: {error}", file=sys.stderr)
        return EXIT_BAD
    by_id: dict[str, Any] = {str(r.get("alertId")): r for r in results}
    for entry in entries:
        found = by_id.get(str(entry["alert_id"]), {})
        entry["machines"] = found.get("machines", [])
        entry["notices"] = (found.get("plan") or {}).get("notices", [])
    return 0


def decode(data: bytes) -> str:
    """UTF-8, or UTF-16 with its mark (as Windows tools write). What is neither becomes text that
    is not JSON, and is reported as such."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="replace")


def _call(args: argparse.Namespace, method: str, path: str, *, body: Any = None,
          raw: str = "", **query: Any) -> int:
    """One call of the API; its answer is printed."""
    if not args.url:
        print(NO_URL, file=sys.stderr)
        return EXIT_BAD
    try:
        answer = _request(args, method, path, raw or (json.dumps(body) if body is not None else ""), query)
    except OSError as error:  # requests' own are such
        print(f"{args.url}: {error}", file=sys.stderr)
        return EXIT_BAD
    try:
        print(json.dumps(answer.json(), indent=2))
    except ValueError:
        print(f"{answer.status_code} {answer.reason}", file=sys.stderr)
    return 0 if answer.ok else 1


def _request(args: argparse.Namespace, method: str, path: str, body: str, query: dict[str, Any]) -> Any:
    """The API's answer. Raises OSError if there is none."""
    import requests

    headers = {"content-type": "application/json"}
    if args.key:
        headers["x-functions-key"] = args.key
    if args.token:
        headers["authorization"] = f"Bearer {args.token}"
    return requests.request(
        method, f"{args.url.rstrip('/')}/api/{path}", headers=headers, timeout=60,
        params={k: v for k, v in query.items() if v}, data=body.encode() if body else None)


def _blocks(args: argparse.Namespace) -> int:
    which = {"state": args.state, "address": args.address, "nsg": args.nsg}
    if not args.live or not args.url:
        return _call(args, "GET", "blocks", **which)
    try:
        found = [b for b in _all_blocks(args, which) if b["state"] not in ENDED_STATES]
    except (OSError, ValueError, KeyError) as error:
        print(f"{args.url}: the list of blocks cannot be read: {error}", file=sys.stderr)
        return EXIT_BAD
    print(json.dumps({"blocks": found}, indent=2))
    return 0


def _all_blocks(args: argparse.Namespace, which: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of all pages. Raises OSError, ValueError or KeyError if one is not a page."""
    token = ""
    while True:
        answer = _request(args, "GET", "blocks", "", {**which, "pageSize": 1000, "pageToken": token})
        answer.raise_for_status()
        page = answer.json()
        yield from page["blocks"]
        token = page["nextPageToken"]
        if not token:
            return


def _replay(args: argparse.Namespace) -> int:
    path = Path(args.alert)
    raw = decode(path.read_bytes()) if path.is_file() else json.dumps({"alertId": args.alert})
    return _call(args, "POST", "replay", raw=raw, dryRun="true" if args.dry_run else "",
                 override="true" if args.override else "")


def _revoke(args: argparse.Namespace) -> int:
    field = "address" if "." in args.what or ":" in args.what else "blockId"
    body: dict[str, Any] = {field: args.what, "reason": args.reason}
    if args.hold_hours is not None:
        body["holdHours"] = args.hold_hours
    return _call(args, "POST", "blocks/revoke", body=body)


def _pause(args: argparse.Namespace) -> int:
    return _call(args, "POST", "pause", body={"reason": args.reason, "lift": args.lift})


def _resume(args: argparse.Namespace) -> int:
    return _call(args, "POST", "resume", body={"reason": args.reason})


def _protected(args: argparse.Namespace) -> int:
    if args.file is None:
        return _call(args, "GET", "protected")
    try:
        given = json.loads(args.file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"{args.file}: cannot be read: {error}", file=sys.stderr)
        return EXIT_BAD
    return _call(args, "PUT", "protected", body={"protected": given})


def _approvals(args: argparse.Namespace) -> int:
    return _call(args, "GET", "approvals")


def _approve(args: argparse.Namespace) -> int:
    return _call(args, "POST", f"approvals/{args.id}",
                 body={"decision": args.decision, "reason": args.reason})


ABOUT_ONE = ("remove", "keep", "approve", "restore")


def _firewall(args: argparse.Namespace) -> int:
    if args.verb == "list":
        return _call(args, "GET", "firewall", state=args.state)
    if args.verb == "scan":
        return _call(args, "POST", "firewall/scan", body={"firewall": args.id} if args.id else {})
    if not args.id or not args.reason:
        print(f"firewall {args.verb}: an incident's id and --reason are missing", file=sys.stderr)
        return EXIT_BAD
    said: dict[str, Any] = {"reason": args.reason}
    if args.verb == "restore":
        return _call(args, "POST", f"firewall/restore/{args.id}", body=said)
    if not args.digest:
        print(f"firewall {args.verb}: --digest is missing: the incident's, as `firewall list` showed it, so "
              "that nothing else is decided than what you saw", file=sys.stderr)
        return EXIT_BAD
    said["digest"] = args.digest
    if args.verb == "approve":
        return _call(args, "POST", "firewall/approve",
                     body={**said, "incident": args.id, **({"days": args.days} if args.days else {})})
    return _call(args, "POST", f"firewall/decide/{args.id}", body={**said, "decision": args.verb})


def _alert(args: argparse.Namespace) -> int:
    return _call(args, "GET", f"alerts/{args.id}")


def _pack(args: argparse.Namespace) -> int:
    if args.json:
        return _call(args, "GET", f"alerts/{args.id}/pack")
    try:
        answer = _request(args, "GET", f"alerts/{args.id}/pack", "", {})
        print(answer.json()["text"] if answer.ok else json.dumps(answer.json()))
    except (OSError, ValueError, KeyError) as error:
        print(f"{args.url or '--url is missing'}: {error}", file=sys.stderr)
        return EXIT_BAD
    return 0 if answer.ok else 1


def _investigate(args: argparse.Namespace) -> int:
    body: dict[str, Any] = {"alertId": args.id, "reason": args.reason}
    if args.machine:
        body["machine"] = args.machine
    if args.steps:
        body["steps"] = [s.strip() for s in args.steps.split(",") if s.strip()]
    return _call(args, "POST", "investigations", body=body)


def _evidence(args: argparse.Namespace) -> int:
    """0: as it was sealed; 1: it is not; 2: it cannot be told."""
    from remediation.verify import CannotTell, check

    seal = args.seal
    try:
        if not seal and args.url:
            alert_id = Path(args.what).name
            held = _request(args, "GET", f"alerts/{alert_id}", "", {}).json().get("investigation") or {}
            seal = str(held.get("seal") or "")
        wrong, count = check(args.what, seal, os.environ)
    except (CannotTell, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return EXIT_BAD
    for one in wrong:
        print(one)
    if not wrong:
        print(f"{count} files are as they were sealed"
              + ("" if seal else "; the last seal was not compared with the ledger's (--seal or --url)"))
    return 1 if wrong else 0


def _selftest(args: argparse.Namespace) -> int:
    """0: passed; 1: failed, or refused; 2: it cannot be told."""
    if not args.url:
        print(NO_URL, file=sys.stderr)
        return EXIT_BAD
    shown: set[str] = set()
    query: dict[str, Any] = {}
    method, body = ("GET", "") if args.last else ("POST", json.dumps({"machine": args.machine}
                                                                  if args.machine else {}))
    end = time.monotonic() + args.wait
    while True:
        try:
            answer = _request(args, method, "selftest", body, query)
            report = answer.json()
        except (OSError, ValueError) as error:
            print(f"{args.url}: {error}", file=sys.stderr)
            return EXIT_BAD
        if not answer.ok:
            print(json.dumps(report), file=sys.stderr)
            if answer.status_code != BUSY:
                return 1
            report = {"hops": [], "outcome": "running", **({"id": query["id"]} if query else {})}
        for hop in report["hops"]:
            if hop["ok"] is not None and hop["hop"] not in shown:
                shown.add(hop["hop"])
                print(f"{'ok  ' if hop['ok'] else 'FAIL'} {hop['seconds']:7.1f} s  {hop['what']}"
                      + (f": {hop['detail']}" if hop["detail"] else ""), flush=True)
        if report["outcome"] != "running":
            print(f"the self-test {report['outcome']}")
            return 0 if report["outcome"] == "passed" else 1
        if args.last or time.monotonic() > end or "id" not in report:
            print("the self-test is still running; `selftest --last` shows it", file=sys.stderr)
            return EXIT_BAD
        time.sleep(min(POLL_SECONDS, max(0.0, end - time.monotonic())))
        method, body, query = "GET", "", {"id": report["id"]}


def _health(args: argparse.Namespace) -> int:
    return _call(args, "GET", "health")


if __name__ == "__main__":
    sys.exit(main())
