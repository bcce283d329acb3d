"""How a device becomes one of those that take part where a policy asks for enrolled devices, and stays so.

- `membership`: the certificate in the device's folder, and when to renew it. `client_agent.device` calls it.
- `enrolment`: the way from a token to the first certificate; `crowd`: that of a whole fleet. `running/` calls them.
"""
