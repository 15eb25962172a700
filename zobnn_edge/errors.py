"""The errors a user can cause or meet. Each message is one line: the thing, the place, the way out."""


class ZobnnError(Exception):
    """Base of all errors that end a command with exit code 2 and one line."""


class ModelError(ZobnnError):
    """A network or model file that is damaged, inconsistent or not supported."""


class InputError(ZobnnError):
    """Data or options that do not fit: wrong shape, wrong type, missing file."""


class TargetError(ZobnnError):
    """A target (engine, emulator, board) that cannot be reached, went away or answered with an error."""


class ToolError(ZobnnError):
    """An outside program (cross compiler, emulator) that is missing or failed."""
