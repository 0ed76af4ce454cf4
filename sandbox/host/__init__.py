"""A small Azure Functions host around Microsoft's own Python worker library.

The library (`azure-functions-runtime`) is what Azure runs; here it gets plain stand-ins for its
protobuf messages. What is kept from the real host: the Event Grid webhook and its keys, HTTP
routing and authorization levels, the admin API, timers that never overlap, queues with visibility,
retries and poison.

    messages.py   the stand-ins          worker.py   the library on a thread of its own
    schedule.py   NCRONTAB and spans     timers.py   queues.py   the two listeners
    web.py        the HTTP side          __main__.py `python -m sandbox.host APP`
"""
