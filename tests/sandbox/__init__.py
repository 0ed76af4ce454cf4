"""The real SDKs against the sandbox and Azurite."""
