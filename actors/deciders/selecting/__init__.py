"""What the selector's decisions rest on; `actors.deciders.selector` alone uses it. Pure, like every decider.

- `state`: what the selector knows, and how an event changes it.
- `eligibility`: why a device gets no lease now.
- `cosigned`: versions that wait for the word of every helper of a masked task.
- `devices`: what is known of each device, in rows of bytes.
- `drawing`: which devices a synchronous round takes.
- `utility`: which of them it calls first, where the policy prefers useful ones.
"""
