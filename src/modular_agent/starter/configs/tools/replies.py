"""The last step of the `replies` workflow: a `function` node calls it with arguments made of the state."""


def send(text: str) -> dict:
    """Hands an approved reply on; what it returns are changes of the state, here a message of the conversation."""
    return {"messages": [{"role": "assistant", "content": text}]}
