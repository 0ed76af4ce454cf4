"""All scenes; importing this puts them on the programme."""

from chaos.scenes import grid, hostile, leases, storage, storm, tamper

__all__ = ["grid", "hostile", "leases", "storage", "storm", "tamper"]
