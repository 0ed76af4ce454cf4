"""A local Azure on loopback, for the demo, the tests and the benchmarks. Never deployed.

The product runs against it unchanged, with the real SDKs over TLS:

    arm/          Azure Resource Manager: what it accepts, refuses, throttles, and how it answers
    graph.py      Resource Graph: the project's own KQL over the same state (duckdb-kql)
    identity.py   the managed identity endpoint, and the sign-in and metadata endpoints of `az`
    eventgrid.py  a publisher: handshake, 30 s limit, retries; deadletters.py keeps what it gives up
    control.py    /_sandbox/{reset,seed,faults,latency,log,token,role,resources}
    seed.py       from a short description of an estate to resources
    faults.py     errors, delays, dropped connections, SIGKILL, at any request
    server.py     all of it on free ports
    proxy.py      a door before Azurite, so that faults reach Table Storage and queues too
    host/         the Functions host, on Microsoft's own worker library
    world.py      starts and stops all of it

What it is checked against: recorded traffic (tests/conformance).
"""
