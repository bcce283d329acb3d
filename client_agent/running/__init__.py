"""client_agent/running."""
