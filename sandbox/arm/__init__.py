"""Azure Resource Manager, as far as the product touches it.

    gateway.py   every request: token, faults, latency, throttling, access, locks, log; errors like ARM's
    routes.py    which kind is served by which functions, and the api-versions there are
    call.py      a request taken apart, and the answer to it
    state.py     resources, operations, and the clock they settle by
    access.py    roles, refusals, and which actions were used
    errors.py    the two writers of error bodies
    adopt.py     resources seeded as ARM shows them
    move.py      resources moved between groups
    nsgrules.py  what is refused of a security rule
    nsg.py vnet.py nic.py publicip.py compute.py security.py effective.py   one kind of thing each
"""
