"""Through the triggers, with keys on."""
