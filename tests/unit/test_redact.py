"""Text for people: no secrets, and no markup that an attacker could have written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.investigation.redact import harmless, shown, without_secrets


@pytest.mark.parametrize(("text", "secret"), [
    ("mysql -u root --password=hunter2 db", "hunter2"), ("mysql --password hunter2", "hunter2"),
    ("curl -H 'Authorization: Bearer abcdef0123456789' x", "abcdef0123456789"),
    ("curl https://user:pa55@host/x", "pa55"), ("curl -u admin:pa55word https://host", "pa55word"),
    ("az storage --account-key AbCdEf0123456789== x", "AbCdEf0123456789"),
    ("tool token=xyz123 other", "xyz123"), ('psql "password = p w d"', "p w"),
    ("x?sv=2021&sig=abc%2Fdef%3D&se=1", "abc%2Fdef"),
    ("export AWS AKIAIOSFODNN7EXAMPLE", "IOSFODNN7EXAMPLE"),
    ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc-def", "eyJzdWIi"),
    ("key AAAABBBBccccDDDD1111eeeeFFFFgggg2222hhhhIIII", "ccccDDDD1111"),
    ("DB_PASSWORD='se cret' run", "se cret"),
])
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


def test_a_long_text_is_cut_and_says_so():
    assert harmless("x" * 500, 10) == "xxxxxxxxx…"
