"""A helper of masked tasks: a process of its own, at whoever runs it, that reaches Kafka and nothing else of ours.

- `store`: its folder, with the key that it signs with, the keys of epochs, and its journal: all that it has said
- `opening`: what is sealed to it in the records of a round's members, and the sum of their masks
- `speaking`: one task; what is due is decided, kept, and then said
- `service`: follows the tasks that name it, partition by partition

It imports no aggregator and no operator's key (an import contract), so that it can be given to another organisation.
"""
