"""The half of the Flower adapter that runs in Flower's own environment: it imports flwr and numpy, nothing of fedlog.

- `frames`: how the two halves talk; the only module that both import.
- `first_messages`: the app's ServerApp on a grid that takes down what it would send first.
- `client_calls`: one message to the app's ClientApp, with the node's context.
- `service`: what each request asks of the two.
- `serving`: the process: requests in, answers out, one after the other.
"""
