"""`fedlog gateway`: devices reach the log over HTTP, and never speak Kafka. Needs the extra `gateway`.

It holds no secret of the operator: it believes what the operator signed, and can forge nothing. Any number run side by
side; apart from uploads under way each has only caches. `docs/device-protocol.md` is what it speaks.

`app`: the routes. `gates`: what stands before all of them. `running`: opens all that it needs; `serving`: the server.
`exchange`: check-ins, updates and what comes of them. `enrolments`: from a token to a certificate. `transfers`: uploads
over HTTP. `downloads`: tasks and models.
`entry`: what is refused before a byte of a body is read. `proofs`: whether a lease's device has sent a request.
`refusals`: how a refusal is told, with its retry window. `uploads`: bodies on disk until they are whole.
`access/`: who gets as far as a route. `behind/`: what lies between a gateway and the log.
"""
