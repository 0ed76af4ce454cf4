"""All scenes; importing this puts them on the programme."""

from chaos.scenes import api, days, grid, hostile, leases, storage, storm, tamper

__all__ = ["api", "days", "grid", "hostile", "leases", "storage", "storm", "tamper"]
