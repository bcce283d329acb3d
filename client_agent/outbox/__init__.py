"""client_agent/outbox."""
