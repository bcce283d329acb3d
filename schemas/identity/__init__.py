"""Who takes part where a policy asks for enrolled devices: what is signed on the way from a token to a certificate.

- `orders`: what the operator, or an enroller, says to the registrar, and whether it counts.
- `tokens`: the permission for one enrolment, which a person carries to a device.
- `requests`: what a device asks with it, signed with the key that it keeps; one record for Kafka and for HTTP.
- `certificates`: what the registrar gives it, and a selector believes.
- `remedies`: what whoever holds a device can do about a refusal.
- `pseudonyms`: how a name becomes the subject that stands in the log.

Both halves of each stand side by side. Pure, like all of `schemas`.
"""
