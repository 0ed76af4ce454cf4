"""The edge: all that calls Azure, one file per service.

Everything here returns our own data and raises our own errors. The SDKs are imported when first
used, for the app's cold start pays for every import.
"""
