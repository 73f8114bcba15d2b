"""The one exception for mistakes that the user can mend."""


class QuarryError(Exception):
    """A mistake in the input or the state of a campaign.

    The message is one line: what is wrong, where, what to change. It is shown without a traceback.
    """
