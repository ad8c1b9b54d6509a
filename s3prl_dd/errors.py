"""The one exception that is the user's to fix."""


class UserError(Exception):
    """Bad input: the message names the file, what was found, what was expected and what to do.

    The command line prints it without a traceback and exits with 2.
    """


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())
