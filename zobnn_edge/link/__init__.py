"""The serial link between host and firmware: frames, messages, client."""
