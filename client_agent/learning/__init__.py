"""client_agent/learning."""
