"""Text for people: no secrets, and no markup that an attacker could have written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.investigation.redact import harmless, shown, without_secrets


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("mysql -u root --password=hunter2 db", "hunter2"),
        ("mysql --password hunter2", "hunter2"),
        ("curl -H 'Authorization: Bearer abcdef0123456789' x", "abcdef0123456789"),
        ("curl https://user:pa55@host/x", "pa55"),
        ("curl -u admin:pa55word https://host", "pa55word"),
        ("az storage --account-key AbCdEf0123456789== x", "AbCdEf0123456789"),
        ("tool token=xyz123 other", "xyz123"),
        ('psql "password = p w d"', "p w"),
        ("x?sv=2021&sig=abc%2Fdef%3D&se=1", "abc%2Fdef"),
        ("export AWS AKIAIOSFODNN7EXAMPLE", "IOSFODNN7EXAMPLE"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc-def", "eyJzdWIi"),
        ("key AAAABBBBccccDDDD1111eeeeFFFFgggg2222hhhhIIII", "ccccDDDD1111"),
        ("DB_PASSWORD='se cret' run", "se cret"),
        ("sshpass -p Hunter2 ssh x", "Hunter2"),
        ("mysql -psecret1 db", "secret1"),
        ("xfreerdp /u:a /p:Hunter2 /v:h", "Hunter2"),
        ("plink -pw Hunter2 h", "Hunter2"),
        ("docker login -u a -p Hunter2 reg", "Hunter2"),
        ("curl -uadm:Hunter2 h", "Hunter2"),
        ("curl --user adm:Hunter2 h", "Hunter2"),
        ("redis-cli -h h -a Hunter2", "Hunter2"),
        ("smbclient -U adm%Hunter2 //h/s", "Hunter2"),
        ("net user bob Hunter2! /add", "Hunter2"),
        ("ConvertTo-SecureString 'Hunter2' -AsPlainText", "Hunter2"),
        ("tool --key=0123456789abcdef0123456789abcdef", "0123456789"),
        ("curl -H x-functions-key:Hunter2", "Hunter2"),
        ("https://h/api?code=Hunter2", "Hunter2"),
        ("x sig%3DHunter2", "Hunter2"),
        ("git clone https://u:p@ss@host/x", "p@ss"),
        ("github_pat_11ABCDEFG0abcdefgh", "11ABCDEFG0"),
        ("glpat-abcdefgh1234", "abcdefgh1234"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, secret: str):
    assert secret not in without_secrets(text)


@pytest.mark.parametrize("text", [
    "/usr/sbin/sshd -D", "python3 -m http.server 8080", "nginx: worker process",
    "3f786850e387550fdab836ed7e6dc881de23001b", "/opt/app/bin/run --config /etc/app.conf --user app",
])
def test_what_does_not_stays(text: str):
    assert without_secrets(text) == text


@given(st.text(max_size=400))
def test_nothing_shown_is_markup_a_link_or_a_second_line(text: str):
    found = shown(text)
    assert not set("<>[]`*|@\\~{}") & set(found)
    assert found.isprintable()
    assert not re.search(r"(?i)(https?|javascript|ftp):", found)
    assert len(found) <= 300


@pytest.mark.parametrize("text", ["see www.evil.example now", "evil.example/login", "a b.evil.example/x"])
def test_a_host_that_a_chat_would_make_a_link_of_is_broken(text: str):
    assert "evil.example" not in shown(text)


def test_paths_and_names_of_files_stay_as_they_are():
    for text in ("/etc/systemd/system/a.service", "svchost.exe -k", "/opt/app/run.sh /tmp/x.d/y"):
        assert shown(text) == text


def test_a_long_text_is_cut_and_says_so():
    assert harmless("x" * 500, 10) == "xxxxxxxxx…"
