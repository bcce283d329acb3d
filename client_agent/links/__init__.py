"""client_agent/links."""
