"""The one exception a user is meant to read."""


class UserError(Exception):
    """Report a mistake that the user can mend, in one sentence.

    The message names the file, the field and the remedy; the command line prints it without a
    traceback and exits with 2. Anything else that escapes is a bug of ours and keeps its traceback.
    """
