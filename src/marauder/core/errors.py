"""The error that a user caused and can mend: shown without a traceback, with the place and the remedy."""


class UserError(Exception):
    """Bad input, settings or environment. The message names the file (and line), what is wrong, and what to do.

    The command line prints it as one paragraph and leaves with exit status 2.
    """
