"""The errors a user can meet.

Every message is one line: what was given, what was expected, what to do.
The command line prints it and exits with code 2; a library user catches :class:`MagicTalkError`.
"""


class MagicTalkError(Exception):
    """Base of every error that is the input's fault rather than a bug."""


class OptionError(MagicTalkError):
    """An option or argument is out of its range, or two of them contradict each other."""


class PortraitError(MagicTalkError):
    """The portrait cannot be used: not an image, no face, face too small."""


class SpeechError(MagicTalkError):
    """The speech cannot be used: not a sound, empty, no such voice."""


class MotionError(MagicTalkError):
    """A motion file or array is malformed, or a driving video shows no face."""


class StyleError(MagicTalkError):
    """A style cannot be used: no such emotion, a timeline out of order, a picture without a face, an empty prompt."""


class DialogueError(MagicTalkError):
    """A dialogue's script cannot be used: malformed, an unknown character, a missing file."""


class EndpointError(MagicTalkError):
    """A language model's endpoint is down, refuses, or answers nonsense."""


class VideoError(MagicTalkError):
    """A video cannot be read or written."""


class DatasetError(MagicTalkError):
    """A dataset or a folder of raw videos cannot be used: empty, half written, of other settings."""


class WeightsError(MagicTalkError):
    """Weights are missing, damaged, or do not fit the network."""


class MissingDependencyError(MagicTalkError):
    """A library or one of its system packages is not installed; the message names the command."""


class MagicTalkWarning(UserWarning):
    """Something goes on, but perhaps not as it was meant."""
