"""Rogue rules in Azure Firewall: rules as data, what they let out, and how one is taken out of the raw JSON.

Pure. `rules` reads ARM's bodies into the order in which the firewall walks them; `rogue` says which of them
open the internet to one machine, and why; `edit` changes a body, equal but for that.
"""
