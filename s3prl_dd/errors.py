"""The one exception that is the user's to fix."""


class UserError(Exception):
    """Bad input: the message names the file, what was found, what was expected and what to do.

    The command line prints it without a traceback and exits with 2.
    """
