"""The self-test's decisions, pure: is every subscription's alert sent on (`forwarding`), what a sample alert
looks like (`sample`), and what is known of each hop (`hops`)."""
