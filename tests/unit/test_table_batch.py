"""A transaction of the tables as one plain request: what is sent, and what an answer means."""

from __future__ import annotations

import email
import email.policy
import json

import pytest

from remediation.cloud.table_batch import Op, body, entity, etags
from remediation.errors import Conflict, Invalid, NotFound, Unavailable

END = "https://account.table.core.windows.net"


def parts(ops: list[Op]) -> list[tuple[str, dict[str, str], str]]:
    """What is sent, read as mail by Python's own parser: request line, headers, body."""
    head = b"Content-Type: multipart/mixed; boundary=batch_1\r\n\r\n"
    outer = email.message_from_bytes(head + body(END, "blocks", ops, "batch_1"), policy=email.policy.HTTP)
    (changes,) = outer.iter_parts()
    found = []
    for one in changes.iter_parts():
        text = str(one.get_payload())
        line, _, rest = text.partition("\r\n")
        headers, _, content = rest.partition("\r\n\r\n")
        found.append((line, dict(h.split(": ", 1) for h in headers.split("\r\n")), content.strip()))
    return found


def test_each_operation_is_a_request_of_its_own():
    insert, put, upsert, delete = parts([
        Op("insert", "p", "a", {"n": 1}), Op("put", "p", "b", {"n": 2}, 'W/"x"'),
        Op("upsert", "p", "c", {"n": 3}), Op("delete", "p", "d", etag='W/"y"')])
    assert insert[0] == f"POST {END}/blocks HTTP/1.1"
    assert put[0] == f"PUT {END}/blocks(PartitionKey='p',RowKey='b') HTTP/1.1"
    assert upsert[0] == f"PUT {END}/blocks(PartitionKey='p',RowKey='c') HTTP/1.1"
    assert delete[0] == f"DELETE {END}/blocks(PartitionKey='p',RowKey='d') HTTP/1.1"
    assert put[1]["If-Match"] == 'W/"x"'
    assert delete[1]["If-Match"] == 'W/"y"'
    assert "If-Match" not in insert[1]
    assert "If-Match" not in upsert[1], "whatever is there"
    assert json.loads(put[2]) == {"PartitionKey": "p", "RowKey": "b", "n": 2}
    assert delete[2] == ""


def test_a_key_cannot_leave_its_place_in_the_address():
    (one,) = parts([Op("upsert", "a'b/c", "d?e#f %")])
    assert one[0] == f"PUT {END}/blocks(PartitionKey='a%27%27b%2Fc',RowKey='d%3Fe%23f%20%25') HTTP/1.1"


def test_a_value_cannot_forge_a_part():
    (one,) = parts([Op("upsert", "p", "k", {"text": "\r\n--changeset_1--\r\n\r\nDELETE x"})])
    assert json.loads(one[2])["text"] == "\r\n--changeset_1--\r\n\r\nDELETE x"


def test_values_say_what_they_are_where_json_does_not():
    held = entity(Op("insert", "p", "k", {
        "none": None, "yes": True, "bytes": b"\x00\xff", "few": 2**31 - 1, "many": 2**31, "text": "ü\ud800"}))
    assert held == {
        "PartitionKey": "p", "RowKey": "k", "yes": True, "few": 2**31 - 1, "text": "ü\ud800",
        "bytes@odata.type": "Edm.Binary", "bytes": "AP8=",
        "many@odata.type": "Edm.Int64", "many": str(2**31)}


def answered(*lines: str) -> str:
    return "\r\n".join(["--changesetresponse_1", "Content-Type: application/http", "", *lines])


DONE = ("HTTP/1.1 204 No Content", "ETag: W/\"datetime'now'\"", "")


def test_the_etags_come_in_the_order_of_the_operations():
    gone = ("HTTP/1.1 204 No Content", "x-ms-version: 2019-02-02", "")
    assert etags(answered(*DONE, *gone, *DONE), 3, "x") == ["W/\"datetime'now'\"", "", "W/\"datetime'now'\""]


@pytest.mark.parametrize(("status", "code", "kind"), [
    (409, "EntityAlreadyExists", Conflict), (412, "UpdateConditionNotSatisfied", Conflict),
    (404, "TableNotFound", NotFound), (400, "InvalidInput", Invalid), (503, "ServerBusy", Unavailable),
])
def test_one_part_that_fails_is_the_answer_to_all(status: int, code: str, kind: type[Exception]):
    said = {"odata.error": {"code": code, "message": {"lang": "en-US", "value": "0:it is so.\nRequestId:1"}}}
    with pytest.raises(kind, match=rf"transact: {status} {code}: 0:it is so\.") as found:
        etags(answered(f"HTTP/1.1 {status} No", "Content-Type: application/json", "", json.dumps(said)),
              2, "transact")
    assert found.value.code == code  # type: ignore[attr-defined]  # ours have one


def test_a_failure_without_words_is_still_one():
    with pytest.raises(Conflict, match="409 no code: no reason given"):
        etags(answered("HTTP/1.1 409 Conflict", "", "{half"), 1, "x")


def test_half_an_answer_is_none():
    with pytest.raises(Unavailable, match="1 answers to 2 operations"):
        etags(answered(*DONE), 2, "x")
    with pytest.raises(Unavailable):
        etags("", 1, "x")
