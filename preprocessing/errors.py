"""What can be wrong with an input, said so that a person can act on it."""


class MediaError(Exception):
    """An input that cannot be analysed.

    `reason` names what is wrong, `hint` the way out; `status` is the HTTP answer that the API gives (413, 415, 422).
    `code` is stable for scripts.
    """

    code = "unreadable"
    status = 422

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(f"{reason}; {hint}" if hint else reason)
        self.reason = reason
        self.hint = hint

    def __reduce__(self) -> tuple[type["MediaError"], tuple[str, str]]:
        # The default reduces to the joined message and would lose the hint between processes.
        return type(self), (self.reason, self.hint)


class MediaMissing(MediaError):
    """No such file, a directory, or no permission to read it."""

    code = "missing"
    status = 404


class UnsupportedMedia(MediaError):
    """Not an image or a video that unmask reads (an empty file, text named .mp4, audio only, an animation)."""

    code = "unsupported"
    status = 415


class MediaTooLarge(MediaError):
    """Over one of the limits on bytes, pixels, duration, frame rate, streams, memory or decoding time."""

    code = "too_large"
    status = 413


class UndecodableMedia(MediaError):
    """Starts like a file that unmask reads, but no picture comes out (truncated, damaged, a crash in the codec)."""

    code = "undecodable"
    status = 422
