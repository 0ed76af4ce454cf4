"""Text for people: secrets taken out, and made harmless for whatever channel carries it. Pure.

Evidence keeps command lines as they were; messages do not. What an attacker can write (an alert's text, a
process's name) must forge no link, no mention and no markup anywhere.
"""

from __future__ import annotations

import re

HIDDEN = "‹hidden›"
_WORDS = (
    r"pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|access[-_]?key|account[-_]?key|client[-_]?secret"
    r"|credential|connection[-_]?string|auth(?:orization)?|sas|sig|private[-_]?key"
)
_SECRETS = (
    re.compile(r"(?P<keep>(?i:\b(?:bearer|basic)\s+))[A-Za-z0-9._~+/=-]{8,}"),
    # --password=x, password: "x y", /p:x, -token x
    re.compile(rf"(?i)(?P<keep>(?:^|[\s\"'?&;,/_-])(?:[\w.-]*?(?:{_WORDS}))[\"']?(?:\s*[=:]\s*|\s+))"
               r"(?:\"[^\"]*\"|'[^']*'|[^\s\"'&;,]+)"),
    re.compile(r"(?P<keep>://[^/\s:@]{1,100}:)[^/\s@]+(?=@)"),
    re.compile(r"(?P<keep>(?i:\s-u\s+)[^\s:]{1,100}:)\S+"),
    re.compile(r"(?P<keep>\b)eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    re.compile(r"(?P<keep>\b(?:AKIA|ASIA|ghp_|gho_|xox[abp]-|sk-))[A-Za-z0-9_-]{8,}"),
    re.compile(r"(?P<keep>(?<![A-Za-z0-9+/]))(?=[A-Za-z0-9+/]*[A-Z])(?=[A-Za-z0-9+/]*[a-z])(?=[A-Za-z0-9+/]*\d)"
               r"[A-Za-z0-9+/]{40,}={0,2}"),
)
_HARMLESS = str.maketrans({
    "<": "‹", ">": "›", "[": "(", "]": ")", "`": "'", "*": "∗", "|": "¦", "@": "＠", "\\": "⧵", "~": "∼",
    "{": "(", "}": ")",
})
_LINK = re.compile(r"(?i)\b(https?|ftp|file|javascript|data|mailto|ms-\w+)\s*:(?=\S)")


def without_secrets(text: str) -> str:
    """The text with what looks like a password, a key or a token replaced."""
    for pattern in _SECRETS:
        text = pattern.sub(lambda hit: f"{hit['keep']}{HIDDEN}", text)
    return text


def harmless(text: str, most: int = 300) -> str:
    """One line that is markup nowhere: not in HTML, Markdown or a chat's own."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = _LINK.sub(lambda hit: f"{hit[1][:1]}xx{hit[1][3:]}(:)", line).translate(_HARMLESS)
    return line if len(line) <= most else line[:most - 1] + "…"


def shown(text: str, most: int = 300) -> str:
    """Both."""
    return harmless(without_secrets(text), most)
