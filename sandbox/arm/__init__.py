"""Azure Resource Manager, as far as the product touches it.

    gateway.py   every request: token, api-version, throttling, locks, faults, log; errors like ARM's
    state.py     resources, operations, and the clock they settle by
    errors.py    the two writers of error bodies
    nsg.py vnet.py nic.py publicip.py compute.py security.py   one kind of resource each
"""
