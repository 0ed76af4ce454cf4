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
    # programs that take a password in a way of their own
    re.compile(r"(?P<keep>\bsshpass\s+-p\s*)\S+"),
    re.compile(r"(?P<keep>\b(?:mysql\w*|mariadb\w*)\b[^|;]{0,300}?\s-p)(?=\S)[^\s]+"),
    re.compile(r"(?P<keep>\bdocker\s+login\b[^|;]{0,300}?\s-p\s*)\S+"),
    # a user and a password as two switches, whoever takes them: -U sa -P x, --username u -p x, /ru u /rp x
    re.compile(r"(?P<keep>\s(?:-[uUD]|--user(?:name)?|--login-user)[\s=]\S[^|;]{0,200}?\s-(?:p|P|w)\s*)[^\s-]\S*"),
    re.compile(r"(?P<keep>\s-(?:P|w)\s+)\S+(?=[^|;]{0,200}?\s-[uUD]\s)"),
    re.compile(r"(?P<keep>(?i:\s/rp\s+))\S+"),
    re.compile(r"(?P<keep>\b7z[ar]?(?:\.exe)?\b[^|;]{0,300}?\s-p)\S+"),
    re.compile(r"(?P<keep>\b(?:zip|unzip)(?:\.exe)?\b[^|;]{0,300}?\s-P\s*)\S+"),
    re.compile(r"(?P<keep>(?i:\bnet1?(?:\.exe)?\s+use\b[^|;]{0,200}?\s))(?![/\\])(?![A-Za-z]:)\S+(?=[^|;]{0,200}/u)"),
    re.compile(r"(?P<keep>(?i:\bnet1?(?:\.exe)?\s+use\b[^|;]{0,200}?/u\S*\s+))(?!/)\S+"),
    re.compile(r"(?P<keep>\b(?:echo|printf)\s+(?:'%s\\n'\s+)?)[^|;]{1,200}(?=\|\s*sudo\s+(?:\S+\s+){0,6}-\w*S)"),
    re.compile(r"(?P<keep>\bredis-cli\b[^|;]{0,300}?\s-a\s+)\S+"),
    re.compile(r"(?P<keep>(?i:\bnet1?(?:\.exe)?\s+user\s+\S+\s+))(?!/)\S+"),
    re.compile(r"(?P<keep>(?i:ConvertTo-SecureString\s+(?:-String\s+)?))(?:'[^']*'|\"[^\"]*\"|\S+)"),
    re.compile(r"(?P<keep>(?i:\s(?:/p(?:ass(?:word)?)?:|-pw\s+)))\S+"),
    re.compile(r"(?P<keep>\s-U\s*[^\s%]{1,100}%)\S+"),
    re.compile(r"(?P<keep>(?:\s-u\s*|\s--user[\s=])[^\s:]{1,100}:)\S+"),
    re.compile(r"(?P<keep>://[^/\s:@]{1,100}:)\S+(?=@)"),
    # --password=x, password: "x y", -token x, ?code=x
    re.compile(rf"(?i)(?P<keep>(?:^|[\s\"'?&;,/_-])(?:[\w.-]{{0,40}}?(?:{_WORDS}))[\"']?(?:\s*(?:[=:]|%3D)\s*|\s+))"
               r"(?:\"[^\"]*\"|'[^']*'|[^\s\"'&;,]+)"),
    re.compile(r"(?i)(?P<keep>(?:[?&]code|[\s\"'?&-]key|x-functions-key)(?:=|:\s*|%3D))[^\s\"'&;,]+"),
    re.compile(r"(?P<keep>\b)eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    re.compile(r"(?P<keep>\b(?:AKIA|ASIA|ghp_|gho_|github_pat_|glpat-|xox[abp]-|sk-))[A-Za-z0-9_-]{8,}"),
    re.compile(r"(?P<keep>(?<![A-Za-z0-9+/]))(?=[A-Za-z0-9+/]*[A-Z])(?=[A-Za-z0-9+/]*[a-z])(?=[A-Za-z0-9+/]*\d)"
               r"[A-Za-z0-9+/]{40,}={0,2}"),
)
_HARMLESS = str.maketrans({
    "<": "‹", ">": "›", "[": "(", "]": ")", "`": "'", "*": "∗", "|": "¦", "@": "＠", "\\": "⧵", "~": "∼",
    "{": "(", "}": ")",
})
_LINK = re.compile(r"(?i)\b(https?|ftp|file|javascript|data|mailto|ms-\w+)\s*:(?=\S)")
_HOST = re.compile(r"(?i)(?<![\w./\\-])(?:www\.(?:[a-z0-9-]+\.)*[a-z]{2,}|(?:[a-z0-9-]+\.)+[a-z]{2,}(?=/))")
"""What a chat would make a link of, though it does not say so."""


def without_secrets(text: str) -> str:
    """The text with what looks like a password, a key or a token replaced."""
    for pattern in _SECRETS:
        text = pattern.sub(lambda hit: f"{hit['keep']}{HIDDEN}", text)
    return text


def harmless(text: str, most: int = 300) -> str:
    """One line that is markup nowhere: not in HTML, Markdown or a chat's own."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = _LINK.sub(lambda hit: f"{hit[1][:1]}xx{hit[1][3:]}(:)", line).translate(_HARMLESS)
    line = _HOST.sub(lambda hit: hit[0].replace(".", "(.)"), line)
    return line if len(line) <= most else line[:most - 1] + "…"


def shown(text: str, most: int = 300) -> str:
    """Both. What is cut away in the end need not be read: a machine may write without measure."""
    return harmless(without_secrets(text[:4 * most]), most)
